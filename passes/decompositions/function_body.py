"""An operator by the function body that ONNX itself defines it with.

The body is made static: what its shapes and its constant inputs determine is folded, conditions are decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants

from bnncc.ir.graph import constant_of, known_array, shape_of
from bnncc.passes.decompositions.builder import Builder, NotDecomposableError

# Constant inputs of up to so many elements (a mask of 1024 by 1024) are folded into the body.
LARGEST_FOLDED = 1 << 20
# Each round of folding may make shapes known that the next one folds; no body nests deeper.
MOST_ROUNDS = 6


def inline_function_body(build: Builder) -> Sequence[ir.Value | None]:
    """The nodes of the body; NotDecomposableError where there is none, or shapes in it are not static."""
    node = build.origin
    function = _function(node, build.opset)
    small = _call(node, function, build.opset)
    for _ in range(MOST_ROUNDS):
        result = fold_constants(
            small,
            onnx_shape_inference=True,
            input_size_limit=LARGEST_FOLDED,
            output_size_limit=LARGEST_FOLDED,
            should_fold=_should_fold,
        )
        RemoveUnusedNodesPass()(small)
        if not result.modified:
            break
    values: dict[ir.Value, ir.Value | None] = {}
    for inner in small.graph.inputs:
        values[inner] = node.inputs[int((inner.name or "")[1:])]
    for inner in small.graph.initializers.values():
        values[inner] = _original(inner, node) or build.constant(_array(inner))
    for inner_node in small.graph:
        if inner_node.domain != "" or _has_subgraph(inner_node):
            raise NotDecomposableError(f"its definition holds a {inner_node.op_type} that its shapes do not decide")
        if inner_node.op_type == "Constant":
            values[inner_node.outputs[0]] = build.constant(_array(inner_node.outputs[0]))
            continue
        inputs = [None if value is None else values[value] for value in inner_node.inputs]
        made = build.ops(
            inner_node.op_type, *inputs, outputs=len(inner_node.outputs), **dict(inner_node.attributes.items())
        )
        values.update(zip(inner_node.outputs, made, strict=True))
    found = {value.name: values[value] for value in small.graph.outputs}
    return [found.get(f"o{index}") for index in range(len(node.outputs))]


def _has_subgraph(node: ir.Node) -> bool:
    return any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())


def _should_fold(node: ir.Node) -> bool | None:
    """The folder's own rules leave out what makes a constant larger; here the targets need the constant."""
    return True if node.op_type in ("ConstantOfShape", "Expand", "Tile") else None


def _function(node: ir.Node, opset: int) -> onnx.FunctionProto:
    """The body for this node's input types, of the newest version up to the graph's opset."""
    schema: Any = onnx.defs.get_schema(node.op_type, opset)  # whose stubs know no functions
    function = onnx.FunctionProto()
    if schema.has_function:
        function.ParseFromString(schema.get_function_with_opset_version(_newest(schema.function_opset_versions, opset)))
    elif schema.has_context_dependent_function:
        types = []
        for value in node.inputs:
            kind = onnx.TypeProto()
            if value is not None and value.dtype is not None:
                kind = onnx.helper.make_tensor_type_proto(int(value.dtype), shape_of(value))
            types.append(kind.SerializeToString())
        version = _newest(schema.context_dependent_function_opset_versions, opset)
        proto = ir.serde.serialize_node(node).SerializeToString()
        function.ParseFromString(schema.get_context_dependent_function_with_opset_version(version, proto, types))
    else:
        raise NotDecomposableError(f"opset {opset} does not define it by other operators")
    return function


def _newest(versions: Sequence[int], opset: int) -> int:
    return max((version for version in versions if version <= opset), default=min(versions))


def _call(node: ir.Node, function: onnx.FunctionProto, opset: int) -> ir.Model:
    """A model of the one node, as a call of `function`; input i is "i<i>", output i "o<i>"."""
    function.domain, function.name = "bnncc.body", node.op_type
    schema = onnx.defs.get_schema(node.op_type, opset)
    call = ir.serde.serialize_node(node)
    call.domain, call.name = function.domain, ""
    del call.input[:], call.output[:], call.metadata_props[:]
    # An attribute that the node leaves out has its default in the body, which knows none of its own.
    present = {attribute.name for attribute in call.attribute}
    for name in function.attribute:
        default = schema.attributes[name].default_value if name in schema.attributes else None
        if name not in present and default is not None and default.type:
            call.attribute.add().CopyFrom(default)
    graph = onnx.GraphProto(name="body")
    constants = []
    for index, value in enumerate(node.inputs):
        call.input.append("" if value is None else f"i{index}")
        if value is None:
            continue
        array = constant_of(value)
        if array is not None and array.size <= LARGEST_FOLDED:
            constants.append(onnx.numpy_helper.from_array(array, f"i{index}"))
        elif value.dtype is not None:
            graph.input.append(onnx.helper.make_tensor_value_info(f"i{index}", int(value.dtype), shape_of(value)))
    graph.initializer.extend(constants)
    for index, value in enumerate(node.outputs):
        wanted = bool(value.uses()) or value.is_graph_output()
        call.output.append(f"o{index}" if value.name else "")
        if wanted and value.dtype is not None:
            graph.output.append(onnx.helper.make_tensor_value_info(f"o{index}", int(value.dtype), shape_of(value)))
    graph.node.append(call)
    imports = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(function.domain, 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=10)
    for entry in model.functions[0].opset_import:
        if entry.domain == "":
            entry.version = opset  # `_newest` is the version of the body that is right for it
    return ir.from_proto(onnx.inliner.inline_local_functions(model))


def _original(inner: ir.Value, node: ir.Node) -> ir.Value | None:
    """The graph's own initializer, where the body's is one of the node's inputs as it was."""
    name = inner.name or ""
    if name.startswith("i") and name[1:].isdigit() and int(name[1:]) < len(node.inputs):
        return node.inputs[int(name[1:])]
    return None


def _array(value: ir.Value) -> np.ndarray:  # type: ignore[type-arg]
    array = known_array(value)
    if array is None:
        raise NotDecomposableError("its definition holds no number where one is needed")
    return array
