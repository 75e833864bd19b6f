"""Which operators that only move elements can move the words of a packed tensor instead, and which values need bits.

A binary value [N, C, …] is packed along its channels, 32 to a word: [N, …, ⌈C / 32⌉].  What moves whole positions
moves words for any C.  What cuts, joins, repeats or permutes channels does so where the cuts lie between words.  The
unused bits of the last word must stay 0, so it stays last, and is not filled with -1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, shape_of
from bnncc.ir.value_facts import data_inputs, is_binary

WORD = 32
RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def reads_bits(node: ir.Node) -> bool:
    """True where `node` reads the packed form of its data inputs: it computes on bits, or moves them for one that does.

    The indices, axes and the like of a move are no data.
    """
    return ops.takes_bits(node) or runs_on_words(node)


def runs_on_words(node: ir.Node) -> bool:
    """True for a move of binary values that some packed reader asks for and that can be done in words."""
    return (
        moves_words(node)
        and any(has_bit_reader(value) for value in node.outputs)
        and all(is_binary(value) for value in data_inputs(node))
    )


def has_bit_reader(value: ir.Value) -> bool:
    """True where something reads the packed form of `value`."""
    return any(reads_bits(use.node) for use in value.uses())


def has_float_reader(graph: ir.Graph, value: ir.Value) -> bool:
    """True where something reads the ±1 floats: a float operator, or whoever takes the graph's outputs."""
    return value in graph.outputs or any(not reads_bits(use.node) for use in value.uses())


def moves_words(node: ir.Node) -> bool:
    """True where `node`, applied to packed tensors, yields the packed form of what it yields on ±1 floats."""
    check = _CHECKS.get(node.op_type) if node.domain == "" else None
    shapes = [shape_of(value) for value in (*data_inputs(node), *node.outputs)] if check is not None else []
    if check is None or not node.inputs or any(shape is None or len(shape) < 2 or 0 in shape for shape in shapes):
        return False
    return check(node)


def _channels(value: ir.Value | None) -> int:
    shape = shape_of(value) if value is not None else None
    assert shape is not None
    return shape[1]


def _axis(node: ir.Node, default: int = 0) -> int:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else default
    return int(axis) % len(shape_of(node.outputs[0]) or (1,))


def _reshape(node: ir.Node) -> bool:
    """Batch and channels stay; the positions keep their order."""
    x = data_inputs(node)[0]
    before, after = shape_of(x), shape_of(node.outputs[0])
    return before is not None and after is not None and before[:2] == after[:2]


def _transpose(node: ir.Node) -> bool:
    permutation = node.attributes["perm"].as_ints() if "perm" in node.attributes else ()
    return len(permutation) > 1 and permutation[1] == 1


def _concat(node: ir.Node) -> bool:
    """Along the channels every part but the last must fill its words."""
    return _axis(node) != 1 or all(_channels(value) % WORD == 0 for value in data_inputs(node)[:-1])


def _split(node: ir.Node) -> bool:
    return _axis(node) != 1 or all(_channels(value) % WORD == 0 for value in node.outputs[:-1])


def _slice(node: ir.Node) -> bool:
    spans, channels = slice_ranges(node), _channels(node.inputs[0])
    if spans is None:
        return False
    span = spans[1]
    whole_words = span.start % WORD == 0 and (span.stop % WORD == 0 or span.stop == channels)
    return span.step == 1 and whole_words


def word_range(channels: range) -> range:
    """The words that hold `channels`, which are whole words in sequence: `moves_words` admits a Slice of no others."""
    return range(channels.start // WORD, -(-channels.stop // WORD))


def slice_ranges(node: ir.Node) -> list[range] | None:
    """The positions that a Slice takes of every axis, as Python's ranges; None where they are not constant."""
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    arrays = [constant_of(value) for value in node.inputs[1:]]
    absent = [value is None for value in node.inputs[1:]]
    if shape is None or any(array is None and not gone for array, gone in zip(arrays, absent, strict=True)):
        return None
    starts, ends, axes, steps = (*(None if a is None else a.reshape(-1).tolist() for a in arrays), None, None)[:4]
    if starts is None or ends is None:
        return None
    return ranges_of(shape, starts, ends, axes or range(len(starts)), steps or [1] * len(starts))


def take(positions: range, chosen: range) -> range:
    """positions[i] for every i of `chosen`, as a range."""
    step = positions.step * chosen.step
    start = positions.start + positions.step * chosen.start
    return range(start, start + step * len(chosen), step)


def ranges_of(
    shape: Sequence[int], starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> list[range]:
    """The positions that a Slice with these inputs takes of every axis of a value of `shape`."""
    ranges = [range(size) for size in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # Python's slice clamps as ONNX does.
        ranges[axis] = range(*slice(start, end, step).indices(shape[axis]))
    return ranges


def _pad(node: ir.Node) -> bool:
    """Positions are added as words of 32 equal bits; -1 only where no bit of them is unused.  Channels stay."""
    amounts = pad_amounts(node)
    if amounts is None or any(min(pair) < 0 for pair in amounts) or any(amounts[1]):
        return False
    mode = pad_mode(node)
    if mode in ("reflect", "edge", "wrap"):
        return len(amounts) <= 4
    if mode != "constant":
        return False
    fill = pad_value(node)
    return fill == 1 or (fill == -1 and _channels(node.inputs[0]) % WORD == 0)


def pad_mode(node: ir.Node) -> str:
    """What a Pad adds: "constant", "reflect", "edge" or "wrap"."""
    return node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"


def pad_amounts(node: ir.Node) -> list[tuple[int, int]] | None:
    """(before, after) of every axis of a Pad; None where they are not constant."""
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    pads = constant_of(node.inputs[1])
    given = node.inputs[3] if len(node.inputs) > 3 else None
    axes = constant_of(given)
    if shape is None or pads is None or (given is not None and axes is None):
        return None
    flat = [int(amount) for amount in pads.reshape(-1)]
    amounts = [(0, 0)] * len(shape)
    for index, axis in enumerate(range(len(shape)) if axes is None else axes.reshape(-1).tolist()):
        amounts[axis] = (flat[index], flat[index + len(flat) // 2])
    return amounts


def pad_value(node: ir.Node) -> float | None:
    """The constant that a Pad adds; None where it is not constant."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if given is None:
        return 0.0
    fill = constant_of(given)
    return None if fill is None else float(fill.reshape(-1)[0])


def _tile(node: ir.Node) -> bool:
    repeats = constant_of(node.inputs[1])
    return repeats is not None and (int(repeats.reshape(-1)[1]) == 1 or _channels(node.inputs[0]) % WORD == 0)


def _gather(node: ir.Node) -> bool:
    indices = constant_of(node.inputs[1])
    if indices is None or indices.ndim != 1:
        return False
    return _axis(node) != 1 or word_indices(node) is not None


def word_indices(node: ir.Node) -> list[int] | None:
    """The words that a Gather of channels takes; None where it takes parts of words."""
    indices, channels = constant_of(node.inputs[1]), _channels(node.inputs[0])
    if indices is None or indices.size % WORD or channels % WORD:
        return None
    rows = indices.reshape(-1, WORD).astype(np.int64) % channels
    whole = np.array_equal(rows, rows[:, :1] + np.arange(WORD)) and not np.any(rows[:, 0] % WORD)
    return [int(first) // WORD for first in rows[:, 0]] if whole else None


def _space_to_depth(node: ir.Node) -> bool:
    return _channels(node.inputs[0]) % WORD == 0


def _depth_to_space(node: ir.Node) -> bool:
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "DCR"
    return mode == "DCR" and _channels(node.outputs[0]) % WORD == 0


_CHECKS: dict[str, Callable[[ir.Node], bool]] = {
    "Identity": lambda node: True,
    **dict.fromkeys(RESHAPES, _reshape),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Tile": _tile,
    "Gather": _gather,
    "SpaceToDepth": _space_to_depth,
    "DepthToSpace": _depth_to_space,
}
# The operators among which `moves_words` finds such moves; a target needs a lowering for each.
MOVES = frozenset(_CHECKS)
