"""The manifest of a bundle: what it is for, and which files belong to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnncc.errors import InputError
from bnncc.system.files import is_plain_file, read_whole

# Tells a bundle from other folders, and run.py how to treat pictures.
MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Manifest:
    """abi: the device's.  files: the names of all others in the folder, with "/" between folders."""

    abi: str
    files: tuple[str, ...]


def write_manifest(folder: Path, entries: Mapping[str, Any]) -> None:
    """Write it: `entries` (with "abi"), a list of the files that are in `folder` now, and their SHA-256."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = [name for name in files if name != MANIFEST]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    content = {**entries, "files": files, "sha256": digests}
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Raises InputError where `folder` is no bundle, or one by a version that kept no list.

    The manifest is a file of the folder: what a link names is another file of this machine, and a pipe or a device may
    never end.
    """
    try:
        if not is_plain_file(folder / MANIFEST):
            raise ValueError("no file")
        content = json.loads(read_whole(folder / MANIFEST).decode())
        abi, files = content["abi"], content.get("files")
    except (InputError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder} is no bundle: make one with bnncc bundle") from error
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files) or not isinstance(abi, str):
        raise InputError(f"{folder}: {MANIFEST} has no list of its files: make the bundle again with bnncc bundle")
    return Manifest(abi, tuple(files))
