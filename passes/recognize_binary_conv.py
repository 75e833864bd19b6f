"""Find the layers that multiply ±1 by ±1: Conv (one- and two-dimensional), Gemm and MatMul.

    Before:  S ─ Conv(W = α_o · s, b) ─ y                        S, s = ±1, α_o > 0
    After:   S ─ BinaryConv(s; multiplier = α_o, bias = b_o) ─ y

    Before:  S ─ Mul(a) ─ Add(m) ─ Conv(W, b; zero padding) ─ y
    After:   S ─ BinaryConv(s; multiplier = a·α_o, bias = b_o + m·ΣW; padding with p = -m/a) ─ y

    Before:  S [N, I] ─ Gemm(W [O, I], b) ─ BatchNormalization ─ y
    After:   S ─ Reshape [N, I, 1, 1] ─ BinaryConv(1x1) ─ Reshape [N, O] ─ y

The weights decide, not how they were computed: see `binary_weights`.  The input may be an affine function of a binary
value: see `binary_operand`.  With x = a·S + m,

    conv(W, pad(x, 0)) = conv(a·W, pad(S, p)) + m·ΣW   where a·p + m = 0,

because the padding of x is then the same affine function of the padding of S.  Activations {0, 1} = -0.5·S + 0.5 give
p = +1, which LCE has; what it does not have is left to `express_pad_value`.

A Linear behind the Flatten of a map [N, C, H, W] is a convolution with the kernel (H, W): the bits stay where they are.
The affine operators behind a Linear or Conv1d are folded at once, as the Reshape would keep them from it.

Verification compares the sums of S and s.  What S is of the layer's own input is left as TRACED_KEY on the BinaryConv,
too: (1/a)·x - m/a, a list of one value a channel where a or m differ between channels.

A layer with one of the two binary operands that cannot be a BinaryConv gets the reason as metadata, for the report.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from bnncc.ir.graph import (
    CONV_KEY,
    INPUT_CHANNELS_KEY,
    STEP_WEIGHTS_KEY,
    TRACED_KEY,
    ZERO_WEIGHTS_KEY,
    constant_of,
    inherit_source,
    new_constant,
    shape_of,
    sole_consumer,
    take_over,
)
from bnncc.ir.left_in_float import Reason, leave_in_float
from bnncc.ir.value_facts import is_binary
from bnncc.passes.affine import Affine, Vector, affine_of
from bnncc.passes.binary_operand import BinaryOperand, Materializer, binary_operand, unfolded
from bnncc.passes.binary_weights import ZeroWeights, are_steps, count_zeros, split_weights, zeros_to_plus_one

_DEPTHWISE = Reason(
    "depthwise-conv",
    "it is a depthwise convolution: with one input channel for an output there are no words of bits to multiply",
)


class RecognizeBinaryConv(ir.passes.InPlacePass):
    """Replace every Conv, Gemm and MatMul whose operands are both binary, up to affine functions."""

    def __init__(self, zero_weights: ZeroWeights = ZeroWeights.FLOAT) -> None:
        super().__init__()
        self.zero_weights = zero_weights

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        materializer = Materializer(model.graph)
        for node in list(model.graph):
            if node.graph is None or node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul"):
                continue
            found = self._recognize(node)
            if isinstance(found, _Layer):
                inputs = list(node.inputs)
                found.emit(materializer)
                _remove_unused(model.graph, inputs)
                changed = True
            elif found is not None:
                leave_in_float(node, found)
        return ir.passes.PassResult(model, modified=changed)

    def _recognize(self, node: ir.Node) -> _Layer | Reason | None:
        """The binary layer that `node` is; or why it is none; None where nothing about it is binary."""
        x, weight = node.inputs[0], node.inputs[1]
        assert x is not None
        assert weight is not None
        if constant_of(x) is not None:
            return (
                Reason("weights-first", "its weights are the first operand of the product")
                if binary_operand(weight) is not None
                else None
            )
        operand = binary_operand(x)
        if operand is not None and node.op_type != "Conv" and is_binary(x):
            operand = unfolded(x)
        filters = constant_of(weight)
        if filters is None:
            return Reason("computed-weights", "its weights are computed at run time") if operand is not None else None
        if node.op_type != "Conv":
            filters = _output_first(node, filters)
        if filters.ndim < 2:
            return Reason("vector-weights", "its weights are a vector") if operand is not None else None
        if operand is None:
            return self._reason_for_float_input(x, filters)
        return self._check(node, operand, filters)

    def _reason_for_float_input(self, x: ir.Value, filters: npt.NDArray[np.generic]) -> Reason | None:
        # One weight a channel is always "equal in magnitude": that says nothing.
        binary_weights = split_weights(filters) is not None and filters.size > filters.shape[0]
        if _is_step(x):
            if split_weights(filters) is None:
                return Reason("step-input", "its input is binary but its weights are not")
            return Reason("zeros-by-design", "its input holds zeros by design, which no bit says")
        return Reason("float-input", "its weights are binary but its input is not") if binary_weights else None

    def _check(self, node: ir.Node, operand: BinaryOperand, filters: npt.NDArray[np.generic]) -> _Layer | Reason:
        x = node.inputs[0]
        assert x is not None
        size = shape_of(x)
        if size is None or shape_of(node.outputs[0]) is None:
            return Reason("dynamic-shape", "its input has no static shape")
        group = node.attributes["group"].as_int() if "group" in node.attributes else 1
        if not (np.all(operand.affine.scale > 0) or np.all(operand.affine.scale < 0)):
            return Reason("mixed-sign-scales", "its input is ±1 times a scale whose sign differs between channels")
        scaled = _scale_inputs(node, operand, filters, int(group))
        if scaled is None:
            return Reason("unequal-scales", "its input is ±1 times a scale that differs between the rows of a product")
        zeros = 0
        split = split_weights(scaled)
        if split is None and (zeros := count_zeros(scaled)):
            if self.zero_weights is ZeroWeights.FLOAT:
                return Reason(
                    "weights-exactly-zero",
                    f"{zeros:,} of its {filters.size:,} weights {'is' if zeros == 1 else 'are'} exactly 0, which no "
                    "bit says (--zero-weights plus-one reads them as +1)",
                )
            scaled = zeros_to_plus_one(scaled)
            filters = zeros_to_plus_one(filters)
            split = split_weights(scaled)
        if split is None:
            if are_steps(scaled):
                return Reason("one-sign-weights", "its weights are 0 and one other value, not of two signs")
            return Reason("float-weights", "its input is binary but its weights are not")
        bias = _bias(node)
        if bias is None:
            return Reason("computed-bias", "its bias is computed at run time")
        if node.op_type == "Conv":
            if filters.ndim not in (3, 4):
                return Reason("not-two-dimensional", f"it is a {filters.ndim - 2}-D convolution")
            if group > 1 and filters.shape[1] == 1:
                return _DEPTHWISE
        geometry = _geometry(node, filters, size)
        padded = _padding(operand, geometry, filters.shape[2:], size[2:]) if node.op_type == "Conv" else (geometry, 0.0)
        if isinstance(padded, Reason) and is_binary(x) and operand.signs is not x:
            return self._check(node, unfolded(x), filters)
        if isinstance(padded, Reason):
            return padded
        signs, scales = split
        affine = Affine(scales * np.sign(operand.affine.scale[0]), _sum_of_offsets(node, operand, filters, int(group)))
        factor = np.full(scales.shape, _float(node, "alpha", 1.0))
        return _Layer(node, operand, signs, affine.then(Affine(factor, np.zeros_like(factor))), bias, *padded, zeros)


@dataclass
class _Layer:
    """A layer that is binary: y = affine(conv(signs of the input, signs)) + bias.

    signs: [O, C/group, …] as in the source, [O, I] for a Linear.  bias: [O], or [N, O] where it differs between rows.
    """

    node: ir.Node
    operand: BinaryOperand
    signs: npt.NDArray[np.float32]
    affine: Affine
    bias: npt.NDArray[np.float64]
    geometry: ops.ConvGeometry
    pad_value: float
    zeros: int

    def emit(self, materializer: Materializer) -> None:
        """Put the BinaryConv, between Reshapes where the source is not a Conv2d, in place of the node."""
        graph, node = materializer.graph, self.node
        x = materializer.value_of(self.operand.signs)
        name, shape = node.outputs[0].name, shape_of(node.outputs[0])
        assert shape is not None
        if node.op_type == "Conv" and self.signs.ndim == 4:
            binary = self._binary_conv(graph, x, self.signs, Affine(self.affine.scale, self.affine.shift + self.bias))
            graph.insert_before(node, binary)
            self._finish(graph, node, binary.outputs[0])
            return
        x, signs = self._four_dimensional(graph, x)
        last, axis = node, 1 if node.op_type == "Conv" else len(shape) - 1
        per_row = self.bias.ndim > 1
        total = Affine(self.affine.scale, self.affine.shift + (0.0 if per_row else self.bias))
        while not per_row and (following := sole_consumer(graph, last.outputs[0])) is not None:
            step = affine_of(following) if axis == 1 else _added_to_last_axis(following, last.outputs[0])
            if step is None:
                break
            total, last = total.then(step if isinstance(step, Affine) else step[1]), following
        # Behind `last`, not behind the layer: where the chain ends is where its result is known.
        binary = self._binary_conv(graph, x, signs, total)
        result = binary.outputs[0]
        result.name, result.type = f"{name}/conv", node.outputs[0].type
        if node.op_type == "Conv":
            result.shape = ir.Shape((shape[0], shape[1], 1, shape[2]))
        else:
            result.shape = ir.Shape((int(np.prod(shape[:-1])), shape[-1], 1, 1))
        graph.insert_before(node, binary)
        value = _reshape(graph, result, shape, f"{name}/reshape", node)
        if per_row:
            add = ir.node("Add", [value, new_constant(graph, self.bias.astype(np.float32), f"{name}/bias")])
            add.outputs[0].shape, add.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
            inherit_source([add], node)
            graph.insert_before(node, add)
            value = add.outputs[0]
        chain = [last]
        while chain[-1] is not node:
            previous = next(v for v in chain[-1].inputs if v is not None and constant_of(v) is None).producer()
            assert previous is not None
            chain.append(previous)
        self._finish(graph, last, value)
        for passed in chain[1:]:
            graph.remove(passed, safe=True)

    def _finish(self, graph: ir.Graph, last: ir.Node, value: ir.Value) -> None:
        take_over(last.outputs[0], value)
        value.metadata_props.update(last.outputs[0].metadata_props)
        graph.remove(last, safe=True)

    def _binary_conv(self, graph: ir.Graph, x: ir.Value, signs: npt.NDArray[np.float32], affine: Affine) -> ir.Node:
        name = self.node.outputs[0].name
        binary = ops.binary_conv(
            x,
            new_constant(graph, signs, f"{name}/weight"),
            new_constant(graph, affine.scale.astype(np.float32), f"{name}/multiplier"),
            new_constant(graph, affine.shift.astype(np.float32), f"{name}/bias"),
            self.geometry,
            pad_value=self.pad_value,
        )
        inherit_source([binary], self.node)
        binary.metadata_props[CONV_KEY] = name or ""
        for key in (INPUT_CHANNELS_KEY, STEP_WEIGHTS_KEY):
            if key in self.node.metadata_props:
                binary.metadata_props[key] = self.node.metadata_props[key]
        self._record_affine(binary)
        if self.zeros:
            binary.metadata_props[ZERO_WEIGHTS_KEY] = str(self.zeros)
        return binary

    def _record_affine(self, binary: ir.Node) -> None:
        """Leave, for verification, how the signs follow from the layer's own input: s = scale · x + offset."""
        x, affine = self.node.inputs[0], self.operand.affine
        if x is not None and (np.any(affine.scale != 1) or np.any(affine.shift != 0)):
            scale, offset = 1 / affine.scale, -affine.shift / affine.scale
            uniform = self.operand.uniform is not None
            entry = {
                "value": x.name,
                "scale": scale[0] if uniform else scale.tolist(),
                "offset": offset[0] if uniform else offset.tolist(),
            }
            binary.metadata_props[TRACED_KEY] = json.dumps(entry)

    def _four_dimensional(self, graph: ir.Graph, x: ir.Value) -> tuple[ir.Value, npt.NDArray[np.float32]]:
        """The input and the weights of a Linear or Conv1d as those of a two-dimensional convolution."""
        node, signs = self.node, self.signs
        name, shape = node.outputs[0].name, shape_of(x)
        assert shape is not None
        if node.op_type == "Conv":
            return _reshape(graph, x, (*shape[:2], 1, shape[2]), f"{name}/signs", node), signs[:, :, None, :]
        if node.op_type == "Gemm" and _integer(node, "transA"):
            moved = ir.node("Transpose", [x], {"perm": [1, 0]})
            moved.outputs[0].name, moved.outputs[0].type = f"{name}/transposed", x.type
            shape = (shape[1], shape[0])
            moved.outputs[0].shape = ir.Shape(shape)
            inherit_source([moved], node)
            graph.insert_before(node, moved)
            x = moved.outputs[0]
        source = _flattened_map(x)
        if source is not None:
            return source, signs.reshape(signs.shape[0], *(shape_of(source) or ())[1:])
        rows = (int(np.prod(shape[:-1])), shape[-1], 1, 1)
        sign = x.producer()
        if len(shape) > 2 and sign is not None and _serves_only(graph, sign, node):
            # Bits are packed along the channels, here another axis than in front of the Reshape: pack behind it.
            assert sign.inputs[0] is not None
            packed = ops.sign(_reshape(graph, sign.inputs[0], rows, f"{x.name}/rows", sign))
            packed.outputs[0].name = f"{name}/signs"
            inherit_source([packed], sign)
            graph.insert_before(sign, packed)
            return packed.outputs[0], signs[:, :, None, None]
        return _reshape(graph, x, rows, f"{name}/signs", node), signs[:, :, None, None]


def _remove_unused(graph: ir.Graph, values: list[ir.Value | None]) -> None:
    """Remove what only the replaced layer read: a value that a dead node reads has one user too many for the passes
    behind this one.
    """
    pending = [value.producer() for value in values if value is not None]
    while pending:
        node = pending.pop()
        if node is None or node.graph is None or any(v.uses() or v in graph.outputs for v in node.outputs):
            continue
        pending.extend(value.producer() for value in node.inputs if value is not None)
        graph.remove(node, safe=True)


def _geometry(node: ir.Node, filters: npt.NDArray[np.generic], size: tuple[int, ...]) -> ops.ConvGeometry:
    """Strides, dilations, pads and group; those of one axis as (1, n)."""
    if node.op_type != "Conv":
        return ops.ConvGeometry()
    if filters.ndim == 4:
        return ops.ConvGeometry.of(node, filters.shape[2:], size[2:])
    group = _integer(node, "group", 1)
    stride, dilation = (
        int(node.attributes[key].as_ints()[0]) if key in node.attributes else 1 for key in ("strides", "dilations")
    )
    flat = {"strides": ir.AttrInt64s("strides", [1, stride]), "dilations": ir.AttrInt64s("dilations", [1, dilation])}
    if "auto_pad" in node.attributes:
        flat["auto_pad"] = node.attributes["auto_pad"]
    if "pads" in node.attributes:
        before, after = node.attributes["pads"].as_ints()
        flat["pads"] = ir.AttrInt64s("pads", [0, before, 0, after])
    flat["group"] = ir.AttrInt64("group", group)
    same_geometry = ir.Node("", "Conv", [], flat.values(), num_outputs=1)
    return ops.ConvGeometry.of(same_geometry, (1, filters.shape[2]), (1, size[2]))


def _padding(
    operand: BinaryOperand, geometry: ops.ConvGeometry, kernel: tuple[int, ...], size: tuple[int, ...]
) -> tuple[ops.ConvGeometry, float] | Reason:
    """The geometry with the operand's own pads, and what the signs are padded with; or why there is no such value."""
    if len(kernel) == 1:
        kernel, size = (1, *kernel), (1, *size)
    reached = any(_reaches_padding(window) for window in geometry.windows(kernel, size))
    own = any(operand.pads)
    zero = operand.preimage(0.0)
    if reached and zero is None:
        return Reason(
            "channel-dependent-padding", "its zero padding means different things for different channels of its input"
        )
    if reached and own and zero != operand.fill:
        return Reason("padded-twice", "it is padded twice, with different values")
    pads = tuple(a + b for a, b in zip(geometry.pads, operand.pads, strict=True))
    value = operand.fill if own else (zero if reached and zero is not None else 0.0)
    geometry = ops.ConvGeometry(
        geometry.strides, geometry.dilations, (pads[0], pads[1], pads[2], pads[3]), geometry.group
    )
    return geometry, value


def _reaches_padding(window: Window) -> bool:
    return window.begin > 0 or window.reached_end > 0


def _scale_inputs(
    node: ir.Node, operand: BinaryOperand, filters: npt.NDArray[np.generic], group: int
) -> npt.NDArray[np.generic] | None:
    """The filters [O, C/group, …] times the magnitude of the scale of the input channel that each reads."""
    if np.all(np.abs(operand.affine.scale) == 1):
        return filters
    per_weight = _per_weight(node, operand, np.abs(operand.affine.scale), filters, group)
    return None if per_weight is None else filters.astype(np.float64) * per_weight


def _sum_of_offsets(node: ir.Node, operand: BinaryOperand, filters: npt.NDArray[np.generic], group: int) -> Vector:
    """Σ W·offset [O]: what the input's offset adds to the output."""
    if not np.any(operand.affine.shift):
        return np.zeros(filters.shape[0])
    offset = _per_weight(node, operand, operand.affine.shift, filters, group)
    assert offset is not None
    total: Vector = (filters.astype(np.float64) * offset).reshape(filters.shape[0], -1).sum(axis=1)
    return total


def _per_weight(
    node: ir.Node, operand: BinaryOperand, vector: Vector, filters: npt.NDArray[np.generic], group: int
) -> npt.NDArray[np.float64] | None:
    """A vector over axis 1 of the input, for each weight that reads it."""
    if node.op_type == "Conv":
        channels = filters.shape[1]
        groups = vector.reshape(group, channels)
        rows = np.repeat(groups, filters.shape[0] // group, axis=0)
        return rows.reshape(filters.shape[0], channels, *(1,) * (filters.ndim - 2))
    along_features = node.op_type == "MatMul" and len(shape_of(node.inputs[0]) or () if node.inputs[0] else ()) == 2
    along_features |= node.op_type == "Gemm" and not _integer(node, "transA")
    if along_features:
        return vector.reshape(1, -1)
    uniform = operand.uniform
    return None if uniform is None else np.full((1, 1), vector[0])


def _output_first(node: ir.Node, matrix: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The weights of a Gemm or MatMul as [O, I]; those of a product that is no Linear flattened to one axis."""
    if matrix.ndim != 2:
        return matrix.reshape(-1)
    return matrix if _integer(node, "transB") else matrix.T


def _bias(node: ir.Node) -> npt.NDArray[np.float64] | None:
    """The bias [O] (or [N, O] where it differs between the rows of a Gemm); None where it is no constant."""
    channels = (shape_of(node.outputs[0]) or (0,))[1 if node.op_type == "Conv" else -1]
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if given is None:
        return np.zeros(channels)
    array = constant_of(given)
    if array is None:
        return None
    bias = array.astype(np.float64) * _float(node, "beta", 1.0)
    if bias.ndim == 2 and bias.shape[0] > 1:
        return bias
    return np.broadcast_to(bias.reshape(-1), (channels,))


def _added_to_last_axis(node: ir.Node, x: ir.Value) -> Affine | None:
    """The affine of `MatMul(…) + b` with b along the last axis."""
    other = next((value for value in node.inputs if value is not x), None)
    array = constant_of(other)
    shape = shape_of(x)
    if (
        node.domain != ""
        or node.op_type != "Add"
        or array is None
        or shape is None
        or shape != shape_of(node.outputs[0])
    ):
        return None
    if any(size != 1 for size in array.shape[:-1]):
        return None
    return Affine(np.ones(shape[-1]), np.broadcast_to(array.reshape(-1).astype(np.float64), (shape[-1],)).copy())


def _serves_only(graph: ir.Graph, sign: ir.Node, node: ir.Node) -> bool:
    """True where `node` alone reads the signs, and they are no stand-in that verification knows by their name."""
    value = sign.outputs[0]
    return ops.is_sign(sign) and sole_consumer(graph, value) is node and TRACED_KEY not in value.metadata_props


def _flattened_map(x: ir.Value) -> ir.Value | None:
    """The binary map [N, C, H, W] of which `x` [N, C·H·W] is a Reshape or Flatten."""
    node = x.producer()
    source = (
        node.inputs[0] if node is not None and node.domain == "" and node.op_type in ("Reshape", "Flatten") else None
    )
    before, after = shape_of(source) if source is not None else None, shape_of(x)
    if source is None or before is None or after is None or len(before) != 4 or len(after) != 2:
        return None
    return source if before[0] == after[0] and is_binary(source) else None


def _reshape(graph: ir.Graph, x: ir.Value, shape: tuple[int, ...], name: str, origin: ir.Node) -> ir.Value:
    """A Reshape in front of `origin`."""
    node = ir.node("Reshape", [x, new_constant(graph, np.asarray(shape, np.int64), f"{name}/shape")])
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = name, ir.Shape(shape), x.type
    inherit_source([node], origin)
    graph.insert_before(origin, node)
    return node.outputs[0]


def _integer(node: ir.Node, name: str, default: int = 0) -> int:
    return int(node.attributes[name].as_int()) if name in node.attributes else default


def _float(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


def _is_step(value: ir.Value) -> bool:
    """True for the output of a sign that was left alone because zeros reach it."""
    node = value.producer()
    return node is not None and node.domain == "" and node.op_type == "Sign"
