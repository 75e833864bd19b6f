"""Rows of unequal size become rows of one size and a factor for each; the floats are the same to the bit."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from torch import nn

from bnncc import compile
from bnncc.ir.evaluate import run, skeleton, weights_of
from bnncc.ir.graph import constant_of
from bnncc.options import Options
from bnncc.passes.balance_rows import BalanceRows
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify
from tests.passes.helpers import build, operators

GENERATOR = np.random.default_rng(5)
SIZES = np.float32([3.0, 0.1, 1e-3, 0.0, 2.9, 40.0])
ROWS = (GENERATOR.standard_normal((6, 8)) * SIZES[:, None]).astype(np.float32)
BIAS = GENERATOR.standard_normal(6).astype(np.float32)
BODIES = {
    "transposed": ("y = Gemm <transB = 1> (x, w, b)", {"w": ROWS, "b": BIAS}),
    "scaled": ("y = Gemm <alpha = 0.7, beta = -2.0> (x, w, b)", {"w": ROWS.T.copy(), "b": BIAS}),
    "one_bias": ("y = Gemm (x, w, b)", {"w": ROWS.T.copy(), "b": BIAS[:1]}),
    "no_bias": ("y = Gemm (x, w)", {"w": ROWS.T.copy()}),
    "matmul": ("y = MatMul (x, w)", {"w": ROWS.T.copy()}),
}


def outputs(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return run(skeleton(model), {**weights_of(model), "x": x})["y"]


@pytest.mark.parametrize("name", BODIES)
def test_balanced_rows_give_the_same_floats(name: str) -> None:
    body, constants = BODIES[name]
    model = build(body, "float[5, 8] x", **constants)
    x = GENERATOR.standard_normal((5, 8)).astype(np.float32)
    before = outputs(model, x)
    assert BalanceRows(1)(model).modified
    np.testing.assert_array_equal(outputs(model, x), before)
    assert operators(model)["Mul"] == 1
    product = next(node for node in model.graph if node.op_type in ("Gemm", "MatMul"))
    weight = constant_of(product.inputs[1])
    assert weight is not None
    largest = np.abs(weight).max(axis=1 if name == "transposed" else 0)
    largest = largest[largest > 0]
    assert len(largest) == 5
    assert largest.max() < 2 * largest.min()
    assert not BalanceRows(1)(model).modified


@pytest.mark.parametrize(
    ("weight", "smallest"),
    [
        pytest.param(ROWS[[0, 4]], 1, id="of one size"),
        pytest.param(ROWS, 49, id="small"),
        pytest.param(np.zeros((3, 4), np.float32), 1, id="zeros"),
    ],
)
def test_rows_are_left_as_they_are_where_there_is_nothing_to_gain(weight: np.ndarray, smallest: int) -> None:
    model = build("y = MatMul (x, w)", f"float[5, {weight.shape[1]}] x", w=weight.T.copy())
    assert not BalanceRows(smallest)(model).modified


def test_rows_are_left_as_they_are_where_a_bias_would_leave_the_range() -> None:
    weight = np.float32([[1e-30] * 4, [1.0] * 4])
    model = build("y = Gemm (x, w, b)", "float[5, 4] x", w=weight.T.copy(), b=np.float32([1e38, 0]))
    assert not BalanceRows(1)(model).modified


def test_a_linear_of_unequal_rows_keeps_its_accuracy_in_int8() -> None:
    """One scale for all rows of a FULLY_CONNECTED, and no row in much larger steps than it would have alone."""
    linear = nn.Linear(64, 32)
    linear.weight.data *= 10 ** nn.init.uniform_(linear.bias.new_empty(32, 1), -3, 1)
    compiled = compile(linear, input_shapes=["4x64"], options=Options(weights_precision=WeightsPrecision.INT8))
    file = TfliteFile(compiled.content)
    assert [operator.name for operator in file.operators] == ["FULLY_CONNECTED", "MUL"]
    (weights,) = [tensor for tensor in file.tensors if tensor.dtype == "int8"]
    assert weights.quantization is not None
    assert len(weights.quantization.scales) == 1
    data = file.data(weights)
    assert data is not None
    assert np.abs(data.astype(int)).max(axis=1).min() >= 63
    found = verify(compiled, [[GENERATOR.standard_normal((4, 64)).astype(np.float32)]])
    assert found.passed, found.problems
    assert len(found.rounded) == 1
