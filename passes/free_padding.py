"""Pad a binary convolution with zeros and correct its border, so that its input's channels may change their sign.

    Before:  x ─ Mul(γ) ─ Add(β) ─ Sign ─ Pad(-1) ─ BinaryConv(s; m, b) ─ y
    After:   x ─ Mul(γ) ─ Add(β) ─ Sign ─ BinaryConv(s; m, b; zero padding) ─ Add(-m_o · border [1, O, H', W']) ─ y

A one that pads stays a one where the channel it stands for is negated; a zero is its own negative.  So behind this, the
Mul can go into the weights (`normalize_sign_input`), and the border's Add, a constant, into a shift that comes later
(`carry_shifts`).  See `border` for the algebra.

It is done where what the Mul computes is no less than what the Add does, for all the convolutions that read the sign,
where the constants take no more than `MOST_BORDER_BYTES` of the file (carried in front of the next layer, one has the
size of that layer's input), where LCE has that zero padding by itself, and where the sums are neither clipped nor
compared with thresholds, which LCE does of sums over all taps only.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.bit_moves import pad_mode, pad_value
from bnncc.ir.geometry import Scheme, Window, common_scheme
from bnncc.ir.graph import constant_of, element_count, shape_of, sole_consumer
from bnncc.passes.affine import affine_of
from bnncc.passes.binary_operand import NO_PADS, Pads, spatial_pads
from bnncc.passes.express_pad_value import pad_with_zeros
from bnncc.passes.remove_unused import remove_unread

# What stands between sums and the sign that thresholds take in: see `threshold`.
BETWEEN = {"Relu", "Clip", "PRelu", "LeakyRelu", "MaxPool", "Max", "Min"}
# Of all the borders of a graph: a network of many such layers would become several times as large.
MOST_BORDER_BYTES = 2**20
_SPENT = "bnncc.border_bytes"


@dataclass(frozen=True)
class _Padded:
    """A BinaryConv that pads with `value` by itself, or by the Pad in front of it."""

    conv: ir.Node
    pad: ir.Node | None
    geometry: ops.ConvGeometry
    windows: tuple[Window, Window]
    value: float


def free_padding(graph: ir.Graph, signs: ir.Value) -> bool:
    """Let every reader of the binary value `signs` pad with zeros; False, and nothing changed, where it should not."""
    if signs in graph.outputs:
        return False
    convs: list[_Padded] = []
    for use in signs.uses():
        node = use.node
        if node.domain == "" and node.op_type == "Pad" and use.idx == 0 and node.outputs[0] not in graph.outputs:
            found = [_padded(graph, reader.node, reader.idx, node) for reader in node.outputs[0].uses()]
        else:
            found = [_padded(graph, node, use.idx, None)]
        known = [conv for conv in found if conv is not None]
        if len(known) < len(found):
            return False
        convs += known
    corrected = sum(element_count(conv.conv.outputs[0]) for conv in convs if conv.value != 0)
    spent = graph.meta.get(_SPENT, 0) + (4 * element_count(signs) if corrected else 0)
    if not convs or corrected > element_count(signs) or spent > MOST_BORDER_BYTES:
        return False
    graph.meta[_SPENT] = spent
    for each in convs:
        if each.value != 0:
            _pad_with_zeros(graph, each, signs)
    return True


def _padded(graph: ir.Graph, conv: ir.Node, index: int, pad: ir.Node | None) -> _Padded | None:
    """How `conv`, whose input `index` is the signs or `pad`, pads; None where that should not or cannot be zeros."""
    weight, x = constant_of(conv.inputs[1]) if len(conv.inputs) > 1 else None, conv.inputs[0] if conv.inputs else None
    if not ops.is_binary_conv(conv) or index != 0 or weight is None or constant_of(conv.inputs[2]) is None:
        return None
    source = x if pad is None else pad.inputs[0]
    size = shape_of(source) if source is not None else None
    if size is None or conv.attributes["group"].as_int() != 1:
        return None
    own = ops.ConvGeometry.of(conv, weight.shape[2:], size[2:])
    value, amounts = (conv.attributes["pad_value"].as_float(), NO_PADS) if pad is None else _fill(pad)
    if amounts is None or (pad is not None and any(own.pads) and conv.attributes["pad_value"].as_float() != value):
        return None
    top, left, bottom, right = (a + b for a, b in zip(own.pads, amounts, strict=True))
    geometry = ops.ConvGeometry(own.strides, own.dilations, (top, left, bottom, right))
    windows = geometry.windows(weight.shape[2:], size[2:])
    if not any(geometry.pads):
        value = 0.0
    exact = common_scheme(windows) is not Scheme.EXPLICIT and all(window.size >= window.extent for window in windows)
    if value != 0 and (not exact or ops.sum_bounds(conv) != ops.UNBOUNDED or _leads_to_sign(graph, conv.outputs[0])):
        return None
    return _Padded(conv, pad, geometry, windows, value)


def _fill(pad: ir.Node) -> tuple[float, Pads | None]:
    """What a Pad adds, and how much of it; no amounts where it is no ±1 around H and W."""
    value = pad_value(pad)
    if pad_mode(pad) != "constant" or value is None or abs(value) != 1:
        return 0.0, None
    return value, spatial_pads(pad, 4)


def _leads_to_sign(graph: ir.Graph, value: ir.Value) -> bool:
    """True where `threshold` may yet make bits of the sums."""
    while (node := sole_consumer(graph, value)) is not None:
        if ops.is_sign(node):
            return True
        if affine_of(node) is None and (node.domain != "" or node.op_type not in BETWEEN):
            return False
        value = node.outputs[0]
    return False


def _pad_with_zeros(graph: ir.Graph, padded: _Padded, signs: ir.Value) -> None:
    conv = padded.conv
    conv.replace_input_with(0, signs)
    conv.attributes["pads"] = ir.AttrInt64s("pads", padded.geometry.pads)
    conv.attributes["pad_value"] = ir.AttrFloat32("pad_value", padded.value)
    pad_with_zeros(graph, conv, padded.windows)
    remove_unread(graph, [padded.pad])
