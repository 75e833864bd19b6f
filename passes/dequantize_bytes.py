"""Read bytes with as few passes over the picture as there can be: one, and one more where a mean meets zero padding.

    Before:  q ─ Cast ─ Mul(a) ─ Add(b) ─ x ─ Conv(W, c) ─ y                        x = a·q + b, a number a channel
    After:   q ─ DequantizeLinear(s, z) ─ d ─ Add(b' / a') ─ Conv(a'·W, c) ─ y      d = s·(q − z),  x = a'·d + b'

    a' = a / s        b' = a·z + b        conv(W, a'·d + b') = conv(a'·W, d + b'/a')

DequantizeLinear is one operator, which says in the file what the bytes stand for (s = 1/255: light from 0 to 1), and
takes the 128 of int8 off as well.  The scale goes into the weights exactly as well in front of padding as without it:
a padded 0 stays 0.  The shift does not: with PyTorch's zero padding the border is x = 0, the pixel 255·μ, which is no
byte.  So it is added to the picture.  What the border lacks could be added behind the convolution instead, but that is
a map of constants as large as the layer's output, in the file and to be read in each run: for a stem of 64 filters at
stride 2 sixteen thirds of the picture.  Where nothing is padded, `carry-shifts` takes the shift into the bias c.

A sign takes no notice of a positive scale at all.  The scale passes what only moves elements (an unshuffle, a crop, a
flatten) to every Conv, Gemm and MatMul that reads x; one reader that is something else keeps the Mul.  Shifts of more
than `FARTHEST` pictures would round the picture away, and stay as they are.  In front of a rounding numbers stay where
the network has them (kept_order.py): there, and where nothing says what the bytes stand for, the Cast remains.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.evaluate import constant_values
from bnncc.ir.graph import QUANTIZED_KEY, constant_of, fresh_name, new_constant, shape_of, sole_consumer, take_over
from bnncc.passes.affine import Affine, Vector, affine_of
from bnncc.passes.byte_steps import casts_of_bytes
from bnncc.passes.insertion import insert, insert_copy
from bnncc.passes.kept_order import must_keep_order
from bnncc.passes.remove_unused import remove_unread

# A shift of so many times the picture's range costs two of a float's 24 digits.
FARTHEST = 4.0
LARGEST_BYTE = 255
# Of the numbers of a composition in float64, which are rounded to float32: what lies nearer to 0 or 1 is that.
NEGLIGIBLE = 2.0**-30
# Operators that move elements one by one, with one map to read.
_MOVES = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "SpaceToDepth", "DepthToSpace"}
_LAYERS = {"Conv", "Gemm", "MatMul"}


class Use(NamedTuple):
    """Input `idx` of `node`."""

    node: ir.Node
    idx: int


class DequantizeBytes(ir.passes.InPlacePass):
    """Rewrite every Cast of a byte to float32."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        for value, cast in casts_of_bytes(model.graph):
            changed |= _rewrite(model, value, cast)
        return ir.passes.PassResult(model, modified=changed)


@dataclass(frozen=True)
class _Chain:
    """Affine operators behind a byte, and what they amount to.

    end: what the last of them, or the Cast, yields; uses: what reads that.
    """

    nodes: tuple[ir.Node, ...]
    affine: Affine
    end: ir.Value
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class _Reader:
    """A layer, and the moves between a value and its input."""

    layer: ir.Node
    moves: tuple[ir.Node, ...] = ()


def _rewrite(model: ir.Model, value: ir.Value, cast: ir.Node) -> bool:
    graph, byte = model.graph, cast.outputs[0]
    shape = shape_of(byte)
    if shape is None or len(shape) < 2 or byte in graph.outputs:
        return False
    entry = value.metadata_props.get(QUANTIZED_KEY)
    unit = json.loads(entry) if entry else {"scale": 1.0, "zero_point": 0}
    chains = [chain for use in _uses(byte) if (chain := _chain(graph, byte, use, shape[1])) is not None]
    before = Affine(np.full(shape[1], 1 / unit["scale"]), np.full(shape[1], float(unit["zero_point"])))
    source = byte
    if entry and chains:
        dtype = np.uint8 if value.dtype is ir.DataType.UINT8 else np.int8
        constants = [
            new_constant(graph, np.array(unit["scale"], np.float32), f"{byte.name}/scale"),
            new_constant(graph, np.array(unit["zero_point"], dtype), f"{byte.name}/zero_point"),
        ]
        node = ir.node("DequantizeLinear", [value, *constants])
        source = insert(graph, node, cast, name=f"{byte.name}/light", like=byte)
    changed = source is not byte
    for chain in chains:
        affine = _neat(before.then(chain.affine), unit["scale"]) if entry else chain.affine
        changed |= _fold(model, source, chain, affine, LARGEST_BYTE * unit["scale"])
    remove_unread(graph, [cast])
    return changed


def _chain(graph: ir.Graph, byte: ir.Value, use: Use, channels: int) -> _Chain | None:
    """The chain that begins with one of the uses of the byte; none where it must stay as it is."""
    nodes, affines, end = list[ir.Node](), [Affine.identity(channels)], byte
    following: ir.Node | None = use.node
    while following is not None and (step := affine_of(following)) is not None:
        nodes.append(following)
        affines.append(step[1])
        end = following.outputs[0]
        following = sole_consumer(graph, end)
    if must_keep_order(end, affines[1:] or affines):
        return None
    uses = _uses(end) if nodes else (use,)
    return _Chain(tuple(nodes), functools.reduce(Affine.then, affines), end, uses)


def _uses(value: ir.Value) -> tuple[Use, ...]:
    return tuple(Use(use.node, use.idx) for use in value.uses())


def _neat(affine: Affine, unit: float) -> Affine:
    """Without what float64 leaves of numbers that cancel: a scale of 1 + 2⁻²⁶ is 1, and a shift of 2⁻⁶⁰ is none."""
    scale = np.where(np.abs(affine.scale - 1) <= 2.0**-24, 1.0, affine.scale)
    reach = np.abs(scale) * LARGEST_BYTE * unit
    return Affine(scale, np.where(np.abs(affine.shift) <= NEGLIGIBLE * reach, 0.0, affine.shift))


def _fold(model: ir.Model, source: ir.Value, chain: _Chain, affine: Affine, largest: float) -> bool:
    """Compute what the chain does of `source`, the scale in the weights that read it if they can take it."""
    graph, end = model.graph, chain.end
    is_read_inside = end not in graph.outputs and bool(chain.uses)
    is_near = bool(np.all(affine.scale)) and bool(np.all(np.abs(affine.shift / affine.scale) <= FARTHEST * largest))
    absorbed = False
    if is_read_inside and is_near and all(ops.is_sign(use.node) for use in chain.uses):
        size = np.abs(affine.scale)  # of which a sign knows nothing
        absorbed, affine = bool(np.any(size != 1)), Affine(affine.scale / size, affine.shift / size)
    elif is_read_inside and is_near and np.any(affine.scale != 1):
        absorbed = _scale_weights(model, chain, affine.scale)
        if absorbed:
            affine = Affine(np.ones_like(affine.scale), affine.shift / affine.scale)
    needed = _operators(affine)
    is_same = source is end or bool(chain.nodes and source is chain.nodes[0].inputs[0])
    if is_same and not absorbed and [node.op_type for node in chain.nodes] == [operator for operator, _ in needed]:
        return False
    before = chain.nodes[-1] if chain.nodes else chain.uses[0].node
    result = _emit(graph, source, end, needed, before)
    if result is source and end in graph.outputs:
        result = insert(graph, ir.node("Identity", [source]), before, name=f"{end.name}/same", like=end)
    if absorbed or not chain.nodes or result is source:
        for use in chain.uses:
            use.node.replace_input_with(use.idx, result)
    else:
        take_over(end, result)
    remove_unread(graph, chain.nodes[-1:])
    return True


def _operators(affine: Affine) -> list[tuple[str, Vector]]:
    """What computes it with the fewest operators, and their constants."""
    if np.all(affine.scale == -1) and np.any(affine.shift):
        return [("Sub", affine.shift)]  # shift - x
    both = (("Mul", affine.scale, 1.0), ("Add", affine.shift, 0.0))
    return [(operator, vector) for operator, vector, unit in both if np.any(vector != unit)]


def _emit(
    graph: ir.Graph, source: ir.Value, end: ir.Value, needed: Sequence[tuple[str, Vector]], before: ir.Node
) -> ir.Value:
    result, rank = source, len(shape_of(end) or ())
    for operator, vector in needed:
        name = f"{end.name}/{operator.lower()}"
        constant = new_constant(graph, vector.astype(np.float32).reshape(1, -1, *(1,) * (rank - 2)), name)
        node = ir.node(operator, [constant, result] if operator == "Sub" else [result, constant])
        result = insert(graph, node, before, name=fresh_name(graph, f"{name}ed"), like=end)
    return result


def _readers(graph: ir.Graph, uses: Sequence[Use], moves: tuple[ir.Node, ...] = ()) -> list[_Reader] | None:
    """The layers behind these uses of a value, by way of moves; None where something else reads it."""
    found = list[_Reader]()
    for use in uses:
        node = use.node
        if node.domain != "" or use.idx != 0:
            return None
        if node.op_type in _LAYERS and constant_of(node.inputs[1]) is not None:
            found.append(_Reader(node, moves))
        elif node.op_type in _MOVES:
            for output in node.outputs:
                inner = None if output in graph.outputs else _readers(graph, _uses(output), (*moves, node))
                if inner is None:
                    return None
                found += inner
        else:
            return None
    return found


def _scale_weights(model: ir.Model, chain: _Chain, scale: Vector) -> bool:
    """Multiply the weights of all that reads the chain by the scale of the channel or feature that each reads.

    False, and nothing done, where something else reads it, or the scale that a weight meets differs over the map.
    """
    graph, shape = model.graph, shape_of(chain.end) or ()
    readers = _readers(graph, chain.uses)
    if not readers or len({reader.layer for reader in readers}) < len(readers):
        return False
    along = scale.reshape(1, -1, *(1,) * (len(shape) - 2))
    weights = list[npt.NDArray[np.float32]]()
    for reader in readers:
        at_input: npt.NDArray[np.float64] = np.broadcast_to(along, shape)
        if reader.moves:
            at_input = _moved(model, chain.end, reader, at_input)
        scaled = _scaled(reader.layer, at_input)
        if scaled is None:
            return False
        weights.append(scaled)
    for reader, weight in zip(readers, weights, strict=True):
        name = f"{reader.layer.outputs[0].name}/weight"
        reader.layer.replace_input_with(1, new_constant(graph, weight, name))
        for move in reader.moves:  # what they move is no longer what it was
            for output in move.outputs:
                output.name = fresh_name(graph, f"{output.name}/unscaled")
    return True


def _moved(
    model: ir.Model, value: ir.Value, reader: _Reader, array: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What the moves in front of a layer make of a constant, as precise as the float32 that they are computed in."""
    graph, layer = model.graph, reader.layer
    # Positions move exactly; the numbers are taken from the array itself.
    distinct, index = np.unique(array, return_inverse=True)
    positions = new_constant(graph, index.reshape(array.shape).astype(np.float32), f"{value.name}/positions")
    made = {value: positions}
    copies = list[ir.Node | None]()
    for node in reader.moves:
        source = node.inputs[0]
        assert source is not None
        outputs = insert_copy(graph, node, [made[source]], layer, "positions")
        made.update(zip(node.outputs, outputs, strict=True))
        copies.append(outputs[0].producer())
    x = layer.inputs[0]
    assert x is not None
    result = constant_values(model, [made[x]])[made[x].name or ""]
    for copy in reversed(copies):
        remove_unread(graph, [copy])
    moved: npt.NDArray[np.float64] = distinct[result.astype(np.int64)]
    return moved


def _scaled(layer: ir.Node, scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float32] | None:
    """Weights times `scale`, which has the shape of the layer's input."""
    weight = constant_of(layer.inputs[1])
    assert weight is not None
    weight = weight.astype(np.float64)
    if layer.op_type == "Conv":
        by_channel = np.moveaxis(scale, 1, 0).reshape(scale.shape[1], -1)
        if np.any(by_channel != by_channel[:, :1]):
            return None
        group = layer.attributes.get_int("group", 1)
        per_group = by_channel[:, 0].reshape(group, 1, -1)
        filters = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
        return np.asarray((filters * per_group[..., np.newaxis]).reshape(weight.shape), np.float32)
    if weight.ndim != 2 or layer.attributes.get_int("transA", 0) == 1:
        return None
    rows = scale.reshape(-1, scale.shape[-1])
    if np.any(rows != rows[:1]):
        return None
    transposed = layer.attributes.get_int("transB", 0) == 1
    return np.asarray(weight * (rows[0] if transposed else rows[0][:, np.newaxis]), np.float32)
