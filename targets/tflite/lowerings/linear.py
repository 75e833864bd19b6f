"""Gemm, MatMul and BatchNormalization.  TensorFlow Lite's FULLY_CONNECTED takes weights [O, I]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.context import LoweringContext, UnsupportedError
from bnncc.targets.tflite.layout import PLAIN
from bnncc.targets.tflite.lowerings.operands import apply, input_of, optional_input, scalar
from bnncc.targets.tflite.writer import Tensor

# The first version of FULLY_CONNECTED that keeps leading axes.
KEEP_DIMS_VERSION = 5
# The first version that quantises its input asymmetrically.
HYBRID_VERSION = 9


def lower_gemm(node: ir.Node, context: LoweringContext) -> None:
    """y = α·A'·B' + β·C, where A' and B' may be transposed.

    With a constant B, and C absent or one number an output: FULLY_CONNECTED, α and β in its constants.
    """
    a, b, c = input_of(node, 0), input_of(node, 1), optional_input(node, 2)
    _refuse_integers(a, context)
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    transpose_a, transpose_b = bool(node.attributes.get_int("transA", 0)), bool(node.attributes.get_int("transB", 0))
    weight, offset = _float_constant(b, context), _float_constant(c, context)
    columns = context.shape(node.outputs[0])[1]
    per_column = offset is not None and offset.size in (1, columns) and offset.shape[:-1] in ((), (1,))
    if weight is not None and (c is None or per_column):
        bias = np.zeros(columns, np.float32) if offset is None else np.broadcast_to(offset.reshape(-1), columns)
        weight = np.float32(alpha) * (weight if transpose_b else weight.T)
        _fully_connected(node, context, a, weight, np.float32(beta) * bias, transpose_a)
        return
    result = context.define(node.outputs[0], PLAIN)
    steps = [(BuiltinOperator.MUL, schema.MulOptionsT(), scalar(context, alpha))] if alpha != 1 else []
    if c is not None:
        term = context.use(c, PLAIN)
        if beta != 1:
            term = apply(context, BuiltinOperator.MUL, term, scalar(context, beta), options=schema.MulOptionsT())
        steps.append((BuiltinOperator.ADD, schema.AddOptionsT(), term))
    tensor = _like(result, "product", context) if steps else result
    _batch_matmul(context.use(a, PLAIN), context.use(b, PLAIN), tensor, context, transpose_a, transpose_b)
    for index, (builtin, options, operand) in enumerate(steps):
        output = result if index == len(steps) - 1 else None
        tensor = apply(context, builtin, tensor, operand, output=output, options=options)


def _refuse_integers(value: ir.Value, context: LoweringContext) -> None:
    """No interpreter takes them."""
    if context.dtype(value) != np.float32:
        raise UnsupportedError(f"a product of {context.dtype(value)}; only float32 has a kernel: multiply x.float()")


def _float_constant(value: ir.Value | None, context: LoweringContext) -> npt.NDArray[np.float32] | None:
    array = context.constant_value(value)
    return None if array is None else array.astype(np.float32)


def lower_matmul(node: ir.Node, context: LoweringContext) -> None:
    """y = A·B over the last two axes; a constant matrix B makes it a FULLY_CONNECTED."""
    a, b = input_of(node, 0), input_of(node, 1)
    _refuse_integers(a, context)
    weight = context.constant_value(b)
    if weight is not None and weight.ndim == 2 and len(context.shape(a)) > 1:
        weight = np.ascontiguousarray(weight.T).astype(np.float32)
        _fully_connected(node, context, a, weight, np.zeros(weight.shape[0], np.float32))
        return
    output = node.outputs[0]
    shape_a, shape_b = context.shape(a), context.shape(b)
    left, right = context.use(a, PLAIN), context.use(b, PLAIN)
    # NumPy's rule for vectors: [K] is [1, K] on the left, [K, 1] on the right, and the 1 disappears from the result.
    left = context.reshape(left, (1, *shape_a)) if len(shape_a) == 1 else left
    right = context.reshape(right, (*shape_b, 1)) if len(shape_b) == 1 else right
    result = context.define(output, PLAIN)
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    whole = (*batch, left.shape[-2], right.shape[-1])
    if len(whole) > 5:
        raise UnsupportedError("a product of rank 6 or more")
    product = result if whole == result.shape else context.temporary(f"{result.name}/product", whole, result.dtype)
    _batch_matmul(left, right, product, context)
    if product is not result:
        context.reshape(product, result.shape, result)


def _fully_connected(
    node: ir.Node,
    context: LoweringContext,
    value: ir.Value,
    weight: npt.NDArray[np.generic],
    bias: npt.NDArray[np.generic],
    transpose: bool = False,
) -> None:
    """y = value · weightᵀ + bias; a flattened value's order goes into the weight's input axis."""
    activation, output = context.fuse_activation(node.outputs[0])
    if transpose:
        tensor = context.transpose(context.use(value, PLAIN), (1, 0))
    else:
        layout = context.layout(value) or PLAIN
        layout = layout if layout.flat is not None else PLAIN
        tensor, weight = context.use(value, layout), layout.arrange(weight)
    if len(tensor.shape) == 2:
        # FULLY_CONNECTED reads rows of as many elements as the weights have, in whatever shape they are: no RESHAPE.
        tensor = context.before_reshape(tensor)
    result = context.define(output, PLAIN)
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = activation
    options.keepNumDims = len(result.shape) > 2
    filters = context.weight(weight, f"{result.name}/weight", axis=0, shares_scale=True)
    offsets = context.constant(bias, f"{result.name}/bias")
    version = KEEP_DIMS_VERSION if options.keepNumDims else 1
    if filters.dtype == "int8":
        options.asymmetricQuantizeInputs, version = True, HYBRID_VERSION
    context.emit(BuiltinOperator.FULLY_CONNECTED, [tensor, filters, offsets], [result], options, version)


def _batch_matmul(
    left: Tensor,
    right: Tensor,
    result: Tensor,
    context: LoweringContext,
    transpose_left: bool = False,
    transpose_right: bool = False,
) -> None:
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = transpose_left, transpose_right
    context.emit(BuiltinOperator.BATCH_MATMUL, [left, right], [result], options)


def _like(tensor: Tensor, step: str, context: LoweringContext) -> Tensor:
    return context.temporary(f"{tensor.name}/{step}", tensor.shape, tensor.dtype)


def lower_batch_normalization(node: ir.Node, context: LoweringContext) -> None:
    """y = (x - μ)·γ/√(σ² + ε) + β as x·a + b, with a and b computed here (in float64)."""
    if node.attributes.get_int("training_mode", 0):
        raise UnsupportedError("training_mode")
    names = ("scale", "bias", "mean", "variance")
    arrays = [context.require_constant(node, index, f"the {name}") for index, name in enumerate(names, 1)]
    gamma, beta, mean, variance = (array.astype(np.float64) for array in arrays)
    factor = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    offset = beta - mean * factor
    x = input_of(node, 0)
    rank = len(context.shape(x))
    layout = context.layout(x) or PLAIN
    shape = (1, factor.size, *[1] * (rank - 2))
    activation, output = context.fuse_activation(node.outputs[0])
    result = context.define(output, layout)
    terms = [
        context.constant(layout.arrange(array.reshape(shape)).astype(np.float32), f"{result.name}/{name}")
        for array, name in ((factor, "factor"), (offset, "offset"))
    ]
    options = schema.AddOptionsT()
    options.fusedActivationFunction = activation
    scaled = apply(context, BuiltinOperator.MUL, context.use(x, layout), terms[0], options=schema.MulOptionsT())
    apply(context, BuiltinOperator.ADD, scaled, terms[1], output=result, options=options)


LOWERINGS = {"Gemm": lower_gemm, "MatMul": lower_matmul, "BatchNormalization": lower_batch_normalization}
