"""Take sequences of tensors apart: where their lengths are known they are Splits and Concats.

    Before:  x ─ SplitToSequence(16) ─ SequenceAt(1) ─ y
    After:   x ─ Split(16, 16) ─┬─ (unused)
                                └─ y

PyTorch's exporters write `chunk`, `split` and `tensor_split` as sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bnncc.errors import ExportError
from bnncc.frontend.shapes import infer_shapes
from bnncc.ir.evaluate import Array, constant_values, input_dependent, inputs_of
from bnncc.ir.graph import describe, inherit_source, new_constant, shape_of

# The inputs of these operators that say how long a sequence is, or which of its tensors is meant.
_CONTROLS = {"SplitToSequence": 1, "SequenceAt": 1, "SequenceErase": 1, "SequenceInsert": 2}
_OPERATORS = {*_CONTROLS, "SequenceConstruct", "SequenceEmpty", "SequenceLength", "ConcatFromSequence"}


def expand_sequences(model: ir.Model) -> None:
    """Replace the sequences of the main graph by their tensors, in place.  Every value has a name.

    Raises:
        ExportError: a length or position depends on the inputs, or an operator does something else with a sequence.
    """
    if any(node.op_type in _OPERATORS and node.domain == "" for node in model.graph):
        _Expansion(model).expand()


class _Expansion:
    def __init__(self, model: ir.Model) -> None:
        self._model, self._graph = model, model.graph
        self._elements: dict[ir.Value, list[ir.Value]] = {}
        self._removed: list[ir.Node] = []
        infer_shapes(model)
        self._known = self._controls()

    def expand(self) -> None:
        """Go through the graph once, in order."""
        for node in list(self._graph):
            handler = self._handlers.get(node.op_type) if node.domain == "" else None
            if handler is not None:
                handler(self, node)
                self._removed.append(node)
            elif any(value in self._elements for value in inputs_of(node)):
                raise ExportError(f"{describe(node)} works on a sequence of tensors")
        if any(value in self._elements for value in self._graph.outputs):
            raise ExportError("a sequence of tensors is an output of the graph")
        self._graph.remove(reversed(self._removed), safe=True)

    def _controls(self) -> dict[ir.Value, Array]:
        """The lengths and positions that do not depend on the graph inputs, computed."""
        dependent = input_dependent(self._graph)
        wanted = [
            node.inputs[_CONTROLS[node.op_type]]
            for node in self._graph
            if node.op_type in _CONTROLS and node.domain == "" and len(node.inputs) > _CONTROLS[node.op_type]
        ]
        values = [value for value in dict.fromkeys(wanted) if value is not None and value not in dependent]
        constants = {value: value.const_value.numpy() for value in values if value.const_value is not None}
        others = [value for value in values if value not in constants]
        if others:
            results = constant_values(self._model, others)
            constants.update({value: results[value.name or ""] for value in others})
        return constants

    def _control(self, node: ir.Node) -> Array | None:
        """What this input holds; None where it is left out."""
        index = _CONTROLS[node.op_type]
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is None:
            return None
        if value not in self._known:
            raise ExportError(f"{describe(node)}: a length or position depends on the network's inputs")
        return self._known[value]

    def _sequence(self, node: ir.Node) -> list[ir.Value]:
        value = node.inputs[0]
        if value is None or value not in self._elements:
            raise ExportError(f"{describe(node)}: its sequence comes from elsewhere")
        return list(self._elements[value])

    def _new(self, node: ir.Node, operator: str, inputs: list[ir.Value], count: int = 1, **attributes: int) -> ir.Node:
        """A node in front of `node`, which its outputs are named after."""
        new = ir.node(operator, inputs, attributes=attributes, num_outputs=count)
        new.name = f"{node.name}/{operator}/{inputs[0].name}"
        for index, value in enumerate(new.outputs):
            value.name = f"{new.name}/{index}"
        inherit_source([new], node)
        self._graph.insert_before(node, new)
        return new

    def _constant(self, node: ir.Node, numbers: list[int]) -> ir.Value:
        return new_constant(self._graph, np.array(numbers, np.int64), f"{node.name}/sizes")

    def _split(self, node: ir.Node) -> None:
        (x, *_), lengths = node.inputs, self._control(node)
        assert x is not None
        if shape_of(x) is None:  # behind another sequence
            infer_shapes(self._model)
        shape, axis = shape_of(x), node.attributes.get_int("axis", 0)
        if shape is None:
            raise ExportError(f"{describe(node)}: the shape of what it splits is not known")
        size = shape[axis]
        keeps = lengths is not None or node.attributes.get_int("keepdims", 1) == 1
        if lengths is None or lengths.ndim == 0:
            step = 1 if lengths is None else int(lengths)
            sizes = [min(step, size - start) for start in range(0, size, step)]
        else:
            sizes = [int(length) for length in lengths]
        split = self._new(node, "Split", [x, self._constant(node, sizes)], len(sizes), axis=axis)
        elements = list(split.outputs)
        if not keeps:
            axes = self._constant(node, [axis])
            elements = [self._new(node, "Squeeze", [value, axes]).outputs[0] for value in elements]
        self._elements[node.outputs[0]] = elements

    def _at(self, node: ir.Node) -> None:
        element, result = self._sequence(node)[self._position(node)], node.outputs[0]
        if result not in self._graph.outputs:
            result.replace_all_uses_with(element)
            return
        self._take_over(result, self._new(node, "Identity", [element]).outputs[0])

    @staticmethod
    def _take_over(before: ir.Value, after: ir.Value) -> None:
        """As in a sequence's stead, which has neither shape nor type."""
        name = before.name
        before.replace_all_uses_with(after, replace_graph_outputs=True)
        before.name, after.name = f"{name}/sequence", name

    def _position(self, node: ir.Node) -> int:
        position = self._control(node)
        return -1 if position is None else int(position.reshape(-1)[0])

    def _construct(self, node: ir.Node) -> None:
        self._elements[node.outputs[0]] = [value for value in node.inputs if value is not None]

    def _insert(self, node: ir.Node) -> None:
        elements, tensor = self._sequence(node), node.inputs[1]
        assert tensor is not None
        elements.insert(len(elements) if self._control(node) is None else self._position(node), tensor)
        self._elements[node.outputs[0]] = elements

    def _erase(self, node: ir.Node) -> None:
        elements = self._sequence(node)
        del elements[self._position(node)]
        self._elements[node.outputs[0]] = elements

    def _length(self, node: ir.Node) -> None:
        constant = new_constant(self._graph, np.array(len(self._sequence(node)), np.int64), f"{node.name}/length")
        node.outputs[0].replace_all_uses_with(constant)

    def _concat(self, node: ir.Node) -> None:
        elements, axis = self._sequence(node), node.attributes["axis"].as_int()
        if node.attributes.get_int("new_axis", 0):
            axes = self._constant(node, [axis])
            elements = [self._new(node, "Unsqueeze", [value, axes]).outputs[0] for value in elements]
        self._take_over(node.outputs[0], self._new(node, "Concat", elements, axis=axis).outputs[0])

    _handlers: ClassVar[dict[str, Callable[[_Expansion, ir.Node], None]]] = {
        "SplitToSequence": _split,
        "SequenceAt": _at,
        "SequenceConstruct": _construct,
        "SequenceEmpty": _construct,
        "SequenceInsert": _insert,
        "SequenceErase": _erase,
        "SequenceLength": _length,
        "ConcatFromSequence": _concat,
    }
