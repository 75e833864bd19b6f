"""Leave at most one Add in front of a sign.

    Before:  x ─ Mul(γ) ─ Add(β) ─ Sign ─ BinaryConv(s) ─ y
    After:   x ─ Add(β / γ) ─ Sign ─ BinaryConv(s, negated for the input channels with γ < 0) ─ y

    sign(γ·x + β) = sign(γ) · sign(x + β/γ)         γ ≠ 0
                  = sign(β)                         γ = 0

A positive γ_c drops out.  Where γ_c < 0 the stored sign is the negative of what it was, and every consumer takes the
-1 into its weights for that input channel; so all of them must be BinaryConvs in which no padding of a fixed value is
reached (a zero is its own negative, a one is not), or which `free_padding` makes such.  Such channels are recorded as
metadata of the value.  Where every γ_c is negative and that cannot be, one Sub says it, and no padding changes:

    sign(γ·x + β) = sign(-β/γ - x)                γ < 0

A constant channel gets a shift that no x outweighs.  Elsewhere the Mul stays, and so it does where another operator (a
shortcut) needs γ·x + β, which the sign then reads too.

At x = -β/γ the sign is +1, and -sign(x + β/γ) is not.  So where γ < 0 and x may be that number (the 0 of a ReLU, an
integer), the threshold is one beyond it (strict_threshold.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, new_constant, shape_of
from bnncc.ir.value_facts import granularity
from bnncc.passes.affine import Affine, affine_of
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.free_padding import free_padding
from bnncc.passes.insertion import insert
from bnncc.passes.strict_threshold import strictly_beyond
from bnncc.passes.traced import negated_channels, set_negated_channels

# Added to a channel of which the sign is constant: larger than any activation, and far from overflow when x is added.
DECISIVE = 1e30


class NormalizeSignInput(ir.passes.InPlacePass):
    """Rewrite every Sign whose operand is a Mul by a per-channel constant, with or without an Add behind it."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _normalize))


def _normalize(graph: ir.Graph, node: ir.Node) -> bool:
    if not ops.is_sign(node):
        return False
    operand = node.inputs[0]
    if operand is None:
        return False
    x, total = operand, None
    while (producer := x.producer()) is not None and (step := affine_of(producer)) is not None:
        total = step[1] if total is None else step[1].then(total)
        x = step[0]
    if total is None or np.all(total.scale == 1) or _reads_what_is_there(operand, x):
        return False
    negative = np.flatnonzero(total.scale < 0)
    if negative.size and not can_negate(graph, node.outputs[0]):
        if np.all(total.scale < 0):
            return _subtract(graph, node, x, total)
        if not free_padding(graph, node.outputs[0]):
            return False
    _replace_operand(graph, node, x, total)
    if negative.size:
        negate_channels(graph, node.outputs[0], negative)
    return True


def _subtract(graph: ir.Graph, node: ir.Node, x: ir.Value, affine: Affine) -> bool:
    """Let the sign read -β/γ - x, where every γ is negative; False where it does."""
    if np.all(affine.scale == -1):
        return False
    rank = len(shape_of(x) or ())
    least = (affine.shift / -affine.scale).astype(np.float32).reshape(1, -1, *(1,) * (rank - 2))
    name = f"{node.outputs[0].name}/shifted"
    difference = ir.node("Sub", [new_constant(graph, least, f"{name}/threshold"), x])
    node.replace_input_with(0, insert(graph, difference, node, name=name, like=x))
    return True


def _reads_what_is_there(operand: ir.Value, x: ir.Value) -> bool:
    """True where the scaled value is computed for another reader whatever the sign reads.

    Not where `x` holds integers or the like: a threshold for them is exact, a rounded product at it is not.
    """
    computed = operand.is_graph_output() or not all(ops.is_sign(use.node) for use in operand.uses())
    return computed and granularity(x) is None


def _replace_operand(graph: ir.Graph, node: ir.Node, x: ir.Value, affine: Affine) -> None:
    """Let the sign read x + β/γ, or x itself where that is all."""
    constant = affine.scale == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(constant, np.where(affine.shift < 0, -DECISIVE, DECISIVE), affine.shift / affine.scale)
    if np.any(affine.scale < 0):
        shift = np.where(affine.scale < 0, -strictly_beyond(x, -shift, np.ones_like(shift)), shift)
    if not shift.any():
        node.replace_input_with(0, x)
        return
    rank = len(shape_of(x) or ())
    values = shift.astype(np.float32).reshape(1, -1, *(1,) * (rank - 2))
    name = f"{node.outputs[0].name}/shifted"
    add = ir.node("Add", [x, new_constant(graph, values, f"{name}/shift")])
    node.replace_input_with(0, insert(graph, add, node, name=name, like=x))


def can_negate(graph: ir.Graph, value: ir.Value) -> bool:
    """True where every consumer of the binary `value` is a BinaryConv that can take a -1 into its weights."""
    return value not in graph.outputs and all(
        ops.is_binary_conv(use.node)
        and use.idx == 0
        and (use.node.attributes["pad_value"].as_float() == 0.0 or not any(use.node.attributes["pads"].as_ints()))
        for use in value.uses()
    )


def negate_channels(graph: ir.Graph, value: ir.Value, channels: npt.NDArray[np.intp]) -> None:
    """Tell the consumers that these channels of `value` now hold the negative, and record it."""
    for node in dict.fromkeys(use.node for use in value.uses()):
        weight = node.inputs[1]
        signs = constant_of(weight)
        assert weight is not None
        assert signs is not None
        flipped = signs.astype(np.float32)
        group = node.attributes["group"].as_int()
        outputs, width = signs.shape[0] // group, signs.shape[1]
        for channel in channels:
            first = channel // width * outputs
            flipped[first : first + outputs, channel % width] *= -1
        node.replace_input_with(1, new_constant(graph, flipped, f"{weight.name}/negated"))
    set_negated_channels(value, sorted(set(negated_channels(value)) ^ {int(channel) for channel in channels}))
