"""Activations: those with a kernel of their own, and those that a few exact steps make."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext
from bnncc.targets.tflite.layout import PLAIN, ordered
from bnncc.targets.tflite.lowerings.operands import apply, emit_broadcast, input_of, optional_input, scalar
from bnncc.targets.tflite.writer import Tensor

_CLIPS = {
    (0.0, np.inf): BuiltinOperator.RELU,
    (0.0, 6.0): BuiltinOperator.RELU6,
    (-1.0, 1.0): BuiltinOperator.RELU_N1_TO_1,
    (0.0, 1.0): BuiltinOperator.RELU_0_TO_1,
}
# Up to which rank PRELU's kernel works.
PRELU_RANK = 4
# What erf is computed for in place of anything nearer to 0.
TINY = 1e-20
# Of Selu, as ONNX defines them.
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def lower_relu(node: ir.Node, context: LoweringContext) -> None:
    """y = max(x, 0)."""
    tensor, result = _same_layout(node, context)
    _clip(context, tensor, 0.0, np.inf, result)


def lower_clip(node: ir.Node, context: LoweringContext) -> None:
    """y = min(max(x, low), high); bounds may be absent or computed."""
    tensor, result = _same_layout(node, context)
    given = [optional_input(node, index) for index in (1, 2)]
    arrays = [context.constant_value(value) for value in given]
    if all(value is None or array is not None for value, array in zip(given, arrays, strict=True)):
        low, high = arrays
        _clip(context, tensor, -np.inf if low is None else low.item(), np.inf if high is None else high.item(), result)
        return
    steps = [
        (builtin, context.use(value, PLAIN))
        for builtin, value in zip((BuiltinOperator.MAXIMUM, BuiltinOperator.MINIMUM), given, strict=True)
        if value is not None
    ]
    for index, (builtin, bound) in enumerate(steps):
        output = result if index == len(steps) - 1 else None
        tensor = apply(context, builtin, tensor, bound, output=output, options=schema.MaximumMinimumOptionsT())


def _clip(context: LoweringContext, tensor: Tensor, low: float, high: float, result: Tensor) -> None:
    """One operator for the well-known bounds of a float, else MAXIMUM and MINIMUM."""
    builtin = _CLIPS.get((low, high))
    if builtin is not None and tensor.dtype == "float32":
        apply(context, builtin, tensor, output=result)
        return
    options = schema.MaximumMinimumOptionsT()
    bounds = [
        (builtin, scalar(context, bound, tensor.dtype))
        for builtin, bound in ((BuiltinOperator.MAXIMUM, low), (BuiltinOperator.MINIMUM, high))
        if np.isfinite(bound)
    ] or [(BuiltinOperator.MAXIMUM, tensor)]
    for index, (builtin, operand) in enumerate(bounds):
        output = result if index == len(bounds) - 1 else None
        tensor = apply(context, builtin, tensor, operand, output=output, options=options)


def lower_prelu(node: ir.Node, context: LoweringContext) -> None:
    """y = x where x ≥ 0, slope·x elsewhere; one slope for all is a LEAKY_RELU.

    Where PRELU's kernel does not reach: max(x, 0) + slope·min(x, 0).
    """
    x, slope = input_of(node, 0), input_of(node, 1)
    array = context.constant_value(slope)
    if array is not None and array.size == 1:
        _leaky_relu(node, context, float(array.item()))
        return
    layout = context.layout(x) or PLAIN
    tensor, result = _same_layout(node, context)
    alpha = context.use(slope, layout, len(tensor.shape))
    if array is None or len(tensor.shape) > PRELU_RANK:
        options = schema.MaximumMinimumOptionsT()
        negative = apply(context, BuiltinOperator.MINIMUM, tensor, scalar(context, 0), options=options)
        scaled = apply(context, BuiltinOperator.MUL, negative, alpha, options=schema.MulOptionsT())
        positive = apply(context, BuiltinOperator.RELU, tensor)
        apply(context, BuiltinOperator.ADD, positive, scaled, output=result, options=schema.AddOptionsT())
        return
    # The kernel takes alpha without leading ones, as TensorFlow writes it.
    shape = alpha.shape[next((axis for axis, size in enumerate(alpha.shape) if size != 1), 0) :]
    arranged = layout.arrange(array.reshape((1,) * (len(tensor.shape) - array.ndim) + array.shape))
    alpha = context.constant(arranged.reshape(shape).astype(np.float32), slope.name or "slope")
    context.emit(BuiltinOperator.PRELU, [tensor, alpha], [result])


def lower_leaky_relu(node: ir.Node, context: LoweringContext) -> None:
    """y = x where x ≥ 0, alpha·x elsewhere."""
    _leaky_relu(node, context, node.attributes.get_float("alpha", 0.01))


def _leaky_relu(node: ir.Node, context: LoweringContext, alpha: float) -> None:
    tensor, result = _same_layout(node, context)
    options = schema.LeakyReluOptionsT()
    options.alpha = alpha
    context.emit(BuiltinOperator.LEAKY_RELU, [tensor], [result], options)


def lower_hard_sigmoid(node: ir.Node, context: LoweringContext) -> None:
    """y = clip(α·x + β, 0, 1); with α = 1/6 it is relu6(x + 6·β) / 6, which saves a step."""
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    tensor, result = _same_layout(node, context)
    if np.float32(alpha) == np.float32(1 / 6):
        add = schema.AddOptionsT()
        add.fusedActivationFunction = schema.ActivationFunctionType.RELU6
        shifted = apply(context, BuiltinOperator.ADD, tensor, scalar(context, 6 * beta), options=add)
        _mul(context, shifted, 1 / 6, result)
        return
    shifted = _add(context, _mul(context, tensor, alpha), beta)
    apply(context, BuiltinOperator.RELU_0_TO_1, shifted, output=result)


def lower_elu(node: ir.Node, context: LoweringContext) -> None:
    """y = x where x > 0, α·(eˣ - 1) elsewhere."""
    tensor, result = _same_layout(node, context)
    alpha = node.attributes.get_float("alpha", 1.0)
    if alpha == 1:
        apply(context, BuiltinOperator.ELU, tensor, output=result)
    else:
        _scaled_elu(context, tensor, alpha, 1.0, result)


def lower_selu(node: ir.Node, context: LoweringContext) -> None:
    """y = γ·elu(x; α)."""
    tensor, result = _same_layout(node, context)
    alpha = node.attributes.get_float("alpha", SELU_ALPHA)
    gamma = node.attributes.get_float("gamma", SELU_GAMMA)
    scaled = _scaled_elu(context, tensor, alpha, 1.0)
    _mul(context, scaled, gamma, result)


def lower_celu(node: ir.Node, context: LoweringContext) -> None:
    """y = x where x > 0, α·(e^(x/α) - 1) elsewhere."""
    tensor, result = _same_layout(node, context)
    alpha = node.attributes.get_float("alpha", 1.0)
    _scaled_elu(context, tensor, alpha, 1 / alpha, result)


def _scaled_elu(
    context: LoweringContext, tensor: Tensor, factor: float, inner: float, result: Tensor | None = None
) -> Tensor:
    """max(x, 0) + factor·elu(inner·min(x, 0))."""
    positive = apply(context, BuiltinOperator.RELU, tensor)
    options = schema.MaximumMinimumOptionsT()
    negative = apply(context, BuiltinOperator.MINIMUM, tensor, scalar(context, 0), options=options)
    if inner != 1:
        negative = _mul(context, negative, inner)
    tail = _mul(context, apply(context, BuiltinOperator.ELU, negative), factor)
    return apply(context, BuiltinOperator.ADD, positive, tail, output=result, options=schema.AddOptionsT())


def lower_softplus(node: ir.Node, context: LoweringContext) -> None:
    """y = log(1 + eˣ) = max(x, 0) + log(1 + e^-|x|), which does not overflow."""
    tensor, result = _same_layout(node, context)
    _softplus(context, tensor, result)


def lower_mish(node: ir.Node, context: LoweringContext) -> None:
    """y = x·tanh(softplus(x))."""
    tensor, result = _same_layout(node, context)
    gate = apply(context, BuiltinOperator.TANH, _softplus(context, tensor))
    apply(context, BuiltinOperator.MUL, tensor, gate, output=result, options=schema.MulOptionsT())


def _softplus(context: LoweringContext, tensor: Tensor, result: Tensor | None = None) -> Tensor:
    size = apply(context, BuiltinOperator.ABS, tensor)
    power = apply(context, BuiltinOperator.EXP, apply(context, BuiltinOperator.NEG, size))
    tail = apply(context, BuiltinOperator.LOG, _add(context, power, 1.0))
    positive = apply(context, BuiltinOperator.RELU, tensor)
    return apply(context, BuiltinOperator.ADD, positive, tail, output=result, options=schema.AddOptionsT())


def lower_softsign(node: ir.Node, context: LoweringContext) -> None:
    """y = x / (1 + |x|)."""
    tensor, result = _same_layout(node, context)
    divisor = _add(context, apply(context, BuiltinOperator.ABS, tensor), 1.0)
    apply(context, BuiltinOperator.DIV, tensor, divisor, output=result, options=schema.DivOptionsT())


def lower_gelu(node: ir.Node, context: LoweringContext) -> None:
    """y = x·Φ(x), exact or by tanh."""
    tensor, result = _same_layout(node, context)
    options = schema.GeluOptionsT()
    options.approximate = node.attributes.get_string("approximate", "none") == "tanh"
    context.emit(BuiltinOperator.GELU, [tensor], [result], options)


def lower_erf(node: ir.Node, context: LoweringContext) -> None:
    """erf(x) = 2·gelu(√2·x) / (√2·x) - 1, for the lack of a kernel: gelu(t) = t·(1 + erf(t / √2)) / 2.

    Where |x| is below TINY, where the quotient might be 0 / 0, erf(TINY) stands for erf(x): both round to 0 beside 1.
    """
    tensor, result = _same_layout(node, context)
    size = apply(context, BuiltinOperator.ABS, tensor)
    small = context.temporary(f"{result.name}/small", tensor.shape, np.bool_)
    apply(context, BuiltinOperator.LESS, size, scalar(context, TINY), output=small, options=schema.LessOptionsT())
    safe = context.temporary(f"{result.name}/safe", tensor.shape, tensor.dtype)
    operands = [small, scalar(context, TINY), tensor]
    emit_broadcast(context, BuiltinOperator.SELECT_V2, operands, safe, schema.SelectV2OptionsT())
    stretched = _mul(context, safe, np.sqrt(2))
    gelu = apply(context, BuiltinOperator.GELU, stretched, options=schema.GeluOptionsT())
    half = apply(context, BuiltinOperator.DIV, gelu, stretched, options=schema.DivOptionsT())
    _add(context, _mul(context, half, 2.0), -1.0, result)


def lower_softmax(node: ir.Node, context: LoweringContext) -> None:
    """Softmax or LogSoftmax along `axis`, which the kernels want stored last."""
    x, output = input_of(node, 0), node.outputs[0]
    rank = len(context.shape(x))
    axis = node.attributes.get_int("axis", -1) % rank
    order = context.axes_layout(x).permutation(rank)
    layout = ordered([*(other for other in order if other != axis), axis])
    tensor, result = context.use(x, layout), context.define(output, layout)
    if node.op_type == "Softmax":
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        context.emit(BuiltinOperator.SOFTMAX, [tensor], [result], options)
    else:
        context.emit(BuiltinOperator.LOG_SOFTMAX, [tensor], [result], schema.LogSoftmaxOptionsT())


def _same_layout(node: ir.Node, context: LoweringContext) -> tuple[Tensor, Tensor]:
    """The tensors of x and y, y stored as x is."""
    x = input_of(node, 0)
    layout = context.layout(x) or PLAIN
    return context.use(x, layout), context.define(node.outputs[0], layout)


def _mul(context: LoweringContext, tensor: Tensor, factor: float, output: Tensor | None = None) -> Tensor:
    options = schema.MulOptionsT()
    return apply(context, BuiltinOperator.MUL, tensor, scalar(context, factor), output=output, options=options)


def _add(context: LoweringContext, tensor: Tensor, term: float, output: Tensor | None = None) -> Tensor:
    options = schema.AddOptionsT()
    return apply(context, BuiltinOperator.ADD, tensor, scalar(context, term), output=output, options=options)


LOWERINGS = {
    "Relu": lower_relu,
    "Clip": lower_clip,
    "PRelu": lower_prelu,
    "LeakyRelu": lower_leaky_relu,
    "HardSigmoid": lower_hard_sigmoid,
    "Elu": lower_elu,
    "Selu": lower_selu,
    "Celu": lower_celu,
    "Softplus": lower_softplus,
    "Softsign": lower_softsign,
    "Mish": lower_mish,
    "Gelu": lower_gelu,
    "Erf": lower_erf,
    "Softmax": lower_softmax,
    "LogSoftmax": lower_softmax,
}
