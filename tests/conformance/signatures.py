"""What distinguishes one use of an operator in a file from another: what a runtime may have a kernel of its own for."""

from __future__ import annotations

from typing import Any

from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor

# Options that count things, and do not choose between kernels.
_COUNTS = {
    "filterWidth", "filterHeight", "axis", "numSplits", "blockSize", "batchDims", "newShape", "depthMultiplier",
    "channels_in", "beta", "alpha",
}  # fmt: skip
# Of steps that are longer than 1, all are alike.
_STEPS = ("stride", "dilation")
# Whose operands may have different shapes.
_BROADCASTING = {
    "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "POW", "FLOOR_MOD", "EQUAL", "NOT_EQUAL", "GREATER",
    "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "SELECT_V2", "PRELU",
}  # fmt: skip
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")

Signature = tuple[Any, ...]


def signatures(content: bytes) -> frozenset[Signature]:
    """Of all operators of a file: name; of each operand whether it is a constant, its type and rank, and whether it has
    a scale for each channel; of each result type and rank; options; whether operands are broadcast or channels grouped.
    """
    file = TfliteFile(content)
    return frozenset(_signature(file, operator) for operator in file.operators)


def _signature(file: TfliteFile, operator: Operator) -> Signature:
    operands = [_operand(file, tensor) for tensor in operator.inputs]
    if operator.name == "CONCATENATION":
        operands = sorted(set(operands))  # of any number
    results = {(tensor.dtype, len(tensor.shape)) for tensor in operator.outputs}
    return (operator.name, tuple(operands), tuple(sorted(results)), _options(file, operator), _shapes(operator))


def _operand(file: TfliteFile, tensor: Tensor | None) -> tuple[Any, ...]:
    if tensor is None:
        return ()
    per_channel = tensor.quantization is not None and len(tensor.quantization.scales) > 1
    return file.data(tensor) is not None, tensor.dtype, len(tensor.shape), per_channel


def _options(file: TfliteFile, operator: Operator) -> tuple[tuple[str, Any], ...]:
    options = file.options(operator)
    given = options if isinstance(options, dict) else vars(options) if options is not None else {}
    found = []
    for name, value in given.items():
        if name in _COUNTS or not isinstance(value, int | str):
            continue
        found.append((name, value > 1 if name.startswith(_STEPS) and isinstance(value, int) else value))
    return tuple(sorted(found))


def _shapes(operator: Operator) -> tuple[bool, ...]:
    """Whether shapes differ; of convolutions, whether a filter reads not all channels, and whether there is but one."""
    shapes = [tensor.shape for tensor in operator.inputs if tensor is not None]
    if operator.name in _BROADCASTING:
        return (len(set(shapes)) > 1,)
    if operator.name in _CONVOLUTIONS:
        return (shapes[0][-1] != shapes[1][-1], shapes[0][-1] == 1)
    return ()
