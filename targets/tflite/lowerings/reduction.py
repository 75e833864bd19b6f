"""Reductions over axes: ReduceMean, ReduceSum, …, the global pools (over all spatial axes), ArgMax, ArgMin and TopK."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import Layout, ordered
from bnncc.targets.tflite.lowerings.operands import alias, apply, input_of, integers, optional_input, scalar
from bnncc.targets.tflite.writer import TENSOR_TYPES, Tensor

_REDUCTIONS = {
    "ReduceMean": BuiltinOperator.MEAN,
    "ReduceSum": BuiltinOperator.SUM,
    "ReduceMax": BuiltinOperator.REDUCE_MAX,
    "ReduceMin": BuiltinOperator.REDUCE_MIN,
    "ReduceProd": BuiltinOperator.REDUCE_PROD,
    "ReduceL1": BuiltinOperator.SUM,
    "ReduceL2": BuiltinOperator.SUM,
    "ReduceSumSquare": BuiltinOperator.SUM,
}
_GLOBAL_POOLS = {"GlobalAveragePool": BuiltinOperator.MEAN, "GlobalMaxPool": BuiltinOperator.REDUCE_MAX}


def lower_reduction(node: ir.Node, context: LoweringContext) -> None:
    """y = mean, sum, … of x over `axes`; ReduceL1 = Σ|x|, ReduceSumSquare = Σx², ReduceL2 = √Σx²."""
    x, output = input_of(node, 0), node.outputs[0]
    rank = len(context.shape(x))
    if node.op_type in ("ReduceMean", "ReduceL2") and context.dtype(x) != np.float32:
        raise UnsupportedError(f"no kernel for {context.dtype(x)}")
    axes = _axes(node, context)
    if axes is None:
        if node.attributes.get_int("noop_with_empty_axes", 0):
            if node.op_type in ("ReduceL1", "ReduceL2", "ReduceSumSquare"):
                raise UnsupportedError("noop_with_empty_axes, whose meaning here depends on the ONNX version")
            alias(context, output, x)
            return
        axes = tuple(range(rank))
    axes = tuple(sorted(axis % rank for axis in axes))
    layout = context.axes_layout(x)
    tensor = context.use(x, layout)
    if node.op_type == "ReduceL1":
        tensor = apply(context, BuiltinOperator.ABS, tensor)
    elif node.op_type in ("ReduceL2", "ReduceSumSquare"):
        tensor = apply(context, BuiltinOperator.MUL, tensor, tensor, options=schema.MulOptionsT())
    keep = bool(node.attributes.get_int("keepdims", 1))
    result = context.define(output, layout if keep else _without(layout, rank, axes))
    stored_axes = sorted(layout.axis(axis, rank) for axis in axes)
    if node.op_type == "ReduceL2":
        squares = context.temporary(f"{result.name}/squares", result.shape, result.dtype)
        _reduce(BuiltinOperator.SUM, tensor, stored_axes, keep, squares, context)
        apply(context, BuiltinOperator.SQRT, squares, output=result)
    else:
        _reduce(_REDUCTIONS[node.op_type], tensor, stored_axes, keep, result, context)


def lower_global_pool(node: ir.Node, context: LoweringContext) -> None:
    """y = mean or max over all spatial axes, kept with size 1."""
    x, output = input_of(node, 0), node.outputs[0]
    rank = len(context.shape(x))
    layout = context.axes_layout(x)
    axes = sorted(layout.axis(axis, rank) for axis in range(2, rank))
    tensor = context.use(x, layout)
    _reduce(_GLOBAL_POOLS[node.op_type], tensor, axes, True, context.define(output, layout), context)


def lower_arg_max(node: ir.Node, context: LoweringContext) -> None:
    """The index of the first largest (smallest) element along `axis`, as int32."""
    x, output = input_of(node, 0), node.outputs[0]
    if node.attributes.get_int("select_last_index", 0):
        raise UnsupportedError("select_last_index")
    rank = len(context.shape(x))
    axis = node.attributes.get_int("axis", 0) % rank
    layout = context.axes_layout(x)
    tensor = context.use(x, layout)
    stored_axis = layout.axis(axis, rank)
    shape = tuple(size for index, size in enumerate(tensor.shape) if index != stored_axis)
    keep = bool(node.attributes.get_int("keepdims", 1))
    result = context.define(output, layout if keep else _without(layout, rank, (axis,)))
    index = context.temporary(f"{result.name}/index", shape, np.int32) if keep else result
    builtin, options = (
        (BuiltinOperator.ARG_MAX, schema.ArgMaxOptionsT())
        if node.op_type == "ArgMax"
        else (BuiltinOperator.ARG_MIN, schema.ArgMinOptionsT())
    )
    options.outputType = TENSOR_TYPES["int32"]
    context.emit(builtin, [tensor, scalar(context, stored_axis, np.int32)], [index], options)
    if keep:
        context.reshape(index, result.shape, result)


def lower_top_k(node: ir.Node, context: LoweringContext) -> None:
    """The k largest elements along `axis`, largest first, and their indices; the smallest as the largest of -x.

    TOPK_V2 works on the last axis, which is stored last for it; of equal elements both sides take the first.
    """
    x = input_of(node, 0)
    count = int(context.require_constant(node, 1, "k").item())
    rank = len(context.shape(x))
    axis = node.attributes.get_int("axis", -1) % rank
    layout = ordered([*(other for other in range(rank) if other != axis), axis])
    tensor = context.use(x, layout)
    smallest = not node.attributes.get_int("largest", 1)
    if smallest and tensor.dtype != "float32":
        raise UnsupportedError(f"the smallest of {tensor.dtype}")
    if smallest:
        tensor = apply(context, BuiltinOperator.NEG, tensor, options=schema.NegOptionsT())
    values, indices = (context.define(output, layout) for output in node.outputs)
    found = context.temporary(f"{values.name}/negated", values.shape, np.float32) if smallest else values
    operands = [tensor, scalar(context, count, np.int32)]
    context.emit(BuiltinOperator.TOPK_V2, operands, [found, indices], schema.TopKV2OptionsT())
    if smallest:
        apply(context, BuiltinOperator.NEG, found, output=values, options=schema.NegOptionsT())


def _axes(node: ir.Node, context: LoweringContext) -> tuple[int, ...] | None:
    """The axes, an input since opset 18 (13 for ReduceSum) and an attribute before; None where none are given."""
    given = tuple(node.attributes.get_ints("axes") or ())
    if optional_input(node, 1) is not None:
        given = tuple(int(axis) for axis in context.require_constant(node, 1, "axes").reshape(-1))
    return given or None


def _without(layout: Layout, rank: int, axes: tuple[int, ...]) -> Layout:
    """The layout of what remains when `axes` disappear."""
    kept = [axis for axis in range(rank) if axis not in axes]
    return ordered([kept.index(axis) for axis in layout.permutation(rank) if axis not in axes])


def _reduce(
    builtin: int, tensor: Tensor, axes: list[int], keep: bool, result: Tensor, context: LoweringContext
) -> None:
    options = schema.ReducerOptionsT()
    options.keepDims = keep
    context.emit(builtin, [tensor, integers(context, axes, "axes")], [result], options)


LOWERINGS = {
    **dict.fromkeys(_REDUCTIONS, lower_reduction),
    **dict.fromkeys(_GLOBAL_POOLS, lower_global_pool),
    "ArgMax": lower_arg_max,
    "ArgMin": lower_arg_max,
    "TopK": lower_top_k,
}
