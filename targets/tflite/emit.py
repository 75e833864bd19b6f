"""The walk over the graph that turns an ONNX model into a TensorFlow Lite file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from bnncc.errors import UnsupportedOperatorsError
from bnncc.ir.bit_moves import runs_on_words
from bnncc.ir.graph import NOT_DECOMPOSED_KEY, describe, shape_of
from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.digest import DIGEST_NAME, PLACEHOLDER
from bnncc.targets.tflite.layout import CHANNELS_LAST, PLAIN, Layout
from bnncc.targets.tflite.lowerings import LOWERINGS
from bnncc.targets.tflite.lowerings.bit_moves import lower_bit_move
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.targets.tflite.writer import ModelWriter, Tensor

DESCRIPTION = "bnncc"


def emit(
    model: ir.Model,
    *,
    channels_last: bool = True,
    precision: WeightsPrecision = WeightsPrecision.FLOAT32,
    metadata: Mapping[str, bytes] | None = None,
    append: Callable[[bytes], bytes] | None = None,
    half_convolutions: bool = True,
    whole_groups: bool = True,
) -> bytes:
    """Return the .tflite file of `model`, an ONNX graph of static shapes in NCHW.

    channels_last: 4-D graph inputs and outputs are NHWC in the file; False keeps NCHW (with transposes inside).
    precision: in which type weights of float layers are stored.
    metadata: named buffers to embed; with any, the file carries its digest as well (`digest`).
    append: what puts further bytes behind the flatbuffer.
    half_convolutions: with float16, the weights of convolutions are float16 too; False for runtimes that misread them.
    whole_groups: a convolution in groups is one CONV_2D; False, one for each group, as int8 weights make it.
    Raises UnsupportedOperatorsError, which lists every node that has no lowering.
    """
    context, inputs, outputs = _walk(model, channels_last, precision, half_convolutions, whole_groups)
    writer = context.writer
    for name, content in (metadata or {}).items():
        writer.metadata(name, content)
    if metadata:
        writer.metadata(DIGEST_NAME, PLACEHOLDER)
    return writer.finish(
        inputs,
        outputs,
        [value.name or "" for value in model.graph.inputs],
        [value.name or "" for value in model.graph.outputs],
        append,
    )


def stored_layouts(model: ir.Model, *, channels_last: bool = True) -> Mapping[str, Layout]:
    """How `emit` lays out values, by their names; those behind its packed tensors by the tensors' names (bits are along
    the last axis).
    """
    context, _, _ = _walk(model, channels_last, WeightsPrecision.FLOAT32)
    return {**context.layouts(), **context.packed_layouts}


def _walk(
    model: ir.Model,
    channels_last: bool,
    precision: WeightsPrecision,
    half_convolutions: bool = True,
    whole_groups: bool = True,
) -> tuple[LoweringContext, list[Tensor], list[Tensor]]:
    """Lower every node; returns (the context, the tensors of the graph's inputs, those of its outputs)."""
    context = LoweringContext(model.graph, ModelWriter(DESCRIPTION), precision, half_convolutions, whole_groups)
    boundary = CHANNELS_LAST if channels_last else PLAIN
    inputs = [_graph_input(value, context, boundary) for value in model.graph.inputs]
    empty = [value.name for value in model.graph.outputs if 0 in (shape_of(value) or ())]
    problems = [f"output '{name}': a tensor without elements" for name in empty]
    for node in model.graph:
        if not context.is_fused(node):
            problem = _lower(node, context)
            if problem:
                problems.append(problem)
    if problems:
        raise UnsupportedOperatorsError(problems)
    return context, inputs, [_graph_output(value, context, boundary) for value in model.graph.outputs]


def _lower(node: ir.Node, context: LoweringContext) -> str | None:
    """Lower one node; returns the problem where there is no exact form."""
    lowering = lower_bit_move if runs_on_words(node) else LOWERINGS.get((node.domain, node.op_type))
    try:
        if lowering is None:
            raise UnsupportedError(node.metadata_props.get(NOT_DECOMPOSED_KEY, "no lowering"))
        lowering(node, context)
    except UnsupportedError as reason:
        # Later nodes are lowered all the same, so that one run finds every problem.
        for value in node.outputs:
            if value.shape is not None and value.shape.is_static():
                context.bind(value, PLAIN, context.temporary(value.name or "value", context.shape(value), np.float32))
        return f"{describe(node)}: {reason}"
    return None


def _graph_input(value: ir.Value, context: LoweringContext, boundary: Layout) -> Tensor:
    return context.define(value, boundary if len(context.shape(value)) == 4 else PLAIN)


def _graph_output(value: ir.Value, context: LoweringContext, boundary: Layout) -> Tensor:
    return context.use(value, boundary if len(context.shape(value)) == 4 else PLAIN)
