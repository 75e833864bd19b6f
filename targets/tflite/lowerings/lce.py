"""Larq Compute Engine's operators: bnncc.Sign to LceQuantize (and LceDequantize), bnncc.BinaryConv to LceBconv2d."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator
from flatbuffers import flexbuffers

from bnncc import ops
from bnncc.geometry import Scheme, common_scheme
from bnncc.targets.tflite.bitpack import bitpack, words
from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import CHANNELS_LAST, Layout
from bnncc.targets.tflite.writer import Tensor

# The value of LceBconv2d's `padding` option.
PADDING_OPTION = {Scheme.SAME: 0, Scheme.VALID: 1}


# The packed tensor of a binary value has the value's name and this suffix: verification finds it by that.
PACKED_SUFFIX = "/packed"


def lower_sign(node: ir.Node, context: LoweringContext) -> None:
    """Pack the signs with LceQuantize; unpack them with LceDequantize only if a float operator reads them too."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    readers = [use.node for use in y.uses()]
    convolved = any(ops.is_binary_conv(reader) for reader in readers)
    layout = CHANNELS_LAST if convolved else context.layout(x) or CHANNELS_LAST
    packed = _quantize(x, y, context, layout)
    if convolved:
        context.bind_packed(y, packed)
    if y in context.graph.outputs or not all(ops.is_binary_conv(reader) for reader in readers):
        context.emit_custom("LceDequantize", [packed], [context.define(y, layout)], options=b"")


def lower_binary_conv(node: ir.Node, context: LoweringContext) -> None:
    """LceBconv2d with float output: y = acc · multiplier + bias.

    Padding with zeros must be TensorFlow's SAME (`bnncc.legalize` sees to it).  Padding with ones is SAME with
    pad_values 1 where the split of the padding fits, else a PAD of the packed tensor by words of +1 bits.
    """
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    signs = context.require_constant(node, 1, "its weight")
    multiplier = context.require_constant(node, 2, "its multiplier")
    bias = context.require_constant(node, 3, "its bias")
    channels, size = signs.shape[1], context.shape(x)[2:]
    geometry = ops.ConvGeometry.of(node, signs.shape[2:], size)
    if geometry.group != 1:
        raise UnsupportedError(f"{geometry.group} groups")
    pads_with_ones = node.attributes["pad_value"].as_float() == 1.0
    windows = geometry.windows(signs.shape[2:], size)
    scheme = common_scheme(windows)
    packed = _packed(x, context)
    if scheme is Scheme.EXPLICIT:
        if not pads_with_ones:
            raise UnsupportedError(f"zero padding {geometry.pads} is not TensorFlow's SAME")
        packed = _pad_with_ones(packed, [(window.begin, max(window.reached_end, 0)) for window in windows], context)
        scheme = Scheme.VALID
    options = _options(
        channels_in=channels,
        dilation_height_factor=geometry.dilations[0],
        dilation_width_factor=geometry.dilations[1],
        fused_activation_function=schema.ActivationFunctionType.NONE,
        pad_values=int(pads_with_ones and scheme is Scheme.SAME),
        padding=PADDING_OPTION[scheme],
        stride_height=geometry.strides[0],
        stride_width=geometry.strides[1],
    )
    filters = context.constant(bitpack(signs.transpose(0, 2, 3, 1)), f"{y.name}/bits")
    context.emit_custom(
        "LceBconv2d",
        [
            packed,
            filters,
            context.constant(multiplier.astype(np.float32), f"{y.name}/multiplier"),
            context.constant(bias.astype(np.float32), f"{y.name}/bias"),
            None,  # thresholds: only for a bitpacked output
        ],
        [context.define(y, CHANNELS_LAST)],
        options,
    )


def _packed(x: ir.Value, context: LoweringContext) -> Tensor:
    """The packed form of a binary value, made from its ±1 floats where no Sign made it."""
    packed = context.packed(x)
    if packed is None:
        packed = _quantize(x, x, context, CHANNELS_LAST)
        context.bind_packed(x, packed)
    return packed


def _quantize(x: ir.Value, y: ir.Value, context: LoweringContext, layout: Layout) -> Tensor:
    """LceQuantize `x`, stored in `layout`; the result is named after `y`."""
    source = context.use(x, layout)
    packed = context.temporary(f"{y.name}{PACKED_SUFFIX}", (*source.shape[:-1], words(source.shape[-1])), np.int32)
    context.emit_custom("LceQuantize", [source], [packed], options=b"")
    return packed


def _pad_with_ones(packed: Tensor, amounts: list[tuple[int, int]], context: LoweringContext) -> Tensor:
    """PAD the two spatial axes of a packed [N, H, W, words] tensor with zero words: 32 bits of +1."""
    paddings = np.array([(0, 0), *amounts, (0, 0)], np.int32)
    shape = [size + before + after for size, (before, after) in zip(packed.shape, paddings.tolist(), strict=True)]
    padded = context.temporary(f"{packed.name}/padded", shape, np.int32)
    context.emit(BuiltinOperator.PAD, [packed, context.constant(paddings, "paddings")], [padded], schema.PadOptionsT())
    return padded


def _options(**values: int) -> bytes:
    """A FlexBuffer map of ints; LCE looks its keys up by binary search, so they are sorted."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for key in sorted(values):
            builder.Int(key, values[key])
    return bytes(builder.Finish())


LOWERINGS = {ops.SIGN: lower_sign, ops.BINARY_CONV: lower_binary_conv}
