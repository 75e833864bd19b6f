"""What takes minutes to compute, kept in a file for as long as the sources are the same, and computed on all cores."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
# Whose modules and data decide what a network or a form becomes.
FOLDERS = ("bnncc", "passes", "targets", "examples", "tests")
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def cores() -> int:
    """How many processes run at once."""
    return len(os.sched_getaffinity(0))


@functools.cache
def sources_digest() -> str:
    """Of all Python sources, and of the versions of what they use."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    content = hashlib.sha256((ROOT / "constraints.txt").read_bytes())
    for path in sorted(paths):
        content.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return content.hexdigest()


def kept(path: Path, make: Callable[[], _Made]) -> _Made:
    """What `make` gives, or gave to the same sources: a pickle at `path`."""
    if path.exists():
        with path.open("rb") as stream:
            if pickle.load(stream) == sources_digest():
                found: _Made = pickle.load(stream)
                return found
    made = make()
    partial = path.with_name(f"{path.name}.part")
    with partial.open("wb") as stream:
        pickle.dump(sources_digest(), stream)
        pickle.dump(made, stream)
    partial.rename(path)
    return made


def on_all_cores(function: Callable[[_Given], _Made], given: Iterable[_Given]) -> list[_Made]:
    """`function` of each, in processes that import it anew: not one of a package's `__main__`, which they cannot."""
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(function, given))
