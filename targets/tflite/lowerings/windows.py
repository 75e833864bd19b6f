"""What convolutions and pools share: one `Window` a spatial axis, and padding that the kernels compute exactly.

A 1-D operator is the 2-D one on [N, 1, L, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema

from bnncc.ir.geometry import Scheme, Window, common_scheme
from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import CHANNELS_LAST
from bnncc.targets.tflite.lowerings.moves import crop, pad
from bnncc.targets.tflite.lowerings.operands import input_of
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
    # XNNPACK, up to LiteRT 2.1, is wrong with SAME where one axis ends on positions that no window reads, as every
    # second column at stride 2 with a kernel of one (docs/conformance.md).
    leaves_positions = any(window.reached_end < 0 for window in windows)
    # With several threads and without XNNPACK, a convolution by a kernel of the map's size with no padding before it is
    # a product of matrices in every released runtime, whatever the padding behind it: 2x2 on 2x2.
    fills_map = all(window.kernel == window.size and window.begin == 0 for window in windows)
    if scheme is Scheme.SAME and not leaves_positions and not fills_map:
        return tensor, schema.Padding.SAME
    if scheme is not Scheme.VALID:
        tensor = pad(tensor, reached_padding(windows), context, fill)
    return tensor, schema.Padding.VALID


def reached_padding(windows: tuple[Window, Window]) -> list[tuple[int, int]]:
    """The padding of a [N, H, W, C] tensor that the windows reach, (before, after) for every axis."""
    spatial = [(max(window.begin, 0), max(window.reached_end, 0)) for window in windows]
    return [(0, 0), *spatial, (0, 0)]


def _cropped(window: Window) -> Window:
    begin = min(window.begin, 0)
    return Window(window.size + begin, window.kernel, window.stride, window.dilation, window.begin - begin, window.end)


def window_options(options: Any, strides: Sequence[int], padding: int, activation: int) -> Any:
    """`options`, of a convolution or pool, with what they all say in the same words; strides are (H, W)."""
    options.padding, options.fusedActivationFunction = padding, activation
    options.strideH, options.strideW = strides
    return options
