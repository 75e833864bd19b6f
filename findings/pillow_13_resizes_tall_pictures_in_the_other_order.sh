#!/usr/bin/env bash
# Pillow 13.0.0 makes a picture of more than about twice its width in height smaller along its height first; Pillow 12.3.0
# did the width first.  Between the two passes pixels are rounded to 8 bits and cut off at 0 and 255, so the results
# differ: hardly with a bilinear filter, by many levels with a bicubic one at hard edges.  A network's input thus depends
# on the Pillow of the device; pictures that are wider than high stay as they were.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 12.3.0 13.0.0; do
    python3.11 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "pillow==$version" numpy==2.4.6
done
cat >"$folder/show.py" <<'PYTHON'
import sys

import numpy as np
from PIL import Image

rng = np.random.default_rng(0)
for name, (width, height) in (("tall", (100, 500)), ("wide", (500, 100))):
    edges = rng.integers(0, 2, (height, width, 3), np.uint8) * 255
    for filter in ("BILINEAR", "BICUBIC"):
        small = Image.fromarray(edges).resize((40, 40), Image.Resampling[filter])
        np.save(f"{sys.argv[1]}-{name}-{filter}.npy", np.asarray(small))
PYTHON
for version in 12.3.0 13.0.0; do
    "$folder/$version/bin/python" "$folder/show.py" "$folder/of-$version"
done
"$folder/13.0.0/bin/python" - "$folder" <<'PYTHON'
import sys

import numpy as np

largest = {}
for name in ("tall", "wide"):
    for filter in ("BILINEAR", "BICUBIC"):
        older, newer = (np.load(f"{sys.argv[1]}/of-{version}-{name}-{filter}.npy").astype(int) for version in ("12.3.0", "13.0.0"))
        largest[name, filter] = int(np.abs(older - newer).max())
        print(f"Pillow 12.3.0 and 13.0.0, {name}, {filter.lower()}: pixels differ by at most {largest[name, filter]}")
raise SystemExit(not (largest["tall", "BICUBIC"] > 1 and largest["wide", "BILINEAR"] == largest["wide", "BICUBIC"] == 0))
PYTHON
