"""Pool bits instead of floats: the maximum and the sign change places.

    Before:  x ─ f ─ MaxPool ─ g ─ Sign ─ y          Before:  x ─ Sign ─ MaxPool ─ y
    After:   x ─ f ─ g ─ Sign ─ BinaryMaxPool ─ y     After:   x ─ Sign ─ BinaryMaxPool ─ y

    sign(g(max xᵢ)) = max sign(g(xᵢ))                         where g never falls: a shift, a positive scale, a clip
                    = min sign(g(xᵢ)) = -max sign(-g(xᵢ))     where g never rises: γ < 0

each per channel, the second where no g(xᵢ) is 0 but by chance: neither by design nor for any integer that the sums of
a binary convolution can be, nor where all numbers are multiples of one.  So a channel with γ < 0 pools the complement,
and every consumer takes the -1 into its weights for that input channel, where all of them can (`can_negate`); such
channels are recorded as metadata.  A constant channel is either.  Padding is -∞ before, and never wins after.

What keeps the sign (a hardtanh) disappears.  The rest of g then works on all positions instead of the maxima alone, so
it moves only where the convolution in front absorbs it.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from bnncc.ir.graph import (
    NEGATED_KEY,
    constant_of,
    inherit_source,
    new_constant,
    replace_node,
    shape_of,
    sole_consumer,
    take_over,
)
from bnncc.ir.value_facts import granularity, is_binary, may_equal_by_design
from bnncc.passes.affine import affine_of, channel_vector
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert
from bnncc.passes.normalize_sign_input import can_negate, negate_channels
from bnncc.passes.threshold import can_yield_bits, tabulate
from bnncc.passes.windows import windows_of

# Operators of one computed input that never fall; of these, those whose result is negative exactly where it is.
SIGN_KEEPING = {"Tanh", "Erf", "Softsign", "Identity"}
RISING = {*SIGN_KEEPING, "Relu", "Clip", "Sigmoid", "HardSigmoid", "Softplus", "Exp"}


class BinaryMaxPool(ir.passes.InPlacePass):
    """Move every MaxPool that allows it below the Sign behind it, and let those that read signs pool bits."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, partial(_rewrite, model)))


def _rewrite(model: ir.Model, graph: ir.Graph, node: ir.Node) -> bool:
    if ops.is_sign(node):
        return _move_below(model, graph, node)
    x = node.inputs[0] if node.domain == "" and node.op_type == "MaxPool" else None
    windows = _windows(node) if x is not None else None
    if x is None or windows is None or not is_binary(x):
        return False
    replace_node(graph, node, ops.binary_max_pool(x, windows))
    return True


def _move_below(model: ir.Model, graph: ir.Graph, sign: ir.Node) -> bool:
    found = _find(graph, sign)
    if found is None:
        return False
    pool, nodes = found
    between = list(nodes)
    while between and _keeps_sign(between[-1]):
        between.pop()
    windows, x, y = _windows(pool), pool.inputs[0], sign.outputs[0]
    if windows is None or x is None or not _is_cheap(graph, x, between):
        return False
    direction = _direction(between, x)
    falling = np.flatnonzero(direction < 0)
    if falling.size and not can_negate(graph, y):
        return False
    value, previous, inserted = x, pool, list[ir.Node]()
    for node in between:
        operands = [value if operand is previous.outputs[0] else operand for operand in node.inputs]
        moved = ir.node(node.op_type, operands, dict(node.attributes))
        value, previous = insert(graph, moved, sign, name=f"{node.outputs[0].name}/unpooled", like=x, origin=node), node
        inserted.append(moved)
    if falling.size and _may_be_zero(model, x.producer(), value, falling):
        graph.remove(inserted[::-1], safe=True)
        return False
    if falling.size:
        factor = new_constant(graph, direction.astype(np.float32).reshape(1, -1, 1, 1), f"{y.name}/direction")
        value = insert(graph, ir.node("Mul", [value, factor]), sign, name=f"{y.name}/rising", like=x)
    inner = ops.sign(value)
    insert(graph, inner, sign, name=f"{y.name}/unpooled", like=x)
    pooled = ops.binary_max_pool(inner.outputs[0], windows)
    inherit_source([pooled], pool)
    graph.insert_before(sign, pooled)
    pooled.outputs[0].metadata_props.update(y.metadata_props)
    take_over(y, pooled.outputs[0])
    graph.remove([sign, *reversed(nodes), pool], safe=True)
    if falling.size:
        negate_channels(graph, pooled.outputs[0], falling)
    if NEGATED_KEY in pooled.outputs[0].metadata_props:
        inner.outputs[0].metadata_props[NEGATED_KEY] = pooled.outputs[0].metadata_props[NEGATED_KEY]
    return True


def _find(graph: ir.Graph, sign: ir.Node) -> tuple[ir.Node, list[ir.Node]] | None:
    """(the MaxPool, the monotone operators between it and `sign` in their order), each read by the next alone."""
    between: list[ir.Node] = []
    value = sign.inputs[0]
    while value is not None and sole_consumer(graph, value) is not None:
        node = value.producer()
        if node is None or node.domain != "":
            return None
        if node.op_type == "MaxPool":
            return node, between[::-1]
        value = _monotone_input(node)
        between.append(node)
    return None


def _monotone_input(node: ir.Node) -> ir.Value | None:
    """x where `node` computes, per channel, a monotone function of x alone; None otherwise."""
    step = affine_of(node)
    if step is not None:
        return step[0]
    x = node.inputs[0]
    shape = shape_of(x) if x is not None else None
    if shape is None or any(value is not None and constant_of(value) is None for value in node.inputs[1:]):
        return None
    if node.op_type == "PRelu":
        slope = channel_vector(constant_of(node.inputs[1]), shape)
        return x if slope is not None and np.all(slope >= 0) else None
    if node.op_type == "LeakyRelu":
        return x if "alpha" not in node.attributes or node.attributes["alpha"].as_float() >= 0 else None
    return x if node.op_type in RISING else None


def _direction(nodes: list[ir.Node], x: ir.Value) -> npt.NDArray[np.float64]:
    """+1 for the channels of `x` in which the chain never falls, -1 for those in which it never rises."""
    direction = np.ones((shape_of(x) or (0, 0))[1])
    for node in nodes:
        step = affine_of(node)
        if step is not None:
            direction *= np.where(step[1].scale < 0, -1, 1)
    return direction


def _keeps_sign(node: ir.Node) -> bool:
    """True where the result is negative exactly where the operand is."""
    if node.op_type == "Clip":
        low, high = ((*(constant_of(value) for value in node.inputs[1:]), None, None))[:2]
        return (low is None or float(low) < 0) and (high is None or float(high) >= 0)
    return node.op_type in SIGN_KEEPING


def _may_be_zero(model: ir.Model, conv: ir.Node | None, value: ir.Value, channels: npt.NDArray[np.intp]) -> bool:
    """True where these channels of `value`, a function of what `conv` yields, are 0 by more than chance."""
    if may_equal_by_design(value, 0.0):
        return True
    weight = constant_of(conv.inputs[1]) if conv is not None else None
    if conv is None or weight is None:
        return False
    if not ops.is_binary_conv(conv):
        return granularity(value) is not None
    products = weight[0].size
    sums = np.arange(-products, products + 1, dtype=np.float32)  # of both parities: padding adds no product
    return bool(np.any(tabulate(model, conv, value, sums)[channels] == 0))


def _is_cheap(graph: ir.Graph, x: ir.Value, between: list[ir.Node]) -> bool:
    """True where nothing is left of the operators `between` when they follow the producer of `x` directly."""
    if not between:
        return True
    conv = x.producer()
    if conv is None or sole_consumer(graph, x) is None:
        return False
    if ops.is_binary_conv(conv) and can_yield_bits(conv):
        return True
    weighted = ops.is_binary_conv(conv) or (conv.domain == "" and conv.op_type == "Conv")
    constant = all(value is None or constant_of(value) is not None for value in conv.inputs[1:])
    return weighted and constant and all(affine_of(node) is not None for node in between)


def _windows(pool: ir.Node) -> tuple[Window, Window] | None:
    """The windows of a MaxPool that LceBMaxPool2d can do: two-dimensional, no dilation, no Indices."""
    if len(pool.outputs) > 1 and any(value.uses() for value in pool.outputs[1:]):
        return None
    x = pool.inputs[0]
    if x is None or len(shape_of(x) or ()) != 4:
        return None
    windows = windows_of(pool)
    if windows is None or any(window.begin < 0 for window in windows):
        return None
    dilated = any(window.dilation != 1 and window.kernel != 1 for window in windows)
    return None if dilated else windows
