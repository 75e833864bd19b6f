"""Where float operators must stay in the network's own order.

    x ─ Add(1) ─ Div(2/15) ─ Round ─ y          x · 7.5 + 7.5 is the same function, and other roundings

A rounding jumps at its ties, and levels lie right there: the mean of four levels of a quantiser is half-way between two
of them every fourth time.  Then one rounding in front, less or more or in another order, moves a whole share of the
values by a step.  So in front of what jumps, through operators that hand the roundings of their operands on, an affine
operator stays as it is

    unless it is exact      powers of two, and one shift: (x + a) · 2 and x · 2 + a · 2 are one number
    or learnt, of sums      what a batch norm yields is near a tie as seldom as any number

Sums of products (convolutions, Linears) take each summand's rounding in whatever order a kernel likes, and end a chain;
so do signs, whose operands are compared exactly where they are integer sums.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of
from bnncc.ir.value_facts import MOST_DESIGNED
from bnncc.passes.affine import Affine

ROUNDINGS = ("Round", "Floor", "Ceil")
# Sign: one that stays in float, with PyTorch's three values.
STEPS = (*ROUNDINGS, "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Sign")
# The type of a new value may not be known yet.
FLOATS = (None, ir.DataType.FLOAT)
# Of so many multiples of a step one is twice another, or 0.
LEAST_UNLIKE = 6


def must_stay(value: ir.Value, affines: Sequence[Affine]) -> bool:
    """True where `affines`, of which `value` is the result, must not move past other operators."""
    # What reads the value is asked last: on a shortcut, it is the rest of the network.
    chosen = not any(is_learnt(affine.shift) for affine in affines)
    return (chosen or holds_levels(value)) and is_rounded(value)


def must_keep_order(value: ir.Value, affines: Sequence[Affine]) -> bool:
    """True where they must not be merged either."""
    return not is_exact(affines) and must_stay(value, affines)


def must_stay_behind(layer: ir.Node, value: ir.Value, affines: Sequence[Affine]) -> bool:
    """True where they must not be folded into the convolution or Linear in front of them.

    Powers of two may; and behind a sum that is learnt itself, what it yields is near a tie by chance alone.
    """
    is_scale = is_exact(affines) and not any(np.any(affine.shift) for affine in affines)
    return not is_scale and not _yields_learnt(layer) and must_stay(value, affines)


def is_rounded(value: ir.Value, steps: Collection[str] = STEPS) -> bool:
    """True where a rounding or comparison reads `value`, through operators that hand on how it was rounded."""
    pending, seen = [value], {value}
    while pending:
        for use in pending.pop().uses():
            node = use.node
            if node.domain != "" or node.op_type in ops.WEIGHTED:
                continue
            if node.op_type in steps or (node.op_type == "Cast" and node.outputs[0].dtype not in FLOATS):
                return True
            for output in node.outputs:
                if output.dtype in FLOATS and output not in seen:
                    seen.add(output)
                    pending.append(output)
    return False


def holds_levels(value: ir.Value) -> bool:
    """True where only numbers of which there are few went into `value`: what was rounded, or is ±1."""
    pending, seen = [value], {value}
    while pending:
        node = pending.pop().producer()
        if ops.yields_signs(node) or (node is not None and node.domain == "" and node.op_type in ROUNDINGS):
            continue
        if node is None or node.domain != "" or node.op_type in ops.WEIGHTED:
            return False
        sources = [one for one in node.inputs if one is not None and one.dtype in FLOATS and constant_of(one) is None]
        if not sources:
            return False
        pending += [one for one in sources if one not in seen]
        seen.update(sources)
    return True


def is_exact(affines: Sequence[Affine]) -> bool:
    """True where float32 computes these, one behind the other, as it computes their composition."""
    scales_are_exact = all(np.all(np.frexp(np.abs(affine.scale))[0] == 0.5) for affine in affines)
    return scales_are_exact and sum(bool(np.any(affine.shift)) for affine in affines) <= 1


def is_learnt(array: npt.NDArray[np.float64]) -> bool:
    """True for more numbers than anybody chooses, powers of two aside, or some of which no two are alike.

    Numbers that are chosen lie on a grid, and among so many multiples of a step one is twice another.
    """
    numbers = array[array != 0]
    count = np.unique(np.frexp(np.abs(numbers))[0]).size
    return count > MOST_DESIGNED or (count == numbers.size >= LEAST_UNLIKE)


def _yields_learnt(layer: ir.Node) -> bool:
    """True for a layer whose sums are no chosen numbers, not even where all that it reads is 0."""
    if ops.is_binary_conv(layer):
        numbers = layer.inputs[3:4]
    elif layer.domain == "" and layer.op_type in ops.WEIGHTED and len(layer.inputs) > 2:
        numbers = layer.inputs[1:3]
    else:
        return False
    arrays = [constant_of(value) for value in numbers]
    return all(array is not None and is_learnt(array.astype(np.float64)) for array in arrays)
