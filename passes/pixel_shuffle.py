"""Find pixel_shuffle and pixel_unshuffle, as exporters spell them.

    pixel_shuffle    [N, C·b², h, w] ─ Reshape [N, C, b, b, h, w] ─ Transpose [N, C, h, b, w, b] ─ Reshape
    pixel_unshuffle  [N, C, h·b, w·b] ─ Reshape [N, C, h, b, w, b] ─ Transpose [N, C, b, b, h, w] ─ Reshape

Both have the channel c·b² + r·b + q for the pixel (r, q) of a block; pixel_shuffle is also DepthToSpace(CRD).  Blocks
of pixels become channels also where a network joins x[:, :, r::b, q::b] for all r and q, in some order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.bit_moves import slice_ranges, take
from bnncc.ir.graph import shape_of, sole_consumer

# [N, C, b, b, h, w] → [N, C, h, b, w, b], and back
SHUFFLE = [0, 1, 4, 2, 5, 3]
UNSHUFFLE = [0, 1, 3, 5, 2, 4]


@dataclass(frozen=True)
class Shuffle:
    """`x` in blocks of `block` × `block` pixels; between: the nodes in front of the last one, backwards."""

    x: ir.Value
    block: int
    between: tuple[ir.Node, ...]


def find_shuffle(graph: ir.Graph, last: ir.Node) -> Shuffle | None:
    """The pixel_shuffle that ends in `last`; None where there is none."""
    operand = last.inputs[0] if last.inputs else None
    if last.domain == "" and last.op_type == "DepthToSpace" and operand is not None:
        mode = last.attributes.get_string("mode", "DCR")
        return Shuffle(operand, last.attributes["blocksize"].as_int(), ()) if mode == "CRD" else None
    found = _reshaped_transpose(graph, last, SHUFFLE)
    if found is None:
        return None
    x, between, before, (batch, channels, rows, columns, height, width), after = found
    whole = before == (batch, channels * rows * columns, height, width)
    shuffled = after == (batch, channels, height * rows, width * columns)
    return Shuffle(x, rows, between) if rows == columns and whole and shuffled else None


def find_unshuffle(graph: ir.Graph, last: ir.Node) -> Shuffle | None:
    """The pixel_unshuffle that ends in `last`; None where there is none."""
    found = _reshaped_transpose(graph, last, UNSHUFFLE)
    if found is None:
        return None
    x, between, before, (batch, channels, height, rows, width, columns), after = found
    whole = before == (batch, channels, height * rows, width * columns)
    unshuffled = after == (batch, channels * rows * columns, height, width)
    return Shuffle(x, rows, between) if rows == columns and whole and unshuffled else None


@dataclass(frozen=True)
class Blocks:
    """The blocks of `block` × `block` pixels of `x` as channels; order: channel i of SpaceToDepth is its `order[i]`."""

    x: ir.Value
    block: int
    order: npt.NDArray[np.int64]


def find_blocks(graph: ir.Graph, last: ir.Node) -> Blocks | None:
    """What `last` yields, a pixel_unshuffle or joined slices, as such blocks; None where it is none."""
    found = find_unshuffle(graph, last)
    if found is None:
        return _joined_slices(last)
    channels = (shape_of(found.x) or (0, 0))[1]
    order = np.arange(channels * found.block**2).reshape(channels, found.block**2).T.reshape(-1)
    return Blocks(found.x, found.block, order)


def _joined_slices(last: ir.Node) -> Blocks | None:
    operands = [value for value in last.inputs if value is not None]
    block = math.isqrt(len(operands))
    if last.domain != "" or last.op_type != "Concat" or block < 2 or block**2 != len(operands):
        return None
    if last.attributes["axis"].as_int() != 1 or len(shape_of(last.outputs[0]) or ()) != 4:
        return None
    sources = [_sliced_map(value) for value in operands]
    x, shape = sources[0][0], shape_of(sources[0][0])
    if shape is None or any(source is not x for source, *_ in sources) or shape[2] % block or shape[3] % block:
        return None
    places = []
    for _, rows, columns in sources:
        if (rows.step, columns.step) != (block, block) or max(rows.start, columns.start) >= block:
            return None
        if len(rows) * block != shape[2] or len(columns) * block != shape[3]:
            return None
        places.append(rows.start * block + columns.start)
    if sorted(places) != [*range(block**2)]:
        return None
    return Blocks(x, block, np.arange(shape[1] * block**2).reshape(block**2, -1)[np.argsort(places)].reshape(-1))


def _sliced_map(value: ir.Value) -> tuple[ir.Value, range, range]:
    """(x, rows, columns): `value` is x[:, :, rows, columns], whatever number of Slices says so."""
    shape = shape_of(value) or ()
    taken = [range(size) for size in shape]
    while (node := value.producer()) is not None and node.domain == "" and node.op_type == "Slice":
        ranges, x = slice_ranges(node), node.inputs[0]
        whole = shape_of(x) if x is not None else None
        if x is None or whole is None or ranges is None or ranges[:2] != [range(size) for size in whole[:2]]:
            break
        taken = [take(positions, chosen) for positions, chosen in zip(ranges, taken, strict=True)]
        value = x
    return value, taken[2], taken[3]


def _reshaped_transpose(
    graph: ir.Graph, last: ir.Node, order: list[int]
) -> tuple[ir.Value, tuple[ir.Node, ir.Node], tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """(x, the nodes between, the shapes of x, of its parts [6] and of the result) of Reshape ─ Transpose ─ Reshape."""
    transpose = _moved_by(last, "Reshape")
    first = None if transpose is None else _moved_by(transpose, "Transpose")
    if transpose is None or first is None or first.domain != "" or first.op_type != "Reshape":
        return None
    if list(transpose.attributes["perm"].as_ints() if "perm" in transpose.attributes else ()) != order:
        return None
    x = first.inputs[0]
    if x is None or any(sole_consumer(graph, node.outputs[0]) is None for node in (first, transpose)):
        return None
    before, parts, after = shape_of(x), shape_of(first.outputs[0]), shape_of(last.outputs[0])
    if before is None or parts is None or after is None or len(before) != 4:
        return None
    return x, (transpose, first), before, parts, after


def _moved_by(node: ir.Node, operator: str) -> ir.Node | None:
    """What computes the operand of `node`, if that is an `operator`."""
    matches = node.domain == "" and node.op_type == operator and bool(node.inputs) and node.inputs[0] is not None
    return node.inputs[0].producer() if matches and node.inputs[0] is not None else None
