"""Normalisations by statistics of the input itself: x ↦ (x - mean)/√(var + ε)·γ + β, over one set of axes or another.

The variance is the mean of squares of x - mean.  ONNX's function bodies take E[x²] - E[x]², which in float32 loses
what the mean exceeds the deviation by.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bnncc.passes.decompositions.builder import Builder, NotDecomposableError


def layer_normalization(build: Builder) -> Sequence[ir.Value | None]:
    """Over all axes from `axis` on; γ and β broadcast against x."""
    x, gamma, beta = build.input(0), build.input(1), build.optional(2)
    rank = len(build.shape(x))
    axes = list(range(build.integer("axis", -1) % rank, rank))
    centered, mean, inverse = _standardized(build, x, axes)
    y = build.op("Mul", build.op("Mul", centered, inverse), gamma)
    y = y if beta is None else build.op("Add", y, beta)
    return [y, mean, inverse]


def rms_normalization(build: Builder) -> Sequence[ir.Value | None]:
    """x / √(mean(x²) + ε) · γ over all axes from `axis` on."""
    x, gamma = build.input(0), build.input(1)
    rank = len(build.shape(x))
    axes = list(range(build.integer("axis", -1) % rank, rank))
    inverse = _inverse_root(build, build.reduce("ReduceMean", build.op("Mul", x, x), axes))
    return [build.op("Mul", build.op("Mul", x, inverse), gamma)]


def instance_normalization(build: Builder) -> Sequence[ir.Value | None]:
    """Over the spatial axes of each channel; γ and β of one number a channel."""
    x = build.input(0)
    rank = len(build.shape(x))
    if rank < 3:
        raise NotDecomposableError("no spatial axes")
    centered, _, inverse = _standardized(build, x, list(range(2, rank)))
    return [_scaled_by_channel(build, build.op("Mul", centered, inverse), rank)]


def group_normalization(build: Builder) -> Sequence[ir.Value | None]:
    """Over the channels of a group and all positions; γ and β of one number a channel (a group before opset 21)."""
    x, groups = build.input(0), build.integer("num_groups", 1)
    batch, channels, *spatial = build.shape(x)
    rank = 2 + len(spatial)
    parts = build.reshape(x, (batch, groups, channels // groups, *spatial))
    centered, _, inverse = _standardized(build, parts, list(range(2, rank + 1)))
    y = build.op("Mul", centered, inverse)
    if build.shape(build.input(1)) == (groups,) and groups != channels:
        y = _scaled_by_channel(build, y, rank + 1)
        return [build.reshape(y, (batch, channels, *spatial))]
    return [_scaled_by_channel(build, build.reshape(y, (batch, channels, *spatial)), rank)]


def batch_normalization(build: Builder) -> Sequence[ir.Value | None]:
    """By the batch's own statistics (training_mode), or by numbers that are computed at run time."""
    x = build.input(0)
    rank = len(build.shape(x))
    training = bool(build.integer("training_mode", 0))
    if not training and all(value is not None and value.is_initializer() for value in build.origin.inputs[1:5]):
        raise NotDecomposableError  # a factor and a term: the passes and the target know what to do
    shape = (1, -1, *[1] * (rank - 2))
    running = [_by_channel(build, build.input(index), shape) for index in (3, 4)]
    if not training:
        centered = build.op("Sub", x, running[0])
        return [_scaled_by_channel(build, build.op("Mul", centered, _inverse_root(build, running[1])), rank)]
    axes = [0, *range(2, rank)]
    mean = build.reduce("ReduceMean", x, axes)
    centered = build.op("Sub", x, mean)
    variance = build.reduce("ReduceMean", build.op("Mul", centered, centered), axes)
    y = _scaled_by_channel(build, build.op("Mul", centered, _inverse_root(build, variance)), rank)
    momentum = build.number("momentum", 0.9)
    results: list[ir.Value | None] = [y]
    for index, (old, new) in enumerate(zip(running, (mean, variance), strict=True), 1):
        if not build.has_output(index):
            results.append(None)
            continue
        kept = build.op("Mul", old, build.scalar(momentum, x))
        mixed = build.op("Add", kept, build.op("Mul", new, build.scalar(1 - momentum, x)))
        results.append(build.reshape(mixed, build.shape(build.input(2 + index))))
    return results


def mean_variance_normalization(build: Builder) -> Sequence[ir.Value | None]:
    """(x - mean) / (√var + 1e-9) over `axes`."""
    x = build.input(0)
    axes = build.integers("axes", (0, 2, 3))
    centered = build.op("Sub", x, build.reduce("ReduceMean", x, axes))
    variance = build.reduce("ReduceMean", build.op("Mul", centered, centered), axes)
    return [build.op("Div", centered, build.op("Add", build.op("Sqrt", variance), build.scalar(1e-9, x)))]


def lp_normalization(build: Builder) -> Sequence[ir.Value | None]:
    """x / ‖x‖ₚ along one axis; 0 where the norm is 0."""
    x, p = build.input(0), build.integer("p", 2)
    axis = build.integer("axis", -1) % len(build.shape(x))
    norm = build.reduce(f"ReduceL{p}", x, [axis])
    zero = build.op("Equal", norm, build.scalar(0, x))
    return [build.op("Div", x, build.op("Where", zero, build.scalar(1, x), norm))]


def local_response_normalization(build: Builder) -> Sequence[ir.Value | None]:
    """x / (k + α/n · Σ x² over n neighbouring channels)^β: the sum is a 1x1 convolution with a band of ones."""
    x, size = build.input(0), build.integer("size", 1)
    batch, channels, *spatial = build.shape(x)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    alpha, beta, bias = build.number("alpha", 1e-4), build.number("beta", 0.75), build.number("bias", 1.0)
    distance = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    band = ((distance >= -before) & (distance <= after)) * np.float32(alpha / size)
    squares = build.reshape(build.op("Mul", x, x), (batch, channels, 1, int(np.prod(spatial))))
    weight = build.constant(band.astype(np.float32)[:, :, None, None])
    sums = build.reshape(build.op("Conv", squares, weight), (batch, channels, *spatial))
    power = build.op("Pow", build.op("Add", sums, build.scalar(bias, x)), build.scalar(-beta, x))
    return [build.op("Mul", x, power)]


def _standardized(build: Builder, x: ir.Value, axes: Sequence[int]) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(x - mean, mean, 1/√(var + ε))."""
    mean = build.reduce("ReduceMean", x, axes)
    centered = build.op("Sub", x, mean)
    variance = build.reduce("ReduceMean", build.op("Mul", centered, centered), axes)
    return centered, mean, _inverse_root(build, variance)


def _inverse_root(build: Builder, variance: ir.Value) -> ir.Value:
    epsilon = build.scalar(build.number("epsilon", 1e-5), variance)
    return build.op("Reciprocal", build.op("Sqrt", build.op("Add", variance, epsilon)))


def _by_channel(build: Builder, value: ir.Value, shape: Sequence[int]) -> ir.Value:
    """[C] as [1, C, 1, …]."""
    array = value.const_value
    if array is not None:
        return build.constant(array.numpy().reshape(shape))
    return build.op("Reshape", value, build.ints(shape))


def _scaled_by_channel(build: Builder, x: ir.Value, rank: int) -> ir.Value:
    """x·γ + β, γ and β the node's inputs 1 and 2."""
    shape = (1, -1, *[1] * (rank - 2))
    scaled = build.op("Mul", x, _by_channel(build, build.input(1), shape))
    return build.op("Add", scaled, _by_channel(build, build.input(2), shape))


DECOMPOSITIONS = {
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "BatchNormalization": batch_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "LpNormalization": lp_normalization,
    "LRN": local_response_normalization,
}
