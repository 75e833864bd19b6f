#!/usr/bin/env bash
# onnxruntime's wheel for Linux (1.31.1, of PyPI) keeps telemetry: `import onnxruntime` alone writes a session's
# identifier to TMPDIR/.ses and a database of events below ~/.cache/Microsoft.  With ORT_DISABLE_TELEMETRY=1 in the
# environment it writes nothing; 1.22.1 never did.  Whoever tidies up or sandboxes a tool that only runs graphs is
# surprised by a library that writes to a home folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 1.22.1 1.31.1; do
    python3.11 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "onnxruntime==$version" 'numpy<2'
done

# What an import leaves, with the given version and settings; time for what writes in the background.
left() {
    local version=$1 place
    shift
    place=$(mktemp -d -p "$folder")
    mkdir "$place/home" "$place/tmp"
    env "$@" HOME="$place/home" XDG_CACHE_HOME="$place/home/.cache" TMPDIR="$place/tmp" \
        "$folder/$version/bin/python" -c 'import onnxruntime, time; time.sleep(3)'
    (cd "$place" && find . -type f | sort)
}

old=$(left 1.22.1) new=$(left 1.31.1) off=$(left 1.31.1 ORT_DISABLE_TELEMETRY=1)
printf 'onnxruntime 1.22.1 leaves: %s\n1.31.1 leaves:\n%s\n1.31.1 with ORT_DISABLE_TELEMETRY=1 leaves: %s\n' \
    "${old:-nothing}" "$new" "${off:-nothing}"
[[ -z $old && -z $off && $new == *"./tmp/.ses"* && $new == *"/onnxruntime.db"* ]]
