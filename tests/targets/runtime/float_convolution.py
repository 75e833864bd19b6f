"""Random float convolutions beside LceQuantize, and what they sum up to in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.bitpack import words
from bnncc.targets.tflite.writer import ModelWriter, Tensor
from tests.targets.runtime.models import CLAMPS, SAME, VALID, sums, windows

Builtin = schema.BuiltinOperator
TOLERANCE = 2e-6  # of the largest sum of the products' magnitudes


@dataclass(frozen=True)
class FloatConv:
    """x ─ CONV_2D ─ y ─ LceQuantize ─ bits: both leave the delegate."""

    batch: int
    size: tuple[int, int]
    channels: int
    filters: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    padding: int
    activation: int
    has_bias: bool
    seed: int
    groups: int = 1

    @classmethod
    def draw(cls, rng: np.random.Generator, channels: int) -> FloatConv:
        def pair(*choices: int) -> tuple[int, int]:
            return int(rng.choice(choices)), int(rng.choice(choices))

        kernel, dilations = pair(1, 2, 3, 5, 7), pair(1, 1, 1, 2)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        padding = int(rng.choice([SAME, VALID]))
        least = reach if padding == VALID else (1, 1)
        size = least[0] + int(rng.integers(0, 12)), least[1] + int(rng.integers(0, 40))
        return cls(
            int(rng.integers(1, 3)), size, channels, int(rng.choice([1, 7, 16, 33, 64, 70])), kernel, pair(1, 2, 3),
            dilations, padding, int(rng.integers(0, 4)), bool(rng.integers(2)), int(rng.integers(2**31)),
        ).in_groups(int(rng.choice([n for n in (1, 1, 2, 3, 4, 5, 10) if channels % n == 0])))  # fmt: skip

    def in_groups(self, groups: int) -> FloatConv:
        """With a number of filters that so many groups share equally."""
        return replace(self, groups=groups, filters=-(-self.filters // groups) * groups)

    def windows(self) -> list[tuple[int, int]]:
        """(outputs, padding before) of both axes."""
        return windows(self.size, self.kernel, self.strides, self.dilations, self.padding)

    def arrays(self) -> tuple[Array, Array, Array]:
        """Input, filters and bias."""
        rng = np.random.default_rng(self.seed)
        filters = (self.filters, *self.kernel, self.channels // self.groups)
        shapes = filters, (self.filters,), (self.batch, *self.size, self.channels)
        weight, bias, x = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
        return x, weight, bias if self.has_bias else np.zeros_like(bias)

    def add(self, writer: ModelWriter, x: Tensor) -> Tensor:
        """The convolution in a file; its output."""
        _, weight, bias = self.arrays()
        options = schema.Conv2DOptionsT()
        options.padding, options.fusedActivationFunction = self.padding, self.activation
        options.strideH, options.strideW = self.strides
        options.dilationHFactor, options.dilationWFactor = self.dilations
        (height, _), (width, _) = self.windows()
        y = writer.tensor("y", (self.batch, height, width, self.filters), np.float32)
        constants = [writer.constant("w", weight), writer.constant("b", bias) if self.has_bias else None]
        writer.operator(Builtin.CONV_2D, [x, *constants], [y], options)
        return y

    def file(self) -> bytes:
        writer = ModelWriter("test")
        x = writer.tensor("x", (self.batch, *self.size, self.channels), np.float32)
        y = self.add(writer, x)
        bits = quantize(writer, y)
        return writer.finish([x], [y, bits], ["x"], ["y", "bits"])

    def expected(self) -> tuple[Array, float]:
        """The output in float64, and the largest sum of the products' magnitudes."""
        x, weight, bias = (array.astype(np.float64) for array in self.arrays())
        y, magnitude = self._sum(x, weight) + bias, self._sum(np.abs(x), np.abs(weight)) + np.abs(bias)
        return np.clip(y, *CLAMPS[self.activation]), float(magnitude.max())

    def _sum(self, x: Array, weight: Array) -> Array:
        return sums(x, weight, self.windows(), self.strides, self.dilations, groups=self.groups)


def quantize(writer: ModelWriter, x: Tensor) -> Tensor:
    bits = writer.tensor("bits", (*x.shape[:3], words(x.shape[3])), np.int32)
    writer.custom("LceQuantize", [x], [bits], b"")
    return bits
