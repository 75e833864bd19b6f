"""Which values of the traced network a compiled graph's binary values and convolutions stand for.

Passes keep the name of a value that keeps its meaning; where they cannot, they leave metadata (`bnncc.ir.graph`):

    TRACED_KEY            s = scale · traced + offset         a {0, 1} activation as ±1
    NEGATED_KEY           channels that hold -s               γ < 0 in front of a sign or below a max-pool
    MIRRORED_KEY          H and W are reversed                the mirrored frame
    OUTPUT_CHANNELS_KEY   rows of the traced weights          RepConv's copies, groups, negated thresholds
    INPUT_CHANNELS_KEY    channels of the traced input        groups, pixel_unshuffle's order
    LAYER_INPUT_KEY       a traced value that is no input     signs whose scale went behind the product
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional as F

from bnncc.ir import ops
from bnncc.ir.evaluate import Array, computed_constant
from bnncc.ir.graph import (
    CONV_KEY,
    CROPPED_KEY,
    INPUT_CHANNELS_KEY,
    INPUT_LEVELS_KEY,
    INPUT_TERM_KEY,
    LAYER_INPUT_KEY,
    MIRRORED_KEY,
    NEGATED_KEY,
    OUTPUT_CHANNELS_KEY,
    STEP_WEIGHTS_KEY,
    THREE_VALUED_KEY,
    TRACED_KEY,
    TRIMMED_KEY,
    UNSHUFFLED_KEY,
    WEIGHT_THRESHOLDS_KEY,
    constant_of,
    known_array,
    shape_of,
)
from bnncc.ir.value_facts import data_inputs
from bnncc.targets.tflite.bitpack import bitpack, signs_of
from bnncc.targets.tflite.layout import Layout
from bnncc.verification.error_bounds import ELEMENTWISE
from bnncc.verification.steps import COMPARISONS
from bnncc.verification.tolerance import CANCELLATION, FLUSHED

# What stands between a comparison and the binary value that it decides, and how many of its inputs hold numbers.
_BEHIND_COMPARISONS = {
    **dict.fromkeys(("Cast", "CastLike", "Not", "Neg", "Identity", "Expand"), 1), "Where": 3, "Shape": 0,
    "ConstantOfShape": 0, **dict.fromkeys(("Add", "Sub", "Mul", "Div"), 2),
}  # fmt: skip
# How signs are written, of each element of the first input, or of what decides it.
_OF_EACH_ELEMENT = {
    "Sign", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "Where", "Cast", "CastLike", "Identity",
    "Clip", "Add", "Sub", "Mul", "Div", "Neg",
}  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    """s = scale · traced + offset, per channel or for all; pads: what a Pad has added to the traced value.

    thresholds: with them s is one of the bits of a few levels: scale times the product of the signs of traced - these.
    source: the traced value of which the levels are steps, if known; jumps: where s changes with it, [C or 1][n].
    zero_is_one: the traced signs between the two that are 0 at 0, where the bits say +1.
    """

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    pads: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    source: str | None = None
    jumps: tuple[tuple[float, ...], ...] = ()
    zero_is_one: tuple[str, ...] = ()

    @classmethod
    def read(cls, entry: str) -> tuple[str, Meaning]:
        """(the traced value's name, the meaning) from the JSON of TRACED_KEY."""
        content = json.loads(entry)
        scale, offset = (
            tuple(number) if isinstance(number, list) else (float(number),)
            for number in (content["scale"], content["offset"])
        )
        pads, thresholds = (tuple(content.get(key, ())) for key in ("pads", "thresholds"))
        jumps = tuple(map(tuple, content.get("jumps", ())))
        zero_is_one = tuple(content.get("zero_is_one", ()))
        return content["value"], cls(scale, offset, pads, thresholds, content.get("source"), jumps, zero_is_one)

    @property
    def is_plain(self) -> bool:
        """True where the traced value has the signs' own shape, and one threshold."""
        return not self.pads and not self.thresholds

    @property
    def largest(self) -> float:
        """The largest magnitude of what the file adds up in place of the traced value, ±1/scale and -offset/scale."""
        if self.thresholds:
            return 0.0
        scale, offset = np.abs(np.asarray(self.scale)), np.abs(np.asarray(self.offset))
        return float(np.max((1 + offset) / np.where(scale == 0, np.inf, scale)))

    def apart(self, source: Array) -> Array:
        """How far `source` [N, C, …] is from the nearest of the jumps."""
        jumps = np.asarray(self.jumps, np.float32)
        shape = (1, -1, *(1,) * (source.ndim - 2))
        distances = np.stack([source - jump.reshape(shape) for jump in jumps.T])
        nearest = np.abs(distances).argmin(0)[np.newaxis]
        found: Array = np.take_along_axis(distances, nearest, 0)[0]
        return found

    def rounding(self, source: Array) -> Array:
        """What rounding may amount to between `source` and where the network decides for one level or the next."""
        size: Array = np.abs(source).astype(np.float64) + np.abs(np.asarray(self.jumps)).max()
        return CANCELLATION * size

    def signs(self, traced: Array) -> Array:
        """±1 (0 where PyTorch's sign is 0) from the traced value [N, C, …]."""
        shape = (1, -1, *(1,) * (traced.ndim - 2))
        scale, offset = (np.asarray(vector, np.float64).reshape(shape) for vector in (self.scale, self.offset))
        for threshold in self.thresholds:
            scale = scale * np.where(traced > threshold, 1.0, -1.0)
        if self.thresholds:
            return scale
        # Behind a straight-through estimator the traced value is ±1 up to its rounding.
        rounded: Array = np.rint(scale * traced + offset)
        if self.pads:
            half = len(self.pads) // 2
            for axis, (begin, end) in enumerate(zip(self.pads[:half], self.pads[half:], strict=True), start=-half):
                rounded = rounded.take(np.arange(begin, rounded.shape[axis] - end), axis=axis)
        return rounded


@dataclass(frozen=True)
class Correspondence:
    """How a binary value follows from the traced network.

    traced: the traced value that `meaning` turns into ±1; None where the sign of `operand_value` is all there is.
    operand_value: the traced value whose sign this is, or that a bit of its levels compares, if known.  keeps_operand:
    the compiled sign reads just that.  channels: which of the traced value's channels this one holds; empty for all.
    is_three_valued: where only the operand is known, whether PyTorch's sign of 0 is 0.  product: what the traced sign
    reads, where that is `operand_value` times a factor that the compiled sign does not need, as a sigmoid.  ternary:
    the traced signs that are 0 at 0, behind a bit of levels or a scale.
    """

    traced: ir.Value | None
    meaning: Meaning
    operand_value: ir.Value | None
    keeps_operand: bool
    channels: tuple[int, ...] = ()
    is_three_valued: bool = True
    product: ir.Value | None = None
    ternary: tuple[ir.Value, ...] = ()

    @classmethod
    def of(cls, value: ir.Value, traced: Mapping[str | None, ir.Value]) -> Correspondence | None:
        """Find it for a binary value of the compiled graph; None where nothing in the traced network tells."""
        producer = value.producer()
        operand = producer.inputs[0] if producer is not None and ops.is_sign(producer) else None
        same_operand = traced.get(operand.name) or _reshaped(operand, traced) if operand is not None else None
        entry = value.metadata_props.get(TRACED_KEY)
        if entry:
            name, meaning = Meaning.read(entry)
            channels = tuple(json.loads(value.metadata_props.get(INPUT_CHANNELS_KEY, "[]")))
            if name in traced and meaning.thresholds:
                ternary = tuple(traced[one] for one in meaning.zero_is_one if one in traced)
                return cls(traced[name], meaning, traced.get(meaning.source), False, channels, ternary=ternary)
            if name in traced:
                known = same_operand or (_sign_operand(traced[name]) if meaning.is_plain and not channels else None)
                is_three_valued = producer is not None and THREE_VALUED_KEY in producer.metadata_props
                # Where a Pad has added zeros, those are no signs.
                is_scaled = meaning != Meaning() and meaning.is_plain and not channels
                ternary = tuple(_signs_in(traced[name])) if is_three_valued and is_scaled else ()
                return cls(traced[name], meaning, known, same_operand is not None, channels, ternary=ternary)
        if value.name in traced:
            own = _sign_operand(traced[value.name])
            product = own if own is not None and _is_product(own, same_operand) else None
            return cls(traced[value.name], Meaning(), same_operand or own, same_operand is not None, product=product)
        if same_operand is None or producer is None:
            return None
        return cls(None, Meaning(), same_operand, True, is_three_valued=THREE_VALUED_KEY in producer.metadata_props)

    def traced_values(self) -> list[ir.Value]:
        """The traced values that `signs` and `operand` need."""
        return [v for v in (self.traced, self.operand_value, self.product, *self.ternary) if v is not None]

    def signs(self, values: Mapping[ir.Value, Array]) -> Array:
        """The reference's ±1, NCHW; 0 where PyTorch's sign is 0."""
        if self.traced is not None:
            held = self.meaning.signs(values[self.traced])
            return held[:, list(self.channels)] if self.channels else held
        assert self.operand_value is not None
        signs: Array = np.sign(values[self.operand_value])
        return signs if self.is_three_valued else np.where(signs == 0, np.float32(1), signs)

    def zeros(self, values: Mapping[ir.Value, Array]) -> int:
        """How many of the reference's signs are 0 where a bit is +1."""
        behind = self.meaning.thresholds or self.ternary
        signs = [values[value] for value in self.ternary] if behind else [self.signs(values)]
        return sum(int(np.count_nonzero(array == 0)) for array in signs)

    def operand(self, values: Mapping[ir.Value, Array]) -> Array | None:
        """The reference's value whose sign was taken, NCHW, where it is known; of a bit of levels less what it is
        compared with.
        """
        if self.operand_value is None:
            return None
        found = values[self.operand_value]
        return self.meaning.apart(found) if self.meaning.thresholds else found

    def operand_bound(self, values: Mapping[ir.Value, Array], bounds: Mapping[ir.Value, Array]) -> Array | None:
        """What rounding may amount to in `operand`, float64."""
        if self.operand_value is None:
            return None
        bound = bounds[self.operand_value]
        return bound + self.meaning.rounding(values[self.operand_value]) if self.meaning.thresholds else bound

    def vanished(self, values: Mapping[ir.Value, Array]) -> Array | None:
        """Where the factor of `product` underflows: of whatever sign the operand is, the traced sign reads a 0."""
        return None if self.product is None else np.abs(values[self.product]) <= FLUSHED


def _reshaped(value: ir.Value, traced: Mapping[str | None, ir.Value]) -> ir.Value | None:
    """The traced value of which `value` is the Reshape, as the rows [N·L, C, 1, 1] that a Linear reads of [N, L, C]."""
    node = value.producer()
    if node is None or node.domain != "" or node.op_type != "Reshape":
        return None
    return traced.get(_given(node.inputs[0]).name)


def _sign_operand(value: ir.Value) -> ir.Value | None:
    """What is compared with 0 to yield a binary `value`: the operand of a Sign, or the difference of the two of a
    comparison, behind which there are only choices, casts and affines.  Of the sign of such a value, sign(sign(x) +
    0.1), it is x.
    """
    pending, comparisons = [value], dict[ir.Node, None]()
    for one in pending:
        node = one.producer()
        if node is None or known_array(one) is not None:
            continue
        if node.op_type == "Sign" or node.op_type in COMPARISONS:
            comparisons[node] = None
        elif node.op_type in _BEHIND_COMPARISONS:
            read = node.inputs[: _BEHIND_COMPARISONS[node.op_type]]
            pending += [operand for operand in read if operand is not None and operand not in pending]
        else:
            return None
    if len(comparisons) != 1 or shape_of(next(iter(comparisons)).outputs[0]) != shape_of(value):
        return None
    (node,) = comparisons
    operand = node.inputs[0] if node.op_type == "Sign" else _difference(node)
    return None if operand is None else _sign_operand(operand) or operand


def _signs_in(value: ir.Value) -> Iterator[ir.Value]:
    """The Signs behind a `value` that is computed of them by affines, casts and choices."""
    pending = [value]
    for one in pending:
        node = one.producer()
        if node is None or known_array(one) is not None:
            continue
        if node.op_type == "Sign":
            yield one
        else:
            read = node.inputs[: _BEHIND_COMPARISONS.get(node.op_type, 0)]
            pending += [operand for operand in read if operand is not None and operand not in pending]


def _is_product(value: ir.Value, factor: ir.Value | None) -> bool:
    """True where `value` is `factor` times or divided by something, once at least, element by element."""
    behind: ir.Value | None = value
    scaled = False
    while behind is not None and behind is not factor:
        node = behind.producer()
        if node is None or node.op_type not in ("Mul", "Div", "Identity"):
            return False
        scaled |= node.op_type != "Identity"
        behind = factor if node.op_type == "Mul" and node.inputs[1] is factor else node.inputs[0]
    return scaled and behind is factor


def _difference(comparison: ir.Node) -> ir.Value | None:
    """The first operand less the second, as a value of the comparison's own graph."""
    left, right = comparison.inputs
    graph = comparison.graph
    if left is None or right is None or not isinstance(graph, ir.Graph) or left.dtype != ir.DataType.FLOAT:
        return None
    number = computed_constant(right)
    if number is not None and not np.any(number):
        return left
    name = f"{comparison.outputs[0].name}/difference"
    known = next((use.node.outputs[0] for use in left.uses() if use.node.outputs[0].name == name), None)
    if known is not None:
        return known
    node = ir.node("Sub", [left, right])
    node.outputs[0].name, node.outputs[0].type = name, left.type
    node.outputs[0].shape = comparison.outputs[0].shape
    graph.insert_before(comparison, node)
    return node.outputs[0]


def as_stored(value: ir.Value, array: Array, layout: Layout, *, negates: bool = True) -> Array:
    """A reference value as the file stores `value` in `layout`: negated channels, the mirrored frame.

    negates: False for the operand of a sign that is negated itself while it reads the operand as it is.
    """
    held = oriented(value, array) if negates else _turned(value, array)
    return layout.arrange(held)


def oriented(value: ir.Value, array: Array) -> Array:
    """A reference value as the graph holds `value`, or the other way round: negated channels, the mirrored frame."""
    negated = json.loads(value.metadata_props.get(NEGATED_KEY, "[]"))
    if negated:
        array = array.copy()
        array[:, negated] *= -1
    return _turned(value, array)


def _turned(value: ir.Value, array: Array) -> Array:
    return array[..., ::-1, ::-1] if value.metadata_props.get(MIRRORED_KEY) else array


@dataclass(frozen=True)
class LayerReference:
    """A BinaryConv (or BinaryConvSign) of the compiled graph and the traced convolution or Linear that it stands
    for.

    read: the traced value that it reads in place of that layer's input, if any; `meaning` is of what it reads.
    """

    node: ir.Node
    traced: ir.Node
    meaning: Meaning
    read: ir.Value | None = None

    @property
    def weight(self) -> Array:
        """The compiled node's own signs [O, C/group, KH, KW]."""
        array = constant_of(self.node.inputs[1])
        assert array is not None
        return array

    @property
    def output_axis(self) -> int:
        """Where the traced weights have their output channels."""
        transposed = "transB" in self.traced.attributes and self.traced.attributes["transB"].as_int() == 1
        return 0 if self.traced.op_type == "Conv" or transposed else -1

    @property
    def traced_input(self) -> ir.Value:
        """What the traced layer reads, or what the node reads in place of that."""
        return self.read or _given(self.traced.inputs[0])

    @property
    def traced_weight(self) -> ir.Value:
        """The traced layer's weights."""
        return _given(self.traced.inputs[1])

    @property
    def thresholds(self) -> str | None:
        """Less what the traced weights are of which the node's filters are the signs, as JSON; None for 0."""
        return self.node.metadata_props.get(WEIGHT_THRESHOLDS_KEY)

    def signs_of(self, weight: Array) -> Array:
        """The signs of the traced weights, int8; where they are less several thresholds, along a last axis."""
        if self.thresholds is None:
            return np.sign(weight).astype(np.int8)
        # A threshold for each filter lies along the axis of these.
        along = [1] * weight.ndim
        along[self.output_axis] = -1
        copies = []
        for offsets in (np.asarray(one, np.float64) for one in json.loads(self.thresholds)):
            # Of several lists the product of the signs is meant.
            factors = [one.reshape(along) if one.ndim else one for one in (offsets if offsets.ndim > 1 else [offsets])]
            copies.append(np.prod([np.sign(weight - one).astype(np.int8) for one in factors], axis=0, dtype=np.int8))
        return np.stack(copies, -1)

    def compute(self, values: Mapping[ir.Value, Array], weight_signs: Array) -> tuple[Array, Array]:
        """(the ±1 input [N, C, H, W], the integer sums [N, O, H', W']), both upright and not negated, in float32.

        weight_signs: `signs_of` the traced weights.
        The input is the traced convolution's own, mapped to ±1 (0 is +1, as in bits).  The weights are the signs of
        the traced ones.  Padding is what the compiled node says: where it pads with +1 and corrects later, the frame's
        share is in the sums.  float32 holds them exactly (they are below 2^24).
        """
        x = values[self.traced_input]
        signs, frame = self._input(replace(self.meaning, pads=()).signs(x))
        filters = self._filters(weight_signs)
        rank = weight_signs.ndim - (self.thresholds is not None)
        same = self.traced.op_type == "Conv" and rank == 4 and self.read is None and self._block == 1
        own = self.traced if same else self.node
        geometry = ops.ConvGeometry.of(own, filters.shape[2:], signs.shape[2:])
        cut = json.loads(self.node.metadata_props.get(TRIMMED_KEY, "[0, 0, 0, 0]"))
        if filters.shape[2:] != self.weight.shape[2:]:
            filters = filters[:, :, cut[0] : filters.shape[2] - cut[2], cut[1] : filters.shape[3] - cut[3]]
        if own is self.traced:
            reach = [taps * dilation for taps, dilation in zip(cut, geometry.dilations * 2, strict=True)]
            top, left, bottom, right = (
                pad + extra - tap for pad, extra, tap in zip(geometry.pads, frame, reach, strict=True)
            )
        else:  # The node's padding is all there is, and turned where the node is.
            top, left, bottom, right = geometry.pads
            if self._is_mirrored():
                top, left, bottom, right = bottom, right, top, left
        # What pads is not negated with the data: the sums are those of the values that the node holds.
        held, filters = self._negated(signs), self._negated(filters)
        padded = F.pad(torch.from_numpy(held), (left, right, top, bottom), value=self._pad_value())
        group = self.node.attributes["group"].as_int()
        sums = F.conv2d(padded, torch.from_numpy(filters), None, geometry.strides, 0, geometry.dilations, group)
        return signs, sums.numpy()

    def packed(self, signs: Array, shape: Sequence[int]) -> Array:
        """The packed tensor of `shape` that the operator reads, int32 channels last, padded with +1 where it is
        larger.
        """
        held = self.in_graph(signs)
        bits = bitpack(np.moveaxis(held, 1, -1))
        if bits.shape != tuple(shape):
            kernel = self.weight.shape[2:]
            height, width = ops.ConvGeometry.of(self.node, kernel, held.shape[2:]).windows(kernel, held.shape[2:])
            before = ((0, 0), (height.begin, shape[1] - bits.shape[1] - height.begin))
            bits = np.pad(bits, (*before, (width.begin, shape[2] - bits.shape[2] - width.begin), (0, 0)))
        return np.ascontiguousarray(bits)

    def in_graph(self, signs: Array) -> Array:
        """The input as the compiled graph holds it, NCHW."""
        held = oriented(self._uncropped(), signs)
        crop = _given(self.node.inputs[0]).metadata_props.get(CROPPED_KEY)
        if crop:
            (top, left), (down, across) = json.loads(crop)["start"], json.loads(crop)["step"]
            held = held[:, :, top::down, left::across]
        return np.ascontiguousarray(held)

    def result_bound(self, result: Array) -> Array:
        """What rounding may amount to in the float result (channels last) for given bits: see `error_bounds`."""
        multiplier, bias = (constant_of(value) for value in self.node.inputs[2:4])
        assert multiplier is not None
        assert bias is not None
        size = self.weight[0].size * np.abs(multiplier.astype(np.float64)) + np.abs(bias)
        bound: Array = ELEMENTWISE * (size + np.abs(result))
        return bound

    def stored_sums(self, sums: Array) -> Array:
        """The sums as the file's operator yields them, channels last."""
        rotated = sums[..., ::-1, ::-1] if self._is_mirrored() else sums
        return np.ascontiguousarray(np.moveaxis(rotated, 1, -1))

    def _negated(self, array: Array) -> Array:
        """An array with the node's input channels along axis 1, those negated that the node's input holds negated."""
        channels = json.loads(self._uncropped().metadata_props.get(NEGATED_KEY, "[]"))
        if not channels or self.node.attributes["group"].as_int() > 1:
            return array
        array = array.copy()
        array[:, channels] *= -1
        return array

    def _uncropped(self) -> ir.Value:
        """The node's input, or what a crop in front of the node reads."""
        x = _given(self.node.inputs[0])
        producer = x.producer()
        return _given(producer.inputs[0]) if x.metadata_props.get(CROPPED_KEY) and producer is not None else x

    def _is_mirrored(self) -> bool:
        """True where the node works in the mirrored frame: turned, its geometry is the reference's."""
        x = self.node.inputs[0]
        return x is not None and bool(x.metadata_props.get(MIRRORED_KEY))

    @property
    def _run(self) -> list[int] | None:
        """The channels of the traced layer's input, or a Linear's features, that the node reads alone; None for all."""
        is_run = INPUT_LEVELS_KEY in self.node.metadata_props
        return json.loads(self.node.metadata_props[INPUT_CHANNELS_KEY]) if is_run else None

    @property
    def _block(self) -> int:
        """The pixels of an axis that are channels of the traced layer's input and pixels of the node's."""
        return int(self.node.metadata_props.get(UNSHUFFLED_KEY, "1"))

    def _pad_value(self) -> float:
        return self.node.attributes["pad_value"].as_float() if "pad_value" in self.node.attributes else 0.0

    def _input(self, signs: Array) -> tuple[Array, tuple[int, int, int, int]]:
        """The ±1 input with the node's own channels and size, and the padding cropped off it (top, left, bottom,
        right).
        """
        shape = shape_of(self._uncropped())
        assert shape is not None
        if self._run is not None:
            signs = (signs if self.traced.op_type == "Conv" else signs.reshape(signs.shape[0], -1))[:, self._run]
        if signs.ndim == 3 and signs.size != np.prod(shape):
            # A Pad was folded into a convolution over one axis, which the graph holds as [N, C, 1, L].
            signs = signs[:, :, np.newaxis] if shape[2] == 1 else signs[..., np.newaxis]
        elif signs.ndim != 4 or (self.traced.op_type != "Conv" and signs.size == np.prod(shape)):
            signs = signs.reshape(shape)  # of a Linear [N, H, W, C] the rows
        if self._block > 1:
            signs = F.pixel_shuffle(torch.from_numpy(np.ascontiguousarray(signs)), self._block).numpy()
        channels = self.node.metadata_props.get(INPUT_CHANNELS_KEY)
        if channels and self._run is None:
            signs = signs[:, json.loads(channels)]
        crop = _frame_of_padding(signs, shape, _padded_by(self.traced_input))
        top, left, bottom, right = crop
        signs = signs[:, :, top : signs.shape[2] - bottom, left : signs.shape[3] - right]
        signs = signs.reshape(shape)
        return signs_of(signs < 0), crop

    def _as_filters(self, weight: Array, copies: int) -> Array:
        """Traced weights, outputs first, as the node has them: 4-D; its inputs are those of so many copies."""
        channels, *kernel = self.weight.shape[1:]
        if self._block > 1:
            block, (filters, blocks, height, width) = self._block, weight.shape
            parts = weight.reshape(filters, blocks // block**2, block, block, height, width)
            weight = parts.transpose(0, 1, 4, 2, 5, 3).reshape(filters, -1, height * block, width * block)
        own = (channels // copies, *kernel)
        if weight.ndim == 3 and weight[0].size != int(np.prod(own)):  # taps that only meet padding are cut off
            return weight[:, :, np.newaxis] if own[1] == 1 else weight[..., np.newaxis]
        # Of a Linear, or of a 1x1 convolution of a flattened map.
        flattened = weight.ndim != 4 or (weight.shape[2:] == (1, 1) and weight.shape[1] != own[0])
        return weight.reshape(weight.shape[0], *own) if flattened else weight

    def _filters(self, weight: Array) -> Array:
        """The signs of the traced weights for the node's own output channels, [O, C/group, KH, KW]."""
        copies = [weight] if self.thresholds is None else list(np.moveaxis(weight, -1, 0))
        copies = [np.moveaxis(one, self.output_axis, 0) for one in copies]
        copies = copies if self._run is None else [one[:, self._run] for one in copies]
        copies = [self._as_filters(one, len(copies)) for one in copies]
        filters: Array = np.concatenate([signs_of(one < 0) for one in copies], axis=1)
        weight = copies[0]
        if STEP_WEIGHTS_KEY in self.node.metadata_props:
            # ±(2w - 1) on the input and ±1 on its copy; a channel of zeros has a scale of 0 and any sign.
            sense = signs_of(np.any(weight < 0, axis=(1, 2, 3), keepdims=True))
            ones = np.broadcast_to(sense, weight.shape)
            nothing = np.all(weight == 0, axis=(1, 2, 3), keepdims=True)
            filters = np.concatenate([np.where((weight != 0) | nothing, ones, -ones), ones], axis=1)
        rows = self.node.metadata_props.get(OUTPUT_CHANNELS_KEY)
        if rows:
            entries = json.loads(rows)
            chosen = [row if row >= 0 else -1 - row for row in entries]
            senses = np.array([1 if row >= 0 else -1 for row in entries], np.float32)
            filters = filters[chosen] * senses[:, None, None, None]
        channels = self.node.metadata_props.get(INPUT_CHANNELS_KEY)
        grouped = "group" in self.traced.attributes and self.traced.attributes["group"].as_int() > 1
        whole = self._run is None and not grouped
        if channels and whole and len(copies) == 1 and STEP_WEIGHTS_KEY not in self.node.metadata_props:
            filters = filters[:, json.loads(channels)]
        return filters


def _given(value: ir.Value | None) -> ir.Value:
    if value is None:
        raise ValueError("a traced layer lacks an operand")
    return value


def _padded_by(value: ir.Value) -> tuple[int, int]:
    """Rows on top and columns on the left that the traced network itself pads with in front of a layer, or of the sign
    that it reads.
    """
    node = value.producer()
    while node is not None and node.domain == "" and node.op_type in _OF_EACH_ELEMENT:
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    if node is None or node.op_type != "Pad":
        return 0, 0
    amounts, given = (
        None if operand is None else computed_constant(operand)
        for operand in (node.inputs[1], node.inputs[3] if len(node.inputs) > 3 else None)
    )
    if amounts is None:
        return 0, 0
    rank = len(shape_of(value) or ())
    axes = list(range(rank)) if given is None else [int(axis) % rank for axis in given]
    begins = dict(zip(axes, map(int, amounts), strict=False))
    return (begins.get(2, 0), begins.get(3, 0)) if rank == 4 else (0, begins.get(2, 0))


def _frame_of_padding(signs: Array, shape: Sequence[int], begins: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where the traced input is larger than the compiled one, a Pad was folded into the convolution: its amounts.

    What a Pad adds is one value all over a row or column.  So may a row of a small map be: where the network's own Pad
    fits (`begins`), it is that.
    """
    amounts = []
    for axis, likely in zip((2, 3), begins, strict=True):
        extra = signs.shape[axis] - shape[axis]
        begin = 0
        if extra > 0:
            others = tuple(i for i in range(4) if i != axis)
            is_padding = signs.max(axis=others) == signs.min(axis=others)
            fits = [
                start
                for start in range(extra + 1)
                if is_padding[:start].all() and is_padding[start + shape[axis] :].all()
            ]
            begin = likely if likely in fits or not fits else fits[0]
        amounts.append((begin, max(extra - begin, 0)))
    return amounts[0][0], amounts[1][0], amounts[0][1], amounts[1][1]


def find_layers(compiled: ir.Graph, traced: ir.Graph) -> list[LayerReference]:
    """Every binary convolution of the compiled graph that stands for a traced one, in the graph's order."""
    producers = {value.name: node for node in traced for value in node.outputs}
    values = {value.name or "": value for value in (*traced.inputs, *(v for node in traced for v in node.outputs))}
    layers = []
    for node in compiled:
        name = node.metadata_props.get(CONV_KEY)
        if node.domain != ops.DOMAIN or name is None:
            continue
        entry = _traced_entry(node.inputs[0])
        meaning = Meaning.read(entry)[1] if entry else Meaning()
        read = None
        if INPUT_LEVELS_KEY in node.metadata_props:
            scale, offset = json.loads(node.metadata_props[INPUT_LEVELS_KEY])
            meaning = Meaning((1 / scale,), (-offset / scale,))
        elif LAYER_INPUT_KEY in node.metadata_props:
            other, meaning = _read_instead(node, entry, values)
            read = values[other]
        elif INPUT_TERM_KEY in node.metadata_props and entry is None:
            # One of the bits of its input is a sign that the network has: the levels themselves are none.
            read = values.get(_given(node.inputs[0]).name or "")
        layers.append(LayerReference(node, _weighted(producers[name]), meaning, read))
    return layers


def _read_instead(node: ir.Node, entry: str | None, traced: Mapping[str, ir.Value]) -> tuple[str, Meaning]:
    """(the name of the traced value that a BinaryConv reads, what its signs are of that)."""
    for described in (node.metadata_props.get(TRACED_KEY), entry):
        if described and (found := Meaning.read(described))[0] in traced:
            return found
    name = node.metadata_props[LAYER_INPUT_KEY]
    moved_from = (one.name for one in _moved_from(node.inputs[0]) if one.name in traced)
    return (name if name in traced else next(moved_from, None) or name), Meaning()


def _weighted(node: ir.Node) -> ir.Node:
    """The convolution or Linear itself, where its name is that of a no-op behind it, such as a Dropout at the end.

    The node that is removed hands its name on where it is a graph output's.
    """
    while node.op_type not in ("Conv", "Gemm", "MatMul") and node.inputs:
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        if before is None:
            break
        node = before
    return node


def _traced_entry(value: ir.Value | None) -> str | None:
    """The TRACED_KEY of the sign that a binary value comes from, through operators that move elements."""
    return next((entry for one in _moved_from(value) if (entry := one.metadata_props.get(TRACED_KEY))), None)


def _moved_from(value: ir.Value | None) -> Iterator[ir.Value]:
    """A binary value, and those that it is moved from, up to what a sign yields."""
    while value is not None:
        yield value
        producer = value.producer()
        if producer is None or ops.is_sign(producer) or ops.is_binary_conv_sign(producer):
            return
        sources = data_inputs(producer) if producer.domain == "" else list(producer.inputs[:1])
        value = sources[0] if sources else None
