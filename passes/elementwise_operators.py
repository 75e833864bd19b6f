"""What each elementwise operator computes of piecewise-linear functions.

    x ─ f ─ Clip(-1, 1) ─ y        y = min(max(f(x), -1), 1)

One entry an operator; an operator whose result is no such function yields None.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.passes import piecewise_operations as operations
from bnncc.passes.affine import affine_of
from bnncc.passes.piecewise import Function, Matrix, constant
from bnncc.passes.positive import positive_factor

# Functions with the sign of their argument, and the bound of their magnitude; Gelu is 0 below -6 in float32.
SIGN_KEEPING = {
    "Tanh": 1.0, "Erf": 1.0, "Softsign": 1.0, "Atan": np.pi / 2, "Asinh": np.inf, "Sinh": np.inf, "Selu": np.inf,
    "Elu": np.inf, "Celu": np.inf, "Mish": np.inf,
}  # fmt: skip

COMPARISONS: dict[str, Callable[[Matrix], npt.NDArray[np.bool_]]] = {
    "Less": lambda s: s < 0,
    "LessOrEqual": lambda s: s <= 0,
    "Greater": lambda s: s > 0,
    "GreaterOrEqual": lambda s: s >= 0,
    "Equal": lambda s: s == 0,
}

ELEMENTWISE = {
    *SIGN_KEEPING, *COMPARISONS, "Sigmoid", "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sign", "Relu", "Clip",
    "LeakyRelu", "PRelu", "ThresholdedRelu", "HardSigmoid", "Max", "Min", "Sum", "Where", "Not", "And", "Or", "Xor",
    "Cast", "CastLike", "Round", "Floor", "Ceil", "Identity", "BatchNormalization", "Pow", "Exp", "Log", "Sqrt",
    "Reciprocal",
}  # fmt: skip


# What bounds with numbers beyond all values leaves them as they are; other operators compute with such numbers, or ask
# for infinities, which no line is.
BOUNDING = {"Clip", "Max", "Min"}
BEYOND_VALUES = 1e30


def apply_operator(node: ir.Node, arguments: list[Function]) -> Function:
    """The function that `node` computes of functions; None where it is not piecewise linear."""
    if node.op_type not in BOUNDING and any(map(_is_beyond_values, arguments)):
        return None
    if node.op_type in COMPARISONS and node.inputs[0] is node.inputs[1]:
        return None  # asks for NaN
    if ops.is_sign(node):
        signs = operations.compare(arguments[0], constant(0.0), lambda s: s >= 0)
        return operations.add(operations.multiply(signs, constant(2.0)), constant(-1.0))
    if node.op_type in COMPARISONS:
        return operations.compare(arguments[0], arguments[1], COMPARISONS[node.op_type])
    if node.op_type in SIGN_KEEPING:
        growing = node.attributes.get_float("alpha", 1.0) > 0 and node.attributes.get_float("gamma", 1.0) > 0
        return operations.monotone(arguments[0], 0.0, SIGN_KEEPING[node.op_type]) if growing else None
    reach = positive_factor(node)
    if reach is not None:
        return operations.monotone(arguments[0], 0.0, reach)
    if node.op_type == "BatchNormalization":
        step = affine_of(node)
        if step is None:
            return None
        scaled = operations.multiply(arguments[0], constant(step[1].scale))
        return operations.add(scaled, constant(step[1].shift))
    integer = node.outputs[0].dtype is not None and not node.outputs[0].dtype.is_floating_point()
    return OPERATORS[node.op_type](node, arguments, integer)


def _is_beyond_values(function: Function) -> bool:
    """True for a function that is a number so large, or none at all, in a channel."""
    if function is None:
        return False
    return not bool(np.all(np.abs(function.offsets[function.slopes == 0]) < BEYOND_VALUES))


def _clip(node: ir.Node, arguments: list[Function], _: bool) -> Function:
    function = arguments[0]
    for index, bounded in ((1, operations.maximum), (2, operations.minimum)):
        if len(node.inputs) > index and node.inputs[index] is not None:
            function = bounded(function, arguments[index])
    return function


def _cast(node: ir.Node, arguments: list[Function], integer: bool) -> Function:
    if node.outputs[0].dtype == ir.DataType.BOOL:
        return _not(operations.compare(arguments[0], constant(0.0), COMPARISONS["Equal"]))
    return operations.truncate(arguments[0]) if integer else arguments[0]


def _not(condition: Function) -> Function:
    return operations.subtract(constant(1.0), condition)


def _hard_sigmoid(node: ir.Node, arguments: list[Function], _: bool) -> Function:
    line = operations.multiply(arguments[0], constant(node.attributes.get_float("alpha", 0.2)))
    line = operations.add(line, constant(node.attributes.get_float("beta", 0.5)))
    return operations.minimum(operations.maximum(line, constant(0.0)), constant(1.0))


def _thresholded(node: ir.Node, arguments: list[Function], _: bool) -> Function:
    above = operations.compare(arguments[0], constant(node.attributes.get_float("alpha", 1.0)), COMPARISONS["Greater"])
    return operations.select(above, arguments[0], constant(0.0))


def _fold(operation: Callable[[Function, Function], Function]) -> Callable[[ir.Node, list[Function], bool], Function]:
    def apply(_node: ir.Node, arguments: list[Function], _: bool) -> Function:
        result = arguments[0]
        for other in arguments[1:]:
            result = operation(result, other)
        return result

    return apply


OPERATORS: dict[str, Callable[[ir.Node, list[Function], bool], Function]] = {
    "Add": _fold(operations.add),
    "Sum": _fold(operations.add),
    "Sub": _fold(operations.subtract),
    "Mul": _fold(operations.multiply),
    "Div": lambda _, f, integer: None if integer else operations.divide(f[0], f[1]),
    "Max": _fold(operations.maximum),
    "Min": _fold(operations.minimum),
    "And": _fold(operations.multiply),
    "Or": _fold(operations.maximum),
    "Xor": lambda _, f, integer: _not(operations.compare(f[0], f[1], COMPARISONS["Equal"])),
    "Not": lambda _, f, integer: _not(f[0]),
    "Neg": lambda _, f, integer: operations.negate(f[0]),
    "Abs": lambda _, f, integer: operations.absolute(f[0]),
    "Sign": lambda _, f, integer: operations.sign(f[0]),
    "Relu": lambda _, f, integer: operations.maximum(f[0], constant(0.0)),
    "LeakyRelu": lambda node, f, _: operations.leaky(f[0], constant(node.attributes.get_float("alpha", 0.01))),
    "PRelu": lambda _, f, integer: operations.leaky(f[0], f[1]),
    "Sigmoid": lambda _, f, integer: operations.monotone(f[0], 0.5, 0.5),
    "Where": lambda _, f, integer: operations.select(f[0], f[1], f[2]),
    "Round": lambda _, f, integer: operations.quantize(f[0], np.rint, 0.5),
    "Floor": lambda _, f, integer: operations.quantize(f[0], np.floor, 0.0),
    "Ceil": lambda _, f, integer: operations.quantize(f[0], np.ceil, 0.0),
    "Identity": lambda _, f, integer: f[0],
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast,
    "Pow": lambda _, f, integer: operations.apply(np.power, f[0], f[1]),
    "Exp": lambda _, f, integer: operations.apply(np.exp, f[0]),
    "Log": lambda _, f, integer: operations.apply(np.log, f[0]),
    "Sqrt": lambda _, f, integer: operations.apply(np.sqrt, f[0]),
    "Reciprocal": lambda _, f, integer: operations.divide(constant(1.0), f[0]),
    "HardSigmoid": _hard_sigmoid,
    "ThresholdedRelu": _thresholded,
}
