"""Which weights are α_o·(±1), whatever computed them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.ir.graph import ZERO_WEIGHTS_KEY
from bnncc.ir.modes import ZeroWeights
from bnncc.passes.binary_weights import are_steps, count_zeros, split_weights, zeros_to_plus_one
from bnncc.passes.fold_constants import FoldConstants
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from tests.passes.helpers import array_of, build, node_of, normal, operators, run_model, signs

X = "float[1, 4, 6, 7] x"
LATENT = np.random.default_rng(7).uniform(-1, 1, (5, 4, 3, 3)).astype(np.float32)
EXPRESSIONS = {
    "sign": "w = Sign (l)",
    "mean-abs scale of the layer": "a = Abs (l)\nm = ReduceMean (a)\ng = Sign (l)\nw = Mul (g, m)",
    "mean-abs scale of the channel": "a = Abs (l)\nm = ReduceMean (a, axes)\ng = Sign (l)\nw = Mul (m, g)",
    "power of two": (
        "a = Abs (l)\nm = ReduceMean (a, axes)\nt = Log (m)\nu = Div (t, ln2)\n"
        "r = Round (u)\np = Pow (two, r)\ng = Sign (l)\nw = Mul (g, p)"
    ),
    "standardised": "m = ReduceMean (l, axes)\nc = Sub (l, m)\nw = Sign (c)",
    "comparison": (
        "c = Less (l, zero)\nd = Cast <to = 1> (c)\ne = Mul (d, minus2)\nf = Add (e, one)\nw = Mul (f, third)"
    ),
    "residue": (
        "a = Abs (l)\nm = ReduceMean (a)\nn = Mul (m, tiny)\ng = Sign (l)\n"
        "p = Mul (g, n)\nk = Clip (l, minus1, one)\nq = Sub (p, k)\nw = Add (q, k)"
    ),
    "learnt scale": "g = Sign (l)\nw = Mul (g, learnt)",
    "rounded tanh": (
        "t = Tanh (l)\na = Abs (t)\nm = ReduceMax (a)\nd = Mul (m, two)\n"
        "u = Div (t, d)\nv = Add (u, half)\nr = Round (v)\nz = Mul (r, two)\nw = Sub (z, one)"
    ),
}
SCALARS = {"ln2": float(np.log(2)), "two": 2.0, "zero": 0.0, "minus2": -2.0, "one": 1.0, "third": 1 / 3,
           "tiny": 2e-4, "minus1": -1.0, "half": 0.5}  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_constant_expression_of_two_values_a_channel_is_binary(expression: str) -> None:
    text = EXPRESSIONS[expression]
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    constants = {name: value for name, value in SCALARS.items() if name in words}
    if "axes" in words:
        constants["axes"] = np.array([1, 2, 3])
    if "learnt" in words:
        constants["learnt"] = np.array([0.1, 3, 1e-4, 0.7, 2], np.float32).reshape(5, 1, 1, 1)
    model = build(f"{text}\ns = bnncc.Sign (x)\ny = Conv <pads = [1, 1, 1, 1]> (s, w)", X, l=LATENT, **constants)
    FoldConstants()(model)
    feeds = {"x": normal(1, 4, 6, 7)}
    expected = run_model(model, feeds)["y"]
    assert RecognizeBinaryConv()(model).modified
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1}
    found = run_model(model, feeds)["y"]
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


@settings(max_examples=60)
@given(
    exponents=st.lists(st.floats(-8, 3), min_size=1, max_size=6),
    flips=st.lists(st.booleans(), min_size=6, max_size=6),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_a_batch_norm_that_the_weights_absorbed_is_their_scale(
    exponents: list[float], flips: list[bool], shape: tuple[int, int], seed: int
) -> None:
    """±α·γ/σ: any magnitude and either sign, channel by channel."""
    scales = 10.0 ** np.array(exponents) * np.where(flips[: len(exponents)], -1, 1)
    pattern = signs(len(exponents), *shape, seed=seed)
    split = split_weights((pattern * scales[:, None, None]).astype(np.float32))
    assert split is not None
    found, magnitudes = split
    np.testing.assert_array_equal(found, pattern * np.sign(scales)[:, None, None])
    np.testing.assert_allclose(magnitudes, np.abs(scales), rtol=1e-6)


@pytest.mark.parametrize("alpha", [1e-4, 0.1, 3.0])
def test_weights_that_differ_by_more_than_a_residue_are_not_the_same(alpha: float) -> None:
    filters = np.full((2, 8, 3, 3), alpha, np.float32)
    filters[:, ::2] *= -1
    assert split_weights(filters) is not None
    filters[1, 3, 2, 2] *= 1.01 if alpha < 1e-3 else 1.0001
    assert split_weights(filters) is None


@pytest.mark.parametrize("alpha", [1e-4, 1e-3, 0.1])
def test_a_folded_residue_is_recognised(alpha: float) -> None:
    """(α·s - w) + w in float32 with w up to ±1, many weights: every rounding occurs."""
    latent = np.random.default_rng(0).uniform(-1, 1, (64, 256)).astype(np.float32)
    residue = (np.float32(alpha) * np.sign(latent) - latent) + latent
    split = split_weights(residue)
    assert split is not None
    np.testing.assert_array_equal(split[0], np.sign(latent))
    np.testing.assert_allclose(split[1], alpha, rtol=2e-4)


def test_three_values_are_not_binary() -> None:
    weights = signs(3, 40)
    weights[1, 3] *= 1.01
    assert split_weights(weights) is None
    assert count_zeros(weights) == 0
    weights[1, 5] = 0
    assert count_zeros(weights) == 0


def test_zeros_are_counted_and_become_the_positive_value() -> None:
    weights = 0.3 * signs(3, 40)
    weights[0, 1] = weights[0, 7] = weights[2, 2] = 0
    assert split_weights(weights) is None
    assert count_zeros(weights) == 3
    filled = zeros_to_plus_one(weights)
    np.testing.assert_allclose(filled[[0, 0, 2], [1, 7, 2]], 0.3, rtol=1e-6)
    assert split_weights(filled) is not None


def test_weights_of_zero_and_one_are_told_apart() -> None:
    steps = np.where(signs(3, 40) > 0, np.float32(0.25), np.float32(0))
    assert are_steps(steps)
    assert count_zeros(steps) == 0
    assert not are_steps(signs(3, 40))
    model = build("s = bnncc.Sign (x)\ny = Conv (s, w)", X, w=steps.reshape(3, 4, 2, 5))
    assert RecognizeBinaryConv()(model).modified
    assert operators(model)["bnncc.BinaryConv"] == 2


def test_zero_weights_are_read_as_plus_one_on_request() -> None:
    weights = 0.3 * signs(5, 4, 3, 3)
    weights[0, 1, 0, 0] = weights[3, 2, 1, 1] = 0
    model = build("s = bnncc.Sign (x)\ny = Conv (s, w)", X, w=weights.astype(np.float32))
    assert not RecognizeBinaryConv(ZeroWeights.FLOAT)(model).modified
    assert RecognizeBinaryConv(ZeroWeights.PLUS_ONE)(model).modified
    node = node_of(model, "BinaryConv")
    assert array_of(node.inputs[1])[0, 1, 0, 0] == array_of(node.inputs[1])[3, 2, 1, 1] == 1
    assert node.metadata_props[ZERO_WEIGHTS_KEY] == "2"
    np.testing.assert_allclose(array_of(node.inputs[2]), 0.3, rtol=1e-6)
