"""Move per-channel scales up into the weights in front, through what commutes with them.

    Before:  x ─ BinaryConv(m₁, b₁) ─ u;   z ─ BinaryConv(m₂, b₂) ─ v;   u, v ─ Add ─ Mul(a) ─ Add(c) ─ y
    After:   x ─ BinaryConv(a·m₁, a·b₁) ─ u';   z ─ BinaryConv(a·m₂, a·b₂) ─ v';   u', v' ─ Add ─ Add(c) ─ y

    a·(u + v) = a·u + a·v          a·(u · g) = (a·u)·g         concat, means and average pools: each channel by itself
    a·max uᵢ = max a·uᵢ,  a·relu(u) = relu(a·u)                for a > 0; PReLU and LeakyReLU likewise

A batch norm behind a sum of convolutions is then only a shift, which `carry_shifts` moves into one of the biases.  A
scale moves where nothing is left of it: all that it reaches are weights, and nothing else reads what it changes.  Of a
product it goes to one factor: to one whose weights take it, else to one that is smaller than the product by itself, as
a gate is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of, element_count, new_constant, shape_of, sole_consumer, take_over
from bnncc.passes.affine import Affine, Vector, affine_of
from bnncc.passes.carry_shifts import is_channel_concat, is_transparent
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.fold_affine import absorb, absorbs
from bnncc.passes.insertion import insert

# op(a·x) = a·op(x) for a > 0 alone.
POSITIVELY_HOMOGENEOUS = {"Relu", "LeakyRelu", "PRelu", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"}

# Carries the scale into what computes a value.
Sink = Callable[[], object]


class SinkScales(ir.passes.InPlacePass):
    """Move every Mul by a constant a channel that can go, in the graph's order."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    step = affine_of(node) if node.op_type in ("Mul", "Div") else None
    if step is None or sole_consumer(graph, step[0]) is None:
        return False
    x, scale = step[0], step[1].scale
    sink = _into(graph, x, scale)
    if sink is None:
        return False
    sink()
    take_over(node.outputs[0], x)
    graph.remove(node, safe=True)
    return True


def _into(graph: ir.Graph, value: ir.Value, scale: Vector) -> Sink | None:
    """What makes of `value`, which only what is scaled reads, scale · value; None where some part cannot take it."""
    node = value.producer()
    if node is None or sole_consumer(graph, value) is None or len(node.outputs) != 1:
        return None
    if absorbs(node, scale.size):
        return lambda: _finish(value, lambda: absorb(graph, node, Affine(scale, np.zeros_like(scale))))
    if node.domain != "":
        return None
    inner = _through(graph, node, scale)
    return None if inner is None else lambda: _finish(value, inner)


def _through(graph: ir.Graph, node: ir.Node, scale: Vector) -> Sink | None:
    """`_into` for the operators that hand a scale on."""
    shape = shape_of(node.outputs[0])
    computed = [value for value in node.inputs if value is not None and constant_of(value) is None]
    if shape is None or len(shape) < 2 or not computed:
        return None
    if node.op_type in ("Add", "Sub") and len(computed) == 2:
        return _into_all(graph, computed, [scale] * 2) if all(_has_channels(v, shape) for v in computed) else None
    if node.op_type == "Mul" and len(computed) == 2:
        return _into_factor(graph, node, computed, scale)
    if is_channel_concat(node) and len(computed) == len(node.inputs):
        ends = np.cumsum([(shape_of(value) or (0, 0))[1] for value in computed])[:-1]
        return _into_all(graph, computed, np.split(scale, ends))
    homogeneous = node.op_type in POSITIVELY_HOMOGENEOUS and np.all(scale > 0)
    averages = is_transparent(node) and node.op_type not in POSITIVELY_HOMOGENEOUS
    if len(computed) == 1 and (homogeneous or averages) and _has_channels(computed[0], shape):
        return _into(graph, computed[0], scale)
    return None


def _into_all(graph: ir.Graph, values: list[ir.Value], scales: list[Vector]) -> Sink | None:
    sinks = [_into(graph, value, scale) for value, scale in zip(values, scales, strict=True)]
    found = [sink for sink in sinks if sink is not None]
    return (lambda: [sink() for sink in found]) if len(found) == len(sinks) else None


def _into_factor(graph: ir.Graph, node: ir.Node, factors: list[ir.Value], scale: Vector) -> Sink | None:
    """One factor whose weights take the scale, else a Mul of one that is smaller than the product."""
    shape = shape_of(node.outputs[0]) or ()
    full = [value for value in factors if _has_channels(value, shape)]
    for value in full:
        sink = _into(graph, value, scale)
        if sink is not None:
            return sink
    smaller = [value for value in full if element_count(value) < element_count(node.outputs[0])]
    return (lambda: _scale(graph, node, smaller[0], scale)) if smaller else None


def _scale(graph: ir.Graph, node: ir.Node, factor: ir.Value, scale: Vector) -> None:
    rank = len(shape_of(factor) or ())
    constant = new_constant(graph, scale.astype(np.float32).reshape(1, -1, *(1,) * (rank - 2)), f"{factor.name}/scale")
    scaled = insert(graph, ir.node("Mul", [factor, constant]), node, name=f"{factor.name}/scaled", like=factor)
    node.replace_input_with(node.inputs.index(factor), scaled)


def _finish(value: ir.Value, sink: Sink) -> None:
    """Under its old name `value` holds what it held before the scale: it gets another."""
    sink()
    value.name = f"{value.name}/scaled"


def _has_channels(value: ir.Value, shape: tuple[int, ...]) -> bool:
    """True where `value` has the rank and the channels of a result of `shape`."""
    own = shape_of(value)
    return own is not None and len(own) == len(shape) and own[1] == shape[1]
