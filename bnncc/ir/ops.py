"""The operators of domain `bnncc`: ONNX functions with bodies in standard operators, so that ONNX Runtime runs them.

    Sign(x)                     +1 where x ≥ 0, else -1
    BinaryConv(x, weight, multiplier, bias)
        x [N, C, H, W] and weight [O, C/group, KH, KW] hold ±1; multiplier and bias are float32 [O];
        y = clip(conv(pad(x, pads, pad_value), weight), sum_min, sum_max) · multiplier + bias
        attributes: strides, dilations (height, width), group, pads (top, left, bottom, right), pad_value (0.0 or 1.0),
        sum_min and sum_max (none of their own: no sum is beyond)
    BinaryConvSign(x, weight, threshold)
        +1 where the integer sum conv(pad(x, pads, pad_value), weight) ≥ threshold[o], else -1; attributes as above.
        threshold is float32 [O]: a sum that can occur (float32 holds these integers exactly), -∞ for a channel that is
        always +1, +∞ for one that is always -1
    BinaryMaxPool(x)
        the maximum of ±1 over a window; what pads adds never wins.  Attributes: kernel_shape, strides, pads

ONNX's own Sign, Conv and MaxPool stay what they are in a graph; these say more: what they take and yield is binary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx.parser
import onnx_ir as ir

from bnncc.ir.geometry import Window

DOMAIN = "bnncc"
VERSION = 1
# Beyond every integer sum, which float32 holds exactly: BinaryConv's bounds where it has none of its own.
UNBOUNDED = (-(2.0**24), 2.0**24)
# ONNX's own operators that sum products with weights.
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SIGN = "Sign"
BINARY_CONV = "BinaryConv"
BINARY_CONV_SIGN = "BinaryConvSign"
BINARY_MAX_POOL = "BinaryMaxPool"

_SIGN_BODY = """
Sign (x) => (y)
{
    zero = Constant <value_float = 0.0> ()
    plus = Constant <value_float = 1.0> ()
    minus = Constant <value_float = -1.0> ()
    negative = Less (x, zero)
    y = Where (negative, minus, plus)
}
"""

# Behind an Identity ONNX Runtime's inference of shapes does not look for the amounts: up to 1.23, the last for Python
# 3.10, it takes a Constant of integers in a function for a tensor without axes, and refuses the Pad.
_BINARY_CONV_BODY = """
BinaryConv <strides, dilations, group, pads, pad_value, sum_min: float = -16777216.0, sum_max: float = 16777216.0>
    (x, weight, multiplier, bias) => (y)
{
    axes = Constant <value_ints = [2, 3]> ()
    ints = Constant <value_ints: ints = @pads> ()
    amounts = Identity (ints)
    value = Constant <value_float: float = @pad_value> ()
    padded = Pad (x, amounts, value, axes)
    sums = Conv <strides: ints = @strides, dilations: ints = @dilations, group: int = @group> (padded, weight)
    per_channel = Constant <value_ints = [-1, 1, 1]> ()
    multipliers = Reshape (multiplier, per_channel)
    biases = Reshape (bias, per_channel)
    least = Constant <value_float: float = @sum_min> ()
    most = Constant <value_float: float = @sum_max> ()
    clipped = Clip (sums, least, most)
    scaled = Mul (clipped, multipliers)
    y = Add (scaled, biases)
}
"""

_BINARY_CONV_SIGN_BODY = """
BinaryConvSign <strides, dilations, group, pads, pad_value> (x, weight, threshold) => (y)
{
    axes = Constant <value_ints = [2, 3]> ()
    ints = Constant <value_ints: ints = @pads> ()
    amounts = Identity (ints)
    value = Constant <value_float: float = @pad_value> ()
    padded = Pad (x, amounts, value, axes)
    sums = Conv <strides: ints = @strides, dilations: ints = @dilations, group: int = @group> (padded, weight)
    per_channel = Constant <value_ints = [-1, 1, 1]> ()
    thresholds = Reshape (threshold, per_channel)
    plus = Constant <value_float = 1.0> ()
    minus = Constant <value_float = -1.0> ()
    below = Less (sums, thresholds)
    y = Where (below, minus, plus)
}
"""

_BINARY_MAX_POOL_BODY = """
BinaryMaxPool <kernel_shape, strides, pads> (x) => (y)
{
    y = MaxPool <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads> (x)
}
"""


def register(model: ir.Model) -> None:
    """Add the function definitions and the opset import to `model` (in place; nothing where they are there already)."""
    standard = model.opset_imports[""]
    model.graph.opset_imports[DOMAIN] = VERSION
    for body in (_SIGN_BODY, _BINARY_CONV_BODY, _BINARY_CONV_SIGN_BODY, _BINARY_MAX_POOL_BODY):
        proto = onnx.parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["" : {standard}]>{body}')
        function = ir.serde.deserialize_function(proto)
        model.functions.setdefault(function.identifier(), function)


def is_sign(node: ir.Node | None) -> bool:
    """True for the bnncc Sign."""
    return node is not None and node.domain == DOMAIN and node.op_type == SIGN


def is_binary_conv(node: ir.Node | None) -> bool:
    """True for a BinaryConv."""
    return node is not None and node.domain == DOMAIN and node.op_type == BINARY_CONV


def sum_bounds(node: ir.Node) -> tuple[float, float]:
    """What a BinaryConv clips its integer sums to, in front of multiplier and bias; `UNBOUNDED` where to nothing."""
    return node.attributes.get_float("sum_min", UNBOUNDED[0]), node.attributes.get_float("sum_max", UNBOUNDED[1])


def set_sum_bounds(node: ir.Node, bounds: tuple[float, float]) -> None:
    """Let a BinaryConv clip its integer sums to `bounds`."""
    for name, bound in zip(("sum_min", "sum_max"), bounds, strict=True):
        node.attributes[name] = ir.AttrFloat32(name, bound)


def is_binary_conv_sign(node: ir.Node | None) -> bool:
    """True for a BinaryConvSign."""
    return node is not None and node.domain == DOMAIN and node.op_type == BINARY_CONV_SIGN


def is_binary_max_pool(node: ir.Node | None) -> bool:
    """True for a BinaryMaxPool."""
    return node is not None and node.domain == DOMAIN and node.op_type == BINARY_MAX_POOL


def takes_bits(node: ir.Node) -> bool:
    """True for the operators whose first input is packed in the file."""
    return is_binary_conv(node) or is_binary_conv_sign(node) or is_binary_max_pool(node)


def yields_signs(node: ir.Node | None) -> bool:
    """True for the operators whose output is ±1 by definition."""
    return is_sign(node) or is_binary_conv_sign(node) or is_binary_max_pool(node)


def sign(x: ir.Value) -> ir.Node:
    """A Sign node; its output has the shape and type of `x`."""
    node = ir.node(SIGN, [x], domain=DOMAIN)
    node.outputs[0].shape, node.outputs[0].type = x.shape, x.type
    return node


@dataclass(frozen=True)
class ConvGeometry:
    """Strides, dilations, group and explicit pads (top, left, bottom, right) of a two-dimensional convolution or
    pool.
    """

    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    group: int = 1

    @classmethod
    def of(cls, node: ir.Node, kernel: Sequence[int], size: Sequence[int]) -> ConvGeometry:
        """Read it from a node with ONNX's attributes; `auto_pad` is resolved with the kernel and the input's H, W."""

        def pair(name: str, default: tuple[int, int]) -> tuple[int, int]:
            values = node.attributes[name].as_ints() if name in node.attributes else default
            return int(values[0]), int(values[1])

        strides, dilations = pair("strides", (1, 1)), pair("dilations", (1, 1))
        group = int(node.attributes["group"].as_int()) if "group" in node.attributes else 1
        auto_pad = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            begins, ends = zip(
                *(_same_pads(*axis, auto_pad) for axis in zip(size, kernel, strides, dilations, strict=True)),
                strict=True,
            )
            return cls(strides, dilations, (begins[0], begins[1], ends[0], ends[1]), group)
        given = node.attributes["pads"].as_ints() if auto_pad == "NOTSET" and "pads" in node.attributes else (0,) * 4
        return cls(strides, dilations, (int(given[0]), int(given[1]), int(given[2]), int(given[3])), group)

    def windows(self, kernel: Sequence[int], size: Sequence[int]) -> tuple[Window, Window]:
        """The windows of the height and the width axis, for a kernel (KH, KW) over a map of `size` (H, W)."""
        top, left, bottom, right = self.pads
        return (
            Window(size[0], kernel[0], self.strides[0], self.dilations[0], top, bottom),
            Window(size[1], kernel[1], self.strides[1], self.dilations[1], left, right),
        )

    def attributes(self) -> Mapping[str, int | tuple[int, ...]]:
        """As ONNX attributes."""
        return {"strides": self.strides, "dilations": self.dilations, "pads": self.pads, "group": self.group}


def _same_pads(size: int, kernel: int, stride: int, dilation: int, auto_pad: str) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def binary_conv(
    x: ir.Value,
    weight: ir.Value,
    multiplier: ir.Value,
    bias: ir.Value,
    geometry: ConvGeometry,
    *,
    pad_value: float = 0.0,
    output: ir.Value | None = None,
) -> ir.Node:
    """A BinaryConv node; with `output`, its output takes that value's name, shape and type."""
    node = ir.node(
        BINARY_CONV,
        [x, weight, multiplier, bias],
        {**geometry.attributes(), "pad_value": pad_value},
        domain=DOMAIN,
    )
    if output is not None:
        result = node.outputs[0]
        result.name, result.shape, result.type = output.name, output.shape, output.type
    return node


def binary_conv_sign(
    x: ir.Value, weight: ir.Value, threshold: ir.Value, geometry: ConvGeometry, *, pad_value: float = 0.0
) -> ir.Node:
    """A BinaryConvSign node."""
    return ir.node(
        BINARY_CONV_SIGN,
        [x, weight, threshold],
        {**geometry.attributes(), "pad_value": pad_value},
        domain=DOMAIN,
    )


def binary_max_pool(x: ir.Value, windows: tuple[Window, Window]) -> ir.Node:
    """A BinaryMaxPool node for windows without dilation; padding that no window reaches is left out."""
    height, width = windows
    pads = [max(pad, 0) for pad in (height.begin, width.begin, height.reached_end, width.reached_end)]
    attributes = {
        "kernel_shape": [height.kernel, width.kernel],
        "strides": [height.stride, width.stride],
        "pads": pads,
    }
    return ir.node(BINARY_MAX_POOL, [x], attributes, domain=DOMAIN)
