"""Random graphs of LCE operators and the float operators that stand between them."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bnncc.targets.tflite.bitpack import bitpack, words
from bnncc.targets.tflite.flexbuffer import pack_ints
from bnncc.targets.tflite.writer import ModelWriter, Tensor
from tests.targets.runtime.models import SAME, VALID

Builtin = schema.BuiltinOperator


class RandomGraph:
    """A graph of LCE operators and their neighbours: each operator reads maps that are there, of any age."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.writer = ModelWriter("test")
        size = int(rng.choice([5, 9, 40]))
        self.x = self.writer.tensor("x", (1, size, size + 1, int(rng.choice([8, 32, 50]))), np.float32)
        self.maps = [self.x]
        self.signs: list[tuple[Tensor, int]] = []
        self.quantize(self.x)
        steps = [self.add, self.shift, self.prelu, self.concatenate, self.pool, self.convolve, self.convolve, self.pack]
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
        builtin = [Builtin.AVERAGE_POOL_2D, Builtin.MAX_POOL_2D][self.rng.integers(2)]
        self.writer.operator(builtin, [a], [self.output((1, *size, a.shape[3]))], encoded)

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
