"""Files of one LCE operator, at random, and what they should compute, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.bitpack import bitpack, unpack, words
from bnncc.targets.tflite.flexbuffer import pack_ints
from bnncc.targets.tflite.writer import ModelWriter, Quantization, Tensor

SAME, VALID = 0, 1
# What `fused_activation_function` stands for: bounds of the integer sums.
CLAMPS = [(-np.inf, np.inf), (0, np.inf), (-1, 1), (0, 6)]
INT8_SCALE, INT8_ZERO_POINT = 0.37, -3


def quantized(writer: ModelWriter, name: str, shape: tuple[int, ...]) -> Tensor:
    """An int8 activation tensor with INT8_SCALE and INT8_ZERO_POINT."""
    return writer._add(name, shape, "int8", 0, Quantization((INT8_SCALE,), (INT8_ZERO_POINT,), 0))


def windows(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], padding: int
) -> list[tuple[int, int]]:
    """(outputs, padding before) of both axes, after TensorFlow."""
    found = []
    for n, taps, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        reach = (taps - 1) * dilation + 1
        if padding == VALID:
            found.append(((n - reach) // stride + 1, 0))
        else:
            outputs = -(-n // stride)
            found.append((outputs, max((outputs - 1) * stride + reach - n, 0) // 2))
    return found


def sums(
    x: Array,
    weights: Array,
    windows: Sequence[tuple[int, int]],
    strides: Sequence[int],
    dilations: Sequence[int],
    *,
    filling: float = 0.0,
    groups: int = 1,
) -> Array:
    """A convolution [N, OH, OW, O] in float64.

    x: [N, H, W, C]; weights: [O, KH, KW, C / groups]; windows: of `windows`; filling: what pads.
    """
    (height, top), (width, left) = windows
    batch, *size, channels = x.shape
    filters, *kernel, depth = weights.shape
    found = np.zeros((batch, height, width, filters))
    axes = zip(windows, kernel, strides, dilations, strict=True)
    room = [stride * outputs + taps * dilation for (outputs, _), taps, stride, dilation in axes]
    padded = np.full((batch, size[0] + top + room[0], size[1] + left + room[1], channels), filling)
    padded[:, top : top + size[0], left : left + size[1]] = x
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = i * dilations[0] + np.arange(height) * strides[0]
            columns = j * dilations[1] + np.arange(width) * strides[1]
            taps = padded[:, rows][:, :, columns]
            for group in range(groups):
                part = slice(group * filters // groups, (group + 1) * filters // groups)
                found[..., part] += taps[..., group * depth : (group + 1) * depth] @ weights[part, i, j].T
    return found


@dataclass(frozen=True)
class Conv:
    """An LceBconv2d and its constants."""

    batch: int
    size: tuple[int, int]
    channels: int
    filters: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    groups: int
    padding: int
    pad_values: int
    activation: int
    output: str  # float32, int8 or int32
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, *, tiny: bool = False, groups: bool = True) -> Conv:
        """A random one that LCE accepts; `tiny`: the kernel reaches over both edges of a zero-padded map."""
        pick = lambda *choices: choices[rng.integers(len(choices))]  # noqa: E731
        group_count = int(pick(1, 1, 1, 2, 3)) if groups and not tiny else 1
        channels = 32 * group_count * int(rng.integers(1, 4)) if group_count > 1 else int(rng.integers(1, 150))
        if group_count == 1 and rng.random() < 0.3:
            channels = int(pick(32, 64, 128, 256))
        filters = group_count * int(rng.integers(1, 90)) if rng.random() < 0.7 else group_count * int(pick(32, 64, 96))
        kernel = (int(pick(1, 2, 3, 3, 4)), int(pick(1, 2, 3, 3, 5)))
        dilations = (int(pick(1, 1, 2)), int(pick(1, 1, 2)))
        reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
        if tiny:
            kernel, dilations = (3, int(pick(3, 5))), (1, 1)
            size = (int(rng.integers(1, 3)), int(rng.integers(1, 4)))
            padding, pad_values, activation, output = SAME, 0, 0, "float32"
        else:
            size = (reach[0] + int(rng.integers(0, 9)), reach[1] + int(rng.integers(0, 9)))
            padding = int(pick(SAME, VALID))
            pad_values = int(pick(0, 1))
            output = str(pick("float32", "float32", "int8", "int32"))
            zeros = padding == SAME and pad_values == 0
            activation = int(rng.integers(4))
            if zeros:
                activation, output = 0, "float32"
            if output == "int32":
                activation = 0
        strides = (int(pick(1, 1, 2, 3)), int(pick(1, 1, 2, 3)))
        batch = int(pick(1, 1, 2, 3))
        return cls(
            batch, size, channels, filters, kernel, strides, dilations, group_count, padding, pad_values, activation,
            output, int(rng.integers(2**31)),
        )  # fmt: skip

    @classmethod
    def draw_short(cls, rng: np.random.Generator) -> Conv:
        """A random one with filters of a few words and many pixels: what tables of counts may be made for."""
        pick = lambda *choices: choices[rng.integers(len(choices))]  # noqa: E731
        kernel = pick((1, 1), (1, 1), (1, 1), (1, 3), (2, 2), (3, 3))
        filters = int(pick(16, 32, 32, 64, 64, 128, 33))
        # Tables of 128 words of all filters always fit their limit; the counts of 7 words of one filter fit a byte.
        most = int(pick(1, 2, 128 // filters, 8)) // (kernel[0] * kernel[1])
        channels = 32 * max(most, 1) - int(pick(0, 0, rng.integers(32)))
        size = (int(rng.integers(46, 60)), int(rng.integers(46, 60)))
        drawn = cls.draw(rng, groups=False)
        return replace(drawn, size=size, channels=channels, filters=filters, kernel=kernel, strides=(1, 1))

    @property
    def products(self) -> int:
        return self.kernel[0] * self.kernel[1] * self.channels // self.groups

    def weights(self) -> dict[str, Array]:
        """Signs [O, KH, KW, C / groups], and the constants of the output, reproducible."""
        rng = np.random.default_rng(self.seed)
        depth = self.channels // self.groups
        spread = max(int(self.products**0.5), 1)
        return {
            "signs": rng.choice([-1.0, 1.0], (self.filters, *self.kernel, depth)).astype(np.float32),
            "multiplier": rng.normal(size=self.filters).astype(np.float32),
            "bias": (rng.normal(size=self.filters) * 5).astype(np.float32),
            "thresholds": (self.products // 2 + rng.integers(-spread, spread + 1, self.filters)).astype(np.int32),
        }

    def input(self) -> Array:
        """Packed signs of the input."""
        rng = np.random.default_rng(self.seed + 1)
        return bitpack(rng.choice([-1.0, 1.0], (self.batch, *self.size, self.channels)))

    def windows(self) -> list[tuple[int, int]]:
        """(outputs, padding before) of both axes."""
        return windows(self.size, self.kernel, self.strides, self.dilations, self.padding)

    def file(self) -> bytes:
        """The .tflite file."""
        writer = ModelWriter("test")
        constants = self.weights()
        x = writer.tensor("x", (self.batch, *self.size, words(self.channels)), np.int32)
        shape = (self.batch, *(outputs for outputs, _ in self.windows()))
        if self.output == "int32":
            y = writer.tensor("y", (*shape, words(self.filters)), np.int32)
        elif self.output == "int8":
            y = quantized(writer, "y", (*shape, self.filters))
        else:
            y = writer.tensor("y", (*shape, self.filters), np.float32)
        has_affine = self.output != "int32"
        inputs = [
            x,
            writer.constant("w", bitpack(constants["signs"])),
            writer.constant("m", constants["multiplier"]) if has_affine else None,
            writer.constant("b", constants["bias"]) if has_affine else None,
            None if has_affine else writer.constant("t", constants["thresholds"]),
        ]
        writer.custom("LceBconv2d", inputs, [y], self.options())
        return writer.finish([x], [y], ["x"], ["y"])

    def options(self) -> bytes:
        return pack_ints(
            channels_in=self.channels,
            dilation_height_factor=self.dilations[0],
            dilation_width_factor=self.dilations[1],
            fused_activation_function=self.activation,
            pad_values=self.pad_values,
            padding=self.padding,
            stride_height=self.strides[0],
            stride_width=self.strides[1],
        )

    def sums(self) -> Array:
        """The integer sums [N, OH, OW, O], padding included, in float64."""
        x, signs = unpack(self.input(), self.channels), self.weights()["signs"]
        filling = float(self.pad_values)
        return sums(x, signs, self.windows(), self.strides, self.dilations, filling=filling, groups=self.groups)

    def expected(self) -> Array:
        """The output, floats in float64."""
        constants = self.weights()
        sums = self.sums()
        if self.output == "int32":
            minus = (self.products - sums) / 2 > constants["thresholds"]
            return bitpack(np.where(minus, -1.0, 1.0))
        y = np.clip(sums, *CLAMPS[self.activation]) * constants["multiplier"].astype(np.float64) + constants["bias"]
        if self.output == "int8":
            return np.clip(np.round(y / INT8_SCALE) + INT8_ZERO_POINT, -128, 127)
        return y


def pool_file(
    shape: tuple[int, int, int, int], kernel: tuple[int, int], strides: tuple[int, int], padding: int
) -> bytes:
    """An LceBMaxPool2d on packed words of `shape`."""
    writer = ModelWriter("test")
    x = writer.tensor("x", shape, np.int32)
    size = [
        -(-n // s) if padding == SAME else (n - k) // s + 1 for n, k, s in zip(shape[1:3], kernel, strides, strict=True)
    ]
    y = writer.tensor("y", (shape[0], *size, shape[3]), np.int32)
    encoded = pack_ints(
        filter_height=kernel[0],
        filter_width=kernel[1],
        padding=padding,
        stride_height=strides[0],
        stride_width=strides[1],
    )
    writer.custom("LceBMaxPool2d", [x], [y], encoded)
    return writer.finish([x], [y], ["x"], ["y"])


def quantize_file(shape: tuple[int, ...], dtype: str) -> bytes:
    """An LceQuantize of `dtype`, its packed output, and an LceDequantize of that back to `dtype`."""
    writer = ModelWriter("test")
    make = lambda name: quantized(writer, name, shape) if dtype == "int8" else writer.tensor(name, shape, dtype)  # noqa: E731
    x, y = make("x"), make("y")
    packed = writer.tensor("packed", (*shape[:-1], words(shape[-1])), np.int32)
    writer.custom("LceQuantize", [x], [packed], b"")
    writer.custom("LceDequantize", [packed], [y], b"")
    return writer.finish([x], [packed, y], ["x"], ["packed", "y"])


def kept_file(size: int, dtype: str, scale: float, zero_point: int) -> bytes:
    """Floats that wait in integers: QUANTIZE and DEQUANTIZE."""
    writer = ModelWriter("test")
    x, y = (writer.tensor(name, (1, size), "float32") for name in "xy")
    kept = writer.tensor("kept", (1, size), dtype, Quantization((scale,), (zero_point,), 0))
    writer.operator(BuiltinOperator.QUANTIZE, [x], [kept], schema.QuantizeOptionsT())
    writer.operator(BuiltinOperator.DEQUANTIZE, [kept], [y], schema.DequantizeOptionsT(), 3)
    return writer.finish([x], [y], ["x"], ["y"])
