"""Builds what an operator decomposes into: nodes in front of it, their shapes inferred as they are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from bnncc.ir.graph import constant_of, inherit_source, shape_of, take_over

Array = npt.NDArray[Any]


class NotDecomposableError(Exception):
    """Raised by a decomposition: this node stays.  The message is the reason; none where targets have the operator."""


class Builder:
    """New nodes for one node of a graph.  Nothing is inserted before `finish`.

    Values that are known when a node is built (axes, shapes, indices) are NumPy arrays or numbers: they become
    initializers.
    """

    def __init__(self, graph: ir.Graph, origin: ir.Node, names: set[str]) -> None:
        """`names`: those that are taken in the graph; it is added to."""
        self.graph, self.origin = graph, origin
        self._names = names
        self._nodes: list[ir.Node] = []
        self._constants: list[ir.Value] = []
        self._opset = graph.opset_imports.get("", 18)

    @property
    def opset(self) -> int:
        """The version of ONNX's operators in the graph."""
        return self._opset

    # Reading the node

    def input(self, index: int) -> ir.Value:
        """Input `index`, one that must be there."""
        value = self.optional(index)
        assert value is not None, f"{self.origin.op_type} lacks input {index}"
        return value

    def optional(self, index: int) -> ir.Value | None:
        """Input `index`, None where it is absent."""
        return self.origin.inputs[index] if index < len(self.origin.inputs) else None

    def array(self, index: int, what: str = "") -> Array:
        """Input `index` as an array; NotDecomposableError where it is absent or computed at run time."""
        array = constant_of(self.optional(index))
        if array is None:
            raise NotDecomposableError(f"{what or f'input {index}'} is not a constant")
        return array

    def has_output(self, index: int) -> bool:
        """True where output `index` is there and used."""
        if index >= len(self.origin.outputs):
            return False
        value = self.origin.outputs[index]
        return bool(value.uses()) or value.is_graph_output()

    def integer(self, name: str, default: int) -> int:
        """An attribute."""
        return self.origin.attributes.get_int(name, default)

    def number(self, name: str, default: float) -> float:
        """An attribute."""
        return self.origin.attributes.get_float(name, default)

    def text(self, name: str, default: str) -> str:
        """An attribute."""
        return self.origin.attributes.get_string(name, default)

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        """An attribute."""
        return list(self.origin.attributes.get_ints(name, default))

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """The static shape."""
        shape = shape_of(value)
        if shape is None:
            raise NotDecomposableError(f"{value.name} has no static shape")
        return shape

    # Building

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = None) -> ir.Value:
        """An initializer."""
        name = self._unique("constant")
        value = ir.val(name, const_value=ir.tensor(np.asarray(array, dtype, order="C"), name=name))
        self._constants.append(value)
        return value

    def scalar(self, number: float, like: ir.Value) -> ir.Value:
        """A number in the element type of `like`."""
        assert like.dtype is not None
        return self.constant(np.asarray(number), like.dtype.numpy())

    def ints(self, numbers: npt.ArrayLike) -> ir.Value:
        """An int64 initializer: axes, shapes, indices."""
        return self.constant(np.asarray(numbers, np.int64))

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A node of one output."""
        return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: ir.Value | None, outputs: int, **attributes: Any) -> Sequence[ir.Value]:
        """A node of several outputs."""
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs)
        for value in node.outputs:
            value.name = self._unique(op_type)
        node.name = node.outputs[0].name
        self._infer(node)
        self._nodes.append(node)
        return node.outputs

    def _unique(self, what: str) -> str:
        base = f"{self.origin.outputs[0].name}/{what}"
        name, suffix = base, 1
        while name in self._names:
            name, suffix = f"{base}_{suffix}", suffix + 1
        self._names.add(name)
        return name

    def _infer(self, node: ir.Node) -> None:
        """Shape and type of the outputs, by ONNX's own inference of the one node."""
        schema = onnx.defs.get_schema(node.op_type, self._opset)
        types, data = {}, {}
        for value in node.inputs:
            if value is not None and value.name is not None:
                if value.shape is None or value.dtype is None:
                    raise NotDecomposableError(f"{value.name} has no static shape")
                types[value.name] = onnx.helper.make_tensor_type_proto(int(value.dtype), value.shape.numpy())
                array = constant_of(value)
                if array is not None and array.dtype == np.int64 and array.ndim < 2:
                    data[value.name] = onnx.numpy_helper.from_array(array, value.name)
        opsets = [onnx.helper.make_opsetid("", self._opset)]
        proto = ir.serde.serialize_node(node)
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=opsets)
        for value in node.outputs:
            tensor = found[value.name or ""].tensor_type
            if not tensor.HasField("shape") or not all(size.HasField("dim_value") for size in tensor.shape.dim):
                raise NotDecomposableError(f"the shape of the {node.op_type} inside is not static")
            value.shape = ir.Shape([size.dim_value for size in tensor.shape.dim])
            value.type = ir.TensorType(ir.DataType(tensor.elem_type))

    # Common steps.  What moves a constant yields a constant: an operator that needs one sees one.

    def reshape(self, x: ir.Value, shape: Sequence[int]) -> ir.Value:
        """Reshape, none where the shape is that already."""
        array = constant_of(x)
        if self.shape(x) == tuple(shape):
            return x
        if array is not None:
            return self.constant(array.reshape(tuple(shape)))
        return self.op("Reshape", x, self.ints(shape), **({"allowzero": 1} if 0 in shape else {}))

    def transpose(self, x: ir.Value, order: Sequence[int]) -> ir.Value:
        """Transpose, none where the order is that already."""
        array = constant_of(x)
        if array is not None:
            return self.constant(array.transpose(order))
        return x if list(order) == sorted(order) else self.op("Transpose", x, perm=list(order))

    def slice(self, x: ir.Value, axis: int, begin: int, end: int, step: int = 1) -> ir.Value:
        """x[begin:end:step] along one axis, with numbers as Python's slice has them and an end that may be behind."""
        array = constant_of(x)
        if begin == 0 and end >= self.shape(x)[axis] and step == 1:
            return x
        if array is not None:
            return self.constant(array[(slice(None),) * axis + (slice(begin, end, step),)])
        return self.op("Slice", x, self.ints([begin]), self.ints([end]), self.ints([axis]), self.ints([step]))

    def take(self, x: ir.Value, axis: int, index: int) -> ir.Value:
        """x at one position of an axis, which disappears."""
        part = self.slice(x, axis, index, index + 1)
        shape = list(self.shape(part))
        del shape[axis]
        return self.reshape(part, shape)

    def concat(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        """Concat, none of one value."""
        arrays = [constant_of(value) for value in values]
        known = [array for array in arrays if array is not None]
        if len(known) == len(values) > 1:
            return self.constant(np.concatenate(known, axis))
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def stack(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        """The values, one after the other along a new axis."""
        return self.concat([self.op("Unsqueeze", value, self.ints([axis])) for value in values], axis)

    def sum(self, values: Sequence[ir.Value]) -> ir.Value:
        """The sum, in order."""
        total = values[0]
        for value in values[1:]:
            total = self.op("Add", total, value)
        return total

    def reduce(self, op_type: str, x: ir.Value, axes: Sequence[int], keep: bool = True) -> ir.Value:
        """ReduceMean and its like over `axes`, an input since opset 18."""
        return self.op(op_type, x, self.ints(axes), keepdims=int(keep))

    def cast(self, x: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Cast, none where the type is that already."""
        return x if x.dtype == dtype else self.op("Cast", x, to=int(dtype))

    # Inserting

    def discard(self) -> None:
        """Let go of what was built: the values that it read are not used by it."""
        for node in reversed(self._nodes):
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)

    def finish(self, results: Sequence[ir.Value | None]) -> list[ir.Node]:
        """Put the nodes where the original is; each of its outputs is taken over by a result.  Returns the nodes."""
        made = set(self._nodes)
        final: list[ir.Value] = []
        given = [
            (self.origin.outputs[index], value)
            for index, value in enumerate(results)
            if value is not None and self.has_output(index)
        ]
        for before, value in given:
            if shape_of(before) != shape_of(value) or before.dtype != value.dtype:
                raise NotDecomposableError(
                    f"the graph declares {before.dtype} {shape_of(before)}, the operator yields {value.dtype} "
                    f"{shape_of(value)}"
                )
            if value.producer() not in made or value in final:
                value = self.op("Identity", value)
            final.append(value)
        for constant in self._constants:
            if constant.uses():
                self.graph.register_initializer(constant)
        inherit_source(self._nodes, self.origin)
        self.graph.insert_before(self.origin, self._nodes)
        for (before, _), after in zip(given, final, strict=True):
            take_over(before, after)
        self.graph.remove(self.origin, safe=True)
        return self._nodes
