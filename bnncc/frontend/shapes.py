"""Give every value of the main graph a static shape and an element type.

Three steps, each only for what the one before left open: the exporter's own shapes; ONNX's shape inference; a run in
ONNX Runtime with the remaining values as outputs.  The run settles what inference does not follow, such as

    weight ─ Shape ─ Expand(1) ─ Expand(0.0)      (the zero bias of a convolution without one)

It is cheap: float activations and weights whose shape is known are fed as zeros, so that only the nodes in between are
computed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from bnncc.errors import ExportError, InputError
from bnncc.frontend.mask_assignment import choose_by_masks
from bnncc.ir.evaluate import SMALL, inputs_of, run, skeleton, weights_of
from bnncc.ir.graph import describe, shape_of

# Operators whose result has a shape that depends on values.
_DYNAMIC = {"NonZero", "Compress", "Unique", "NonMaxSuppression"}
# Operators whose result is the shape of what they read, whatever its values are.
_SHAPES = {"Shape", "Size"}
# The element type that each NumPy type of a run's result stands for.
_RUN_TYPES = {np.dtype(kind.numpy()): kind for kind in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16,
              ir.DataType.INT64, ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8, ir.DataType.UINT8,
              ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64, ir.DataType.BOOL)}  # fmt: skip


def complete_shapes(model: ir.Model) -> None:
    """Set the missing shapes and element types of `model`, in place.  The graph inputs have theirs.

    Raises:
        InputError: the graph cannot be run, so that shapes stay unknown.
        ExportError: a shape depends on the values of an input.
    """
    if any(node.op_type == "ScatterND" for node in model.graph):
        infer_shapes(model)
        choose_by_masks(model)
    _check_static(model)
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        value.shape, value.type = ir.Shape(value.const_value.shape.numpy()), ir.TensorType(value.const_value.dtype)
    if _incomplete(model):
        infer_shapes(model)
    remaining = _incomplete(model)
    if not remaining:
        return
    dependent = _value_dependent(model.graph)
    given = [
        value
        for node in model.graph
        for value in (*node.inputs, *node.outputs)
        if value is not None
        and value.dtype == ir.DataType.FLOAT
        and is_complete(value)
        and not value.is_initializer()
        and (value in dependent or math.prod(shape_of(value) or ()) > SMALL)
    ]
    try:
        proto = skeleton(model, remaining, dict.fromkeys(given))
        read = {entry.name for entry in proto.graph.input}
        fed = [value for value in (*given, *model.graph.inputs) if value.name in read]
        zeros = {value.name or "": np.zeros(shape_of(value) or (), _numpy_type(value)) for value in fed}
        results = run(proto, {**weights_of(model), **zeros})
    except Exception as error:
        producer = remaining[0].producer()
        where = describe(producer) if producer is not None else remaining[0].name
        raise InputError(f"the shape of {where} is not known, and the graph does not run: {error}") from error
    for value in remaining:
        array = results[value.name or ""]
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(_RUN_TYPES[array.dtype])


def _numpy_type(value: ir.Value) -> np.dtype[Any]:
    assert value.dtype is not None
    return value.dtype.numpy()


def _value_dependent(graph: ir.Graph) -> set[ir.Value]:
    """The values of the main graph that depend on the values of an input.  A shape does where an operator in front has
    as many rows as values say: what opset 9 computes of others, as the scales of an Upsample, does not.
    """
    dependent = {value for value in graph.inputs if not value.is_initializer()}
    sized = set[ir.Value]()
    for node in graph:
        read = inputs_of(node)
        of_shape = any(value in sized for value in read)
        of_values = of_shape if node.op_type in _SHAPES else any(value in dependent for value in read)
        if of_values:
            dependent.update(node.outputs)
        if (of_shape and node.op_type not in _SHAPES) or (of_values and node.op_type in _DYNAMIC):
            sized.update(node.outputs)
    return dependent


def _check_static(model: ir.Model) -> None:
    """Raise ExportError where an output depends on what has as many rows as an input's values say."""
    dependent, dynamic = _value_dependent(model.graph), dict[ir.Value, set[ir.Node]]()
    for node in model.graph:
        causes = {cause for value in node.inputs if value is not None for cause in dynamic.get(value, ())}
        if node.op_type in _DYNAMIC and node.outputs[0] in dependent:
            causes.add(node)
        if causes:
            dynamic.update(dict.fromkeys(node.outputs, causes))
    reaching = {cause for value in model.graph.outputs for cause in dynamic.get(value, ())}
    nodes = [node for node in model.graph if node in reaching]
    if nodes:
        raise ExportError(
            "a shape depends on the values of the input, and a compiled file has static shapes:\n"
            + "\n".join(f"    {describe(node)}" for node in nodes)
            + "\n  Keep all elements and mask them (`torch.where(mask, x, 0)`), or do it behind the network."
        )


def is_complete(value: ir.Value) -> bool:
    """Whether `value` has a static shape and an element type."""
    return value.shape is not None and value.shape.is_static() and value.dtype is not None


def _incomplete(model: ir.Model) -> list[ir.Value]:
    """The values of the main graph that lack a shape or type.  An optional output that is left out has no name."""
    return [value for node in model.graph for value in node.outputs if value.name and not is_complete(value)]


def infer_shapes(model: ir.Model) -> None:
    """Set those of the missing shapes and element types that ONNX's own inference finds, in place."""
    known = _inferred(model)
    for value in _incomplete(model):
        if value.name in known:
            _set(value, *known[value.name])


def correct_shapes(model: ir.Model) -> list[str]:
    """Where a file says other shapes and types of inner values and outputs than its nodes yield, these are taken, in
    place; inputs have theirs.  Returns a sentence for each output.
    """
    known = _inferred(model)
    wrong = [
        value
        for node in model.graph
        for value in node.outputs
        if value.name in known and is_complete(value) and (shape_of(value), value.dtype) != known[value.name]
    ]
    notes = []
    for value in wrong:
        declared, (shape, dtype) = shape_of(value), known[value.name or ""]
        if value.is_graph_output():
            notes.append(
                f"the output {value.name!r} is said to be {declared} of {value.dtype}, and is {shape} of {dtype}"
            )
        _set(value, shape, dtype)
    return notes


def _set(value: ir.Value, shape: tuple[int, ...], dtype: ir.DataType) -> None:
    value.shape, value.type = ir.Shape(shape), ir.TensorType(dtype)


def _inferred(model: ir.Model) -> dict[str, tuple[tuple[int, ...], ir.DataType]]:
    """The static shapes and types that ONNX's inference finds from the graph's inputs and weights alone, by name."""
    proto = skeleton(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # An operator that ONNX does not know, or a type that it finds inconsistent: the run decides.
        return {}
    found = {}
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        tensor = info.type.tensor_type
        is_static = tensor.HasField("shape") and all(size.HasField("dim_value") for size in tensor.shape.dim)
        if info.type.HasField("tensor_type") and tensor.elem_type and is_static:
            shape = tuple(size.dim_value for size in tensor.shape.dim)
            found[info.name] = shape, ir.DataType(tensor.elem_type)
    return found
