"""What is in a .tflite file: its operators in order, with shapes, types, bytes of weights and multiply-accumulates."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnncc.errors import InputError
from bnncc.targets.tflite.bitpack import WORD_BITS
from bnncc.targets.tflite.flexbuffer import unpack_ints
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor

# Operators whose second input is a filter [O, KH, KW, I] that every output position sums over (depthwise: [1, KH, KW,
# O]).
FLOAT_CONVOLUTIONS = {"CONV_2D", "FULLY_CONNECTED"}

# What reading the operators of a damaged file may raise.
DAMAGE = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError, RecursionError, struct.error)


@dataclass(frozen=True)
class OperatorSummary:
    """One operator.  `weight_bytes`: of its constant inputs, int8 scales included; `weight_type`: " float16" or " int8"
    where some are, else "".  MACs are per inference; a binary one is a 1-bit product.
    """

    index: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight_bytes: int
    weight_type: str
    binary_macs: int
    float_macs: int


def summarize(file: TfliteFile) -> list[OperatorSummary]:
    """Every operator of the file, in order.  Raises InputError where an operator has not what its kind needs."""
    try:
        return _summaries(file)
    except DAMAGE as error:
        raise InputError(f"the TensorFlow Lite file is damaged: {type(error).__name__}: {error}") from error


def _summaries(file: TfliteFile) -> list[OperatorSummary]:
    channels = _packed_channels(file)
    return [
        OperatorSummary(
            operator.index,
            operator.name,
            tuple(_describe(tensor, channels) for tensor in file.activations(operator)),
            tuple(_describe(tensor, channels) for tensor in operator.outputs),
            sum(_bytes(file, tensor) for tensor in operator.inputs if tensor is not None),
            _weight_type(file, operator),
            _binary_macs(file, operator),
            _float_macs(file, operator),
        )
        for operator in file.operators
    ]


def _packed_channels(file: TfliteFile) -> dict[int, int]:
    """The channel count of each packed tensor, by index, where an LceQuantize or LceBconv2d tells it."""
    channels = {}
    for operator in file.operators:
        first = operator.inputs[0] if operator.inputs else None
        if operator.name == "LceQuantize" and first is not None:
            channels[operator.outputs[0].index] = first.shape[-1]
        elif operator.name == "LceDequantize" and first is not None:
            channels[first.index] = operator.outputs[0].shape[-1]
        elif operator.name == "PAD" and first is not None and first.index in channels:
            channels[operator.outputs[0].index] = channels[first.index]
    return channels


def _describe(tensor: Tensor, channels: dict[int, int]) -> str:
    if tensor.index in channels:
        shape: Sequence[int] = (*tensor.shape[:-1], channels[tensor.index])
        return f"{'x'.join(map(str, shape))} packed"
    return f"{'x'.join(map(str, tensor.shape))} {tensor.dtype}"


def _bytes(file: TfliteFile, tensor: Tensor) -> int:
    data = file.data(tensor)
    scales = 0 if tensor.quantization is None else len(tensor.quantization.scales) * np.dtype(np.float32).itemsize
    return 0 if data is None else data.nbytes + scales


def _weight_type(file: TfliteFile, operator: Operator) -> str:
    constants = [tensor for tensor in operator.inputs if tensor is not None and file.data(tensor) is not None]
    types = [tensor.dtype for tensor in constants if tensor.dtype in ("float16", "int8")]
    return f" {types[0]}" if types else ""


def _binary_macs(file: TfliteFile, operator: Operator) -> int:
    """Products of an LceBconv2d, from its own channels_in option, or the packed words where that is absent."""
    if operator.name != "LceBconv2d":
        return 0
    filters = operator.inputs[1]
    assert filters is not None
    options = unpack_ints(file.custom_options(operator))
    channels = options.get("channels_in", filters.shape[-1] * WORD_BITS)
    outputs = int(np.prod(operator.outputs[0].shape[:-1])) * filters.shape[0]  # of which 32 are one word, where bits
    return outputs * filters.shape[1] * filters.shape[2] * channels


def _float_macs(file: TfliteFile, operator: Operator) -> int:
    filters = operator.inputs[1] if len(operator.inputs) > 1 else None
    if filters is None:
        return 0
    outputs = int(np.prod(operator.outputs[0].shape))
    if operator.name in FLOAT_CONVOLUTIONS:
        return outputs * int(np.prod(filters.shape[1:]))
    if operator.name == "DEPTHWISE_CONV_2D":
        return outputs * filters.shape[1] * filters.shape[2]
    if operator.name == "TRANSPOSE_CONV" and len(operator.inputs) > 2 and operator.inputs[2] is not None:
        return int(np.prod(operator.inputs[2].shape)) * int(np.prod(filters.shape[:3]))
    if operator.name == "BATCH_MATMUL":
        first = operator.inputs[0]
        return outputs * (first.shape[-1] if first is not None else 0)
    return 0
