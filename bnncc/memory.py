"""Give memory that is no longer used back to the system."""

from __future__ import annotations

import ctypes
import gc


def release_unused() -> None:
    """Collect what only refers to itself, as graphs do, and return the heap's free pages.

    glibc keeps them: between the stages of a compilation that would be as much as the network's weights.
    """
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return
    trim(0)
