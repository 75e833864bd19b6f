"""What convolutions and pools share: one `Window` a spatial axis, and padding that the kernels compute exactly.

A 1-D operator is the 2-D one on [N, 1, L, C].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.ir.geometry import Scheme, Window, common_scheme
from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import CHANNELS_LAST
from bnncc.targets.tflite.lowerings.operands import input_of, integers
from bnncc.targets.tflite.writer import Tensor


def windows_of(node: ir.Node, context: LoweringContext, kernel: Sequence[int]) -> tuple[Window, Window]:
    """The windows of a Conv or pool over (H, W), its auto_pad and ceil_mode turned into explicit padding.

    Raises UnsupportedError for three spatial axes, and where the graph declares another output size.
    """
    sizes = context.shape(input_of(node, 0))[2:]
    if len(sizes) not in (1, 2):
        raise UnsupportedError(f"{len(sizes)} spatial axes; only 1 and 2 have a kernel")
    count = len(sizes)
    strides = node.attributes.get_ints("strides") or [1] * count
    dilations = node.attributes.get_ints("dilations") or [1] * count
    pads = node.attributes.get_ints("pads") or [0] * (2 * count)
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    ceil_mode = bool(node.attributes.get_int("ceil_mode", 0))
    windows = []
    for axis, size in enumerate(sizes):
        window = Window(size, kernel[axis], strides[axis], dilations[axis], pads[axis], pads[axis + count])
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            window = _same(window, lower=auto_pad == "SAME_LOWER")
        elif auto_pad == "VALID":
            window = Window(size, kernel[axis], strides[axis], dilations[axis])
        windows.append(_ceiling(window) if ceil_mode else window)
    declared = context.shape(node.outputs[0])[2:]
    if tuple(window.outputs for window in windows) != declared:
        raise UnsupportedError(f"the graph declares the output size {declared}, the attributes give another")
    return (windows[0], windows[1]) if count == 2 else (Window(1, 1), windows[0])


def _same(window: Window, *, lower: bool) -> Window:
    """ONNX auto_pad SAME: ⌈n / s⌉ outputs, the odd one of the padding at the end, or at the beginning if `lower`."""
    outputs = -(-window.size // window.stride)
    total = max((outputs - 1) * window.stride + window.extent - window.size, 0)
    begin = (total + 1) // 2 if lower else total // 2
    return Window(window.size, window.kernel, window.stride, window.dilation, begin, total - begin)


def _ceiling(window: Window) -> Window:
    """ceil_mode: m = ⌈(n + b + e - K) / s⌉ + 1, less the last window if it would start behind n + b (as in PyTorch)."""
    span = window.size + window.begin + window.end - window.extent
    outputs = -(-span // window.stride) + 1
    if (outputs - 1) * window.stride >= window.size + window.begin:
        outputs -= 1
    end = (outputs - 1) * window.stride + window.extent - window.size - window.begin
    return Window(window.size, window.kernel, window.stride, window.dilation, window.begin, end)


def spatial_input(value: ir.Value, context: LoweringContext) -> Tensor:
    """`value` as [N, H, W, C]."""
    tensor = context.use(value, CHANNELS_LAST)
    if len(tensor.shape) == 3:
        batch, length, channels = tensor.shape
        return context.reshape(tensor, (batch, 1, length, channels))
    return tensor


def spatial_output(value: ir.Value, context: LoweringContext) -> Tensor:
    """The [N, H, W, C] tensor to write `value` to; `finish_spatial` must follow the operator."""
    shape = context.shape(value)
    if len(shape) == 3:
        batch, channels, length = shape
        return context.temporary(f"{value.name}/2d", (batch, 1, length, channels), context.dtype(value))
    return context.define(value, CHANNELS_LAST)


def finish_spatial(value: ir.Value, tensor: Tensor, context: LoweringContext) -> None:
    """Drop the height of 1 that a 1-D operator was given."""
    if len(context.shape(value)) == 3:
        context.reshape(tensor, (), context.define(value, CHANNELS_LAST))


def fit_padding(
    tensor: Tensor, windows: tuple[Window, Window], context: LoweringContext, fill: float = 0.0
) -> tuple[Tensor, int]:
    """The [N, H, W, C] `tensor`, cropped and padded with `fill` where needed, and the schema's Padding to use on it.

    A position that no window reaches needs no crop: a VALID kernel does not read it.
    """
    begins = [-min(window.begin, 0) for window in windows]
    if any(begins):
        tensor = crop(tensor, [0, *begins, 0], tensor.shape, context)
        windows = (_cropped(windows[0]), _cropped(windows[1]))
    scheme = common_scheme(windows)
    if scheme is Scheme.SAME:
        return tensor, schema.Padding.SAME
    if scheme is Scheme.EXPLICIT:
        amounts = [(window.begin, max(window.reached_end, 0)) for window in windows]
        tensor = pad(tensor, [(0, 0), *amounts, (0, 0)], context, fill)
    return tensor, schema.Padding.VALID


def _cropped(window: Window) -> Window:
    begin = min(window.begin, 0)
    return Window(window.size + begin, window.kernel, window.stride, window.dilation, window.begin - begin, window.end)


def pad(
    tensor: Tensor,
    amounts: Sequence[tuple[int, int]],
    context: LoweringContext,
    fill: float = 0.0,
    output: Tensor | None = None,
) -> Tensor:
    """PAD `tensor` by `amounts` (before, after) an axis with `fill`; PADV2 where that is not 0."""
    shape = [size + before + after for size, (before, after) in zip(tensor.shape, amounts, strict=True)]
    if len(shape) > 5:
        raise UnsupportedError("padding at rank 6 or more")
    if output is None:
        output = context.temporary(f"{tensor.name}/pad", shape, tensor.dtype)
    version = 4 if len(shape) > 4 else 1
    paddings = integers(context, amounts, "paddings")
    if fill == 0:
        context.emit(BuiltinOperator.PAD, [tensor, paddings], [output], schema.PadOptionsT(), version)
    else:
        value = context.constant(np.asarray([fill], tensor.dtype), "padding_value")
        context.emit(BuiltinOperator.PADV2, [tensor, paddings, value], [output], schema.PadV2OptionsT(), version)
    return output


def crop(
    tensor: Tensor,
    begins: Sequence[int],
    ends: Sequence[int],
    context: LoweringContext,
    output: Tensor | None = None,
) -> Tensor:
    """`tensor` from `begins` to `ends`, as one STRIDED_SLICE."""
    return strided_slice(tensor, begins, ends, [1] * len(begins), context, output)


def reverse(tensor: Tensor, axes: Sequence[int], output: Tensor, context: LoweringContext) -> None:
    """REVERSE_V2, one for each axis: TensorFlow Lite 2.14 reverses only one of several, and goes on."""
    version = 2 if tensor.dtype == "bool" else 1
    for axis in axes:
        is_last = axis == axes[-1]
        result = output if is_last else context.temporary(f"{output.name}/reversed", output.shape, output.dtype)
        operands = [tensor, integers(context, [axis], "axes")]
        context.emit(BuiltinOperator.REVERSE_V2, operands, [result], schema.ReverseV2OptionsT(), version)
        tensor = result


def strided_slice(
    tensor: Tensor,
    begins: Sequence[int],
    ends: Sequence[int],
    steps: Sequence[int],
    context: LoweringContext,
    output: Tensor | None = None,
) -> Tensor:
    """STRIDED_SLICE with Python's `range(begin, end, step)` on each axis; an end of -1 goes with a negative step."""
    if len(begins) > 5:
        raise UnsupportedError("a slice at rank 6 or more")
    if output is None:
        shape = [len(range(*item)) for item in zip(begins, ends, steps, strict=True)]
        output = context.temporary(f"{tensor.name}/slice", shape, tensor.dtype)
    options = schema.StridedSliceOptionsT()
    # TensorFlow Lite reads an end of -1 as the last position; its mask bit means 'to the first one and including it'.
    options.endMask = sum(1 << axis for axis, end in enumerate(ends) if end < 0)
    operands = [tensor, *(integers(context, numbers, "slice") for numbers in (begins, ends, steps))]
    version = 4 if len(begins) > 4 else 3 if tensor.dtype == "bool" else 1
    context.emit(BuiltinOperator.STRIDED_SLICE, operands, [output], options, version)
    return output
