"""Compile Fashion-MNIST's network and the papers' small forms for bytes, with float layers in float and in int8, test
both files on Fashion-MNIST, and print docs/int8.md's table.

    python integers.py                # or some of the networks
    python integers.py --digests      # of each int8 file's outputs, to compare with other machines and runtimes

The data is Debian's package dataset-fashion-mnist (apt-get install dataset-fashion-mnist): training images calibrate,
the 10,000 test images are measured on, and decide nothing.  Files run in LiteRT with bnncc's delegate, in which each
int8 file is proven as well.
"""

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from train import DATA, NETWORKS, WEIGHTS, load

import bnncc
from bnncc import Preprocessing
from bnncc.inference.runners import Runtime
from bnncc.model import CompiledModel
from bnncc.options import Options, ValueType
from bnncc.runtime import LitertRunner
from bnncc.statistics import Difference, difference
from bnncc.targets.tflite.integers import SHORTCUTS
from bnncc.verification import verify_in

HEADER = (
    "network",
    "float32",
    "int8",
    "difference, points (95 %)",
    "same class",
    "sums equal",
    "float file",
    "int8 file",
)
SHAPE = "1x1x28x28"
FASHION_NET = "make_net"
FASHION = Path(__file__).parent.parent / "fashion_mnist"
# Of the training images, so many calibrate; with `--quantize auto` so many, half of which measure.
CALIBRATING, SEARCHING = 500, 3000
PROVEN = 4  # images
BYTES = Options(preprocessing=Preprocessing(pixels="0..255"), input_type=ValueType.UINT8)


@dataclass(frozen=True)
class Measured:
    """Both files on the same images.  sums: of binary layers, those equal to the reference's and all."""

    floats: int
    integers: int
    same: int
    paired: Difference
    sums: tuple[int, int]


Labelled = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def compile_both(name: str, training: Labelled, max_drop: float | None, shortcuts: str) -> tuple[CompiledModel, ...]:
    """The file with float layers in float32, and that with them in int8.  max_drop: in points; None for all of them.
    shortcuts: in which type they are kept.
    """
    if name in NETWORKS:
        source, weights = f"{Path(__file__).parent / NETWORKS[name]}.py:{name}", WEIGHTS / f"{name}.pth"
    else:
        source, weights = f"{FASHION / 'net.py'}:{name}", FASHION / "net.pth"
    common = {"weights": weights, "input_shapes": [SHAPE], "options": BYTES}
    count = CALIBRATING if max_drop is None else SEARCHING
    asked = {"calibrate": tuple(array[:count] for array in training), "max_accuracy_drop": max_drop}
    asked["shortcuts"] = shortcuts
    return bnncc.compile(source, **common), bnncc.compile(source, **common, **asked)


def outputs(compiled: CompiledModel, images: npt.NDArray[np.uint8], title: str) -> Iterator[npt.NDArray[np.float32]]:
    """What the file says of uint8 images [N, 1, 28, 28]."""
    runner = LitertRunner(compiled.content)
    for image in track(images, title, transient=True):
        yield runner.run([compiled.as_stored(image[np.newaxis])])[0]


def measure(
    name: str, files: tuple[CompiledModel, ...], images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]
) -> tuple[Measured, str]:
    """(the figures, the digest of the int8 file's outputs).  Raises SystemExit where the file is not proven."""
    classes = []
    for compiled in files:
        digest = hashlib.sha256()
        found = []
        for logits in outputs(compiled, images, name):
            digest.update(logits.tobytes())
            found.append(int(logits.argmax()))
        classes.append(np.array(found))
    proof = [[image[np.newaxis]] for image in images[:PROVEN]]
    (proven,) = verify_in([Runtime.LITERT], files[1], proof)
    if not proven.passed:
        raise SystemExit(f"{name}: {'; '.join(proven.problems)}")
    first, second = (found == labels for found in classes)
    sums = sum(layer.sums for layer in proven.layers)
    return Measured(
        int(first.sum()),
        int(second.sum()),
        int((classes[0] == classes[1]).sum()),
        difference(int((second & ~first).sum()), int((first & ~second).sum()), len(labels)),
        (sums - sum(layer.wrong for layer in proven.layers), sums),
    ), digest.hexdigest()


def row(name: str, files: tuple[CompiledModel, ...], found: Measured) -> tuple[str, ...]:
    """The cells of HEADER."""
    total, paired = found.paired.total, found.paired
    kept = files[1].options.integers
    in_float = ", ".join(kept.keep_float) if kept is not None else ""
    shortcuts = "" if kept is None or kept.shortcuts == "float32" else f", shortcuts in {kept.shortcuts}"
    return (
        f"`{name}`" + (f", {in_float} in float" if in_float else "") + shortcuts,
        f"{found.floats / total:.2%}",
        f"{found.integers / total:.2%}",
        f"{100 * paired.value:+.2f} ({100 * paired.low:+.2f} … {100 * paired.high:+.2f})",
        f"{found.same / total:.2%}",
        f"{found.sums[0]:,} of {found.sums[1]:,}",
        *(f"{len(file.content) / 1e3:,.1f} kB" for file in files),
    )


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [FASHION_NET, *NETWORKS]
    parser.add_argument("networks", nargs="*", default=known, metavar="NETWORK", help="default: all")
    parser.add_argument("--data-dir", type=Path, default=DATA)
    parser.add_argument("--max-accuracy-drop", type=float, metavar="POINTS", help="leave layers in float for it")
    parser.add_argument(
        "--shortcuts", choices=SHORTCUTS, default=SHORTCUTS[0], help="how those of binary layers are kept"
    )
    parser.add_argument("--digests", action="store_true", help="print the SHA-256 of all outputs of each int8 file")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write the int8 files into this folder")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.networks) - set(known))
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(known)}")
    torch.set_num_threads(1)
    training = tuple(tensor.numpy() for tensor in load(arguments.data_dir, "train"))
    images, labels = (tensor.numpy() for tensor in load(arguments.data_dir, "t10k"))
    rows = []
    for name in arguments.networks:
        files = compile_both(name, training, arguments.max_accuracy_drop, arguments.shortcuts)
        found, digest = measure(name, files, images, labels)
        rows.append(row(name, files, found))
        if arguments.save:
            files[1].save(arguments.save / f"{name}.tflite")
        if arguments.digests:
            print(digest, name)
    for cells in (HEADER, ["---"] * len(HEADER), *rows):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
