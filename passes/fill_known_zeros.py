"""Let a layer read ±1 where its input holds zeros in known places, and take what they add back behind it.

    Before:  S ─ Pad(0) ─ Slice ─ Conv(W, b) ─ y
    After:   S ─ Pad(+1) ─ Slice ─ Conv(W, b) ─ Add(-conv(W, M)) ─ y           M = 1 where the zeros were, else 0

    conv(W, x) = conv(W, x + M) - conv(W, M), and x + M is ±1.

Zeros that a layer pads with by itself, or a Pad right in front of it, need none of this: `recognize-binary-conv` makes
them the operator's own.  Here they were moved in between, padded twice, put around a part of the channels, or joined
as constants.  The numbers f may be others than 0, and the signs scaled: of a·S + m the moves are done to S, and M is
a + m - f.

    Before:  S ─ Mul(a) ─ Add(m_c) ─ Conv(W, b; zero padding) ─ y
    After:   S ─ Mul(a) ─ Conv(W, b; zero padding) ─ Add(conv(W, m_c; zero padding)) ─ y

An offset that differs between channels has no padding of S that stands for zeros, but what it adds is constant too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bnncc.ir.bit_moves import pad_mode, pad_value
from bnncc.ir.evaluate import constant_values
from bnncc.ir.graph import CONV_KEY, constant_of, new_constant, shape_of
from bnncc.ir.value_facts import MOVES, data_inputs, is_binary
from bnncc.passes.binary_operand import NO_PADS, Materializer, Signs, binary_operand
from bnncc.passes.binary_weights import split_weights, zeros_to_plus_one
from bnncc.passes.insertion import add_behind, insert, insert_copy
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.shrink_constants import shrunk
from bnncc.passes.weighted_layer import LAYERS, output_first


class FillKnownZeros(ir.passes.InPlacePass):
    """Rewrite every Conv, Gemm and MatMul of binary weights whose input is binary but for what was put around it."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        materializer = Materializer(model.graph)
        for node in list(model.graph):
            if node.domain == "" and node.op_type in LAYERS and constant_of(node.inputs[0]) is None:
                changed |= _fill(model, node, materializer) or _take_offsets_out(model, node, materializer)
        return ir.passes.PassResult(model, modified=changed)


def _has_binary_weights(layer: ir.Node) -> bool:
    weight = constant_of(layer.inputs[1])
    if weight is None or weight.ndim < 2:
        return False
    filters = weight if layer.op_type == "Conv" else output_first(layer, weight)
    return filters.ndim > 1 and split_weights(zeros_to_plus_one(filters)) is not None


# Numbers among bits


@dataclass
class _Parts:
    """What the input of a layer is made of: moves, in order, of numbers and of signs S as scale · S + offset."""

    moves: dict[ir.Node, None] = field(default_factory=dict)
    signs: dict[ir.Value, Signs] = field(default_factory=dict)
    affines: set[tuple[float, float]] = field(default_factory=set)
    holds_numbers: bool = False

    def collect(self, x: ir.Value) -> bool:
        """Find the parts of `x`; False where there are others, or the signs have several scales or offsets."""
        if constant_of(x) is not None:
            self.holds_numbers = True
            return True
        operand = binary_operand(x)
        if operand is not None and operand.pads == NO_PADS and operand.uniform is not None:
            self.signs[x] = operand.signs
            self.affines.add(operand.uniform)
            return len(self.affines) == 1
        node = x.producer()
        if node is None or node.domain != "" or node.op_type not in (MOVES | {"Pad"}) - {"MaxPool"}:
            return False
        if node in self.moves:
            return True
        if node.op_type == "Pad" and pad_mode(node) == "constant":
            if pad_value(node) is None:
                return False
            self.holds_numbers = True
        if not all(map(self.collect, data_inputs(node))):
            return False
        self.moves[node] = None
        return True

    def moved_signs(self, materializer: Materializer, before: ir.Node) -> dict[ir.Value, ir.Value]:
        """The moves of signs, where every number became +1."""

        def of(value: ir.Value) -> ir.Value:
            if value in self.signs:
                return materializer.value_of(self.signs[value])
            return new_constant(materializer.graph, np.ones(shape_of(value) or (), np.float32), f"{value.name}/signs")

        return self._moved(materializer.graph, of, lambda fill: 1.0, before, "signs")

    def moved_differences(self, graph: ir.Graph, before: ir.Node) -> dict[ir.Value, ir.Value]:
        """The moves of what that adds, constants all."""
        ((scale, offset),) = self.affines

        def of(value: ir.Value) -> ir.Value:
            array = constant_of(value)
            added = np.zeros(shape_of(value) or ()) if array is None else scale + offset - array.astype(np.float64)
            return new_constant(graph, added.astype(np.float32), f"{value.name}/added")

        return self._moved(graph, of, lambda fill: scale + offset - fill, before, "added")

    def _moved(
        self,
        graph: ir.Graph,
        of: Callable[[ir.Value], ir.Value],
        filled_with: Callable[[float], float],
        before: ir.Node,
        suffix: str,
    ) -> dict[ir.Value, ir.Value]:
        """Copies of the moves, of other parts and with other fills, by the results that they stand for."""
        made: dict[ir.Value, ir.Value] = {}
        for node in self.moves:
            sources = data_inputs(node)
            for source in sources:
                if source not in made:
                    made[source] = of(source)
            read: list[ir.Value | None] = [made[source] for source in sources]
            if node.op_type == "Pad" and pad_mode(node) == "constant":
                fill = np.array(filled_with(pad_value(node) or 0.0), np.float32)
                read += [node.inputs[1], new_constant(graph, fill, f"{node.outputs[0].name}/fill")]
            made.update(zip(node.outputs, insert_copy(graph, node, read, before, suffix), strict=True))
        return made


def _fill(model: ir.Model, layer: ir.Node, materializer: Materializer) -> bool:
    graph, x = model.graph, layer.inputs[0]
    assert x is not None
    parts = _Parts()
    if _is_binary_as_it_is(layer, x) or not parts.collect(x) or not parts.holds_numbers or not parts.signs:
        return False
    if not _has_binary_weights(layer):
        return False
    signs = parts.moved_signs(materializer, layer)[x]
    if not is_binary(signs):
        remove_unread(graph, [signs.producer()])
        return False
    added = parts.moved_differences(graph, layer)[x]
    ((scale, offset),), ones = parts.affines, (1,) * len(shape_of(x) or ())
    for operator, number, unit in (("Mul", scale, 1.0), ("Add", offset, 0.0)):
        if number != unit:
            constant = new_constant(graph, np.full(ones, number, np.float32), f"{x.name}/{operator.lower()}")
            node = ir.node(operator, [signs, constant])
            signs = insert(graph, node, layer, name=f"{x.name}/{operator.lower()}ed", like=x)
    layer.replace_input_with(0, signs)
    _add_constant(model, layer, added, -1.0)
    remove_unread(graph, [x.producer()])
    return True


def _is_binary_as_it_is(layer: ir.Node, x: ir.Value) -> bool:
    """True where a layer that reads `x` needs nothing more to be binary."""
    operand = binary_operand(x)
    if operand is None:
        return False
    reached = layer.op_type == "Conv" and _pads(layer)
    return operand.pads == NO_PADS or not reached or operand.preimage(0.0) == operand.fill


# Offsets of channels


def _take_offsets_out(model: ir.Model, layer: ir.Node, materializer: Materializer) -> bool:
    graph, x = model.graph, layer.inputs[0]
    assert x is not None
    operand = binary_operand(x)
    if operand is None or layer.op_type != "Conv" or not _pads(layer) or operand.pads != NO_PADS:
        return False
    scale, offset = operand.affine.scale, operand.affine.shift
    if operand.preimage(0.0) is not None or np.any(scale != scale[0]) or not _has_binary_weights(layer):
        return False
    shape = shape_of(x) or ()
    along = (1, -1, *(1,) * (len(shape) - 2))
    signs = materializer.value_of(operand.signs)
    factor = new_constant(graph, scale[:1].astype(np.float32).reshape((1,) * len(shape)), f"{x.name}/scale")
    scaled = insert(graph, ir.node("Mul", [signs, factor]), layer, name=f"{x.name}/scaled", like=x)
    layer.replace_input_with(0, scaled)
    offsets = np.broadcast_to(offset.astype(np.float32).reshape(along), shape)
    _add_constant(model, layer, new_constant(graph, np.ascontiguousarray(offsets), f"{x.name}/offsets"), 1.0)
    remove_unread(graph, [x.producer()])
    return True


def _pads(conv: ir.Node) -> bool:
    given = conv.attributes["pads"].as_ints() if "pads" in conv.attributes else ()
    return any(given) or conv.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")


# Behind the layer


def _add_constant(model: ir.Model, layer: ir.Node, x: ir.Value, factor: float) -> None:
    """Add `factor` times what `layer` makes of the constant `x`, without its bias."""
    graph, y = model.graph, layer.outputs[0]
    alone = ir.node(layer.op_type, [x, layer.inputs[1]], dict(layer.attributes))
    result = insert(graph, alone, layer, name=f"{y.name}/of_constant", like=y)
    array = factor * constant_values(model, [result])[result.name or ""].astype(np.float32)
    remove_unread(graph, [alone])
    if np.any(array):
        layer.metadata_props.setdefault(CONV_KEY, y.name or "")
        add_behind(graph, layer, shrunk(array), ("border", "one_padded"))
