"""Find where a value is repeated along its channels, whatever the spelling.

    y[:, k] = x[:, indices[k]]           indices [C'], C' > C, every channel of x read

Tile, Concat of one value, Gather with constant indices, Unsqueeze ─ Expand ─ Reshape, repeat_interleave: between x and
y there are only operators that move elements.  Where each element goes is found by running them, in ONNX Runtime, on a
map that holds the number of its channel in every element, and on one that holds its position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.evaluate import run, skeleton, weights_of
from bnncc.ir.graph import constant_of, shape_of
from bnncc.ir.value_facts import MOVES, data_inputs

Indices = npt.NDArray[np.int64]

# Of the moving operators, those that repetitions are spelled with; a maximum, for one, is not invertible.
# (PyTorch's x[:, [0, 1, 0, 1]] is a GatherND between Transposes.)
REPEATING = (MOVES | {"GatherND"}) - {"MaxPool", "DepthToSpace", "SpaceToDepth", "Identity"}
# Operators that can make a value larger: without one there is no repetition.
ENLARGING = {"Concat", "Tile", "Expand", "Gather", "GatherND"}
# float32 numbers channels and positions exactly up to here.
LARGEST_EXACT = 2**24
# A repetition is spelled in a handful of operators.
LONGEST = 6


@dataclass(frozen=True)
class Replication:
    """y = x[:, indices].  nodes: the moving operators between them."""

    x: ir.Value
    y: ir.Value
    indices: Indices
    nodes: frozenset[ir.Node]

    @property
    def copies(self) -> int:
        """How often x is in y."""
        return self.indices.size // int(self.indices.max() + 1)

    @property
    def is_tiled(self) -> bool:
        """True where y is x, x, … one after the other."""
        return bool(np.array_equal(self.indices, np.arange(self.indices.size) % (self.indices.max() + 1)))


def find_replication(model: ir.Model, y: ir.Value) -> Replication | None:
    """The replication that `y` is the result of; None where it is none."""
    shape, node = shape_of(y), y.producer()
    if shape is None or len(shape) not in (2, 4) or node is None or not _moves(node):
        return None
    nodes: set[ir.Node] = set()
    frontier = {y}
    for _ in range(LONGEST):
        producers = {value.producer() for value in frontier}
        if not all(producer is not None and _moves(producer) for producer in producers):
            return None
        nodes |= {producer for producer in producers if producer is not None}
        frontier = {value for producer in producers if producer is not None for value in _sources(producer)}
        if len(frontier) != 1:
            continue
        (x,) = frontier
        source = shape_of(x)
        enlarges = any(node.op_type in ENLARGING for node in nodes)
        if enlarges and source is not None and _repeats_channels(source, shape):
            indices = _indices(model, x, y, source)
            if indices is not None:
                return Replication(x, y, indices, frozenset(nodes))
    return None


def _sources(node: ir.Node) -> list[ir.Value]:
    return (
        [value for value in node.inputs[:1] if value is not None] if node.op_type == "GatherND" else data_inputs(node)
    )


def _moves(node: ir.Node) -> bool:
    constants = [value for value in node.inputs if value is not None and value not in _sources(node)]
    return (
        node.domain == "" and node.op_type in REPEATING and all(constant_of(value) is not None for value in constants)
    )


def _repeats_channels(source: tuple[int, ...], result: tuple[int, ...]) -> bool:
    same = len(source) == len(result) and source[0] == result[0] and source[2:] == result[2:]
    return same and result[1] > source[1] and result[1] % source[1] == 0


def _indices(model: ir.Model, x: ir.Value, y: ir.Value, shape: tuple[int, ...]) -> Indices | None:
    channel, rest = np.arange(shape[1]), int(np.prod(shape)) // shape[1]
    if x.dtype not in (None, ir.DataType.FLOAT) or max(rest, shape[1]) > LARGEST_EXACT:
        return None
    proto = skeleton(model, [y], given=[x])
    numbers = np.broadcast_to(channel.reshape(1, -1, *(1,) * (len(shape) - 2)), shape).astype(np.float32)
    positions = np.moveaxis(np.arange(rest, dtype=np.float32).reshape(shape[0], *shape[2:], 1), -1, 1)
    weights = weights_of(model, proto)
    maps = [np.ascontiguousarray(np.broadcast_to(array, shape), np.float32) for array in (numbers, positions)]
    found, places = (run(proto, {**weights, x.name or "": array})[y.name or ""] for array in maps)
    indices = found.reshape(*found.shape[:2], -1)[0, :, 0].astype(np.int64)
    expected = np.broadcast_to(indices.reshape(1, -1, *(1,) * (len(shape) - 2)), found.shape)
    if not np.array_equal(found, expected) or not np.array_equal(places, np.broadcast_to(positions, places.shape)):
        return None
    return indices if set(indices.tolist()) == set(range(shape[1])) else None
