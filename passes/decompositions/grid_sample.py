"""GridSample: x [N, C, …spatial] at computed positions, grid [N, …outputs, axes], coordinates from -1 to 1, x first.

Each output is a weighted sum of neighbours: 1 (nearest), 2 an axis (linear), 4 an axis (cubic).  The neighbours are
rows of x as [N·H·W, C], gathered by a computed index.  Rounding as in PyTorch: to the nearest, ties to even.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bnncc.passes.decompositions.builder import Builder

# Of Keys' cubic convolution, as PyTorch and ONNX have it for GridSample.
CUBIC = -0.75
# A neighbour along one axis: its position, a whole number in float32, and its weight (None: 1).
Neighbour = tuple[ir.Value, ir.Value | None]


def grid_sample(build: Builder) -> Sequence[ir.Value | None]:
    """The sum over all neighbours of x there times the product of its weights, one an axis."""
    x, grid = build.input(0), build.input(1)
    batch, channels, *sizes = build.shape(x)
    outputs = build.shape(grid)[1:-1]
    rank = len(sizes)
    order = [0, *range(2, rank + 2), 1]
    rows = build.reshape(build.transpose(x, order), (batch * int(np.prod(sizes)), channels))
    neighbours = []
    for axis, size in enumerate(sizes):
        coordinate = build.take(grid, rank + 1, rank - 1 - axis)
        neighbours.append(_neighbours(build, coordinate, size))
    strides = [int(np.prod(sizes[axis + 1 :])) for axis in range(rank)]
    first = np.arange(batch).reshape(-1, *[1] * rank) * int(np.prod(sizes))
    terms = []
    for corner in itertools.product(*neighbours):
        index = build.ints(first)
        for (position, _), stride in zip(corner, strides, strict=True):
            number = build.cast(position, ir.DataType.INT64)
            index = build.op("Add", index, build.op("Mul", number, build.ints(stride)) if stride != 1 else number)
        value = build.op("Gather", rows, index, axis=0)
        weights = [weight for _, weight in corner if weight is not None]
        if weights:
            product = weights[0]
            for weight in weights[1:]:
                product = build.op("Mul", product, weight)
            value = build.op("Mul", value, build.reshape(product, (batch, *outputs, 1)))
        terms.append(value)
    return [build.transpose(build.sum(terms), [0, rank + 1, *range(1, rank + 1)])]


def _neighbours(build: Builder, coordinate: ir.Value, size: int) -> list[Neighbour]:
    """Along one axis, with positions that are inside, and weights of 0 where zeros are padded."""
    mode, padding = build.text("mode", "linear"), build.text("padding_mode", "zeros")
    place = _denormalized(build, coordinate, size)
    is_cubic = mode in ("cubic", "bicubic")
    if not is_cubic and padding != "zeros":
        place = _inside(build, place, size, padding)
    if mode == "nearest":
        found: list[Neighbour] = [(build.op("Round", place), None)]
    else:
        low = build.op("Floor", place)
        part = build.op("Sub", place, low)
        if is_cubic:
            steps = [build.op("Add", low, build.scalar(step, low)) for step in (-1, 0, 1, 2)]
            found = list(zip(steps, _cubic_weights(build, part), strict=True))
        else:
            high = build.op("Add", low, build.scalar(1, low))
            found = [(low, build.op("Sub", build.scalar(1, part), part)), (high, part)]
    return [_bounded(build, position, weight, size, padding) for position, weight in found]


def _bounded(build: Builder, position: ir.Value, weight: ir.Value | None, size: int, padding: str) -> Neighbour:
    if padding != "zeros":
        return _inside(build, position, size, padding), weight
    bounds = build.scalar(0, position), build.scalar(size - 1, position)
    clipped = build.op("Clip", position, *bounds)
    hit = build.cast(build.op("Equal", clipped, position), ir.DataType.FLOAT)
    return clipped, hit if weight is None else build.op("Mul", weight, hit)


def _denormalized(build: Builder, coordinate: ir.Value, size: int) -> ir.Value:
    """-1…1 to 0…n - 1 (align_corners), or to -½…n - ½."""
    factor = (size - 1) / 2 if build.integer("align_corners", 0) else size / 2
    offset = (size - 1) / 2
    scaled = build.op("Mul", coordinate, build.scalar(factor, coordinate))
    return build.op("Add", scaled, build.scalar(offset, coordinate))


def _inside(build: Builder, place: ir.Value, size: int, padding: str) -> ir.Value:
    """The nearest place inside (border), or back from the edges as often as needed (reflection)."""
    if padding == "reflection":
        low, span = (0.0, size - 1) if build.integer("align_corners", 0) else (-0.5, size)
        if span == 0:
            return build.op("Mul", place, build.scalar(0, place))
        # With r the distance from the edge modulo 2·span: span - |r - span|.
        distance = build.op("Sub", place, build.scalar(low, place))
        rounds = build.op("Floor", build.op("Mul", distance, build.scalar(1 / (2 * span), place)))
        rest = build.op("Sub", distance, build.op("Mul", rounds, build.scalar(2 * span, place)))
        folded = build.op("Abs", build.op("Sub", rest, build.scalar(span, place)))
        place = build.op("Sub", build.scalar(span + low, place), folded)
    return build.op("Clip", place, build.scalar(0, place), build.scalar(size - 1, place))


def _cubic_weights(build: Builder, t: ir.Value) -> list[ir.Value]:
    """Of the neighbours at -1, 0, 1 and 2, for 0 ≤ t < 1 from neighbour 0 on; polynomials in t, by Horner."""
    a = CUBIC
    polynomials = [
        (a, -2 * a, a, 0.0),
        (a + 2, -(a + 3), 0.0, 1.0),
        (-(a + 2), 2 * a + 3, -a, 0.0),
        (-a, a, 0.0, 0.0),
    ]
    weights = []
    for cubed, squared, linear, constant in polynomials:
        value = build.op("Add", build.op("Mul", t, build.scalar(cubed, t)), build.scalar(squared, t))
        for term in (linear, constant):
            value = build.op("Mul", value, t)
            value = build.op("Add", value, build.scalar(term, t)) if term else value
        weights.append(value)
    return weights


DECOMPOSITIONS = {"GridSample": grid_sample}
