"""Binary convolutions followed by a sign yield bits: the sums are compared with a threshold per channel.

    Before:  x ─ BinaryConv(s; m, b) ─ f, elementwise, constants per channel ─ Sign ─ y
    After:   x ─ BinaryConvSign(s'; threshold) ─ y          s' = ±s per output channel

Everything between the integer sums and the sign is a function of one integer per channel, so it is tabulated, not
analysed: the graph's own nodes run in ONNX Runtime on every sum that can occur.  `thresholds_of` says what becomes of
the table.  A sign in between is a step as any other: -sign(-x), which is +1 where x > 0, is one sign to a pool behind
it.  A channel whose table is no single step leaves the layer as it is, as does zero padding that reaches a window: a
sum over fewer taps lies on another scale, and LCE pads a convolution with bitpacked output only with +1.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.evaluate import run, skeleton, weights_of
from bnncc.ir.graph import OUTPUT_CHANNELS_KEY, constant_of, inherit_source, new_constant, shape_of, take_over
from bnncc.passes.affine import channel_vector
from bnncc.passes.traced import traced_channels
from bnncc.passes.windows import windows_of

# Operators that work on each element alone, given constants per channel.
ELEMENTWISE = {
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Pow", "PRelu", "Where", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "Equal", "And", "Or", "Not", "Neg", "Abs", "Sqrt", "Exp", "Log", "Reciprocal", "Floor", "Ceil",
    "Round", "Sign", "Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Elu", "Selu", "Celu",
    "Softplus", "Softsign", "Erf", "Gelu", "Mish", "ThresholdedRelu", "Cast", "BatchNormalization", "Identity",
}  # fmt: skip
# Of these, those whose other inputs are not operands that broadcast along the channels.
PARAMETERS = {"BatchNormalization", "Clip"}
# How many elements of a table are evaluated at once.
CHUNK = 1 << 22

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Thresholds:
    """value: float32 [O], as BinaryConvSign takes it.  negated: the channels whose weights change their sign, bool
    [O].
    """

    value: npt.NDArray[np.float32]
    negated: Bits


class Threshold(ir.passes.InPlacePass):
    """Rewrite every Sign that depends on one BinaryConv alone."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        for node in reversed(list(model.graph)):  # a sign of signs before the signs that it is of
            if node.graph is not None and ops.is_sign(node):
                changed |= _rewrite(model, node)
        return ir.passes.PassResult(model, modified=changed)


def can_yield_bits(conv: ir.Node) -> bool:
    """True where LCE can write the signs of this BinaryConv's sums as bits: every window sums over all of its taps."""
    windows = windows_of(conv)
    if windows is None or conv.attributes["group"].as_int() != 1:
        return False
    unpadded = all(window.begin <= 0 and window.reached_end <= 0 for window in windows)
    return unpadded or conv.attributes["pad_value"].as_float() == 1.0


def thresholds_of(bits: Bits, sums: npt.NDArray[np.float32]) -> Thresholds | None:
    """Turn a table of signs into thresholds; None where some channel is no single step.

    Args:
        bits: [O, n], True where the sign is +1.
        sums: [n], the sums in ascending order.

    Symbols: K = KH·KW·C products a sum, p of them -1, so that acc = K - 2·p, acc ∈ {-K, -K + 2, …, K}.  Everything
    behind acc is a function of it alone, so channel o has a row y_o(acc) ∈ {-1, +1} with K + 1 entries.

    rising: y = +1 from some sum a on.  y = +1 ⇔ acc ≥ a: the threshold is a, the weights stay.  (m > 0, f rising, or
        both falling: negative multipliers need no case of their own.)
    falling: y = +1 up to some sum a (m < 0: a negative γ).  With the weights negated the sum is acc' = -acc, and
        acc ≤ a ⇔ acc' ≥ -a: the threshold is -a.  Exact at a itself too, where sign(γ·acc + β) = sign(0) = +1.
    constant: every entry is equal (γ = 0, a shift larger than K·|m|, a clip).  The threshold is -∞ for +1 and +∞ for
        -1.
    neither: a PReLU with a negative slope, |x|, a ternary step.  No threshold says that: None.

    LCE's bit is 1 (meaning -1) ⇔ p > t, with an int32 t per channel:
        acc < a  ⇔  K - 2·p < a  ⇔  p > (K - a) / 2  =: t, an integer, since a is a sum that occurs and has K's parity;
        -∞: no p may exceed t, t = INT32_MAX;   +∞: every p exceeds t, t = INT32_MIN.
    The lowering computes that (`targets/tflite/lowerings/lce.py`).
    """
    first, last = bits[:, 0], bits[:, -1]
    steps = np.count_nonzero(bits[:, 1:] != bits[:, :-1], axis=1)
    if np.any(steps > 1):
        return None
    rises, falls = (steps == 1) & last, (steps == 1) & first
    lowest, highest = sums[np.argmax(bits, axis=1)], sums[np.count_nonzero(bits, axis=1) - 1]
    constant = np.where(first, -np.inf, np.inf)
    value = np.where(rises, lowest, np.where(falls, -highest, constant))
    return Thresholds(value.astype(np.float32), falls)


def _rewrite(model: ir.Model, sign: ir.Node) -> bool:
    graph = model.graph
    found = _between(graph, sign)
    if found is None:
        return False
    conv, region = found
    x, weight = conv.inputs[0], conv.inputs[1]
    signs = constant_of(weight)
    if x is None or weight is None or signs is None or not _has_constants(conv) or not can_yield_bits(conv):
        return False
    products = int(np.prod(signs.shape[1:]))
    sums = np.arange(-products, products + 1, 2, dtype=np.float32)
    thresholds = thresholds_of(tabulate(model, conv, sign.outputs[0], sums) > 0, sums)
    if thresholds is None:
        return False
    y = sign.outputs[0]
    if thresholds.negated.any():
        turned = np.where(thresholds.negated[:, None, None, None], -signs, signs)
        weight = new_constant(graph, turned, f"{weight.name}/negated")
    threshold = new_constant(graph, thresholds.value, f"{y.name}/threshold")
    geometry = ops.ConvGeometry.of(conv, signs.shape[2:], (shape_of(x) or ())[2:])
    pad_value = conv.attributes["pad_value"].as_float()
    new = ops.binary_conv_sign(x, weight, threshold, geometry, pad_value=pad_value)
    new.metadata_props.update(conv.metadata_props)
    inherit_source([new], sign)
    record_negated(new, thresholds.negated)
    graph.insert_before(sign, new)
    new.outputs[0].metadata_props.update(y.metadata_props)
    take_over(y, new.outputs[0])
    graph.remove([sign, *region, conv], safe=True)
    return True


def _between(graph: ir.Graph, sign: ir.Node) -> tuple[ir.Node, list[ir.Node]] | None:
    """(the BinaryConv that alone determines `sign`, the nodes in between); None where something else takes part."""
    outputs = set(graph.outputs)
    region: dict[ir.Node, None] = {}
    convs: dict[ir.Node, None] = {}
    # The nearest first, so that a second convolution is met before all that a shortcut leads to.
    pending = deque(sign.inputs)
    while pending and len(convs) < 2:
        value = pending.popleft()
        if value is None or constant_of(value) is not None:
            continue
        node = value.producer()
        if node is None or value in outputs:
            return None
        if ops.is_binary_conv(node):
            convs[node] = None
        elif not _is_per_channel(node):
            return None
        elif node not in region:
            region[node] = None
            pending.extend(node.inputs)
    if len(convs) != 1:
        return None
    (conv,) = convs
    inside = {*region, sign}
    if any(use.node not in inside for node in (conv, *region) for value in node.outputs for use in value.uses()):
        return None
    return conv, list(region)


def _is_per_channel(node: ir.Node) -> bool:
    """True where each element of the result depends on that element of the operands and on constants per channel."""
    if not ops.is_sign(node) and (node.domain != "" or node.op_type not in ELEMENTWISE or len(node.outputs) != 1):
        return False
    shape = shape_of(node.outputs[0])
    if shape is None or len(shape) != 4:
        return False
    for index, value in enumerate(node.inputs):
        array = constant_of(value)
        if value is None or (node.op_type in PARAMETERS and index > 0 and array is not None):
            continue
        if array is None:
            if shape_of(value) != shape:
                return False
        elif channel_vector(array, shape) is None:
            return False
    return True


def _has_constants(conv: ir.Node) -> bool:
    return all(constant_of(value) is not None for value in conv.inputs[1:4])


def tabulate(model: ir.Model, conv: ir.Node, value: ir.Value, sums: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What `value`, which depends on a BinaryConv alone, is for every one of its sums [n] and output channel: [O, n].

    The graph's own nodes run in ONNX Runtime, the sums along the height of a map [1, O, n, 1];
    y = clip(sum) · multiplier + bias is rounded as in BinaryConv, whose multiplier and bias are constants.
    """
    y = conv.outputs[0]
    multiplier, bias = (constant_of(one) for one in conv.inputs[2:4])
    assert multiplier is not None
    assert bias is not None
    proto = skeleton(model, [value], [y])
    for entry in proto.graph.input:
        if entry.name == y.name:
            batch, _, height, width = entry.type.tensor_type.shape.dim
            batch.dim_value, height.dim_param, width.dim_value = 1, "sums", 1
    scale, shift = (array.astype(np.float32).reshape(-1, 1) for array in (multiplier, bias))
    length = max(CHUNK // scale.size, 1)
    bounds = np.array(ops.sum_bounds(conv), np.float32)
    weights = weights_of(model, proto)
    parts = []
    for start in range(0, sums.size, length):
        grid = np.clip(sums[start : start + length], *bounds) * scale + shift
        (result,) = run(proto, {**weights, y.name or "": grid[None, :, :, None]}).values()
        parts.append(result[0, :, :, 0])
    return np.concatenate(parts, axis=1)


def record_negated(node: ir.Node, negated: Bits) -> None:
    """Note the output channels of a binary convolution whose weights were negated; the traced channel o is -1 - o."""
    if OUTPUT_CHANNELS_KEY not in node.metadata_props and not negated.any():
        return
    channels = traced_channels(node, OUTPUT_CHANNELS_KEY, negated.size)
    turned = [-1 - channel if flip else channel for channel, flip in zip(channels, negated.tolist(), strict=True)]
    node.metadata_props[OUTPUT_CHANNELS_KEY] = json.dumps(turned)
