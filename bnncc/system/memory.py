"""How much memory there is, and giving back to the system what is no longer used."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
from collections.abc import Iterator

from bnncc.errors import InputError

# Of weights: less is not worth the third of a second that a collection takes with PyTorch loaded.
WORTHWHILE_BYTES = 2**26


def release_unused(weight_bytes: int, *, keep: bool = False) -> None:
    """Collect what only refers to itself, as graphs do, and return the heap's free pages.

    glibc keeps them: between the stages of a compilation that would be as much as the network's weights.

    Args:
        weight_bytes: the size of the network's weights in float32; a small one is not worth the time.
        keep: what is left stays as long as the process, which is for this network alone: it is not looked at again.
    """
    if weight_bytes < WORTHWHILE_BYTES:
        return
    gc.collect()
    if keep:
        gc.freeze()
    return_free_pages()


def return_free_pages() -> None:
    """Return the heap's free pages, which takes some milliseconds."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return
    trim(0)


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """While active, nothing looks for what only refers to itself.

    For a body that makes many objects which stay, as imports and an exporter's graphs do: the collector goes through
    all of the process's objects over and over, with PyTorch loaded a fifth of a second each time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def keep_imports() -> None:
    """Never look again at what there is when a process first calls this: modules, functions and types."""
    if not gc.get_freeze_count():
        gc.freeze()


# Sets another limit than the machine's memory: a number of bytes, with K, M, G or T behind it.
LIMIT_VARIABLE = "BNNCC_MEMORY"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def require_memory(size: int, what: str) -> None:
    """Refuse what does not fit into memory before any is taken.

    Args:
        size: in bytes.
        what: takes them, for the message.

    Raises:
        InputError: it is more than this machine has, or than BNNCC_MEMORY says.
    """
    limit = _limit()
    if limit is not None and size > limit:
        raise InputError(
            f"{what} takes {size / 2**30:,.1f} GiB, and the limit is {limit / 2**30:,.1f} GiB, by default this "
            f"machine's memory: set {LIMIT_VARIABLE}, to 64G for example, for another limit"
        )


def _limit() -> int | None:
    given = os.environ.get(LIMIT_VARIABLE)
    if given is not None:
        match = re.fullmatch(r"(\d{1,20})([KMGT]?)", given.strip().upper())
        if match is None:
            raise InputError(f"{LIMIT_VARIABLE} is {given!r}: write a number of bytes, with K, M, G or T behind it")
        return int(match[1]) * _UNITS[match[2]]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # a system that does not say
        return None
