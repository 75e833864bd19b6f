"""What a runtime's result is worth beside the reference."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from bnncc.ir.evaluate import Array
from tests.conformance.form import Form

# What float32 scales add to a step of int8.
STEP_ROUNDING = 1e-3


class Verdict(IntEnum):
    """From best to worst."""

    RIGHT = 0
    ROUNDED = 1
    CLAMPED = 2
    REFUSED = 3
    WRONG = 4
    ENDED = 5

    @property
    def title(self) -> str:
        return ("right", "rounded", "clamped", "refused", "wrong", "ends the process")[self]


def judge(
    form: Form, wanted: Sequence[Array], found: Sequence[Array], steps: tuple[float, float] = (0.0, 0.0)
) -> Verdict:
    """RIGHT: the float32 next to the reference, in every element; ROUNDED: within the form's tolerance; CLAMPED: the
    largest number where it should be infinite.

    steps: (half a step of what is yielded, how far it may be off) where the file computes in int8: RIGHT is the nearest
    step then.
    """
    if len(wanted) != len(found):
        return Verdict.WRONG
    return max((_judge(form, *pair, steps) for pair in zip(wanted, found, strict=True)), default=Verdict.RIGHT)


def _judge(form: Form, wanted: Array, found: Array, steps: tuple[float, float] = (0.0, 0.0)) -> Verdict:
    if found.shape != wanted.shape:
        return Verdict.WRONG
    if wanted.dtype.kind != "f":
        if np.array_equal(found, wanted):
            return Verdict.RIGHT
        # Floats that became bytes: a tie, or what a rounding makes one, is the kernel's choice.
        difference = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
        is_rounded = not form.exact and wanted.dtype.itemsize == 1 and wanted.dtype.kind in "iu"
        return Verdict.ROUNDED if is_rounded and difference.max() <= 1 else Verdict.WRONG
    nearest, allowed = steps
    if allowed:
        error = float(np.abs(found - wanted).max())
        nearest, allowed = ((1 + STEP_ROUNDING) * one for one in steps)
        return Verdict.RIGHT if error <= nearest else Verdict.ROUNDED if error <= allowed else Verdict.WRONG
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = wanted.astype(np.float32)
        if np.array_equal(found, narrow, equal_nan=True):
            return Verdict.RIGHT
        # A denormal that counts as 0 is a rounding of what only moves data, too.
        tiny = float(np.finfo(np.float32).tiny)
        # The built-in arithmetic has no infinity: it yields the largest number.
        most = np.isinf(narrow) & (found == np.copysign(np.finfo(np.float32).max, narrow))
        if np.any(most):
            found = np.where(most, narrow, found)
            return max(Verdict.CLAMPED, _judge(form, wanted, found))
        if form.exact:
            flushed = np.where((np.abs(narrow) < tiny) & (found == 0), np.float32(0), narrow)
            return Verdict.ROUNDED if np.array_equal(found, flushed, equal_nan=True) else Verdict.WRONG
        finite = np.isfinite(narrow)
        scale = float(np.abs(narrow[finite]).max(initial=0))
        close = np.abs(found - narrow) <= form.tolerance * max(scale, tiny)
        same = np.where(finite, close, (found == narrow) | (np.isnan(found) & np.isnan(narrow)))
    return Verdict.ROUNDED if bool(np.all(same)) else Verdict.WRONG
