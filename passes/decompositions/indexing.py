"""Gathers and scatters by single elements, and what is a choice by position: GatherElements, ScatterND, OneHot, …

A tensor of shape [a, b, c] is one row of a·b·c elements: element (i, j, k) is number (i·b + j)·c + k.  So a gather by
several coordinates is a Gather from the flattened tensor, by one index that is their sum weighted with the strides.
A scatter by constant indices is a gather as well: each element of the result comes from the data or from the updates.
So is one by computed indices, where they are few: each position of the result compares itself with all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import constant_of, shape_of
from bnncc.passes.decompositions.builder import Builder, NotDecomposableError
from bnncc.passes.decompositions.unpool import unpooled

Indices = npt.NDArray[Any]
# A scatter by a computed index compares each index with every position: so many at most.
MOST_COMPARISONS = 1 << 22
# Slices that are assigned to are joined, so many at most; more are gathered.
MOST_PARTS = 64


def gather_elements(build: Builder) -> Sequence[ir.Value | None]:
    """y[i, j, k] = x[i, index[i, j, k], k] for axis 1."""
    x, index = build.input(0), build.input(1)
    shape, chosen = build.shape(x), build.shape(index)
    axis = build.integer("axis", 0) % len(shape)
    strides = _strides(shape)
    positions = np.indices(chosen)
    rest = sum((positions[other] * strides[other] for other in range(len(shape)) if other != axis), np.zeros(chosen))
    flat = build.reshape(x, (int(np.prod(shape)),))
    array: Indices | None = constant_of(index)
    if array is not None:
        numbers = (array % shape[axis]) * strides[axis] + rest
        return [build.op("Gather", flat, build.ints(numbers), axis=0)]
    number = _scaled_index(build, _non_negative(build, index, shape[axis]), strides[axis])
    return [build.op("Gather", flat, build.op("Add", number, build.ints(rest)), axis=0)]


def gather_nd(build: Builder) -> Sequence[ir.Value | None]:
    """y[b, i] = x[b, index[b, i, 0], index[b, i, 1], …]."""
    x, index = build.input(0), build.input(1)
    shape, chosen = build.shape(x), build.shape(index)
    batch, depth = build.integer("batch_dims", 0), chosen[-1]
    outer = shape[: batch + depth]
    strides = _strides(outer)
    positions = np.indices(chosen[:-1])
    rest = sum((positions[axis] * strides[axis] for axis in range(batch)), np.zeros(chosen[:-1]))
    rows = build.reshape(x, (int(np.prod(outer)), *shape[batch + depth :]))
    array = constant_of(index)
    if array is not None:
        coordinates = array % np.asarray(shape[batch : batch + depth])
        numbers = (coordinates * np.asarray(strides[batch:])).sum(-1) + rest
        return [build.op("Gather", rows, build.ints(numbers), axis=0)]
    terms = []
    for position in range(depth):
        part = build.take(index, len(chosen) - 1, position)
        part = _non_negative(build, part, shape[batch + position])
        terms.append(_scaled_index(build, part, strides[batch + position]))
    if batch:
        terms.append(build.ints(rest))
    return [build.op("Gather", rows, build.sum(terms), axis=0)]


def scatter_elements(build: Builder) -> Sequence[ir.Value | None]:
    """y = x, but y[i, index[i, j, k], k] = updates[i, j, k] for axis 1."""
    x, index, updates = build.input(0), constant_of(build.input(1)), build.input(2)
    shape = build.shape(x)
    axis = build.integer("axis", 0) % len(shape)
    if index is None:
        return [_scatter_along(build, axis)]
    slices = _whole_slices(index, axis, shape) if build.text("reduction", "none") == "none" else None
    joined = None if slices is None else _joined(build, x, updates, slices, axis)
    if joined is not None:
        return [joined]
    positions = list(np.indices(index.shape))
    positions[axis] = index.astype(np.int64) % shape[axis]
    numbers = np.ravel_multi_index(tuple(positions), shape).reshape(-1)
    count = int(np.prod(shape))
    flat, given = build.reshape(x, (count,)), build.reshape(updates, (numbers.size,))
    return [build.reshape(_scatter(build, flat, given, numbers), shape)]


def scatter_nd(build: Builder) -> Sequence[ir.Value | None]:
    """y = x, but y[index[i, 0], index[i, 1], …] = updates[i]."""
    x, index, updates = build.input(0), constant_of(build.input(1)), build.input(2)
    shape = build.shape(x)
    depth = build.shape(build.input(1))[-1]
    outer, inner = shape[:depth], shape[depth:]
    if index is None:
        found = unpooled(build) if build.text("reduction", "none") == "none" else None
        return [_scatter_rows(build, outer, inner) if found is None else found]
    coordinates = index.astype(np.int64).reshape(-1, depth) % np.asarray(outer)
    numbers = (coordinates * np.asarray(_strides(outer))).sum(-1)
    if depth == 1 and build.text("reduction", "none") == "none":
        joined = _joined(build, x, build.reshape(updates, (numbers.size, *inner)), numbers, 0)
        if joined is not None:
            return [joined]
    rows = build.reshape(x, (int(np.prod(outer)), *inner))
    given = build.reshape(updates, (numbers.size, *inner))
    return [build.reshape(_scatter(build, rows, given, numbers), shape)]


def _whole_slices(index: Indices, axis: int, shape: Sequence[int]) -> Indices | None:
    """The places [n] along `axis` that each get a whole slice of the updates; None where they get parts."""
    others = [size for other, size in enumerate(index.shape) if other != axis]
    if others != [size for other, size in enumerate(shape) if other != axis] or not index.size:
        return None
    rows = np.moveaxis(index.astype(np.int64), axis, 0).reshape(index.shape[axis], -1) % shape[axis]
    return rows[:, 0] if np.all(rows == rows[:, :1]) else None


def _joined(build: Builder, x: ir.Value, updates: ir.Value, places: Indices, axis: int) -> ir.Value | None:
    """`x`, in which slices along `axis` are replaced by those of `updates`, as a Concat: of all, where `x` is one that
    assignments in front have made, also where exporters turn both for the assignment; None where that were too many
    parts.
    """
    root, order = _before_turns(x)
    along = order[axis]
    source, own = _before_turns(updates)
    given = source if own == order else build.transpose(updates, np.argsort(order).tolist())
    made = root.producer()
    parts = [root]
    if made is not None and made.op_type == "Concat":
        rank = len(order)
        parts = [value for value in made.inputs if value is not None] if _axis(made) % rank == along else parts
    slices = [(part, index) for part in parts for index in range(build.shape(part)[along])]
    for index, place in enumerate(places.tolist()):
        slices[place] = (given, index)
    runs: list[tuple[ir.Value, int, int]] = []
    for part, index in slices:
        if runs and runs[-1][0] is part and runs[-1][2] == index:
            runs[-1] = (part, runs[-1][1], index + 1)
        else:
            runs.append((part, index, index + 1))
    if not 1 < len(runs) <= MOST_PARTS:
        return None
    joined = build.concat([_part(build, value, along, begin, end) for value, begin, end in runs], along)
    return joined if order == sorted(order) else build.transpose(joined, order)


def _before_turns(value: ir.Value) -> tuple[ir.Value, list[int]]:
    """(what Transposes make `value` of, which of its axes each axis of `value` is)."""
    order = list(range(len(shape_of(value) or ())))
    while (node := value.producer()) is not None and node.domain == "" and node.op_type == "Transpose":
        turn = node.attributes["perm"].as_ints() if "perm" in node.attributes else sorted(order, reverse=True)
        source = node.inputs[0]
        assert source is not None
        order, value = [turn[axis] for axis in order], source
    return value, order


def _axis(node: ir.Node) -> int:
    return node.attributes["axis"].as_int()


def _part(build: Builder, value: ir.Value, axis: int, begin: int, end: int) -> ir.Value:
    is_whole = begin == 0 and end == build.shape(value)[axis]
    return value if is_whole else build.slice(value, axis, begin, end)


def _scatter(build: Builder, rows: ir.Value, updates: ir.Value, numbers: Indices) -> ir.Value:
    """`rows` where row numbers[u] is replaced by, or reduced with, row u of `updates`; the last one wins."""
    count, *inner = build.shape(rows)
    reduction = build.text("reduction", "none")
    if not numbers.size:
        return rows
    if reduction == "none":
        sources = np.arange(count)
        sources[numbers] = count + np.arange(numbers.size)
        return build.op("Gather", build.concat([rows, updates], 0), build.ints(sources), axis=0)
    operator = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}[reduction]
    # A row that is met several times takes one update a round; where there is none, the operator meets what it ignores.
    waiting = np.arange(numbers.size)
    while waiting.size:
        _, first = np.unique(numbers[waiting], return_index=True)
        chosen = waiting[first]
        if reduction in ("max", "min"):
            sources, others = np.arange(count), rows
        else:
            number = build.scalar(reduction == "mul", rows)
            sources, others = np.zeros(count, np.int64), build.op("Expand", number, build.ints((1, *inner)))
        sources[numbers[chosen]] = build.shape(others)[0] + chosen
        operand = build.op("Gather", build.concat([others, updates], 0), build.ints(sources), axis=0)
        rows = build.op(operator, rows, operand)
        waiting = np.setdiff1d(waiting, chosen)
    return rows


def _scatter_along(build: Builder, axis: int) -> ir.Value:
    """ScatterElements with a computed index: rows [R, m] of x take updates [R, n] where the indices [R, n] are."""
    x, index, updates = build.input(0), build.input(1), build.input(2)
    shape, chosen = build.shape(x), build.shape(index)
    if any(chosen[other] != shape[other] for other in range(len(shape)) if other != axis):
        raise NotDecomposableError("the index is not a constant, and leaves out a part of the other axes")
    order = [*(other for other in range(len(shape)) if other != axis), axis]
    moved = [build.transpose(value, order) for value in (x, _non_negative(build, index, shape[axis]), updates)]
    sizes = [build.shape(value) for value in moved]
    flat = [build.reshape(one, (int(np.prod(size[:-1])), size[-1])) for one, size in zip(moved, sizes, strict=True)]
    y = build.reshape(_scatter_into(build, *flat), sizes[0])
    return build.transpose(y, np.argsort(order).tolist())


def _scatter_rows(build: Builder, outer: Sequence[int], inner: Sequence[int]) -> ir.Value:
    """ScatterND with a computed index: a row of x is an update where the index is its number."""
    x, index, updates = build.input(0), build.input(1), build.input(2)
    *counts, depth = build.shape(index)
    count, size = int(np.prod(outer)), int(np.prod(inner))
    parts = [build.take(index, len(counts), position) for position in range(depth)]
    numbers = build.sum(
        [
            _scaled_index(build, _non_negative(build, part, outer[position]), _strides(outer)[position])
            for position, part in enumerate(parts)
        ]
    )
    numbers = build.reshape(numbers, (1, int(np.prod(counts))))
    given = build.reshape(updates, (int(np.prod(counts)), size))
    rows = build.reshape(x, (count, size))
    numbers = build.op("Expand", numbers, build.ints((size, 1))) if size > 1 else numbers
    y = _scatter_into(build, build.transpose(rows, (1, 0)), numbers, build.transpose(given, (1, 0)))
    return build.reshape(build.transpose(y, (1, 0)), build.shape(x))


def _scatter_into(build: Builder, rows: ir.Value, index: ir.Value, updates: ir.Value) -> ir.Value:
    """Rows [R, m] with the updates [R, n] at the indices [R, n], by comparing each with every position.

    Of several for one position the last one wins, as in PyTorch on a processor.
    """
    (count, size), (_, given) = build.shape(rows), build.shape(index)
    if count * size * given > MOST_COMPARISONS:
        raise NotDecomposableError(
            f"the index is not a constant, and has {given:,} elements for {size:,} places (a max-unpool has a form "
            "where the windows of its max-pool do not overlap)"
        )
    column = build.reshape(index, (count, 1, given))
    hit = build.op("Equal", column, build.ints(np.arange(size)[:, None]))
    reduction = build.text("reduction", "none")
    if reduction == "none":
        places = build.op("Where", hit, build.ints(size + np.arange(given)), build.ints(np.arange(size)[:, None]))
        source = build.reduce("ReduceMax", places, [2], keep=False)
        flat = build.reshape(build.concat([rows, updates], 1), (count * (size + given),))
        first = build.ints(np.arange(count)[:, None] * (size + given))
        return build.op("Gather", flat, build.op("Add", source, first) if count > 1 else source, axis=0)
    operator, reduced, ignored = {
        "add": ("Add", "ReduceSum", 0.0), "mul": ("Mul", "ReduceProd", 1.0),
        "max": ("Max", "ReduceMax", -np.inf), "min": ("Min", "ReduceMin", np.inf),
    }[reduction]  # fmt: skip
    each = build.op("Where", hit, build.reshape(updates, (count, 1, given)), build.scalar(ignored, rows))
    return build.op(operator, rows, build.reduce(reduced, each, [2], keep=False))


def one_hot(build: Builder) -> Sequence[ir.Value | None]:
    """`on` at the position that the index names along a new axis, `off` elsewhere; everywhere if it is out of range."""
    depth = int(build.array(1, "the depth").reshape(-1)[0])
    index, values = build.cast(build.input(0), ir.DataType.INT64), build.input(2)
    rank = len(build.shape(index)) + 1
    axis = build.integer("axis", -1) % rank
    hit = _hits(build, _non_negative(build, index, depth), axis, depth)
    off, on = (build.take(values, 0, position) for position in (0, 1))
    return [build.op("Where", hit, on, off)]


def hardmax(build: Builder) -> Sequence[ir.Value | None]:
    """1 at the first largest element along `axis`, 0 elsewhere."""
    x = build.input(0)
    shape = build.shape(x)
    axis = build.integer("axis", -1) % len(shape)
    index = build.op("ArgMax", x, axis=axis, keepdims=0)
    return [build.op("Where", _hits(build, index, axis, shape[axis]), build.scalar(1, x), build.scalar(0, x))]


def arg_of_last(build: Builder) -> Sequence[ir.Value | None]:
    """ArgMax with select_last_index: the first one of the reversed axis, counted from the other end."""
    x = build.input(0)
    if not build.integer("select_last_index", 0):
        raise NotDecomposableError
    axis = build.integer("axis", 0) % len(build.shape(x))
    keep = build.integer("keepdims", 1)
    index = build.op(build.origin.op_type, reversed_axis(build, x, axis), axis=axis, keepdims=keep)
    return [build.op("Sub", build.ints(build.shape(x)[axis] - 1), index)]


def trilu(build: Builder) -> Sequence[ir.Value | None]:
    """x on one side of a diagonal of its last two axes, 0 on the other."""
    x = build.input(0)
    k = 0 if build.optional(1) is None else int(build.array(1, "the diagonal").reshape(-1)[0])
    rows, columns = build.shape(x)[-2:]
    distance = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    kept = distance >= k if build.integer("upper", 1) else distance <= k
    return [build.op("Where", build.constant(kept), x, build.scalar(0, x))]


def cumulative_sum(build: Builder) -> Sequence[ir.Value | None]:
    """Σ of x up to each position: in step i the sums of 2ⁱ elements gain those of the 2ⁱ elements in front of them."""
    x = build.input(0)
    size_of = build.shape(x)
    axis = int(build.array(1, "the axis").reshape(-1)[0]) % len(size_of)
    size = size_of[axis]
    backwards = bool(build.integer("reverse", 0))
    total = reversed_axis(build, x, axis) if backwards else x
    if build.integer("exclusive", 0):
        total = _shifted(build, total, axis, 1)
    step = 1
    while step < size:
        total = build.op("Add", total, _shifted(build, total, axis, step))
        step *= 2
    return [reversed_axis(build, total, axis) if backwards else total]


def _shifted(build: Builder, x: ir.Value, axis: int, by: int) -> ir.Value:
    """x moved along `axis`, zeros in front."""
    size_of = list(build.shape(x))
    front = build.op("Expand", build.scalar(0, x), build.ints([*size_of[:axis], by, *size_of[axis + 1 :]]))
    if by >= size_of[axis]:
        return front
    return build.concat([front, build.slice(x, axis, 0, size_of[axis] - by)], axis)


def compress(build: Builder) -> Sequence[ir.Value | None]:
    """The slices along `axis` (the elements, without one) where a constant condition holds."""
    x, condition = build.input(0), build.array(1, "the condition")
    chosen = np.flatnonzero(condition)
    if "axis" not in build.origin.attributes:
        flat = build.reshape(x, (int(np.prod(build.shape(x))),))
        return [build.op("Gather", flat, build.ints(chosen), axis=0)]
    return [build.op("Gather", x, build.ints(chosen), axis=build.integer("axis", 0) % len(build.shape(x)))]


def reverse_sequence(build: Builder) -> Sequence[ir.Value | None]:
    """The first lengths[b] positions of each sequence backwards, for constant lengths."""
    x, lengths = build.input(0), build.array(1, "the length of the sequences")
    shape = build.shape(x)
    batch, time = build.integer("batch_axis", 1), build.integer("time_axis", 0)
    order = np.tile(np.arange(shape[time]), (shape[batch], 1))
    for row, length in enumerate(lengths.astype(np.int64)):
        order[row, :length] = order[row, :length][::-1]
    rest = [axis for axis in range(len(shape)) if axis not in (batch, time)]
    permutation = [batch, time, *rest]
    moved = build.transpose(x, permutation)
    rows = build.reshape(moved, (shape[batch] * shape[time], *(shape[axis] for axis in rest)))
    numbers = (order + np.arange(shape[batch])[:, None] * shape[time]).reshape(-1)
    taken = build.op("Gather", rows, build.ints(numbers), axis=0)
    return [build.transpose(build.reshape(taken, build.shape(moved)), np.argsort(permutation).tolist())]


def reversed_axis(build: Builder, x: ir.Value, axis: int) -> ir.Value:
    """x backwards along one axis."""
    size = build.shape(x)[axis]
    return build.op("Slice", x, build.ints([-1]), build.ints([-size - 1]), build.ints([axis]), build.ints([-1]))


def _strides(shape: Sequence[int]) -> list[int]:
    """How many elements apart neighbours along each axis are."""
    return [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]


def _scaled_index(build: Builder, index: ir.Value, stride: int) -> ir.Value:
    return index if stride == 1 else build.op("Mul", index, build.scalar(stride, index))


def _non_negative(build: Builder, index: ir.Value, size: int) -> ir.Value:
    """An index that counts from the end where it is negative, counted from the beginning, as int64."""
    index = build.cast(index, ir.DataType.INT64)
    array: Indices | None = constant_of(index)
    if array is not None:
        return build.ints(np.where(array < 0, array + size, array))
    producer = index.producer()
    if producer is not None and producer.op_type in ("ArgMax", "ArgMin", "TopK"):
        return index
    negative = build.op("Less", index, build.ints(0))
    return build.op("Where", negative, build.op("Add", index, build.ints(size)), index)


def _hits(build: Builder, index: ir.Value, axis: int, depth: int) -> ir.Value:
    """True where the position along a new axis is the index."""
    column = build.op("Unsqueeze", index, build.ints([axis]))
    rank = len(build.shape(column))
    positions = np.arange(depth).reshape([-1 if other == axis else 1 for other in range(rank)])
    return build.op("Equal", column, build.ints(positions))


DECOMPOSITIONS = {
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "OneHot": one_hot,
    "Hardmax": hardmax,
    "ArgMax": arg_of_last,
    "ArgMin": arg_of_last,
    "Trilu": trilu,
    "CumSum": cumulative_sum,
    "Compress": compress,
    "ReverseSequence": reverse_sequence,
}
