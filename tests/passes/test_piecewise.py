"""Piecewise functions against ONNX Runtime: the same expression interpreted, and run on many points.

Constants are multiples of 1/4, so that float32 holds most breakpoints exactly and the values there can be compared.
"""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.ir.evaluate import run, skeleton, weights_of
from bnncc.passes import piecewise_operations as operations
from bnncc.passes.elementwise import Candidate, interpret
from bnncc.passes.piecewise import Piecewise, constant, identity
from tests.passes.helpers import Array, build

CHANNELS = 3
UNARY = {
    "Neg": "Neg ({0})",
    "Abs": "Abs ({0})",
    "Relu": "Relu ({0})",
    "LeakyRelu": "LeakyRelu <alpha = 0.25> ({0})",
    "PRelu": "PRelu ({0}, {v})",
    "Sign": "Sign ({0})",
    "Clip": "Clip ({0}, {s}, {t})",
    "Clip below": "Clip ({0}, {s})",
    "HardSigmoid": "HardSigmoid <alpha = 0.25, beta = 0.5> ({0})",
    "ThresholdedRelu": "ThresholdedRelu <alpha = 0.5> ({0})",
    "bnncc.Sign": "bnncc.Sign ({0})",
    "add": "Add ({0}, {v})",
    "sub from": "Sub ({s}, {0})",
    "mul": "Mul ({v}, {0})",
    "div": "Div ({0}, {two})",
    "max": "Max ({0}, {v})",
    "min": "Min ({s}, {0})",
    "Round": "Round ({0})",
    "Floor": "Floor ({0})",
    "Ceil": "Ceil ({0})",
}
BINARY = {
    "Add": "Add ({0}, {1})",
    "Sub": "Sub ({0}, {1})",
    "Mul": "Mul ({0}, {1})",
    "Div": "Div ({0}, {1})",
    "Max": "Max ({0}, {1})",
    "Min": "Min ({0}, {1})",
}
COMPARISON = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"]


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, dict[str, Array]]:
    """The body of a graph that computes y of x, and its constants."""
    quarters = st.integers(-8, 8).map(lambda n: n / 4)
    lines, values, constants = [], ["x"], {"two": np.float32(2)}
    for index in range(draw(st.integers(1, 7))):
        vector = draw(st.lists(quarters, min_size=CHANNELS, max_size=CHANNELS))
        low = draw(quarters)
        constants[f"v{index}"] = np.array(vector, np.float32).reshape(CHANNELS, 1, 1)
        constants[f"s{index}"] = np.float32(low)
        constants[f"t{index}"] = np.float32(low + draw(st.integers(1, 4)) / 2)
        first, second = draw(st.sampled_from(values[-3:])), draw(st.sampled_from(values[-3:]))
        names = {"v": f"v{index}", "s": f"s{index}", "t": f"t{index}", "two": "two"}
        kind = draw(st.integers(0, 9))
        if kind < 6:
            text = UNARY[draw(st.sampled_from(sorted(UNARY)))].format(first, **names)
        elif kind < 8:
            text = BINARY[draw(st.sampled_from(sorted(BINARY)))].format(first, second)
        else:
            lines.append(f"m{index} = {draw(st.sampled_from(COMPARISON))} ({first}, v{index})")
            other = draw(
                st.sampled_from(["Cast <to = 1> (m{0})", "Where (m{0}, {1}, s{0})", "Where (m{0}, s{0}, {1})"])
            )
            text = other.format(index, second)
        lines.append(f"a{index} = {text}")
        values.append(f"a{index}")
    return "\n".join([*lines, f"y = Identity ({values[-1]})"]), constants


@given(expressions())
@settings(max_examples=200)
def test_an_interpreted_expression_is_the_expression(expression: tuple[str, dict[str, Array]]) -> None:
    body, constants = expression
    width = 160
    model = build(body, f"float[1, {CHANNELS}, 1, {width}] x", **constants)
    for candidate in interpret(model.graph.outputs[0]):
        if candidate.source.name == "x" and candidate.function.center is None:
            check(candidate, model, width)


def check(candidate: Candidate, model: ir.Model, width: int) -> None:
    f = candidate.function
    knots = f.knots[np.isfinite(f.knots)]
    beside = [knots, knots + 0.125, knots - 0.125, np.arange(-20, 20) / 4, np.array([-1e4, -37.3, 41.7, 1e4])]
    points = np.resize(np.concatenate(beside).astype(np.float32), width)
    x = np.broadcast_to(points, (1, CHANNELS, 1, width))
    steps = [node.outputs[0] for node in model.graph if node.outputs[0].dtype == ir.DataType.FLOAT]
    results = run(skeleton(model, steps), {**weights_of(model), "x": np.ascontiguousarray(x)})
    expected = results["y"][0, :, 0]
    # Behind 0/0 ONNX Runtime's Clip yields its bound, PyTorch's NaN.
    defined = ~np.any([np.isnan(np.broadcast_to(array, x.shape)) for array in results.values()], axis=0)[0, :, 0]
    found = np.broadcast_to(f(points[None]), expected.shape)
    gap = np.abs(points[None, :, None] - np.broadcast_to(f.knots, (CHANNELS, f.knots.shape[1]))[:, None, :])
    rounded = ((gap > 0) & (gap < 1e-4)).any(axis=2)
    compared = ~rounded & defined & np.isfinite(found) & np.isfinite(expected)
    np.testing.assert_allclose(found[compared], expected[compared], rtol=1e-4, atol=1e-4)


X = "float[1, 3, 2, 2] x"


def function_of(body: str, inputs: str = X, **constants: Array | float) -> Piecewise | None:
    candidates = [one for one in interpret(build(body, inputs, **constants).graph.outputs[0]) if one.source.name == "x"]
    return candidates[0].function if candidates else None


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("y = Sign (x)", [-1, 0, 1]),
        ("m = GreaterOrEqual (x, zero)\ny = Cast <to = 1> (m)", [0, 1, 1]),
        ("m = Greater (x, zero)\ny = Cast <to = 1> (m)", [0, 0, 1]),
        ("m = Equal (x, zero)\ny = Cast <to = 1> (m)", [0, 1, 0]),
        ("a = Less (x, zero)\nb = Not (a)\ny = Cast <to = 1> (b)", [0, 1, 1]),
        ("a = Less (x, zero)\nb = Greater (x, zero)\nc = Or (a, b)\ny = Cast <to = 1> (c)", [1, 0, 1]),
        ("a = LessOrEqual (x, zero)\nb = GreaterOrEqual (x, zero)\nc = And (a, b)\ny = Cast <to = 1> (c)", [0, 1, 0]),
        ("a = LessOrEqual (x, zero)\nb = GreaterOrEqual (x, zero)\nc = Xor (a, b)\ny = Cast <to = 1> (c)", [1, 0, 1]),
        ("a = Abs (x)\ny = Div (x, a)", [-1, np.nan, 1]),
        ("t = Tanh (x)\ny = Sign (t)", [-1, 0, 1]),
        ("t = Sigmoid (x)\ny = Round (t)", [0, 0, 1]),
        ("t = Sigmoid (x)\nm = GreaterOrEqual (t, half)\ny = Cast <to = 1> (m)", [0, 1, 1]),
        ("t = Sigmoid (x)\nu = Sub (t, half)\ny = Ceil (u)", [0, 0, 1]),
        ("t = Sigmoid (x)\nu = Sub (half, t)\ny = Floor (u)", [0, 0, -1]),
        ("c = Clip (x, minus, half)\ni = Cast <to = 7> (c)\ny = Cast <to = 1> (i)", [-1, 0, 0]),
        ("m = Less (x, zero)\nc = Cast <to = 1> (m)\ny = Pow (minus, c)", [-1, 1, 1]),
        ("s = Sign (x)\na = Add (s, two)\ny = Reciprocal (a)", [1, 0.5, 1 / 3]),
        ("s = Sign (x)\na = Add (s, two)\ne = Exp (a)\nf = Sqrt (e)\nl = Log (f)\ny = Mul (l, two)", [1, 2, 3]),
        ("t = Tanh (x)\nu = Mul (t, minus)\nv = Clip (u, minus, one)\ny = Sign (v)", [1, 0, -1]),
    ],
)
def test_the_value_at_the_jump_is_told_apart(body: str, values: list[float]) -> None:
    f = function_of(body, zero=0.0, half=0.5, minus=-1.0, one=1.0, two=2.0)
    assert f is not None
    np.testing.assert_allclose(f(np.array([[-3.0, 0.0, 3.0]]))[0], values, rtol=1e-15)


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul (x, x)",
        "a = Abs (x)\nb = Add (a, tiny)\ny = Div (x, b)",
        "t = Tanh (x)\nu = Add (t, tiny)\ny = Sign (u)",
        "y = Round (x)",
        "t = Tanh (x)\nu = Add (t, half)\ny = Round (u)",  # of large x three values: float32's tanh is 1 there
        "t = Tanh (x)\ny = Floor (t)",
        "t = Sigmoid (x)\ny = Floor (t)",
        "i = Cast <to = 7> (x)\ny = Cast <to = 1> (i)",
        "s = Sign (x)\ny = Log (s)",
        "y = Pow (x, tiny)",
        "t = Sigmoid (x)\ny = Sign (t)",
        "t = Exp (x)\ny = Sign (t)",
        "y = Add (x, full)",
    ],
)
def test_other_functions_are_refused(body: str) -> None:
    assert function_of(body, tiny=1e-3, half=0.5, full=np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)) is None


def test_sources_come_nearest_first() -> None:
    model = build("a = Mul (x, two)\nb = Relu (a)\nc = Neg (a)\nd = Add (b, c)\ny = Sign (d)", X, two=2.0)
    assert [one.source.name for one in interpret(model.graph.outputs[0])] == ["d", "a", "x"]


def test_an_expression_of_two_values_has_no_source_behind_them() -> None:
    model = build("a = Mul (x, z)\ny = Sign (a)", f"{X}, float[1, 3, 2, 2] z")
    assert [one.source.name for one in interpret(model.graph.outputs[0])] == ["a"]


def test_channels_keep_their_own_knots() -> None:
    shift = constant([1.0, -2.0, 0.0])
    f = operations.maximum(operations.add(identity(), shift), constant(0.0))
    assert f is not None
    np.testing.assert_array_equal(f.knots, [[-1.0], [2.0], [0.0]])
    np.testing.assert_array_equal(f(np.array([[-3.0, -1.0, 3.0]])), [[0, 0, 4], [0, 0, 1], [0, 0, 3]])
