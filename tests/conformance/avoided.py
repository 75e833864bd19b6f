"""Forms that the emitter does not write, because some runtime is wrong with them or ends the process: as others, and
older versions of it, write them.

They are the proof of what `bnncc.targets.tflite.runtimes` says of such a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator
from torch.nn import functional

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.precision import quantize
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import ModelWriter, Quantization, Tensor
from tests.conformance.form import normal


@dataclass(frozen=True)
class AvoidedForm:
    """A file, its input, and what it should yield, in the file's order."""

    name: str
    content: bytes
    x: Array
    wanted: Array
    tolerance: float = 1e-5

    @property
    def needs_lce(self) -> bool:
        """True where a stock interpreter needs the delegate."""
        return any(operator.name.startswith("Lce") for operator in TfliteFile(self.content).operators)

    def is_right(self, outputs: list[Array]) -> bool:
        found = outputs[0]
        scale = float(np.abs(self.wanted).max())
        return found.shape == self.wanted.shape and bool(np.all(np.abs(found - self.wanted) <= self.tolerance * scale))


def _file(x: Array, wanted: Array, emit: Callable[[ModelWriter, Tensor, Tensor], None]) -> bytes:
    writer = ModelWriter("a form that bnncc avoids")
    source, result = (writer.tensor(name, array.shape, array.dtype) for name, array in (("x", x), ("y", wanted)))
    emit(writer, source, result)
    return writer.finish([source], [result], ["x"], ["y"])


def _form(name: str, x: Array, wanted: Array, builtin: int, constants: list[Any], options: Any, version: int = 1,
          tolerance: float = 1e-5) -> AvoidedForm:  # fmt: skip
    def emit(writer: ModelWriter, source: Tensor, result: Tensor) -> None:
        tensors = [
            writer.constant(f"c{index}", *(given if isinstance(given, tuple) else (given,)))
            for index, given in enumerate(constants)
        ]
        writer.operator(builtin, [source, *tensors], [result], options, version)

    wanted = np.asarray(wanted, np.float32)
    return AvoidedForm(name, _file(x, wanted, emit), x, wanted, tolerance)


def forms() -> list[AvoidedForm]:
    """With the operator's name first."""
    return [*_moves(), *_weights(), *_broadcasts(), _half()]


def _moves() -> list[AvoidedForm]:
    x = normal(1, 4, 5, 3)
    axes = np.asarray([1, 2], np.int32)
    return [
        _form(
            "REVERSE_V2 of two axes",
            x,
            x[:, ::-1, ::-1],
            BuiltinOperator.REVERSE_V2,
            [axes],
            schema.ReverseV2OptionsT(),
        ),
    ]


def _weights() -> list[AvoidedForm]:
    x, weight, bias = normal(2, 64), normal(32, 64, seed=2), normal(32, seed=3)
    quotients, scales = quantize(weight, 0)
    options = schema.FullyConnectedOptionsT()
    options.asymmetricQuantizeInputs = True
    stored = (quotients, Quantization(tuple(scales.tolist()), (0,) * scales.size, 0))
    name, wanted = "FULLY_CONNECTED with one int8 scale a channel", x @ weight.T + bias
    linear = _form(name, x, wanted, BuiltinOperator.FULLY_CONNECTED, [stored, bias], options, 9, 0.03)
    image = normal(1, 6, 5, 4)
    narrow, tall = normal(1, 8, 8, 3), normal(4, 3, 1, 3, seed=2)
    stepped = schema.Conv2DOptionsT()
    stepped.strideH, stepped.strideW, stepped.dilationHFactor, stepped.dilationWFactor = 1, 2, 1, 1
    skipped = _convolution(narrow, tall, (1, 2), (0, 0, 1, 1))
    same = _form("CONV_2D, SAME, that leaves positions unread", narrow, skipped, BuiltinOperator.CONV_2D,
                 [tall, np.zeros(4, np.float32)], stepped)  # fmt: skip
    slope = np.full((1, 1, 1), 0.25, np.float32)
    prelu = _form(
        "PRELU with one slope", image, np.where(image < 0, image * 0.25, image), BuiltinOperator.PRELU, [slope], None
    )
    tiny, square = normal(2, 2, 2, 3), normal(4, 2, 2, 3, seed=2)
    unit = schema.Conv2DOptionsT()
    unit.strideH = unit.strideW = unit.dilationHFactor = unit.dilationWFactor = 1
    filling = _convolution(tiny, square, (1, 1), (0, 1, 0, 1))
    filled = _form("CONV_2D, SAME, with a kernel of the map's size", tiny, filling, BuiltinOperator.CONV_2D,
                   [square, np.zeros(4, np.float32)], unit)  # fmt: skip
    return [linear, same, filled, prelu]


def _convolution(x: Array, kernel: Array, strides: tuple[int, int], pads: tuple[int, ...]) -> Array:
    """x [N, H, W, C], kernel [O, KH, KW, I]; pads as of `functional.pad`: left, right, top, bottom."""
    image, weight = (torch.from_numpy(array.astype(np.float64)).permute(0, 3, 1, 2) for array in (x, kernel))
    y = functional.conv2d(functional.pad(image, pads), weight, stride=strides)
    return np.ascontiguousarray(y.permute(0, 2, 3, 1).numpy())


def _broadcasts() -> list[AvoidedForm]:
    x, other = normal(2, 3, 2, 5, 4), np.abs(normal(3, 1, 1, 4, seed=2)) + 1
    deep, second = normal(2, 3, 5, 1, 4, 2), np.abs(normal(3, 1, 6, 4, 1, seed=2)) + 1
    found = []
    for name, compute, version in (
        ("ADD", np.add, 1),
        ("SUB", np.subtract, 3),
        ("MUL", np.multiply, 1),
        ("DIV", np.divide, 2),
    ):
        builtin = getattr(BuiltinOperator, name)
        options = getattr(schema, f"{name.capitalize()}OptionsT")
        found.append(_form(f"{name} of rank 5, broadcast", x, compute(x, other), builtin, [other], options(), version))
        found.append(
            _form(f"{name} of rank 6, broadcast", deep, compute(deep, second), builtin, [second], options(), version)
        )
    return found


def _half() -> AvoidedForm:
    """A convolution's float16 weights beside a float32 bias."""
    x, kernel = normal(1, 6, 5, 16), normal(32, 3, 3, 16, seed=2).astype(np.float16).astype(np.float32)
    offsets = normal(32, seed=3)
    wanted = np.asarray(_convolution(x, kernel, (1, 1), (1, 1, 1, 1)) + offsets, np.float32)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1

    def emit(writer: ModelWriter, source: Tensor, result: Tensor) -> None:
        stored, bias = writer.constant("half", kernel.astype(np.float16)), writer.constant("bias", offsets)
        whole = writer.tensor("whole", kernel.shape, np.float32)
        writer.operator(BuiltinOperator.DEQUANTIZE, [stored], [whole], schema.DequantizeOptionsT(), 3)
        writer.operator(BuiltinOperator.CONV_2D, [source, whole, bias], [result], options)

    return AvoidedForm("CONV_2D with float16 weights and a bias", _file(x, wanted, emit), x, wanted, 1e-4)
