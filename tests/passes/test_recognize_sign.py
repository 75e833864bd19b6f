import numpy as np
import onnx_ir as ir
import pytest

from bnncc.passes.recognize_sign import RecognizeSign
from tests.passes.helpers import Array, build, check_pass, draw, normal, operators, run_model

X = "float[2, 3, 5, 4] x"
RING = np.array([0, 0, 1, 2, 0, 0, 0, 1])


def recognized(body: str, *, modified: bool = True, inputs: str = X, **constants: Array | float) -> ir.Model:
    return check_pass(build(body, inputs, **constants), RecognizeSign(), modified=modified)


def test_the_sign_of_computed_and_given_values_is_recognised() -> None:
    model = recognized("s = Sign (x)\nt = Add (s, c)\nu = Sign (t)\ny = Relu (u)", c=normal(3, 1, 1))
    assert operators(model) == {"bnncc.Sign": 2, "Add": 1, "Relu": 1}


def test_a_sign_that_is_the_output_keeps_its_name() -> None:
    model = recognized("t = Tanh (x)\ny = Sign (t)")
    assert operators(model) == {"Tanh": 1, "bnncc.Sign": 1}


def test_the_sign_of_zero_becomes_plus_one() -> None:
    model = recognized("y = Sign (x)")
    zeros = {"x": np.zeros((2, 3, 5, 4), np.float32)}
    assert np.all(run_model(model, zeros)["y"] == 1)


@pytest.mark.parametrize("fill", ["", ", zero", ", zero, axes"])
def test_a_zero_pad_moves_behind_the_sign(fill: str) -> None:
    ring = RING if "axes" not in fill else np.array([1, 2, 0, 1])
    body = f"t = Tanh (x)\np = Pad (t, ring{fill})\ny = Sign (p)"
    model = recognized(body, ring=ring, zero=0.0, axes=np.array([2, -1]))
    assert [node.op_type for node in model.graph] == ["Tanh", "Sign", "Pad"] or operators(model)["Pad"] == 1
    result = run_model(model, draw(model))["y"]
    assert np.all(result[:, :, 0] == 0)
    assert np.all(np.abs(result[:, :, 1:6, 2:6]) == 1)


def test_the_pad_stays_for_its_other_readers() -> None:
    model = recognized("t = Tanh (x)\np = Pad (t, ring)\ns = Sign (p)\ny = Add (s, p)", ring=RING)
    assert operators(model) == {"Tanh": 1, "bnncc.Sign": 1, "Pad": 2, "Add": 1}


def test_a_pad_with_another_number_is_binarised_with_the_rest() -> None:
    model = recognized("p = Pad (x, ring, minus)\ny = Sign (p)", ring=RING, minus=-0.5)
    assert operators(model) == {"Pad": 1, "bnncc.Sign": 1}


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_a_pad_that_repeats_data_is_binarised_with_the_rest(mode: str) -> None:
    model = recognized(f'p = Pad <mode = "{mode}"> (x, ring)\ny = Sign (p)', ring=RING)
    assert operators(model) == {"Pad": 1, "bnncc.Sign": 1}


def test_a_pad_whose_number_is_computed_does_not_move() -> None:
    body = "f = ReduceMax <keepdims = 0> (x)\np = Pad (x, ring, f)\ny = Sign (p)"
    model = recognized(body, modified=False, ring=RING)
    assert operators(model)["Sign"] == 1


@pytest.mark.parametrize(
    "upstream",
    [
        "r = Clip (x, minus, zero)",
        "r = PRelu (x, slope)",
        "p = Neg (x)\nq = Relu (p)\nr = Neg (q)",
        "p = Relu (x)\nr = Pad (p, ring)",
        "p = Pad (x, ring)\nr = Tanh (p)",
        "p = Pad (x, ring)\nr = MaxPool <kernel_shape = [2, 2]> (p)",
        "p = Pad (x, ring)\nr = Mul (p, shift)",
    ],
)
def test_a_sign_that_zeros_reach_by_design_stays(upstream: str) -> None:
    slope = np.array([0.2, 0, -0.3], np.float32).reshape(3, 1, 1)
    body = f"{upstream}\ny = Sign (r)"
    model = recognized(body, modified=False, zero=0.0, minus=-1.0, slope=slope, ring=RING, shift=normal(3, 1, 1))
    result = run_model(model, draw(model))["y"]
    assert np.any(result == 0), "the test itself should reach the case"


def test_a_second_sign_behind_one_that_stays_stays_too() -> None:
    body = "r = Clip (x, minus, zero)\ns = Sign (r)\nt = Tanh (s)\ny = Sign (t)"
    model = recognized(body, modified=False, minus=-1.0, zero=0.0)
    assert set(np.unique(run_model(model, draw(model))["y"])) == {-1.0, 0.0}


@pytest.mark.parametrize(
    "upstream", ["r = Relu (x)", "r = Clip (x, zero, one)", "p = Abs (x)\nq = Relu (x)\nr = Concat <axis = 1> (p, q)"]
)
def test_the_sign_of_what_is_never_negative_is_a_bit(upstream: str) -> None:
    model = recognized(f"{upstream}\ny = Sign (r)", zero=0.0, one=1.0)
    found = operators(model)
    assert found["bnncc.Sign"] == 1
    assert found["Sign"] == 0


def test_the_sign_of_a_shifted_relu_is_recognised() -> None:
    model = recognized("r = Relu (x)\nt = Add (r, shift)\ny = Sign (t)", shift=normal(3, 1, 1))
    assert operators(model) == {"Relu": 1, "Add": 1, "bnncc.Sign": 1}


def test_a_shift_with_a_zero_lets_zeros_through() -> None:
    shift = np.array([0.5, 0, -0.5], np.float32).reshape(3, 1, 1)
    recognized("r = Relu (x)\nt = Add (r, shift)\ny = Sign (t)", modified=False, shift=shift)


def test_the_sign_of_a_sign_plus_something_small_is_two_signs() -> None:
    model = recognized("s = Sign (x)\nt = Add (s, tiny)\ny = Sign (t)", tiny=0.1)
    assert operators(model) == {"bnncc.Sign": 2, "Add": 1}


def test_integers_keep_their_own_sign() -> None:
    """bnncc.Sign yields float32."""
    recognized("s = Sign (x)\ny = Cast <to = 1> (s)", modified=False, inputs="int64[2, 3] x")
