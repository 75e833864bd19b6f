"""Find the windows that a matrix holds, by where each of its elements comes from.

    x [N, C, H, W] ─ Gather ─ Gather ─ Transpose ─ Reshape ─ u [N, I, L]       u[n, i, l] = x[n, c_i, h_i + p_l, …]

`F.unfold`, `Tensor.unfold`, slices that are stacked, and patches cut by a Reshape and a Transpose all move elements of
one map.  Their places in it are those that a map of its own places comes to.  Where each is the place of a tap, i, plus
that of a window, l, and both lie on grids, u holds the windows of a convolution; the taps may be in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.evaluate import run, skeleton
from bnncc.ir.graph import constant_of, shape_of
from bnncc.ir.value_facts import MOVES, data_inputs

Places = npt.NDArray[np.int64]

# MaxPool chooses, and does not only move.
MOVING = MOVES - {"MaxPool"}
# More elements are no few operators' work; a float32 counts so far.
MOST_ELEMENTS = 2**24
MOST_NODES = 256


@dataclass(frozen=True)
class Windows:
    """Of `x` [N, C, H, W]: kernel, strides, dilations, and how many windows an axis has.

    taps [I]: the place of each row of the matrix among a filter's [C, KH, KW] weights.
    """

    x: ir.Value
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    count: tuple[int, int]
    taps: Places


def windows_in(graph: ir.Graph, matrix: ir.Value, axes: tuple[int, int, int]) -> Windows | None:
    """The windows that `matrix` holds; axes: which of its axes are the batch's, taps' and windows'.

    Where it has no batch's (-1), the windows of the first image come first.  Of four axes, those in the middle are one.
    """
    x = moved_source(matrix)
    shape, size = (None if x is None else shape_of(x)), shape_of(matrix)
    if x is None or shape is None or size is None or len(shape) != 4:
        return None
    if max(np.prod(shape), np.prod(size)) > MOST_ELEMENTS:
        return None
    places = _places(graph, x, matrix)
    if len(size) > 3:
        places = places.reshape(size[0], -1, size[-1])
    batch, taps, windows = axes
    if batch >= 0:
        return _read(x, shape, places.transpose(axes))
    if places.shape[windows] % shape[0]:
        return None
    joined = places.transpose(taps, windows).reshape(places.shape[taps], shape[0], -1)
    return _read(x, shape, joined.transpose(1, 0, 2))


def moved_source(value: ir.Value) -> ir.Value | None:
    """The one value whose elements `value` holds, moved by at least one operator; None where there are several."""
    pending, seen, sources = [value], set[ir.Value](), set[ir.Value]()
    while pending:
        one = pending.pop()
        node = one.producer()
        if node is None or node.domain != "" or node.op_type not in MOVING:
            sources.add(one)
            continue
        for source in data_inputs(node):
            if source not in seen:
                seen.add(source)
                pending.append(source)
        if len(seen) > MOST_NODES:
            return None
    return sources.pop() if len(sources) == 1 and value not in sources else None


def _places(graph: ir.Graph, x: ir.Value, matrix: ir.Value) -> Places:
    """Of each element of `matrix`, the number of the element of `x` that it is."""
    proto = skeleton(ir.Model(graph, ir_version=10), [matrix], [x])
    feeds = {
        entry.name: constant_of(graph.initializers[entry.name])
        for entry in proto.graph.input
        if entry.name in graph.initializers
    }
    shape = shape_of(x) or ()
    feeds[x.name or ""] = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (result,) = run(proto, {name: array for name, array in feeds.items() if array is not None}).values()
    return result.astype(np.int64)


def _read(x: ir.Value, shape: tuple[int, ...], places: Places) -> Windows | None:
    """The windows of places [N, I, L] in a map of this shape."""
    batch, _, height, width = shape
    image = int(np.prod(shape[1:]))
    first = places - image * np.arange(len(places)).reshape(-1, 1, 1)
    if len(places) != batch or np.any(first != first[:1]) or first.min() < 0 or first.max() >= image:
        return None
    table = first[0]
    window = table[0] - table[0, 0]
    if np.any(table != table[:, :1] + window):
        return None
    channel, row, column = np.unravel_index(table[:, 0], shape[1:])
    vertical, horizontal, steps = _grid(np.unique(row)), _grid(np.unique(column)), _steps(window, width)
    if vertical is None or horizontal is None or steps is None:
        return None
    (top, kernel_height, down), (left, kernel_width, across) = vertical, horizontal
    rows, columns, stride_down, stride_across = steps
    if top or left or len(table) != shape[1] * kernel_height * kernel_width:
        return None
    if stride_down * (rows - 1) + down * (kernel_height - 1) >= height:
        return None
    if stride_across * (columns - 1) + across * (kernel_width - 1) >= width:
        return None
    taps = np.ravel_multi_index((channel, row // down, column // across), (shape[1], kernel_height, kernel_width))
    if not np.array_equal(np.sort(taps), np.arange(len(taps))):
        return None
    return Windows(
        x, (kernel_height, kernel_width), (stride_down, stride_across), (down, across), (rows, columns), taps
    )


def _grid(places: Places) -> tuple[int, int, int] | None:
    """(first, how many, distance) of ascending numbers at equal distances."""
    distances = np.diff(places)
    if distances.size and np.any(distances != distances[0]):
        return None
    return int(places[0]), len(places), int(distances[0]) if distances.size else 1


def _steps(window: Places, width: int) -> tuple[int, int, int, int] | None:
    """(rows, columns, stride down, stride across) of windows that begin at these places of a map of this width."""
    across = int(window[1]) if len(window) > 1 else 1
    if across >= width and across % width == 0:  # a column of windows
        return (len(window), 1, across // width, 1) if np.array_equal(window, across * np.arange(len(window))) else None
    breaks = np.flatnonzero(np.diff(window) != across)
    columns = int(breaks[0]) + 1 if breaks.size else len(window)
    if across >= 1 and width % across == 0:  # the next row begins where one of them would be
        columns = min(columns, width // across)
    if len(window) % columns:
        return None
    rows = len(window) // columns
    down = int(window[columns]) if rows > 1 else width
    expected = down * np.arange(rows)[:, np.newaxis] + across * np.arange(columns)
    if across < 1 or down < 1 or down % width or not np.array_equal(expected.reshape(-1), window):
        return None
    return rows, columns, down // width, across
