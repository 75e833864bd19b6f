"""Take means over maps before the arithmetic, which then has one element a channel.

    Before:  y, r ─ k·y + (1 - k)·r ─ mean ─ Conv(W) ─ Sigmoid ─ g;   y·g + r ─ mean ─ z
    After:   y ─ mean ─ u;   r ─ mean ─ v;   u, v ─ Concat ─ Conv([W·k, W·(1 - k)]) ─ Sigmoid ─ g;   u·g + v ─ z

    mean(a + b) = mean(a) + mean(b)        mean(g·a + c) = g·mean(a) + c        g, c the same all over the map

An expression is a sum of terms: a value of the map, times constants a channel and gates [N, C, 1, 1].  A pointwise
convolution or Linear of a sum with constants alone reads the means side by side, with the constants in its weights.

The means that read one value belong together: they are all rewritten, or none.  They are where this takes no more
operators than before; what is computed on maps is then less in any case.

A batch norm in front of a mean may be read by signs too.  They need no product, only a threshold
(`normalize_sign_input`), when the mean does not read it any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.graph import (
    constant_of,
    element_count,
    inherit_source,
    new_constant,
    replace_node,
    shape_of,
    sole_consumer,
    take_over,
)
from bnncc.passes.affine import Affine, Vector, affine_of
from bnncc.passes.flatten_means import is_mean_of_map
from bnncc.passes.insertion import insert, insert_reshape
from bnncc.passes.kept_order import is_rounded
from bnncc.passes.normalize_sign_input import can_negate
from bnncc.passes.remove_unused import remove_unread


@dataclass(frozen=True)
class _Term:
    """scale [C] · the gates · leaf."""

    leaf: ir.Value
    scale: Vector
    gates: tuple[ir.Value, ...] = ()

    @property
    def operators(self) -> int:
        return int(np.any(self.scale != 1)) + len(self.gates)


@dataclass
class _Mean:
    """A mean of Σ terms + shift.  saved: operators that compute that for the mean alone.

    reader: the layer that reads the mean, or the rows that `rows`, a Reshape, makes of it.
    """

    node: ir.Node
    terms: list[_Term]
    shift: Vector
    saved: int = 0
    rows: ir.Node | None = None
    reader: ir.Node | None = None

    @property
    def before(self) -> int:
        """Operators as it is."""
        return 1 + self.saved + int(self.rows is not None)

    @property
    def after(self) -> int:
        """Operators behind the means of the leaves."""
        if self.reader is not None:  # Several means are joined, and the joined ones made rows for a Linear.
            return (1 + int(self.reader.op_type != "Conv")) * int(len(self.terms) > 1)
        arithmetic = sum(term.operators for term in self.terms) + len(self.terms) - 1 + int(np.any(self.shift != 0))
        return arithmetic + int(len(shape_of(self.node.outputs[0]) or ()) == 2)


class AverageEarly(ir.passes.InPlacePass):
    """Rewrite every group of means for which that takes no more operators."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        changed = False
        for means in _groups(_means(graph)):
            leaves = {term.leaf for mean in means for term in mean.terms}
            after = len(leaves) + sum(mean.after for mean in means)
            if any(mean.saved for mean in means) and after <= sum(mean.before for mean in means):
                _rewrite(graph, means)
                changed = True
        return ir.passes.PassResult(model, modified=changed)


def _means(graph: ir.Graph) -> list[_Mean]:
    found = []
    for node in graph:
        x = node.inputs[0] if node.inputs else None
        shape = shape_of(x) if x is not None else None
        result = shape_of(node.outputs[0])
        if x is None or shape is None or len(shape) != 4 or result is None or not is_mean_of_map(node, 4):
            continue
        if is_rounded(node.outputs[0]):
            continue  # the network's own order decides on which side of a tie a mean lies
        mean = _Mean(node, [], np.zeros(shape[1]))
        _expand(graph, x, Affine.identity(shape[1]), (), mean)
        mean.rows, mean.reader = _reader(graph, mean)
        found.append(mean)
    return found


def _expand(graph: ir.Graph, value: ir.Value, affine: Affine, gates: tuple[ir.Value, ...], mean: _Mean) -> None:
    """Add scale · gates · value, and the shift, to the terms of `mean`."""
    node, shape = value.producer(), shape_of(value) or ()
    step = affine_of(node) if node is not None else None
    alone = sole_consumer(graph, value) is not None
    if step is not None and (not gates or not np.any(step[1].shift)) and (alone or _is_compared(graph, value, step[1])):
        mean.saved += 1 if alone else int(np.any(step[1].scale != 1))
        mean.shift = mean.shift + affine.scale * step[1].shift
        _expand(graph, step[0], replace(affine, scale=affine.scale * step[1].scale), gates, mean)
        return
    if node is not None and node.domain == "" and alone:
        computed = [operand for operand in node.inputs if operand is not None and constant_of(operand) is None]
        full = [operand for operand in computed if shape_of(operand) == shape]
        if node.op_type in ("Add", "Sub") and len(full) == 2:
            mean.saved += 1
            for operand, sign in zip(full, (1.0, 1.0 if node.op_type == "Add" else -1.0), strict=True):
                _expand(graph, operand, replace(affine, scale=sign * affine.scale), gates, mean)
            return
        if node.op_type == "Mul" and len(computed) == 2 and len(full) == 1:
            (gate,) = (operand for operand in computed if operand is not full[0])
            if (shape_of(gate) or ())[1:] in ((shape[1], 1, 1), (1, 1, 1)):
                mean.saved += 1
                _expand(graph, full[0], affine, (*gates, gate), mean)
                return
    mean.terms.append(_Term(value, affine.scale, gates))


def _is_compared(graph: ir.Graph, value: ir.Value, affine: Affine) -> bool:
    """True where all else that reads `value` are signs that can do without its scale."""
    others = [use.node for use in value.uses() if not is_mean_of_map(use.node, 4)]
    if len(value.uses()) != len(others) + 1 or value.is_graph_output() or not all(map(ops.is_sign, others)):
        return False
    return bool(np.all(affine.scale > 0)) or all(can_negate(graph, sign.outputs[0]) for sign in others)


def _reader(graph: ir.Graph, mean: _Mean) -> tuple[ir.Node | None, ir.Node | None]:
    """The pointwise convolution or Linear, weights constant, that alone reads a mean of terms without gates.

    With the Reshape to rows between them, where there is one.  It reads several means side by side where its weights
    do not grow by more than the map.
    """
    x, rows = mean.node.outputs[0], None
    node = sole_consumer(graph, x)
    shape = shape_of(x) or ()
    if node is not None and node.domain == "" and node.op_type in RESHAPES and shape_of(node.outputs[0]) == shape[:2]:
        rows, x = node, node.outputs[0]
        node = sole_consumer(graph, x)
    if node is None or not mean.saved or any(term.gates for term in mean.terms) or not _is_linear(node, x):
        return None, None
    weight = constant_of(node.inputs[1])
    assert weight is not None
    grows = (len(mean.terms) - 1) * weight.size > element_count(mean.terms[0].leaf)
    return (None, None) if grows else (rows, node)


def _is_linear(node: ir.Node, x: ir.Value) -> bool:
    """True for a sum over the channels of `x` with constant weights and bias."""
    if node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul") or node.inputs[0] is not x:
        return False
    weight, bias = constant_of(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    array = constant_of(bias)
    if weight is None or (bias is not None and (array is None or array.ndim != 1)):
        return False
    if node.op_type == "MatMul":
        return weight.ndim == 2 and len(shape_of(x) or ()) == 2
    if node.op_type == "Gemm":
        plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        return plain and not node.attributes.get_int("transA", 0)
    pads = node.attributes["pads"].as_ints() if "pads" in node.attributes else ()
    return weight.shape[2:] == (1, 1) and node.attributes.get_int("group", 1) == 1 and not any(pads)


def _groups(means: list[_Mean]) -> Iterable[list[_Mean]]:
    """The means that share leaves, together, in the graph's order."""
    group_of: dict[ir.Value, list[_Mean]] = {}
    for mean in means:
        merged = [mean]
        for group in {id(group): group for t in mean.terms if (group := group_of.get(t.leaf)) is not None}.values():
            merged = group + merged
        for one in merged:
            for term in one.terms:
                group_of[term.leaf] = merged
    return list({id(group): group for group in group_of.values()}.values())


# Rewriting


def _rewrite(graph: ir.Graph, means: list[_Mean]) -> None:
    averages: dict[ir.Value, ir.Value] = {}
    for mean in means:
        for term in mean.terms:
            if term.leaf not in averages:
                averages[term.leaf] = _average(graph, term.leaf, mean.node)
    for mean in means:
        if mean.reader is not None:
            _read_side_by_side(graph, mean, mean.reader, averages)
        else:
            _compute_small(graph, mean, averages)
        remove_unread(graph, [mean.node, mean.rows])


def _average(graph: ir.Graph, leaf: ir.Value, before: ir.Node) -> ir.Value:
    """The mean [N, C, 1, 1] of a leaf, as soon as that is there."""
    node = ir.node("GlobalAveragePool", [leaf])
    result = node.outputs[0]
    result.name, result.type = f"{leaf.name}/mean", leaf.type
    result.shape = ir.Shape((*(shape_of(leaf) or ())[:2], 1, 1))
    inherit_source([node], before)
    producer = leaf.producer()
    if producer is None:
        graph.insert_before(graph.node(0), node)
    else:
        graph.insert_after(producer, node)
    return result


def _read_side_by_side(graph: ir.Graph, mean: _Mean, reader: ir.Node, averages: dict[ir.Value, ir.Value]) -> None:
    weight, bias = constant_of(reader.inputs[1]), constant_of(reader.inputs[2]) if len(reader.inputs) > 2 else None
    assert weight is not None
    name = reader.outputs[0].name
    parts = [averages[term.leaf] for term in mean.terms]
    x = parts[0]
    channels = sum((shape_of(part) or (0, 0))[1] for part in parts)
    batch = (shape_of(x) or (0,))[0]
    if len(parts) > 1:
        joined = ir.node("Concat", parts, {"axis": 1})
        shape = (batch, channels, 1, 1)
        x = insert(graph, joined, reader, name=f"{name}/means", like=x, shape=shape, origin=mean.node)
    # The weights as [O, C].
    as_rows = reader.op_type == "Conv" or bool(reader.attributes.get_int("transB", 0))
    matrix = weight.astype(np.float64).reshape(weight.shape[:2])
    matrix = matrix if as_rows else matrix.T
    total = matrix @ mean.shift
    total = total if bias is None else total + bias.astype(np.float64)
    scaled = np.concatenate([matrix * term.scale for term in mean.terms], axis=1)
    if reader.op_type != "Conv":
        x = insert_reshape(graph, x, (batch, channels), f"{name}/rows", reader)
    scaled = scaled if as_rows else scaled.T
    matrix = scaled.reshape(*scaled.shape, *weight.shape[2:]).astype(np.float32)
    inputs = [
        x,
        new_constant(graph, matrix, f"{name}/weight"),
        new_constant(graph, total.astype(np.float32), f"{name}/bias"),
    ]
    replace_node(
        graph, reader, ir.node("Gemm" if reader.op_type == "MatMul" else reader.op_type, inputs, reader.attributes)
    )


def _compute_small(graph: ir.Graph, mean: _Mean, averages: dict[ir.Value, ir.Value]) -> None:
    node, y = mean.node, mean.node.outputs[0]
    value: ir.Value | None = None

    def then(operator: str, left: ir.Value, right: ir.Value, suffix: str) -> ir.Value:
        shape = np.broadcast_shapes(shape_of(left) or (), shape_of(right) or ())
        return insert(graph, ir.node(operator, [left, right]), node, name=f"{y.name}/{suffix}", like=left, shape=shape)

    for index, term in enumerate(mean.terms):
        part = averages[term.leaf]
        for gate in term.gates:
            part = then("Mul", part, gate, f"gated{index}")
        if np.any(term.scale != 1):
            part = then("Mul", part, _vector(graph, term.scale, f"{y.name}/scale{index}"), f"scaled{index}")
        value = part if value is None else then("Add", value, part, f"sum{index}")
    assert value is not None
    if np.any(mean.shift != 0):
        value = then("Add", value, _vector(graph, mean.shift, f"{y.name}/shift"), "shifted")
    shape = shape_of(y) or ()
    if len(shape) == 2:
        value = insert_reshape(graph, value, shape, f"{y.name}/rows", node)
    if y in graph.outputs and value in averages.values():
        value = insert(graph, ir.node("Identity", [value]), node, name=f"{y.name}/copy", like=value)
    if value in averages.values():
        y.replace_all_uses_with(value)
    else:
        value.metadata_props.update(y.metadata_props)
        take_over(y, value)


def _vector(graph: ir.Graph, vector: Vector, name: str) -> ir.Value:
    return new_constant(graph, vector.astype(np.float32).reshape(1, -1, 1, 1), name)
