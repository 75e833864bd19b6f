"""Give memory that is no longer used back to the system."""

from __future__ import annotations

import ctypes
import gc

# Of weights: less is not worth the third of a second that a collection takes with PyTorch loaded.
WORTHWHILE_BYTES = 2**26


def release_unused(weight_bytes: int) -> None:
    """Collect what only refers to itself, as graphs do, and return the heap's free pages.

    glibc keeps them: between the stages of a compilation that would be as much as the network's weights.

    Args:
        weight_bytes: the size of the network's weights in float32; a small one is not worth the time.
    """
    if weight_bytes < WORTHWHILE_BYTES:
        return
    gc.collect()
    return_free_pages()


def return_free_pages() -> None:
    """Return the heap's free pages, which takes some milliseconds."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return
    trim(0)
