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
from bnncc.passes.affine import affine_of
from bnncc.passes.piecewise import Matrix

# A share of a sum that the roundings of its terms to float32 leave, and that settle_ties.py takes for none of them.
SURVIVING = 2.0**-20
# So many sums and joins in a row are looked through.
MOST_SUMS = 8
LAYERS = {"Conv", "Gemm", "MatMul"}
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
    is_zero = threshold == 0
    met = (threshold == threshold.astype(np.float32)) & (~is_zero | bool(is_zero.any() and _meets_zero(x)))
    following = _next_float32(threshold, direction)
    # Far enough to be kept in the bias of the convolution in front, beside the size of its sums.
    size = _size_of_sums(x)
    if size:
        kept = threshold + direction * SURVIVING * (size + np.abs(threshold))
        following = np.where(direction > 0, np.maximum(following, kept), np.minimum(following, kept))
    return np.where(met, following, threshold)


def _next_float32(threshold: Matrix, direction: Matrix) -> Matrix:
    """The next float32 in `direction`, ±1; the smallest normal number next to 0, as kernels may flush smaller ones."""
    following = np.nextafter(threshold.astype(np.float32), np.float32(np.inf) * direction.astype(np.float32))
    tiny = direction * float(np.finfo(np.float32).tiny)
    return np.where(threshold == 0, tiny, following.astype(np.float64))


def _in_front(x: ir.Value) -> ir.Value:
    """What `x` is made of by operators that pass an exact 0 on."""
    while (node := x.producer()) is not None and _passes_zero(node):
        if node.inputs[0] is None:
            break
        x = node.inputs[0]
    return x


def _passes_zero(node: ir.Node) -> bool:
    """True where a 0 stays 0, as an untrained batch norm leaves it, in some channel at least."""
    if node.domain == "" and node.op_type == "BatchNormalization":
        step = affine_of(node)
        return step is not None and not np.all(step[1].shift)
    return node.domain == "" and node.op_type in PASSING_ZERO


def _size_of_sums(x: ir.Value, depth: int = MOST_SUMS) -> float:
    """What the constants of binary convolutions behind `x`, or behind sums that it is, amount to: K·|m| + |b|; so of
    convolutions and Linears of signs that are not recognised yet.
    """
    scale, node = 1.0, x.producer()
    while node is not None and _passes_zero(node) and node.inputs[0] is not None:
        step = affine_of(node)
        scale *= 1.0 if step is None else float(np.abs(step[1].scale).max())
        node = node.inputs[0].producer()
    if node is None:
        return 0.0
    if node.domain == "" and node.op_type in ("Add", "Sub") and depth:
        return scale * sum(_size_of_sums(one, depth - 1) for one in node.inputs if one is not None)
    if node.domain == "" and node.op_type in LAYERS:
        return scale * _size_of_products(node)
    if not ops.is_binary_conv(node):
        return 0.0
    signs, multiplier, bias = (constant_of(value) for value in node.inputs[1:4])
    if signs is None or multiplier is None or bias is None:
        return 0.0
    return scale * float(signs[0].size * np.abs(multiplier).max() + np.abs(bias).max())


def _size_of_products(layer: ir.Node) -> float:
    """The same of a layer with constant weights whose input takes two values, in any spelling; else 0."""
    weights, largest = constant_of(layer.inputs[1]), _largest_of_two(layer.inputs[0])
    if weights is None or weights.ndim < 2:
        return 0.0
    axis = 0 if layer.op_type == "Conv" or layer.attributes.get_int("transB", 0) == 1 else weights.ndim - 1
    others = tuple(i for i in range(weights.ndim) if i != axis)
    return largest * float(np.abs(weights.astype(np.float64)).sum(axis=others).max())


def _largest_of_two(value: ir.Value | None) -> float:
    """The magnitude that an affine function of signs or comparisons, moved or pooled, does not exceed; else 0."""
    node = None if value is None else value.producer()
    if node is None or value is None:
        return 0.0
    step, source = affine_of(node), node.inputs[0] if node.inputs else None
    if ops.is_sign(node) or (node.domain == "" and node.op_type == "Sign"):
        return 1.0
    if step is not None:
        inner = _largest_of_two(step[0])
        return float(inner * np.abs(step[1].scale).max() + np.abs(step[1].shift).max()) if inner else 0.0
    if node.domain != "" or source is None:
        return 0.0
    if node.op_type == "Cast":
        return 1.0 if source.dtype is ir.DataType.BOOL else _largest_of_two(source)
    if node.op_type == "Where":
        numbers = [constant_of(one) for one in node.inputs[1:]]
        sizes = [float(np.abs(one).max()) for one in numbers if one is not None and one.size]
        return max(sizes) if len(sizes) == len(numbers) else 0.0
    return _largest_of_two(source) if node.op_type in FIRST_INPUT_ONLY | {"MaxPool", "Identity"} else 0.0


def _meets_zero(x: ir.Value, depth: int = MOST_SUMS) -> bool:
    """True where x is 0 by design, or may be so by more than chance: a sum of products without a bias, which for ±1 is
    often exactly 0, an input, which may hold integers, and sums and joins of such.
    """
    if may_equal_by_design(x, 0.0):
        return True
    x = _in_front(x)
    node = x.producer()
    if node is None:
        return x.is_graph_input() and depth < MOST_SUMS
    if node.domain == "" and node.op_type in ("Add", "Sub", "Concat") and depth:
        met = [_meets_zero(one, depth - 1) for one in node.inputs if one is not None and constant_of(one) is None]
        return len(met) == len(node.inputs) and (any(met) if node.op_type == "Concat" else all(met))
    index = 3 if ops.is_binary_conv(node) else 2
    if index == 2 and (node.domain != "" or node.op_type not in LAYERS):
        return False
    bias = constant_of(node.inputs[index]) if len(node.inputs) > index else None
    return bias is None or not np.all(bias)
