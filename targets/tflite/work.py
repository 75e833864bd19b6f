"""What the operators of a file have to do, in units each of which costs a core about the same wherever it occurs.

The units are those of bnncc's own kernels (targets/runtime), and of `bnncc_run`, which runs the operators in between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bnncc.targets.costs import Work
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor

ELEMENTWISE = {
    "ABS", "ADD", "CAST", "CEIL", "DEQUANTIZE", "DIV", "EQUAL", "FLOOR", "GREATER", "GREATER_EQUAL", "HARD_SWISH",
    "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "MAXIMUM", "MINIMUM", "MUL", "NEG",
    "NOT_EQUAL", "PRELU", "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "SELECT", "SELECT_V2",
    "SIGN", "SQRT", "SQUARE", "SUB",
}  # fmt: skip
FUNCTIONS = {
    "COS", "ELU", "EXP", "FLOOR_MOD", "GELU", "LOG", "LOGISTIC", "LOG_SOFTMAX", "POW", "SIN", "SOFTMAX", "TANH",
}  # fmt: skip
REDUCTIONS = {
    "ARG_MAX", "ARG_MIN", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM", "TOPK_V2",
}  # fmt: skip
POOLS = {"AVERAGE_POOL_2D", "MAX_POOL_2D"}
MOVES = {
    "BROADCAST_TO", "CONCATENATION", "DEPTH_TO_SPACE", "EXPAND_DIMS", "GATHER", "PACK",
    "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "SLICE", "SPACE_TO_DEPTH", "SPLIT",
    "SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK",
}  # fmt: skip
PADS = {"MIRROR_PAD", "PAD", "PADV2"}
# Those whose output needs of each input that is no constant the same pixel only: they can run on what is in a cache.
POINTWISE = {*ELEMENTWISE, *FUNCTIONS, "CONCATENATION", "LceDequantize", "LceQuantize"}
# Those that the delegate runs (runtime/operator.cc) where they are connected with operators of LCE's, and then tile by
# tile.
DELEGATED = {
    "ABS", "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE",
    "DEQUANTIZE", "DIV", "FULLY_CONNECTED", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "LceBMaxPool2d", "LceBconv2d",
    "LceDequantize", "LceQuantize", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "NEG", "PAD", "PADV2",
    "PRELU", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE", "REVERSE_V2", "SPACE_TO_DEPTH", "SPLIT",
    "SPLIT_V", "STRIDED_SLICE", "SUB", "TRANSPOSE",
}  # fmt: skip
# Of these, those that it takes in int8 alone.
INTEGER_ALONE = {"DEPTHWISE_CONV_2D"}
# Of DELEGATED, those that can be one loop with the operator that writes their input (runtime/operators/elementwise.cc).
CHAINED = DELEGATED & {*ELEMENTWISE, "CONCATENATION"} - {"HARD_SWISH"}

LANES = 4  # of a vector of floats or words


def is_computed_once(file: TfliteFile, operator: Operator) -> bool:
    """Whether all that it reads is constant: the interpreter runs it when it loads the file."""
    return all(tensor is None or file.data(tensor) is not None for tensor in operator.inputs)


def work(file: TfliteFile, operator: Operator) -> dict[Work, float] | None:
    """Units of each kind of work in one inference; None where nothing is known of such an operator."""
    if is_computed_once(file, operator):
        return {}
    amounts = _work(file, operator)
    return None if amounts is None else {Work.CALL: 1, **amounts}


def _work(file: TfliteFile, operator: Operator) -> Mapping[Work, float] | None:
    name = operator.name
    outputs = sum(math.prod(tensor.shape) for tensor in operator.outputs)
    inputs = math.prod(_input(operator, 0).shape)
    if name == "LceBconv2d":
        return _binary_convolution(operator)
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return _convolution(operator)
    if name == "TRANSPOSE_CONV":
        products = math.prod(_input(operator, 2).shape) * math.prod(_input(operator, 1).shape[:3])
        return {Work.FLOAT_PRODUCT: products, Work.FLOAT_OUTPUT: outputs}
    if name == "BATCH_MATMUL":
        return {Work.FLOAT_PRODUCT: outputs * _input(operator, 0).shape[-1], Work.FLOAT_OUTPUT: outputs}
    if name == "FULLY_CONNECTED":
        return {Work.VECTOR_PRODUCT: outputs * _input(operator, 1).shape[-1]}
    rows = _rows(operator)
    if name in POOLS:
        options = file.options(operator)
        window = getattr(options, "filterHeight", 1) * getattr(options, "filterWidth", 1)
        return {Work.POOLED: outputs * window, Work.ROW: rows * window}
    if name == "LceBMaxPool2d":
        return {Work.POOLED: inputs}
    if name == "REVERSE_V2":
        axes = file.data(_input(operator, 1))
        last = max((int(axis) for axis in np.ravel(axes)), default=0) if axes is not None else 0
        return {Work.MOVED: outputs, Work.ROW: math.prod(operator.outputs[0].shape[: last + 1])}
    if name in ("CONCATENATION", "TRANSPOSE"):
        return {Work.MOVED: outputs, Work.ROW: rows}
    if name in ELEMENTWISE and _has_gate(file, operator):
        return {Work.ELEMENT: outputs, Work.ROW: rows}
    for names, kind, amount in (
        (ELEMENTWISE, Work.ELEMENT, outputs),
        ({"LOGISTIC"}, Work.GATE, outputs),
        (FUNCTIONS, Work.FUNCTION, outputs),
        (REDUCTIONS, Work.REDUCED, inputs),
        (MOVES, Work.MOVED, outputs),
        (PADS, Work.PADDED, outputs),
        ({"LceQuantize"}, Work.SIGN, inputs),
        ({"LceDequantize"}, Work.SIGN, outputs),
    ):
        if name in names:
            return {kind: amount}
    return None


def _binary_convolution(operator: Operator) -> Mapping[Work, float]:
    channels, height, width, words = _input(operator, 1).shape
    groups = _input(operator, 0).shape[-1] // words
    pixels = math.prod(operator.outputs[0].shape[:-1])
    patch = pixels * height * width * words
    return {
        Work.BINARY_PRODUCT: patch * groups * -(-channels // groups // LANES),
        Work.BINARY_SUM: pixels * channels,
        Work.PATCH_WORD: patch * groups,
    }


def _convolution(operator: Operator) -> Mapping[Work, float]:
    channels, height, width, depth = _input(operator, 1).shape
    outputs = math.prod(operator.outputs[0].shape)
    pixels = outputs // operator.outputs[0].shape[-1]
    if operator.name == "DEPTHWISE_CONV_2D":
        window = height * width
        return {Work.DEPTHWISE_PRODUCT: outputs * window, Work.FLOAT_OUTPUT: outputs, Work.ROW: pixels * window}
    taps = pixels * height * width if height * width > 1 else 0  # a 1x1 window reads the map itself
    rows = -(-channels // (2 * LANES)) * 2 * LANES  # a panel of filters is whole
    return {
        Work.FLOAT_PRODUCT: pixels * height * width * depth * rows,
        Work.FLOAT_OUTPUT: outputs,
        Work.FLOAT_TAP: taps,
    }


def _rows(operator: Operator) -> int:
    """Runs along the last axis of all outputs."""
    return sum(math.prod(tensor.shape[:-1]) for tensor in operator.outputs)


def _has_gate(file: TfliteFile, operator: Operator) -> bool:
    """Whether a computed input has fewer elements than the output: one value a channel, as a rule."""
    size = math.prod(operator.outputs[0].shape)
    return any(
        tensor is not None and file.data(tensor) is None and math.prod(tensor.shape) < size
        for tensor in operator.inputs
    )


def _input(operator: Operator, index: int) -> Tensor:
    tensor = operator.inputs[index]
    assert tensor is not None, f"{operator.name} lacks input {index}"
    return tensor
