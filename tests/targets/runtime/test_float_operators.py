"""The delegate's float convolutions and max pools beside LCE's operators, with every kernel this processor has.

The convolutions are compared with sums in float64: no two interpreters round a float sum in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from bnncc.ir.evaluate import Array
from bnncc.runtime import LitertRunner, kernels
from bnncc.targets.tflite.bitpack import bitpack, words
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


def signs(y: Array) -> Array:
    return bitpack(np.where(y < 0, -1.0, 1.0))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 20, 33])
def test_convolutions_are_sums_of_products(channels: int) -> None:
    rng = np.random.default_rng(channels)
    for _ in range(20):
        conv = FloatConv.draw(rng, channels)
        content, (x, _, _), (wanted, scale) = conv.file(), conv.arrays(), conv.expected()
        for kernel in kernels():
            one = LitertRunner(content, 1, kernel=kernel).run([x])
            assert one[0].shape == wanted.shape
            np.testing.assert_allclose(one[0], wanted, rtol=0, atol=TOLERANCE * scale, err_msg=f"{kernel} {conv}")
            np.testing.assert_array_equal(one[1], signs(one[0]), f"{kernel} {conv}")
            three = LitertRunner(content, 3, kernel=kernel).run([x])
            np.testing.assert_array_equal(three[0], one[0], f"{kernel} {conv}")


def test_a_convolution_s_outputs_do_not_depend_on_their_place() -> None:
    # Of a constant picture all pixels are the same, whatever tile of whatever size computes them, in the middle of a
    # line or at its end.
    for kernel in kernels():
        for width in range(20, 40):
            conv = FloatConv(1, (9, width), 3, 70, (3, 3), (1, 1), (1, 1), VALID, 0, True, 0)
            x = np.broadcast_to(conv.arrays()[0][:, :1, :1], (1, 9, width, 3))
            y = LitertRunner(conv.file(), 1, kernel=kernel).run([x])[0]
            np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], y.shape), f"{kernel} {width}")


def test_not_a_number_meets_only_its_own_pixels() -> None:
    conv = FloatConv(1, (12, 40), 3, 20, (3, 3), (2, 2), (1, 1), SAME, 1, True, 0)
    x = conv.arrays()[0].copy()
    x[0, 5, 20, 1] = np.nan
    (height, top), (width, left) = conv.axes()
    rows, columns = (np.arange(n)[:, None] * 2 - before + np.arange(3) for n, before in ((height, top), (width, left)))
    meets = (rows == 5).any(1)[:, None] & (columns == 20).any(1)
    for kernel in kernels():
        y = LitertRunner(conv.file(), 1, kernel=kernel).run([x])[0][0]
        np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(meets[..., None], y.shape), kernel)


def test_a_resized_network_computes_what_one_of_that_size_computes() -> None:
    conv = FloatConv(1, (8, 9), 3, 20, (7, 7), (2, 2), (1, 1), SAME, 0, True, 0)
    runner = LitertRunner(conv.file())
    for batch, size in [(2, (31, 50)), (1, (3, 3)), (1, (8, 9))]:
        resized = replace(conv, batch=batch, size=size)
        x = resized.arrays()[0]
        runner._interpreter.resize_tensor_input(0, x.shape)
        runner._interpreter.allocate_tensors()
        for found, wanted in zip(runner.run([x]), LitertRunner(resized.file()).run([x]), strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("channels", [1, 3, 8, 70])
def test_max_pools_are_litert_s(channels: int) -> None:
    rng = np.random.default_rng(channels)
    for _ in range(20):
        options = schema.Pool2DOptionsT()
        options.padding = int(rng.choice([SAME, VALID]))
        options.filterHeight, options.filterWidth = kernel = [int(k) for k in rng.integers(1, 5, 2)]
        options.strideH, options.strideW = strides = [int(s) for s in rng.integers(1, 4, 2)]
        size = [k + int(rng.integers(0, 9)) for k in kernel]
        shape = (int(rng.integers(1, 3)), *size, channels)
        pooled = [
            -(-n // s) if options.padding == SAME else (n - k) // s + 1
            for n, k, s in zip(size, kernel, strides, strict=True)
        ]
        writer = ModelWriter("test")
        x = writer.tensor("x", shape, np.float32)
        y = writer.tensor("y", (shape[0], *pooled, channels), np.float32)
        writer.operator(Builtin.MAX_POOL_2D, [x], [y], options)
        content = writer.finish([x], [y, quantize(writer, y)], ["x"], ["y", "bits"])
        given = rng.normal(size=shape).astype(np.float32)
        wanted = LitertRunner(content, fuse=False).run([given])
        for kernel_name in kernels():
            for threads in (1, 2):
                for found, expected in zip(
                    LitertRunner(content, threads, kernel=kernel_name).run([given]), wanted, strict=True
                ):
                    np.testing.assert_array_equal(found, expected, f"{kernel_name} {shape} {kernel} {strides}")
