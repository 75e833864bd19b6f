"""The threshold that says > where a sign says ≥.

    x > t  ⇔  x ≥ t'          t' the next float32 above t

and so does any t' up to the next number that x can be: between integers ½ above t, which no sum rounds away when t'
goes into the bias of a convolution in front.  At 0, t' would be an operator of its own where t was none, so that there
x must be able to be 0 by more than chance.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of
from bnncc.ir.value_facts import FIRST_INPUT_ONLY, ZERO_KEEPING, granularity, may_equal_by_design
from bnncc.passes.piecewise import Matrix

# Operators that make no difference to an exact 0 in a sum of integers.
PASSING_ZERO = FIRST_INPUT_ONLY | ZERO_KEEPING | {"Mul", "Div", "Neg"}


def strictly_beyond(x: ir.Value, threshold: Matrix, direction: Matrix) -> Matrix:
    """t' in `direction`, ±1, of each threshold that an element of `x` may be; of the others the threshold itself."""
    grain = granularity(x)
    if grain is not None:
        met = threshold / grain == np.rint(threshold / grain)
        between = threshold + direction * grain / 2
        found = between.astype(np.float32) == between
        return np.where(met, np.where(found, between, _next_float32(threshold, direction)), threshold)
    # Only a float32 can be met exactly.
    met = (threshold == threshold.astype(np.float32)) & ((threshold != 0) | _meets_zero(x))
    return np.where(met, _next_float32(threshold, direction), threshold)


def _next_float32(threshold: Matrix, direction: Matrix) -> Matrix:
    """The next float32 in `direction`, ±1; the smallest normal number next to 0, as kernels may flush smaller ones."""
    following = np.nextafter(threshold.astype(np.float32), np.float32(np.inf) * direction.astype(np.float32))
    tiny = direction * float(np.finfo(np.float32).tiny)
    return np.where(threshold == 0, tiny, following.astype(np.float64))


def _meets_zero(x: ir.Value) -> bool:
    """True where x is 0 by design, or a sum of products without a bias, which for ±1 is often exactly 0."""
    if may_equal_by_design(x, 0.0):
        return True
    node = x.producer()
    while node is not None and node.domain == "" and node.op_type in PASSING_ZERO and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None:
        return False
    index = 3 if ops.is_binary_conv(node) else 2
    if index == 2 and (node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul")):
        return False
    bias = constant_of(node.inputs[index]) if len(node.inputs) > index else None
    return bias is None or not np.all(bias)
