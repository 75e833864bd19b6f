"""MaxPool, AveragePool and the global pools."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.ir.geometry import Window
from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.lowerings.moves import pad
from bnncc.targets.tflite.lowerings.operands import input_of
from bnncc.targets.tflite.lowerings.windows import (
    finish_spatial,
    fit_padding,
    reached_padding,
    spatial_input,
    spatial_output,
    window_options,
    windows_of,
)
from bnncc.targets.tflite.writer import Tensor

LOWEST = float(np.finfo(np.float32).min)


def lower_max_pool(node: ir.Node, context: LoweringContext) -> None:
    """y = max over a window; what padding adds never wins."""
    if len(node.outputs) > 1 and node.outputs[1].name:
        raise UnsupportedError("the output Indices")
    windows = _pool_windows(node, context)
    activation, output = context.fuse_activation(node.outputs[0])
    tensor, padding = fit_padding(spatial_input(input_of(node, 0), context), windows, context, fill=LOWEST)
    result = spatial_output(output, context)
    _pool(BuiltinOperator.MAX_POOL_2D, tensor, windows, padding, activation, result, context)
    finish_spatial(output, result, context)


def lower_average_pool(node: ir.Node, context: LoweringContext) -> None:
    """y = sum over a window / its count.

    The count is that of the input's positions, with count_include_pad that of the padded input's (ceil_mode's own
    positions behind the padding do not count).  TensorFlow Lite counts the input's.  Where that differs, PAD with
    zeros, average over all KH·KW positions, and multiply by KH·KW / count, a constant [1, H, W, 1].
    """
    windows = _pool_windows(node, context)
    explicit = node.attributes.get_ints("pads") or [0] * 4
    include = bool(node.attributes.get_int("count_include_pad", 0))
    ends = explicit[len(explicit) // 2 :]
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        ends = [window.end for window in windows]
    ends = [0] * (2 - len(ends)) + list(ends)
    wanted = [_counts(window, end if include else None) for window, end in zip(windows, ends, strict=True)]
    inside = [_counts(window, None) for window in windows]
    activation, output = context.fuse_activation(node.outputs[0])
    tensor = spatial_input(input_of(node, 0), context)
    result = spatial_output(output, context)
    placed, padding = fit_padding(tensor, windows, context)
    average = BuiltinOperator.AVERAGE_POOL_2D
    if placed is tensor and all(np.array_equal(*pair) for pair in zip(wanted, inside, strict=True)):
        _pool(average, tensor, windows, padding, activation, result, context)
    else:
        if padding == schema.Padding.SAME:
            placed = pad(tensor, reached_padding(windows), context)
        factors = [window.kernel / count for window, count in zip(windows, wanted, strict=True)]
        factor = (factors[0][:, None] * factors[1][None, :]).astype(np.float32)[None, :, :, None]
        if np.all(factor == 1):
            _pool(average, placed, windows, schema.Padding.VALID, activation, result, context)
        else:
            means = context.temporary(f"{result.name}/mean", result.shape, result.dtype)
            _pool(average, placed, windows, schema.Padding.VALID, 0, means, context)
            options = schema.MulOptionsT()
            options.fusedActivationFunction = activation
            context.emit(BuiltinOperator.MUL, [means, context.constant(factor, "share")], [result], options)
    finish_spatial(output, result, context)


def _counts(window: Window, padded_end: int | None) -> npt.NDArray[np.float64]:
    """How many positions each window counts: the input's, or those of the input padded up to `padded_end`."""
    first = np.arange(window.outputs) * window.stride - window.begin
    low, high = (0, window.size) if padded_end is None else (-window.begin, window.size + padded_end)
    counts = np.minimum(first + window.extent, high) - np.maximum(first, low)
    if counts.min() <= 0:
        raise UnsupportedError("a window that lies in the padding")
    return np.asarray(counts, np.float64)


def _pool_windows(node: ir.Node, context: LoweringContext) -> tuple[Window, Window]:
    kernel = node.attributes.get_ints("kernel_shape") or []
    if context.dtype(input_of(node, 0)) != np.float32:
        raise UnsupportedError("only float32 has a kernel")
    windows = windows_of(node, context, kernel)
    if any(window.dilation != 1 and window.kernel != 1 for window in windows):
        raise UnsupportedError("dilations")
    return windows


def _pool(
    builtin: int,
    tensor: Tensor,
    windows: tuple[Window, Window],
    padding: int,
    activation: int,
    result: Tensor,
    context: LoweringContext,
) -> None:
    strides = [window.stride for window in windows]
    options = window_options(schema.Pool2DOptionsT(), strides, padding, activation)
    options.filterHeight, options.filterWidth = windows[0].kernel, windows[1].kernel
    context.emit(builtin, [tensor], [result], options)


LOWERINGS = {"MaxPool": lower_max_pool, "AveragePool": lower_average_pool}
