"""In front of a rounding the network's own order of float operations stays, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.passes.carry_shifts import CarryShifts
from bnncc.passes.fold_affine import FoldAffine
from bnncc.passes.kept_order import holds_levels, is_learnt, is_rounded
from bnncc.passes.recognize_prelu import RecognizePRelu
from tests.passes.helpers import Array, build, draw, normal, operators, run_model, signs

X = "float[1, 16, 8, 8] x"
STEP = 2 / 15
MEAN = "AveragePool <kernel_shape = [2, 2], strides = [2, 2]>"
# 16 levels from -1 to 1, and their means of four; r, the levels, t, the means.
LEVELS = f"""
    a = Mul (x, few)  l = Round (a)  b = Mul (l, step)  r = Sub (b, one)
    t = {MEAN} (r)
"""
# What a rounding reads: a quarter of the means are ties, or would be, were they not rounded in front.
ROUNDED = {
    "a shift and a division": "c = Add (t, one)  d = Div (c, step)  y = Round (d)",
    "a comparison": "c = Add (t, one)  d = Div (c, step)  e = GreaterOrEqual (d, eight)  y = Where (e, d, one)",
    "an integer": "c = Add (t, one)  d = Div (c, step)  e = Cast <to = 7> (d)  y = Cast <to = 1> (e)",
    "a max-pool and a clip between": (
        "c = Add (t, one)  d = MaxPool <kernel_shape = [2, 2]> (c)  e = Relu (d)  f = Div (e, step)  y = Floor (f)"
    ),
    "learnt numbers that the levels have themselves": (
        f"c = Mul (l, scales)  d = Add (c, shifts)  e = {MEAN} (d)  f = Sub (e, shifts)  g = Div (f, scales)  "
        "y = Round (g)"
    ),
    "a sum of two": "c = Mul (r, third)  d = Add (r, c)  e = Add (d, one)  f = Div (e, step)  y = Ceil (f)",
    "two slopes": (
        "c = Sub (t, tenth)  d = Relu (c)  e = Mul (d, third)  f = Neg (c)  g = Relu (f)  h = Mul (g, tenth)  "
        "i = Sub (e, h)  j = Mul (i, ten)  y = Round (j)"
    ),
    "a batch norm": "c = BatchNormalization (t, third16, third16, third16, third16)  d = Div (c, step)  y = Round (d)",
}
CONSTANTS: dict[str, Array | float] = {
    "few": 4.0, "step": STEP, "one": 1.0, "eight": 8.0, "third": 1 / 3, "tenth": 0.1, "ten": 10.0,
    "scales": np.abs(normal(1, 16, 1, 1)) + 0.3, "shifts": normal(1, 16, 1, 1, seed=1),
    "third16": np.full(16, 1 / 3, np.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUNDED)
def test_what_a_rounding_reads_is_the_same_to_the_bit(name: str) -> None:
    body = LEVELS + ROUNDED[name]
    model = build(body, X, **{key: array for key, array in CONSTANTS.items() if key in body})
    feeds = draw(model)
    before = run_model(model, feeds)["y"]
    for apply in (RecognizePRelu(), FoldAffine(), CarryShifts(), FoldAffine()):
        apply(model)
    after = run_model(model, feeds)["y"]
    if name == "a batch norm":  # ONNX Runtime computes it in an order of its own
        assert np.mean(after != before) < 0.01
    else:
        np.testing.assert_array_equal(after, before)


def test_a_batch_norm_in_front_of_a_rounding_is_a_mul_and_an_add_and_its_neighbours_stay() -> None:
    body = LEVELS + ROUNDED["a batch norm"]
    model = build(body, X, **{key: array for key, array in CONSTANTS.items() if key in body})
    before = operators(model)
    assert FoldAffine()(model).modified
    after = operators(model)
    assert after == before - operators_of("BatchNormalization") + operators_of("Mul", "Add")
    assert not FoldAffine()(model).modified


def operators_of(*names: str) -> dict[str, int]:  # type: ignore[misc]
    return type(operators(build("y = Relu (x)", X)))(names)


def test_powers_of_two_are_merged_and_the_result_is_the_same_to_the_bit() -> None:
    body = LEVELS + "c = Mul (t, two)  d = Add (c, third)  e = Mul (d, four)  y = Round (e)"
    model = build(body, X, few=4.0, step=STEP, one=1.0, two=2.0, four=4.0, third=1 / 3)
    feeds = draw(model)
    before = run_model(model, feeds)["y"]
    FoldAffine()(model)
    np.testing.assert_array_equal(run_model(model, feeds)["y"], before)
    # The levels' own Mul and Sub stay, and so does the Mul in front of their rounding.
    assert operators(model)["Mul"] + operators(model)["Add"] + operators(model)["Sub"] == 5


BINARY = (
    "s = bnncc.Sign (x)\nh = bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, "
    "pads = [0, 0, 0, 0], pad_value = 0.0> (s, w, m, b)"
)
BINARY_CONSTANTS = {"w": signs(16, 16, 3, 3), "m": np.ones(16, np.float32), "b": np.zeros(16, np.float32)}


def test_a_division_of_integer_sums_stays_behind_them() -> None:
    model = build(BINARY + "\nd = Div (h, ten)\ny = Round (d)", X, ten=10.0, **BINARY_CONSTANTS)
    assert not FoldAffine()(model).modified


def test_a_batch_norm_goes_into_the_binary_convolution_whatever_follows() -> None:
    norm = "n = BatchNormalization (h, gamma, beta, mean, var)"
    parameters = {"gamma": normal(16), "beta": normal(16, seed=1), "mean": normal(16, seed=2), "var": normal(16) ** 2}
    model = build(f"{BINARY}\n{norm}\nd = Div (n, ten)\ny = Round (d)", X, ten=10.0, **BINARY_CONSTANTS, **parameters)
    assert FoldAffine()(model).modified
    assert operators(model) == operators(build(f"{BINARY}\ny = Round (h)", X, **BINARY_CONSTANTS))


def test_where_no_rounding_follows_everything_is_folded() -> None:
    model = build(LEVELS + "c = Add (t, one)  d = Div (c, step)  y = Tanh (d)", X, few=4.0, step=STEP, one=1.0)
    assert FoldAffine()(model).modified
    (result,) = model.graph.outputs
    assert not is_rounded(result)
    assert operators(model)["Div"] == 0


def test_levels_are_told_from_sums() -> None:
    body = LEVELS + "c = Conv (r, w)  d = Add (c, c)  y = Add (r, r)"
    model = build(body, X, few=4.0, step=STEP, one=1.0, w=normal(16, 16, 1, 1))
    values = {value.name: value for node in model.graph for value in node.outputs}
    levels = {name: holds_levels(values[name]) for name in ("a", "l", "r", "t", "y", "c", "d")}
    assert levels == {"a": False, "l": True, "r": True, "t": True, "y": True, "c": False, "d": False}


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full(64, 0.3), False),
        (2.0 ** np.arange(-20, 20), False),
        (np.arange(17) / 8, False),
        (normal(64).astype(np.float64), True),
    ],
)
def test_numbers_that_somebody_chose_are_few_powers_of_two_aside(array: Array, expected: bool) -> None:
    assert is_learnt(array) is expected
