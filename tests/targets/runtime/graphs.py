"""Random graphs of LCE operators and the float operators that stand between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bnncc.targets.tflite.bitpack import bitpack, words
from bnncc.targets.tflite.flexbuffer import pack_ints
from bnncc.targets.tflite.writer import ModelWriter, Tensor
from tests.targets.runtime.models import SAME, VALID

Builtin = schema.BuiltinOperator
ARITHMETIC = {
    "ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT, "DIV": schema.DivOptionsT,
    "MAXIMUM": schema.MaximumMinimumOptionsT, "MINIMUM": schema.MaximumMinimumOptionsT,
}  # fmt: skip


class RandomGraph:
    """A graph of LCE operators and their neighbours: each operator reads maps that are there, of any age."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.writer = ModelWriter("test")
        size = int(rng.choice([5, 9, 40]))
        width = size + int(rng.integers(2))
        self.x = self.writer.tensor("x", (1, size, width, int(rng.choice([8, 32, 50]))), np.float32)
        self.maps = [self.x]
        self.signs: list[tuple[Tensor, int]] = []
        self.quantize(self.x)
        steps = [
            self.add, self.shift, self.prelu, self.concatenate, self.pool, self.convolve, self.convolve, self.pack,
            self.combine, self.gate, self.apply, self.split, self.slice, self.pad, self.blocks, self.shuffle,
        ]  # fmt: skip
        for _ in range(int(rng.integers(4, 14))):
            steps[rng.integers(len(steps))]()

    def file(self) -> bytes:
        """The file; its outputs are the last map and bits, and others at random."""
        produced = [*self.maps[1:], *(bits for bits, _ in self.signs)]
        outputs = [tensor for tensor in produced[:-1] if self.rng.random() < 0.3] + produced[-1:]
        names = [tensor.name for tensor in outputs]
        return self.writer.finish([self.x], outputs, ["x"], names)

    def map(self) -> Tensor:
        # Young ones mostly, so that chains grow.
        return self.maps[-1 - min(int(self.rng.geometric(0.6)) - 1, len(self.maps) - 1)]

    def constant(self, size: int) -> Tensor:
        return self.writer.constant("c", self.rng.normal(size=size).astype(np.float32))

    def output(self, shape: tuple[int, ...]) -> Tensor:
        self.maps.append(self.writer.tensor("y", shape, np.float32))
        return self.maps[-1]

    def add(self) -> None:
        a = self.map()
        same = [tensor for tensor in self.maps if tensor.shape == a.shape]
        b = same[self.rng.integers(len(same))]
        self.writer.operator(Builtin.ADD, [a, b], [self.output(a.shape)], schema.AddOptionsT())

    def shift(self) -> None:
        a = self.map()
        shape = [(a.shape[3],), (1, 1, 1, a.shape[3])][self.rng.integers(2)]
        c = self.writer.constant("c", self.rng.normal(size=shape).astype(np.float32))
        inputs = [a, c] if self.rng.random() < 0.5 else [c, a]
        self.writer.operator(Builtin.ADD, inputs, [self.output(a.shape)], schema.AddOptionsT())

    def prelu(self) -> None:
        a = self.map()
        slope = self.writer.constant("s", self.rng.normal(size=(1, 1, a.shape[3])).astype(np.float32))
        self.writer.operator(Builtin.PRELU, [a, slope], [self.output(a.shape)])

    def concatenate(self) -> None:
        a = self.map()
        same = [tensor for tensor in self.maps if tensor.shape[:3] == a.shape[:3]]
        parts = [a, same[self.rng.integers(len(same))]]
        encoded = schema.ConcatenationOptionsT()
        encoded.axis = 3
        shape = (*a.shape[:3], sum(part.shape[3] for part in parts))
        self.writer.operator(Builtin.CONCATENATION, parts, [self.output(shape)], encoded)

    def combine(self) -> None:
        """A map, and one of its shape, or constants for each channel or pixel, or one; with a fused activation."""
        a = self.map()
        size, channels = a.shape[1:3], a.shape[3]
        same = [tensor for tensor in self.maps if tensor.shape == a.shape]
        shape = [(channels,), (1, 1, 1, channels), (1, *size, 1), (1, *size, channels), (), (1,)][self.rng.integers(6)]
        constant = self.writer.constant("c", self.rng.normal(size=shape).astype(np.float32))
        names = ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"]
        name = names[self.rng.integers(5)]
        b = same[self.rng.integers(len(same))] if name != "MUL" and self.rng.random() < 0.3 else constant
        encoded = ARITHMETIC[name]()
        if name in ("ADD", "SUB", "MUL"):
            encoded.fusedActivationFunction = int(self.rng.choice([0, 0, 1, 2, 3]))
        inputs = [a, b] if self.rng.random() < 0.5 else [b, a]
        self.writer.operator(getattr(Builtin, name), inputs, [self.output(a.shape)], encoded)

    def gate(self) -> None:
        """A map times a number between -1 and 1 for each channel, which its own average says."""
        a = self.map()
        vector = (1, 1, 1, a.shape[3])
        mean, bounded = (self.writer.tensor("y", vector, np.float32) for _ in range(2))
        encoded = schema.Pool2DOptionsT()
        encoded.padding, encoded.strideH, encoded.strideW = VALID, 1, 1
        encoded.filterHeight, encoded.filterWidth = a.shape[1:3]
        self.writer.operator(Builtin.AVERAGE_POOL_2D, [a], [mean], encoded)
        self.writer.operator(Builtin.RELU_N1_TO_1, [mean], [bounded])
        inputs = [a, bounded] if self.rng.random() < 0.5 else [bounded, a]
        self.writer.operator(Builtin.MUL, inputs, [self.output(a.shape)], schema.MulOptionsT())

    def apply(self) -> None:
        a = self.map()
        name = ["ABS", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU"][self.rng.integers(6)]
        encoded = {"ABS": schema.AbsOptionsT, "NEG": schema.NegOptionsT, "LEAKY_RELU": schema.LeakyReluOptionsT}
        options: Any = encoded[name]() if name in encoded else None
        if name == "LEAKY_RELU":
            options.alpha = 0.3
        self.writer.operator(getattr(Builtin, name), [a], [self.output(a.shape)], options)

    def split(self) -> None:
        """Channels of a map, or words of signs, in two."""
        is_float = self.rng.random() < 0.5
        a = self.map() if is_float else self.signs[-1][0]
        if a.shape[3] % 2:
            return
        shape = (*a.shape[:3], a.shape[3] // 2)
        if is_float:
            parts = [self.output(shape) for _ in range(2)]
        else:
            parts = [self.writer.tensor("bits", shape, np.int32) for _ in range(2)]
            self.signs += [(part, 32 * shape[3]) for part in parts]
        encoded = schema.SplitOptionsT()
        encoded.numSplits = 2
        self.writer.operator(Builtin.SPLIT, [self.writer.constant("a", np.array(3, np.int32)), a], parts, encoded)

    def slice(self) -> None:
        a = self.map()
        begin = [0, *(int(self.rng.integers(2)) for _ in range(3))]
        step = [1, *(int(self.rng.integers(1, 3)) for _ in range(3))]
        shape = tuple(-(-(n - b) // s) for n, b, s in zip(a.shape, begin, step, strict=True))
        if min(shape) < 1:
            return
        numbers = [self.writer.constant("i", np.array(values, np.int32)) for values in (begin, a.shape, step)]
        self.writer.operator(Builtin.STRIDED_SLICE, [a, *numbers], [self.output(shape)], schema.StridedSliceOptionsT())

    def pad(self) -> None:
        a = self.map()
        amounts = self.rng.integers(0, 3, (4, 2)) * (self.rng.random((4, 1)) < 0.5)
        amounts[0] = 0
        shape = tuple(int(n) for n in np.array(a.shape) + amounts.sum(axis=1))
        inputs = [a, self.writer.constant("p", amounts.astype(np.int32))]
        if self.rng.random() < 0.5:
            self.writer.operator(Builtin.PAD, inputs, [self.output(shape)], schema.PadOptionsT())
        else:
            inputs.append(self.writer.constant("v", np.array([-1.5], np.float32)))
            self.writer.operator(Builtin.PADV2, inputs, [self.output(shape)], schema.PadV2OptionsT())

    def blocks(self) -> None:
        """Blocks of 2x2 pixels become channels, or four channels such a block."""
        is_float = self.rng.random() < 0.5
        a = self.map() if is_float else self.signs[-1][0]
        n, height, width, channels = a.shape
        if height % 2 == 0 and width % 2 == 0:
            shape, name, encoded = (
                (n, height // 2, width // 2, 4 * channels),
                "SPACE_TO_DEPTH",
                schema.SpaceToDepthOptionsT(),
            )
        elif channels % 4 == 0:
            shape, name, encoded = (
                (n, 2 * height, 2 * width, channels // 4),
                "DEPTH_TO_SPACE",
                schema.DepthToSpaceOptionsT(),
            )
        else:
            return
        encoded.blockSize = 2
        if is_float:
            y = self.output(shape)
        else:
            y = self.writer.tensor("bits", shape, np.int32)
            self.signs.append((y, 32 * shape[3]))
        self.writer.operator(getattr(Builtin, name), [a], [y], encoded)

    def shuffle(self) -> None:
        """The channels' halves in turns."""
        a = self.map()
        if a.shape[3] % 2:
            return
        pixels, half = a.shape[1] * a.shape[2], a.shape[3] // 2
        shapes = [(1, pixels, 2, half), (1, pixels, half, 2)]
        apart, turned = (self.writer.tensor("y", shape, np.float32) for shape in shapes)
        sizes = [self.writer.constant("s", np.array(shape, np.int32)) for shape in (shapes[0], a.shape)]
        order = self.writer.constant("o", np.array([0, 1, 3, 2], np.int32))
        self.writer.operator(Builtin.RESHAPE, [a, sizes[0]], [apart], schema.ReshapeOptionsT())
        self.writer.operator(Builtin.TRANSPOSE, [apart, order], [turned], schema.TransposeOptionsT())
        self.writer.operator(Builtin.RESHAPE, [turned, sizes[1]], [self.output(a.shape)], schema.ReshapeOptionsT())

    def pool(self) -> None:
        a = self.map()
        encoded = schema.Pool2DOptionsT()
        encoded.padding = int(self.rng.choice([SAME, VALID]))
        encoded.filterHeight, encoded.filterWidth = (int(k) for k in self.rng.integers(1, 4, 2))
        encoded.strideH, encoded.strideW = (int(k) for k in self.rng.integers(1, 3, 2))
        if encoded.padding == VALID and (a.shape[1] < encoded.filterHeight or a.shape[2] < encoded.filterWidth):
            return
        kernel, strides = (encoded.filterHeight, encoded.filterWidth), (encoded.strideH, encoded.strideW)
        size = tuple(
            -(-n // s) if encoded.padding == SAME else (n - k) // s + 1
            for n, k, s in zip(a.shape[1:3], kernel, strides, strict=True)
        )
        kind = Builtin.AVERAGE_POOL_2D if self.rng.random() < 0.7 else Builtin.MAX_POOL_2D
        self.writer.operator(kind, [a], [self.output((1, *size, a.shape[3]))], encoded)

    def pack(self) -> None:
        self.quantize(self.map())

    def quantize(self, a: Tensor) -> None:
        bits = self.writer.tensor("bits", (*a.shape[:3], words(a.shape[3])), np.int32)
        self.writer.custom("LceQuantize", [a], [bits], b"")
        self.signs.append((bits, a.shape[3]))

    def convolve(self) -> None:
        bits, channels = self.signs[-1 - int(self.rng.integers(min(2, len(self.signs))))]
        kernel, stride, filters = (
            int(self.rng.choice([1, 3])),
            int(self.rng.choice([1, 1, 2])),
            int(self.rng.choice([8, 70])),
        )
        encoded = pack_ints(
            channels_in=channels, dilation_height_factor=1, dilation_width_factor=1, fused_activation_function=0,
            pad_values=1, padding=SAME, stride_height=stride, stride_width=stride,
        )  # fmt: skip
        signs = bitpack(self.rng.choice([-1.0, 1.0], (filters, kernel, kernel, channels)))
        inputs = [bits, self.writer.constant("w", signs), self.constant(filters), self.constant(filters), None]
        shape = (1, -(-bits.shape[1] // stride), -(-bits.shape[2] // stride), filters)
        self.writer.custom("LceBconv2d", inputs, [self.output(shape)], encoded)
