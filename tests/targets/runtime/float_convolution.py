"""Random float convolutions beside LceQuantize, and what they sum up to in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.bitpack import words
from bnncc.targets.tflite.writer import ModelWriter, Tensor
from tests.targets.runtime.models import SAME, VALID

Builtin = schema.BuiltinOperator
BOUNDS = {0: (-np.inf, np.inf), 1: (0, np.inf), 2: (-1, 1), 3: (0, 6)}  # of TensorFlow Lite's fused activations
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
        )  # fmt: skip

    def axes(self) -> list[tuple[int, int]]:
        """Height and width of the output, and the padding before it."""
        found = []
        for n, k, s, d in zip(self.size, self.kernel, self.strides, self.dilations, strict=True):
            reach = (k - 1) * d + 1
            out = -(-n // s) if self.padding == SAME else (n - reach) // s + 1
            found.append((out, max((out - 1) * s + reach - n, 0) // 2 if self.padding == SAME else 0))
        return found

    def arrays(self) -> tuple[Array, Array, Array]:
        """Input, filters and bias."""
        rng = np.random.default_rng(self.seed)
        shapes = (self.filters, *self.kernel, self.channels), (self.filters,), (self.batch, *self.size, self.channels)
        weight, bias, x = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
        return x, weight, bias if self.has_bias else np.zeros_like(bias)

    def add(self, writer: ModelWriter, x: Tensor) -> Tensor:
        """The convolution in a file; its output."""
        _, weight, bias = self.arrays()
        options = schema.Conv2DOptionsT()
        options.padding, options.fusedActivationFunction = self.padding, self.activation
        options.strideH, options.strideW = self.strides
        options.dilationHFactor, options.dilationWFactor = self.dilations
        (height, _), (width, _) = self.axes()
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
        return np.clip(y, *BOUNDS[self.activation]), float(magnitude.max())

    def _sum(self, x: Array, weight: Array) -> Array:
        (height, top), (width, left) = self.axes()
        y = np.zeros((self.batch, height, width, self.filters))
        room = [s * out + k * d for s, (out, _), k, d in
                zip(self.strides, self.axes(), self.kernel, self.dilations, strict=True)]  # fmt: skip
        padded = np.pad(x, ((0, 0), (top, room[0]), (left, room[1]), (0, 0)))
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                rows = i * self.dilations[0] + self.strides[0] * np.arange(height)
                columns = j * self.dilations[1] + self.strides[1] * np.arange(width)
                y += padded[:, rows][:, :, columns] @ weight[:, i, j].T
        return y


def quantize(writer: ModelWriter, x: Tensor) -> Tensor:
    bits = writer.tensor("bits", (*x.shape[:3], words(x.shape[3])), np.int32)
    writer.custom("LceQuantize", [x], [bits], b"")
    return bits
