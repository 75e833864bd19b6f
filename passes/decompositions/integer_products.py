"""Products of 8-bit integers in float32, which holds their sums exactly where they are below 2²⁴.

Before:  a, w ─ ConvInteger(zero points) ─ y                                              int32
After:   a ─ Cast(float) ─ Sub(zero point) ─ Conv(w - zero point) ─ Cast(int32) ─ y

How large a sum can be follows from the weights and from what is known of a: ±1 may have been cast to integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.passes.decompositions.builder import Builder, NotDecomposableError
from bnncc.passes.ranges import range_of

# Whole numbers below it are floats.
EXACT = 2.0**24


def in_floats(build: Builder) -> Sequence[ir.Value | None]:
    """The same product between casts; the zero points are numbers, or none."""
    kind = build.origin.op_type.removesuffix("Integer")
    weights = build.array(1, "its second operand").astype(np.float64) - _zero_point_of_weights(build, kind)
    summed = tuple(range(1, weights.ndim)) if kind == "Conv" else (-2,)
    if weights.ndim < 2 or np.abs(weights).sum(axis=summed).max(initial=0) * _magnitude(build) >= EXACT:
        raise NotDecomposableError("its sums may be larger than float32 holds exactly")
    a, w = _less_zero_point(build), build.constant(weights.astype(np.float32))
    attributes = {name: attribute.value for name, attribute in build.origin.attributes.items()}
    return [build.cast(build.op(kind, a, w, **attributes), ir.DataType.INT32)]


def _zero_point(build: Builder) -> float:
    """The number that is subtracted from the first operand."""
    if build.optional(2) is None:
        return 0.0
    array = np.unique(build.array(2, "its zero point"))
    if array.size != 1:
        raise NotDecomposableError("its zero points differ between rows")
    return float(array.item())


def _zero_point_of_weights(build: Builder, kind: str) -> npt.NDArray[np.float64]:
    """What is subtracted from the weights: a number, or one for each column [N] of them.

    ONNX Runtime, the reference, has no ConvInteger with one for each filter.
    """
    if build.optional(3) is None:
        return np.zeros(())
    array = build.array(3, "its zero point").astype(np.float64)
    if array.size == 1:
        return array.reshape(())
    if array.ndim != 1 or kind == "Conv":
        raise NotDecomposableError(f"its {'filters' if kind == 'Conv' else 'matrices'} have zero points of their own")
    return array


def _less_zero_point(build: Builder) -> ir.Value:
    zero, value = _zero_point(build), build.cast(build.input(0), ir.DataType.FLOAT)
    return build.op("Sub", value, build.scalar(zero, value)) if zero else value


def _magnitude(build: Builder) -> float:
    """The largest magnitude of an element of the first operand less its zero point."""
    x, zero = build.input(0), _zero_point(build)
    assert x.dtype is not None
    limits = np.iinfo(x.dtype.numpy())
    least, largest = range_of(x)
    ends = max(least, float(limits.min)), min(largest, float(limits.max))
    return max(abs(end - zero) for end in ends)


DECOMPOSITIONS = dict.fromkeys(("MatMulInteger", "ConvInteger"), in_floats)
