import numpy as np
import pytest

from bnncc.passes.cancel_residue import CancelResidue
from bnncc.passes.merge_duplicates import MergeDuplicates
from tests.passes.helpers import Array, build, check_pass, draw, normal, operators, run_model

X = "float[2, 3, 5, 4] x"
SIGN_AND_CLAMP = "s = Sign (x)\np = Clip (x, low, high)\n"
BOUNDS: dict[str, Array | float] = {"low": -1.0, "high": 1.0}

SPELLINGS = {
    "(s - p) + p": "d = Sub (s, p)\ny = Add (d, p)",
    "p + (s - p)": "d = Sub (s, p)\ny = Add (p, d)",
    "(s + p) - p": "d = Add (s, p)\ny = Sub (d, p)",
    "(p + s) - p": "d = Add (p, s)\ny = Sub (d, p)",
    "-(p - s) + p": "d = Sub (p, s)\nn = Neg (d)\ny = Add (n, p)",
    "p - (p - s)": "d = Sub (p, s)\ny = Sub (p, d)",
    "-p + s + p": "n = Neg (p)\nd = Add (n, s)\ny = Add (d, p)",
    "s + (p - p)": "d = Sub (p, p)\ny = Add (s, d)",
    "s + (x - x) * p": "d = Sub (x, x)\ne = Mul (d, p)\ny = Add (s, e)",
    "s - p * (x - x) / two": "d = Sub (x, x)\ne = Mul (p, d)\nf = Div (d, two)\ng = Sub (s, e)\ny = Add (g, f)",
    "-(-(s - p) - p)": "d = Sub (s, p)\nn = Neg (d)\ne = Sub (n, p)\ny = Neg (e)",
    "twice": "a = Sub (s, p)\nb = Add (a, p)\nc = Sub (b, x)\ny = Add (c, x)",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_residue_leaves_the_sign_alone(spelling: str) -> None:
    body = SIGN_AND_CLAMP + SPELLINGS[spelling] + "\nz = Mul (y, three)"
    model = check_pass(build(body, X, "z", three=3.0, two=2.0, **BOUNDS), CancelResidue())
    result = run_model(model, draw(model))["z"]
    assert set(np.unique(result)) == {-3.0, 3.0}, "a rounding of the residue is left"
    assert not set(operators(model)) & {"Add", "Sub", "Neg"}


def test_a_residue_that_is_the_graph_output_hands_its_name_on() -> None:
    model = check_pass(build(SIGN_AND_CLAMP + SPELLINGS["(s - p) + p"], X, **BOUNDS), CancelResidue())
    assert model.graph.outputs[0].name == "y"
    producer = model.graph.outputs[0].producer()
    assert producer is not None
    assert producer.op_type == "Sign"


@pytest.mark.parametrize("outputs", ["y, s", "y, p", "y, d", "s, y"])
def test_values_of_the_residue_may_be_graph_outputs(outputs: str) -> None:
    model = build(SIGN_AND_CLAMP + SPELLINGS["(s - p) + p"], X, outputs, **BOUNDS)
    # Where both the sum and the sign are outputs there is no value that could bear both names.
    check_pass(model, CancelResidue(), modified="s" not in outputs.replace(",", "").split())


def test_a_residue_around_a_graph_input_is_left_where_it_is_the_output() -> None:
    check_pass(build("d = Sub (x, p)\ny = Add (d, p)", X, p=normal(3, 1, 1)), CancelResidue(), modified=False)


def test_equal_but_separate_estimators_cancel_once_they_are_merged() -> None:
    body = (
        "s = Sign (x)\np = Clip (x, low, high)\nq = Clip (x, low2, high2)\nd = Sub (s, p)\ne = Add (d, q)\ny = Abs (e)"
    )
    model = build(body, X, low2=-1.0, high2=1.0, **BOUNDS)
    check_pass(model, CancelResidue(), modified=False)
    check_pass(model, MergeDuplicates())
    check_pass(model, CancelResidue())
    assert "Sub" not in operators(model)


def test_the_parameter_itself_cancels_out_of_weights() -> None:
    """α = 1e-4: folded in float32, (α·s - w) + w would be off by 6e-4 of α."""
    weight = np.random.default_rng(0).uniform(-1, 1, (6, 3, 3, 3)).astype(np.float32)
    body = """
    s = Sign (w)
    a = Mul (s, alpha)
    d = Sub (a, w)
    e = Add (d, w)
    y = Conv <pads = [1, 1, 1, 1]> (x, e)"""
    model = build(body, X, w=weight, alpha=np.float32(1e-4))
    check_pass(model, CancelResidue(), tolerance=1e-2)
    assert operators(model) == {"Sign": 1, "Mul": 1, "Conv": 1}


def test_residues_along_a_stream_of_forty_additions_all_cancel() -> None:
    lines, stream = [], "x"
    for index in range(40):
        lines += [
            f"s{index} = Sign ({stream})",
            f"p{index} = Clip ({stream}, low, high)",
            f"d{index} = Sub (s{index}, p{index})",
            f"e{index} = Add (d{index}, p{index})",
            f"m{index} = Mul (e{index}, c{index})",
            f"x{index} = Add (m{index}, {stream})",
        ]
        stream = f"x{index}"
    shifts: dict[str, Array | float] = {f"c{index}": normal(1, 3, 1, 1, seed=index) for index in range(40)}
    model = build("\n".join(lines) + f"\ny = Relu ({stream})", X, **BOUNDS, **shifts)
    check_pass(model, CancelResidue())
    assert operators(model)["Add"] == 40
    assert "Sub" not in operators(model)


def test_a_stream_that_is_subtracted_far_behind_is_given_up_not_broken() -> None:
    lines, stream = [], "x"
    for index in range(40):
        lines += [f"r{index} = Relu ({stream})", f"x{index} = Add ({stream}, r{index})"]
        stream = f"x{index}"
    model = build("\n".join(lines) + f"\nz = Sub ({stream}, x)\ny = Relu (z)", X)
    before = model.clone()
    CancelResidue()(model)
    feeds = draw(model)
    np.testing.assert_allclose(run_model(model, feeds)["y"], run_model(before, feeds)["y"], rtol=1e-5)


def test_what_does_not_cancel_stays_with_its_sign() -> None:
    """((s - p) - r) + p + t  =  s - r + t."""
    body = SIGN_AND_CLAMP + "r = Tanh (x)\nt = Exp (x)\na = Sub (s, p)\nb = Sub (a, r)\nc = Add (b, p)\ny = Add (c, t)"
    model = check_pass(build(body, X, **BOUNDS), CancelResidue())
    assert operators(model)["Add"] == 1
    assert operators(model)["Sub"] == 1
    assert run_model(model, draw(model))["y"].shape == (2, 3, 5, 4)


def test_several_remaining_terms_are_added_in_new_nodes_with_shapes() -> None:
    """-(p - s - r - t) + p  =  s + r + t, whose first sum is a node of its own."""
    body = """
    r = Tanh (x)
    t = Exp (x)
    a = Sub (p, s)
    b = Sub (a, r)
    c = Sub (b, t)
    n = Neg (c)
    e = Add (n, p)
    y = Relu (e)"""
    model = check_pass(build(SIGN_AND_CLAMP + body, X, **BOUNDS), CancelResidue())
    assert not set(operators(model)) & {"Sub", "Neg"}


@pytest.mark.parametrize(
    "body",
    [
        "a = Sub (x, p)\nb = Add (a, x)\nc = Add (b, p)\ny = Relu (c)",  # 2x
        "a = Sub (q, x)\nb = Sub (a, q)\ny = Relu (b)",  # -x, nothing to start the sum from
        "a = Sub (p, p)\ny = Exp (a)",  # 0
    ],
)
def test_sums_that_plus_and_minus_one_cannot_say_are_left(body: str) -> None:
    model = build("p = Tanh (x)\nq = Sigmoid (x)\n" + body, X)
    check_pass(model, CancelResidue(), modified=False)


@pytest.mark.parametrize(
    "body",
    [
        "a = Sub (v, x)\nb = Add (a, x)\ny = Relu (b)",  # v [3, 1, 1] would lose the shape of x
        "a = Add (v, x)\nb = Sub (a, x)\ny = Relu (b)",
        "t = Tanh (z)\na = Sub (t, x)\nb = Add (a, x)\ny = Relu (b)",  # computed, [2, 3, 1, 1]
    ],
)
def test_a_term_that_gives_the_sum_its_shape_stays(body: str) -> None:
    model = build(body, f"{X}, float[2, 3, 1, 1] z", v=normal(3, 1, 1))
    check_pass(model, CancelResidue(), modified=False)


def test_a_smaller_term_may_cancel() -> None:
    model = build("t = Tanh (z)\na = Sub (x, t)\nb = Add (t, a)\ny = Relu (b)", f"{X}, float[2, 3, 1, 1] z")
    assert operators(check_pass(model, CancelResidue())) == {"Relu": 1}


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
def test_a_magic_number_that_rounds_is_kept(shape: tuple[int, ...]) -> None:
    """1.5·2²³: adding and subtracting it rounds to the nearest integer."""
    magic = np.full(shape, 12582912, np.float32)
    model = build("a = Add (x, c)\nb = Sub (a, c)\ny = Relu (b)", X, c=magic)
    check_pass(model, CancelResidue(), modified=False)
    assert set(operators(model)) == {"Add", "Sub", "Relu"}


def test_a_learnt_shift_cancels() -> None:
    model = build("a = Add (x, c)\nb = Sub (a, c)\ny = Relu (b)", X, c=normal(1, 3, 1, 1))
    assert operators(check_pass(model, CancelResidue())) == {"Relu": 1}


def test_an_estimator_read_elsewhere_keeps_its_value() -> None:
    body = SIGN_AND_CLAMP + "d = Sub (s, p)\ne = Add (d, p)\ny = Relu (e)\nz = Mul (d, p)"
    model = check_pass(build(body, X, "y, z", **BOUNDS), CancelResidue())
    assert operators(model)["Sub"] == 1


def test_integers_cancel_too() -> None:
    model = build("a = Sub (x, i)\nb = Add (a, i)\nc = Cast <to = 1> (b)\ny = Relu (c)", "int64[2, 3] x, int64[2, 3] i")
    assert operators(check_pass(model, CancelResidue())) == {"Cast": 1, "Relu": 1}
