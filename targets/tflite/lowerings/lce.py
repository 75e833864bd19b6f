"""Larq Compute Engine's operators.

bnncc.Sign            LceQuantize, and LceDequantize where a float operator reads the signs too
bnncc.BinaryConv      LceBconv2d with float output
bnncc.BinaryConvSign  LceBconv2d with packed output
bnncc.BinaryMaxPool   LceBMaxPool2d
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema

from bnncc.ir import ops
from bnncc.ir.bit_moves import has_bit_reader, has_float_reader
from bnncc.ir.geometry import Scheme, common_scheme
from bnncc.targets.tflite.bitpack import bitpack, words
from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.flexbuffer import pack_ints
from bnncc.targets.tflite.layout import CHANNELS_LAST, Layout
from bnncc.targets.tflite.lowerings.moves import gather, mirror_pad, pad
from bnncc.targets.tflite.lowerings.operands import integers
from bnncc.targets.tflite.lowerings.windows import reached_padding
from bnncc.targets.tflite.writer import Tensor

# What LCE can clip the sums to.
ACTIVATIONS = {
    ops.UNBOUNDED: schema.ActivationFunctionType.NONE,
    (0.0, ops.UNBOUNDED[1]): schema.ActivationFunctionType.RELU,
    (-1.0, 1.0): schema.ActivationFunctionType.RELU_N1_TO_1,
    (0.0, 6.0): schema.ActivationFunctionType.RELU6,
}
# The value of LCE's `padding` option.
PADDING_OPTION = {Scheme.SAME: 0, Scheme.VALID: 1}
# Thresholds of channels that are constant: no number of -1 products exceeds the first, every number exceeds the second.
ALWAYS_PLUS, ALWAYS_MINUS = np.iinfo(np.int32).max, np.iinfo(np.int32).min


# The packed tensor of a binary value has the value's name and this suffix: verification finds it by that.
PACKED_SUFFIX = "/packed"


def lower_sign(node: ir.Node, context: LoweringContext) -> None:
    """Pack the signs with one LceQuantize; unpack them with one LceDequantize only if a float operator reads them."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    if has_bit_reader(y):
        bind_signs(y, _quantize(x, y, context, CHANNELS_LAST), context)
    else:
        layout = context.layout(x) or CHANNELS_LAST
        packed = _quantize(x, y, context, layout)
        context.emit_custom("LceDequantize", [packed], [context.define(y, layout)], options=b"")


def lower_binary_conv(node: ir.Node, context: LoweringContext) -> None:
    """LceBconv2d with float output: y = clip(acc) · multiplier + bias, the clip its fused activation."""
    y = node.outputs[0]
    activation = ACTIVATIONS.get(ops.sum_bounds(node))
    if activation is None:
        raise UnsupportedError(f"sums clipped to {ops.sum_bounds(node)}")
    packed, filters, options = _convolution(node, context, activation)
    multiplier = context.require_constant(node, 2, "its multiplier").astype(np.float32)
    bias = context.require_constant(node, 3, "its bias").astype(np.float32)
    inputs = [
        packed,
        filters,
        context.constant(multiplier, f"{y.name}/multiplier"),
        context.constant(bias, f"{y.name}/bias"),
        None,  # thresholds: only for a packed output
    ]
    context.emit_custom("LceBconv2d", inputs, [context.define(y, CHANNELS_LAST)], options)


def lower_binary_conv_sign(node: ir.Node, context: LoweringContext) -> None:
    """LceBconv2d with packed output: a bit is 1 (-1) where more than threshold products are -1.

    With K products a sum, acc = K - 2·p: acc < a ⇔ p > (K - a) / 2; see `bnncc.passes.threshold`.
    """
    y = node.outputs[0]
    packed, filters, options = _convolution(node, context)
    signs = context.require_constant(node, 1, "its weight")
    least = context.require_constant(node, 2, "its threshold").astype(np.float64)
    products = int(np.prod(signs.shape[1:]))
    thresholds = np.where(least < 0, ALWAYS_PLUS, ALWAYS_MINUS).astype(np.int32)
    finite = np.isfinite(least)
    thresholds[finite] = np.floor((products - least[finite]) / 2).astype(np.int32)
    result = packed_output(y, context)
    inputs = [packed, filters, None, None, context.constant(thresholds, f"{y.name}/thresholds")]
    context.emit_custom("LceBconv2d", inputs, [result], options)
    bind_signs(y, result, context)


def _convolution(
    node: ir.Node, context: LoweringContext, activation: int = schema.ActivationFunctionType.NONE
) -> tuple[Tensor, Tensor, bytes]:
    """The packed input, padded where the operator cannot do it itself; the packed filters; the options.

    Padding with zeros must be TensorFlow's SAME (`bnncc.legalize` sees to it), and LCE has it with float output only.
    Padding with ones is SAME with pad_values 1 where the split of the padding fits, else a PAD of the packed tensor by
    words of +1 bits.
    """
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    signs = context.require_constant(node, 1, "its weight")
    size = context.shape(x)[2:]
    geometry = ops.ConvGeometry.of(node, signs.shape[2:], size)
    if geometry.group != 1:
        raise UnsupportedError(f"{geometry.group} groups")
    pads_with_ones = node.attributes["pad_value"].as_float() == 1.0
    windows = geometry.windows(signs.shape[2:], size)
    scheme = common_scheme(windows)
    if not pads_with_ones and scheme is not Scheme.VALID and ops.is_binary_conv_sign(node):
        raise UnsupportedError("zero padding goes with float output only")
    if not pads_with_ones and scheme is not Scheme.VALID and activation != schema.ActivationFunctionType.NONE:
        raise UnsupportedError("zero padding goes without an activation only")
    packed = packed_form(x, context)
    if scheme is Scheme.EXPLICIT:
        if not pads_with_ones:
            raise UnsupportedError(f"zero padding {geometry.pads} is not TensorFlow's SAME")
        # PAD with zero words: 32 bits of +1.
        amounts = reached_padding(windows)
        packed = pad(packed, amounts, context, output=_padded(packed, amounts, context))
        scheme = Scheme.VALID
    options = pack_ints(
        channels_in=signs.shape[1],
        dilation_height_factor=geometry.dilations[0],
        dilation_width_factor=geometry.dilations[1],
        fused_activation_function=activation,
        pad_values=int(pads_with_ones and scheme is Scheme.SAME),
        padding=PADDING_OPTION[scheme],
        stride_height=geometry.strides[0],
        stride_width=geometry.strides[1],
    )
    return packed, context.constant(bitpack(signs.transpose(0, 2, 3, 1)), f"{y.name}/bits"), options


def lower_binary_max_pool(node: ir.Node, context: LoweringContext) -> None:
    """LceBMaxPool2d: the bitwise AND over a window.

    It leaves out what SAME adds.  Padding of another split repeats the map's border, which every window that reaches
    the padding holds anyway: the maximum stays what it was.
    """
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    kernel = node.attributes.get_ints("kernel_shape") or []
    size = context.shape(x)[2:]
    windows = ops.ConvGeometry.of(node, kernel, size).windows(kernel, size)
    scheme = common_scheme(windows)
    packed = packed_form(x, context)
    if scheme is Scheme.EXPLICIT:
        packed = _repeat_border(packed, reached_padding(windows), context)
        scheme = Scheme.VALID
    height, width = windows
    options = pack_ints(
        filter_height=height.kernel,
        filter_width=width.kernel,
        padding=PADDING_OPTION[scheme],
        stride_height=height.stride,
        stride_width=width.stride,
    )
    result = packed_output(y, context)
    context.emit_custom("LceBMaxPool2d", [packed], [result], options)
    bind_signs(y, result, context)


def packed_form(x: ir.Value, context: LoweringContext) -> Tensor:
    """The packed form of a binary value, made from its ±1 floats, once, where nothing made it before."""
    packed = context.packed(x)
    if packed is None:
        array = context.constant_value(x)
        if array is not None:
            return context.constant(bitpack(CHANNELS_LAST.arrange(array)), f"{x.name}{PACKED_SUFFIX}")
        packed = _quantize(x, x, context, CHANNELS_LAST)
        context.bind_packed(x, packed)
    return packed


def packed_output(y: ir.Value, context: LoweringContext) -> Tensor:
    """The int32 tensor for the bits of `y`; `bind_signs` must follow the operator."""
    *positions, channels = CHANNELS_LAST.shape(context.shape(y))
    return context.temporary(f"{y.name}{PACKED_SUFFIX}", (*positions, words(channels)), np.int32)


def bind_signs(y: ir.Value, packed: Tensor, context: LoweringContext) -> None:
    """State that `packed` holds the bits of `y`, and unpack them if a float operator reads `y`."""
    context.bind_packed(y, packed)
    if has_float_reader(context.graph, y):
        context.emit_custom("LceDequantize", [packed], [context.define(y, CHANNELS_LAST)], options=b"")


def _quantize(x: ir.Value, y: ir.Value, context: LoweringContext, layout: Layout) -> Tensor:
    """LceQuantize `x`, stored in `layout`; the result is named after `y`."""
    source = context.use(x, layout)
    packed = context.temporary(f"{y.name}{PACKED_SUFFIX}", (*source.shape[:-1], words(source.shape[-1])), np.int32)
    context.emit_custom("LceQuantize", [source], [packed], options=b"")
    context.packed_layouts[packed.name] = layout
    return packed


def _padded(packed: Tensor, amounts: Sequence[tuple[int, int]], context: LoweringContext) -> Tensor:
    shape = [size + before + after for size, (before, after) in zip(packed.shape, amounts, strict=True)]
    return context.temporary(f"{packed.name}/padded", shape, np.int32)


def _repeat_border(packed: Tensor, amounts: Sequence[tuple[int, int]], context: LoweringContext) -> Tensor:
    """Repeat the first and last row and column: MIRROR_PAD for up to one of them, else a GATHER an axis."""
    if max(map(max, amounts)) <= 1:
        padded = _padded(packed, amounts, context)
        paddings = integers(context, amounts, "paddings")
        mirror_pad(packed, paddings, schema.MirrorPadMode.SYMMETRIC, padded, context)
        return padded
    for axis, (before, after) in enumerate(amounts):
        if before or after:
            size = packed.shape[axis]
            packed = gather(packed, np.clip(np.arange(-before, size + after), 0, size - 1), axis, context)
    return packed


LOWERINGS = {
    ops.SIGN: lower_sign,
    ops.BINARY_CONV: lower_binary_conv,
    ops.BINARY_CONV_SIGN: lower_binary_conv_sign,
    ops.BINARY_MAX_POOL: lower_binary_max_pool,
}
