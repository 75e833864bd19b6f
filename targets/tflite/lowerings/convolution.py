"""Conv and ConvTranspose.  TensorFlow Lite's filters are [O, KH, KW, I], depthwise ones [1, KH, KW, C·multiplier]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ActivationFunctionType, BuiltinOperator

from bnncc.ir.geometry import Window
from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.lowerings.moves import concatenate, crop, split
from bnncc.targets.tflite.lowerings.operands import input_of, integers, optional_input, scalar
from bnncc.targets.tflite.lowerings.windows import (
    finish_spatial,
    fit_padding,
    spatial_input,
    spatial_output,
    window_options,
    windows_of,
)
from bnncc.targets.tflite.writer import Tensor

Array = npt.NDArray[np.float32]

CHANNELS = 3  # the axis of [N, H, W, C]
# The versions whose kernels take int8 weights with one scale a channel and a float32 input.
HYBRID_CONV_VERSION = 5
HYBRID_DEPTHWISE_VERSION = 6


def lower_conv(node: ir.Node, context: LoweringContext) -> None:
    """y = conv(x, w) + b, with one group, as many groups as channels (depthwise), or any number between.

    A CONV_2D has as many groups as its filters' channels fit into the input's.
    """
    weight = _weight(node, context)
    windows = windows_of(node, context, weight.shape[2:])
    weight = _as_2d(weight)
    bias = _bias(node, context, weight.shape[0])
    groups = node.attributes.get_int("group", 1)
    activation, output = context.fuse_activation(node.outputs[0])
    tensor, padding = fit_padding(spatial_input(input_of(node, 0), context), windows, context)
    result = spatial_output(output, context)
    if groups > 1 and groups == tensor.shape[3]:
        _depthwise_conv_2d(tensor, weight, bias, result, context, windows, padding, activation)
    else:
        convolve = partial(_conv_2d, context=context, windows=windows, padding=padding, activation=activation)
        _in_groups(convolve, 1 if context.whole_groups else groups, tensor, weight, bias, result, context)
    finish_spatial(output, result, context)


def _weight(node: ir.Node, context: LoweringContext) -> Array:
    return context.require_constant(node, 1, "the weight").astype(np.float32)


def _as_2d(weight: Array) -> Array:
    """[O, I, K] as [O, I, 1, K]; a 2-D weight as it is."""
    return weight[:, :, None, :] if weight.ndim == 3 else weight


def _bias(node: ir.Node, context: LoweringContext, channels: int) -> Array:
    if optional_input(node, 2) is None:
        return np.zeros(channels, np.float32)
    return context.require_constant(node, 2, "the bias").astype(np.float32)


def _conv_2d(
    tensor: Tensor,
    weight: Array,
    bias: Array,
    result: Tensor,
    context: LoweringContext,
    windows: tuple[Window, Window],
    padding: int,
    activation: int,
) -> None:
    options = _options(schema.Conv2DOptionsT(), windows, padding, activation)
    half = context.half_convolutions
    filters = context.weight(weight.transpose(0, 2, 3, 1), f"{result.name}/weight", axis=0, half=half)
    offsets = context.constant(bias, f"{result.name}/bias")
    version = HYBRID_CONV_VERSION if filters.dtype == "int8" else 1
    context.emit(BuiltinOperator.CONV_2D, [tensor, filters, offsets], [result], options, version)


def _depthwise_conv_2d(
    tensor: Tensor,
    weight: Array,
    bias: Array,
    result: Tensor,
    context: LoweringContext,
    windows: tuple[Window, Window],
    padding: int,
    activation: int,
) -> None:
    options = _options(schema.DepthwiseConv2DOptionsT(), windows, padding, activation)
    options.depthMultiplier = weight.shape[0] // tensor.shape[3]
    half = context.half_convolutions
    filters = context.weight(weight.transpose(1, 2, 3, 0), f"{result.name}/weight", axis=3, half=half)
    offsets = context.constant(bias, f"{result.name}/bias")
    version = 1 if windows[0].dilation == windows[1].dilation == 1 else 2
    version = HYBRID_DEPTHWISE_VERSION if filters.dtype == "int8" else version
    context.emit(BuiltinOperator.DEPTHWISE_CONV_2D, [tensor, filters, offsets], [result], options, version)


def _options(options: Any, windows: tuple[Window, Window], padding: int, activation: int) -> Any:
    options.dilationHFactor, options.dilationWFactor = (window.dilation for window in windows)
    return window_options(options, [window.stride for window in windows], padding, activation)


def _in_groups(
    convolve: Callable[[Tensor, Array, Array, Tensor], None],
    groups: int,
    tensor: Tensor,
    weight: Array,
    bias: Array,
    result: Tensor,
    context: LoweringContext,
) -> None:
    """`convolve(tensor, weight, bias, result)`, or so each of `groups` equal parts of the channels [N, H, W, C]."""
    if groups == 1:
        convolve(tensor, weight, bias, result)
        return
    inputs = [_part(tensor, groups, context) for _ in range(groups)]
    split(tensor, scalar(context, CHANNELS, np.int32), [tensor.shape[CHANNELS] // groups] * groups, inputs, context)
    outputs = [_part(result, groups, context) for _ in inputs]
    for operands in zip(inputs, np.split(weight, groups), np.split(bias, groups), outputs, strict=True):
        convolve(*operands)
    concatenate(outputs, CHANNELS, result, context)


def _part(tensor: Tensor, groups: int, context: LoweringContext) -> Tensor:
    return context.temporary(
        f"{tensor.name}/group", (*tensor.shape[:CHANNELS], tensor.shape[CHANNELS] // groups), tensor.dtype
    )


def lower_conv_transpose(node: ir.Node, context: LoweringContext) -> None:
    """y = convᵀ(x, w) + b: input j adds to the outputs j·s + k·d - b, for each kernel position k.

    Dilation becomes zeros between the kernel's rows and columns.  TRANSPOSE_CONV yields all (n - 1)·s + K outputs and
    more (output_padding); the paddings cut off the first b and the last e of them.
    """
    weight = _weight(node, context)  # [I, O / groups, …K]
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes:
        raise UnsupportedError("auto_pad and output_shape are not supported, only pads and output_padding")
    sizes = context.shape(input_of(node, 0))[2:]
    count = len(sizes)
    if count not in (1, 2):
        raise UnsupportedError(f"{count} spatial axes; only 1 and 2 have a kernel")
    strides = [*[1] * (2 - count), *(node.attributes.get_ints("strides") or [1] * count)]
    pads = node.attributes.get_ints("pads") or [0] * (2 * count)
    dilations = [*[1] * (2 - count), *(node.attributes.get_ints("dilations") or [1] * count)]
    begins = [*[0] * (2 - count), *pads[:count]]
    if min(pads) < 0:
        raise UnsupportedError("negative pads")
    weight = _dilated(_as_2d(weight), dilations)
    groups = node.attributes.get_int("group", 1)
    channels = weight.shape[1] * groups
    bias = _bias(node, context, channels)
    activation, output = context.fuse_activation(node.outputs[0])
    tensor = spatial_input(input_of(node, 0), context)
    result = spatial_output(output, context)
    full = [
        max((size - 1) * stride + kernel, begin + wanted)
        for size, stride, kernel, begin, wanted in zip(
            tensor.shape[1:3], strides, weight.shape[2:], begins, result.shape[1:3], strict=True
        )
    ]
    cut = tuple(full) != result.shape[1:3]
    whole = result
    if cut:
        whole = context.temporary(f"{result.name}/whole", (result.shape[0], *full, channels), result.dtype)
    convolve = partial(_transpose_conv, context=context, strides=strides, activation=activation)
    _in_groups(convolve, groups, tensor, weight, bias, whole, context)
    if cut:
        ends = [begin + size for begin, size in zip(begins, result.shape[1:3], strict=True)]
        crop(whole, [0, *begins, 0], [whole.shape[0], *ends, channels], context, result)
    finish_spatial(output, result, context)


def _dilated(weight: Array, dilations: Sequence[int]) -> Array:
    height, width = ((size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilations, strict=True))
    spread = np.zeros((*weight.shape[:2], height, width), np.float32)
    spread[:, :, :: dilations[0], :: dilations[1]] = weight
    return spread


def _transpose_conv(
    tensor: Tensor,
    weight: Array,
    bias: Array,
    result: Tensor,
    context: LoweringContext,
    strides: Sequence[int],
    activation: int,
) -> None:
    options = window_options(schema.TransposeConvOptionsT(), strides, schema.Padding.VALID, activation)
    operands = [
        integers(context, result.shape, "output_shape"),
        context.weight(weight.transpose(1, 2, 3, 0), f"{result.name}/weight", axis=0, hybrid=False),
        tensor,
        context.constant(bias, f"{result.name}/bias"),
    ]
    version = 3 if activation == ActivationFunctionType.NONE else 4
    context.emit(BuiltinOperator.TRANSPOSE_CONV, operands, [result], options, version)


LOWERINGS = {"Conv": lower_conv, "ConvTranspose": lower_conv_transpose}
