"""Put a BinaryConv in place of a layer that multiplies ±1 by ±1.

    Before:  S ─ Conv(W = α_o · s, b) ─ y
    After:   S ─ BinaryConv(s; multiplier = α_o, bias = b_o) ─ y

    Before:  S [N, I] ─ Gemm(W [O, I], b) ─ BatchNormalization ─ y
    After:   S ─ Reshape [N, I, 1, 1] ─ BinaryConv(1x1) ─ Reshape [N, O] ─ y

A Linear behind the Flatten of a map [N, C, H, W] is a convolution with the kernel (H, W): the bits stay where they are,
unless they take fewer words behind it (flat_bits.py).  One at each position of a map, whose channels were moved behind,
is a convolution of 1x1:

    Before:  S [N, C, H, W] ─ Transpose [N, H, W, C] ─ MatMul(Wᵀ) ─ y
    After:   S ─ BinaryConv(1x1) ─ Transpose [N, H, W, O] ─ y

The affine operators behind a Linear or Conv1d are folded at once, as the Reshape would keep them from it; so are those
behind what moves a layer's output (affines_behind.py).

Verification compares the sums of S and s.  What S is of the layer's own input is left as TRACED_KEY on the BinaryConv,
too: (1/a)·x - m/a for x = a·S + m, a list of one value a channel where a or m differ between channels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.graph import (
    CONV_KEY,
    INPUT_CHANNELS_KEY,
    LAYER_INPUT_KEY,
    OUTPUT_CHANNELS_KEY,
    TRACED_KEY,
    ZERO_WEIGHTS_KEY,
    constant_of,
    inherit_source,
    new_constant,
    shape_of,
    sole_consumer,
    take_over,
)
from bnncc.ir.value_facts import is_binary
from bnncc.passes.affine import Affine
from bnncc.passes.affines_behind import AffinesBehind, affines_behind
from bnncc.passes.binary_operand import BinaryOperand, Materializer
from bnncc.passes.flat_bits import is_packed_flat
from bnncc.passes.insertion import insert, insert_copy, insert_reshape
from bnncc.passes.kept_order import must_stay_behind
from bnncc.passes.traced import OF_THE_WEIGHTS, describe_signs, describes_each_alike, hand_on

CHANNELS_LAST = (0, 2, 3, 1)


@dataclass
class BinaryProduct:
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
        is_map = node.op_type == "Conv" and self.signs.ndim == 4
        axis, per_row = 1 if node.op_type == "Conv" else len(shape) - 1, self.bias.ndim > 1
        behind = AffinesBehind(node) if per_row else affines_behind(graph, node, axis)
        # Behind a convolution of maps `fold_affine` does that, also where the order of roundings counts.
        if (is_map and not behind.moves) or must_stay_behind(node, behind.last.outputs[0], behind.affines):
            behind = AffinesBehind(node)
        total = Affine(self.affine.scale, self.affine.shift + (0.0 if per_row else self.bias))
        total = functools.reduce(Affine.then, behind.affines, total)
        # Behind `last`, not behind the layer: where the chain ends is where its result is known.
        if is_map:
            binary = self._binary_conv(graph, x, self.signs, total)
            value = insert(graph, binary, node, name=f"{name}/conv", like=node.outputs[0])
        else:
            value = self._between_reshapes(graph, x, total)
        if per_row:
            add = ir.node("Add", [value, new_constant(graph, self.bias.astype(np.float32), f"{name}/bias")])
            value = insert(graph, add, node, name=f"{name}/biased", like=node.outputs[0])
        for move in behind.moves:
            (value,) = insert_copy(graph, move, [value], node, "affine")
        chain = [behind.last]
        while chain[-1] is not node:
            previous = next(v for v in chain[-1].inputs if v is not None and constant_of(v) is None).producer()
            assert previous is not None
            chain.append(previous)
        self._finish(graph, behind.last, value)
        for passed in chain[1:]:
            graph.remove(passed, safe=True)

    def _between_reshapes(self, graph: ir.Graph, x: ir.Value, affine: Affine) -> ir.Value:
        """What a Linear or Conv1d of the signs `x` yields, as a two-dimensional convolution of them."""
        node = self.node
        name, shape = node.outputs[0].name, shape_of(node.outputs[0])
        assert shape is not None
        turned = None if node.op_type == "Conv" or _is_transposed(node) else _turned_map(x)
        if turned is not None:
            batch, channels, *positions = shape_of(turned) or ()
            x, signs = turned, self.signs[:, :, None, None]
            if len(positions) == 1:
                positions = [1, *positions]
                x = insert_reshape(graph, turned, (batch, channels, *positions), f"{name}/map", node)
            along = (batch, shape[-1], *positions)
        else:
            x, signs = self._four_dimensional(graph, x)
            rows = (int(np.prod(shape[:-1])), shape[-1], 1, 1)
            along = (shape[0], shape[1], 1, shape[2]) if node.op_type == "Conv" else rows
        binary = self._binary_conv(graph, x, signs, affine)
        result = insert(graph, binary, node, name=f"{name}/conv", like=node.outputs[0], shape=along)
        if turned is not None:
            turn = ir.node("Transpose", [result], {"perm": CHANNELS_LAST})
            channels_last = tuple(along[axis] for axis in CHANNELS_LAST)
            result = insert(graph, turn, node, name=f"{name}/turned", like=result, shape=channels_last)
        return insert_reshape(graph, result, shape, f"{name}/reshape", node)

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
        binary.metadata_props[CONV_KEY] = self.node.metadata_props.get(CONV_KEY, name or "")
        hand_on(self.node, binary, (INPUT_CHANNELS_KEY, LAYER_INPUT_KEY, OUTPUT_CHANNELS_KEY, *OF_THE_WEIGHTS))
        layer_input, operand = self.node.inputs[0], self.operand.affine
        if layer_input is not None and (np.any(operand.scale != 1) or np.any(operand.shift != 0)):
            describe_signs(binary, layer_input.name, operand.scale, operand.shift)
        if self.zeros:
            binary.metadata_props[ZERO_WEIGHTS_KEY] = str(self.zeros)
        return binary

    def _four_dimensional(self, graph: ir.Graph, x: ir.Value) -> tuple[ir.Value, npt.NDArray[np.float32]]:
        """The input and the weights of a Linear or Conv1d as those of a two-dimensional convolution."""
        node, signs = self.node, self.signs
        name, shape = node.outputs[0].name, shape_of(x)
        assert shape is not None
        if node.op_type == "Conv":
            return insert_reshape(graph, x, (*shape[:2], 1, shape[2]), f"{name}/signs", node), signs[:, :, None, :]
        if _is_transposed(node):
            shape = (shape[1], shape[0])
            moved = ir.node("Transpose", [x], {"perm": [1, 0]})
            x = insert(graph, moved, node, name=f"{name}/transposed", like=x, shape=shape)
        rows = (int(np.prod(shape[:-1])), shape[-1], 1, 1)
        source, sign = _flattened_map(x), x.producer()
        if source is not None:
            sign = _sign_to_move(source, len(signs))
            if sign is None:
                return source, signs.reshape(signs.shape[0], *(shape_of(source) or ())[1:])
        elif len(shape) == 2 or sign is None or not _serves_only(graph, sign, node):
            sign = None
        if sign is not None:
            # Bits are packed along the channels, here another axis than in front of the Reshape: pack behind it.
            assert sign.inputs[0] is not None
            known = sign.outputs[0]
            floats = insert_reshape(graph, sign.inputs[0], rows, f"{known.name}/rows", sign)
            packed = insert(graph, ops.sign(floats), sign, name=f"{name}/signs", like=floats)
            describe_signs(packed, known.name, np.ones(1), np.zeros(1))
            packed.metadata_props.update(known.metadata_props)
            return packed, signs[:, :, None, None]
        return insert_reshape(graph, x, rows, f"{name}/signs", node), signs[:, :, None, None]


def _sign_to_move(source: ir.Value, filters: int) -> ir.Node | None:
    """The Sign that yields the map `source` where its bits are better packed behind the Flatten that follows."""
    sign = source.producer()
    if sign is None or not ops.is_sign(sign) or sign.inputs[0] is None or not describes_each_alike(source):
        return None
    return sign if is_packed_flat(sign.inputs[0], filters) else None


def _serves_only(graph: ir.Graph, sign: ir.Node, node: ir.Node) -> bool:
    """True where `node` alone reads the signs, and they are no stand-in that verification knows by their name."""
    value = sign.outputs[0]
    return ops.is_sign(sign) and sole_consumer(graph, value) is node and TRACED_KEY not in value.metadata_props


def _is_transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and node.attributes.get_int("transA", 0) == 1


def _turned_map(x: ir.Value) -> ir.Value | None:
    """The binary map [N, C, H, W] or [N, C, L] of which `x` is a Transpose with the channels behind, perhaps with the
    positions in other axes.
    """
    while (shape := shape_of(x)) and (node := x.producer()) is not None and node.domain == "" and node.inputs[0]:
        source = node.inputs[0]
        before = shape_of(source)
        if node.op_type == "Transpose":
            is_turned = tuple(node.attributes.get_ints("perm", ())) in (CHANNELS_LAST, (0, 2, 1))
            return source if is_turned and is_binary(source) else None
        if node.op_type not in RESHAPES or not before or before[-1] != shape[-1]:
            return None
        x = source
    return None


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
