"""Channels of unequal size become channels of one size and a factor for each; the floats are the same to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.ir.evaluate import run, skeleton, weights_of
from bnncc.ir.graph import constant_of
from bnncc.passes.balance_channels import BalanceChannels, exponents_of
from tests.passes.helpers import build, operators

GENERATOR = np.random.default_rng(5)
SIZES = np.float32([3.0, 0.1, 1e-2, 0.0, 2.9, 4.0])
WEIGHT = (GENERATOR.standard_normal((6, 2, 3, 3)) * SIZES[:, None, None, None]).astype(np.float32)
BIAS = (GENERATOR.standard_normal(6) * SIZES).astype(np.float32)
EXPONENTS = exponents_of(SIZES.astype(np.float64))
# What follows the convolution, and the number of operators behind the product.
BODIES = {
    "alone": "y = Conv(x, w, b)",
    "relu": "a = Conv(x, w, b) y = Relu(a)",
    "max_pool": "a = Conv(x, w, b) r = Relu(a) y = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(r)",
    "average_pool": "a = Conv(x, w) y = AveragePool<kernel_shape=[2, 2]>(a)",
}


def test_the_largest_magnitude_sets_the_exponents_of_the_others() -> None:
    assert EXPONENTS == [0, -5, -8, 0, 0, 0]
    assert exponents_of(np.zeros(3)) == [0, 0, 0]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_balanced_channels_give_the_same_floats(body: str) -> None:
    model = build(body, "float[2, 2, 8, 8] x", w=WEIGHT, b=BIAS)
    x = GENERATOR.standard_normal((2, 2, 8, 8)).astype(np.float32)
    before = run(skeleton(model), {**weights_of(model), "x": x})["y"]
    name = next(node for node in model.graph if node.op_type == "Conv").outputs[0].name
    assert BalanceChannels({name or "": EXPONENTS})(model).modified
    np.testing.assert_array_equal(run(skeleton(model), {**weights_of(model), "x": x})["y"], before)
    # The product comes last: what is in front of it is int8.
    assert [node.op_type for node in model.graph][-1] == "Mul"
    weight = constant_of(next(node for node in model.graph if node.op_type == "Conv").inputs[1])
    assert weight is not None
    np.testing.assert_array_equal(weight, np.ldexp(WEIGHT, -np.reshape(EXPONENTS, (-1, 1, 1, 1))))


@pytest.mark.parametrize(
    "body", ["a = Conv(x, w, b) y = Clip(a, low, high)", "y = Conv(x, w, b)"], ids=["clip", "another name"]
)
def test_what_is_not_balanced_stays_as_it_is(body: str) -> None:
    limits = {"low": np.float32(0), "high": np.float32(6)} if "Clip" in body else {}
    model = build(body, "float[2, 2, 8, 8] x", w=WEIGHT, b=BIAS, **limits)
    name = model.graph[0].outputs[0].name if "Clip" in body else "z"
    assert not BalanceChannels({name or "": EXPONENTS})(model).modified
    assert operators(model)["Mul"] == 0
