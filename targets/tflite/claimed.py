"""Which operators of a file bnncc's delegate computes itself, whatever the interpreter around it would make of them.

It takes LCE's operators, and of TensorFlow Lite's those that it knows and that hang together with them by a feature
map, or that are of 8-bit integers or stand between floats and 16-bit ones, wherever they are
(targets/runtime/claim.cc).  Said here is what it surely takes; of others it may take some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ai_edge_litert.schema_py_generated import Padding

from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor

_MOST_AXES = 8
_MOVED = ("float32", "int32")
# Of 8-bit integers.
_CONVERSIONS = {"QUANTIZE", "DEQUANTIZE"}
_INTEGER_MOVES = {"DEPTH_TO_SPACE", "PAD", "RESHAPE", "REVERSE_V2", "SPACE_TO_DEPTH", "TRANSPOSE"}
_INTEGER_LAYERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_INTEGER_OPERATORS = {
    "ADD", "AVERAGE_POOL_2D", "MAX_POOL_2D", "MUL", "PRELU", "RELU", "RELU6", "RELU_N1_TO_1",
}  # fmt: skip


def claimed(file: TfliteFile) -> set[int]:
    """The indices of the operators."""
    found = {
        operator.index for operator in file.operators if operator.name.startswith("Lce") or _is_integer(file, operator)
    }
    maps = {tensor.index for index in found for tensor in _maps(file, file.operators[index])}
    waiting = [one for one in file.operators if one.index not in found and found and _is_taken(file, one)]
    grows = True
    while grows:
        meeting = [one for one in waiting if any(tensor.index in maps for tensor in _maps(file, one))]
        grows = bool(meeting)
        for operator in meeting:
            found.add(operator.index)
            maps |= {tensor.index for tensor in _maps(file, operator)}
            waiting.remove(operator)
    return found


def _maps(file: TfliteFile, operator: Operator) -> list[Tensor]:
    """What it reads and yields that is no constant."""
    return [*file.activations(operator), *operator.outputs]


def _is_taken(file: TfliteFile, operator: Operator) -> bool:
    tensors = [tensor for tensor in (*operator.inputs, *operator.outputs) if tensor is not None]
    is_known = (
        operator.name in _TAKEN
        and bool(operator.outputs)
        and all(len(tensor.shape) <= _MOST_AXES for tensor in tensors)
    )
    return is_known and _TAKEN[operator.name](file, operator)


def _is_integer(file: TfliteFile, operator: Operator) -> bool:
    """True for an operator of 8-bit integers, each tensor of one scale, or a conversion of 16 bits, that it computes to
    the bit everywhere.
    """
    operands, constants = file.activations(operator), operator.inputs[len(file.activations(operator)) :]
    maps = [*operands, *operator.outputs]
    if any(len(tensor.shape) > _MOST_AXES for tensor in maps) or not operands:
        return False
    if operator.name in _CONVERSIONS:
        is_of_bytes = any(map(_is_bytes, maps)) and all(_is_bytes(one) or one.dtype == "float32" for one in maps)
        return is_of_bytes or {"float32" if one.dtype == "float32" else _is_short(one) for one in maps} == {
            "float32",
            True,
        }
    if not all(map(_is_bytes, maps)):
        return False
    if operator.name in _INTEGER_MOVES:
        are_known = all(tensor is not None and file.data(tensor) is not None for tensor in constants)
        return are_known and all(tensor.quantization == maps[0].quantization for tensor in maps)
    if operator.name in _INTEGER_LAYERS:
        return all(tensor is None or file.data(tensor) is not None for tensor in constants)
    return operator.name in _INTEGER_OPERATORS and {tensor.dtype for tensor in maps} == {"int8"}


def _is_bytes(tensor: Tensor) -> bool:
    scales = () if tensor.quantization is None else tensor.quantization.scales
    return tensor.dtype in ("int8", "uint8") and len(scales) == 1


def _is_short(tensor: Tensor) -> bool:
    """True for a tensor of int16 as the specification has it."""
    scale = tensor.quantization
    return tensor.dtype == "int16" and scale is not None and len(scale.scales) == 1 and not any(scale.zero_points)


def _are_floats(operator: Operator) -> bool:
    return all(one is not None and one.dtype == "float32" for one in (*operator.inputs, *operator.outputs))


def _is_elementwise(file: TfliteFile, operator: Operator) -> bool:
    """Of operands that are maps, or one number for each channel or pixel, which serves whole runs of the output."""
    y = operator.outputs[0].shape
    shapes = [tensor.shape for tensor in operator.inputs if tensor is not None]
    if operator.name == "PRELU" and shapes[0] != y:
        return False
    return _are_floats(operator) and len(y) > 0 and all(_lies_beside(shape, y) for shape in shapes)


def _lies_beside(x: tuple[int, ...], y: tuple[int, ...]) -> bool:
    """True where the axes that x lacks, but for the last one, are all behind those that it has."""
    x = (1,) * (len(y) - len(x)) + x
    if len(x) != len(y) or x[-1] not in (1, y[-1]):
        return False
    has_pixels = False
    for mine, whole in zip(x[-2::-1], y[-2::-1], strict=True):
        if mine != whole and has_pixels:
            return False
        has_pixels = has_pixels or (mine == whole and mine > 1)
    return True


def _is_convolution(file: TfliteFile, operator: Operator) -> bool:
    x, filters, *bias = (*operator.inputs, None, None)[: max(2, len(operator.inputs))]
    present = [tensor for tensor in operator.inputs if tensor is not None]
    if x is None or filters is None or any(tensor.dtype != "float32" for tensor in (*present, *operator.outputs)):
        return False
    constants = [filters, *(tensor for tensor in bias if tensor is not None)]
    if any(file.data(tensor) is None for tensor in constants) or len(x.shape) != len(filters.shape) != 4:
        return False
    options: Any = file.options(operator)
    sizes = zip(x.shape[1:3], filters.shape[1:3], (options.dilationHFactor, options.dilationWFactor), strict=True)
    fits = options.padding == Padding.SAME or all(size > (taps - 1) * step for size, taps, step in sizes)
    return x.shape[-1] == filters.shape[-1] and fits


def _is_pool(file: TfliteFile, operator: Operator) -> bool:
    return _are_floats(operator) and len(operator.outputs[0].shape) == 4


def _is_move(file: TfliteFile, operator: Operator) -> bool:
    """By amounts that are constant."""
    x, *others = operator.inputs or (None,)
    if x is None or not x.shape or x.dtype not in _MOVED:
        return False
    return all(tensor is not None and file.data(tensor) is not None for tensor in others)


_TAKEN: dict[str, Callable[[TfliteFile, Operator], bool]] = {
    **dict.fromkeys(
        ("ABS", "ADD", "DIV", "LEAKY_RELU", "MAXIMUM", "MINIMUM", "MUL", "NEG", "PRELU", "RELU", "RELU6",
         "RELU_N1_TO_1", "SUB"), _is_elementwise
    ),
    "CONV_2D": _is_convolution,
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _is_pool),
    **dict.fromkeys(
        ("DEPTH_TO_SPACE", "PAD", "PADV2", "RESHAPE", "REVERSE_V2", "SPACE_TO_DEPTH", "TRANSPOSE"), _is_move
    ),
}  # fmt: skip
