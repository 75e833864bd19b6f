import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.passes.fold_affine import FoldAffine
from tests.passes.helpers import Array, array_of, build, check_pass, draw, node_of, normal, operators, run_model, signs

X = "float[2, 3, 6, 5] x"
CHANNELS = 4


def away_from_zero(*shape: int, seed: int = 0) -> Array:
    """Factors of both signs with magnitudes between 0.3 and 2."""
    generator = np.random.default_rng(seed)
    return (signs(*shape, seed=seed) * generator.uniform(0.3, 2, shape)).astype(np.float32)


def batch_norm(channels: int = CHANNELS, seed: int = 0) -> dict[str, Array]:
    """γ of both signs, distinct β, μ and σ²."""
    return {
        "gamma": away_from_zero(channels, seed=seed),
        "beta": normal(channels, seed=seed + 1),
        "mean": normal(channels, seed=seed + 2),
        "var": np.random.default_rng(seed + 3).uniform(0.2, 3, channels).astype(np.float32),
    }


# Operators that absorb an affine: (text, input, weights).
HEADS: dict[str, tuple[str, str, dict[str, Array]]] = {
    "Conv": ("h = Conv <pads = [1, 1, 1, 1]> (x, w)", X, {"w": normal(4, 3, 3, 3)}),
    "Conv with bias": ("h = Conv <strides = [2, 1]> (x, w, b)", X, {"w": normal(4, 3, 3, 2), "b": normal(4)}),
    "depthwise Conv": (
        "h = Conv <group = 2> (x, w, b)", "float[2, 2, 6, 5] x", {"w": normal(4, 1, 2, 2), "b": normal(4)}
    ),
    "Conv of rank 3": ("h = Conv (x, w)", "float[2, 3, 7] x", {"w": normal(4, 3, 2)}),
    "ConvTranspose": ("h = ConvTranspose <strides = [2, 2]> (x, w, b)", X, {"w": normal(3, 4, 2, 3), "b": normal(4)}),
    "Gemm": ("h = Gemm (x, w)", "float[3, 5] x", {"w": normal(5, 4)}),
    "Gemm with bias": ("h = Gemm (x, w, b)", "float[3, 5] x", {"w": normal(5, 4), "b": normal(4)}),
    "Gemm transB": ("h = Gemm <transB = 1> (x, w, b)", "float[3, 5] x", {"w": normal(4, 5), "b": normal(4)}),
    "square Gemm transB": ("h = Gemm <transB = 1> (x, w, b)", "float[3, 4] x", {"w": normal(4, 4), "b": normal(4)}),
    "square Gemm": ("h = Gemm (x, w)", "float[3, 4] x", {"w": normal(4, 4)}),
    "Gemm with one bias": ("h = Gemm (x, w, b)", "float[3, 5] x", {"w": normal(5, 4), "b": normal(1)}),
    "BinaryConv": (
        "s = bnncc.Sign (x)\nh = bnncc.BinaryConv <strides = [2, 2], dilations = [1, 1], group = 1, "
        "pads = [1, 1, 1, 1], pad_value = 0.0> (s, w, m, b)",
        X,
        {"w": signs(4, 3, 3, 3), "m": away_from_zero(4), "b": normal(4)},
    ),
}  # fmt: skip

# Heads that stay as they are, the affine behind them.
LEFT_ALONE: dict[str, tuple[str, str, dict[str, Array]]] = {
    "nothing": ("h = Identity (x)", "float[2, 4, 6, 5] x", {}),
    "Tanh": ("h = Tanh (x)", "float[2, 4, 6, 5] x", {}),
    "residual Add": ("t = Tanh (x)\nh = Add (x, t)", "float[2, 4, 6, 5] x", {}),
    "grouped ConvTranspose": ("h = ConvTranspose <group = 2> (x, w)", "float[1, 6, 3, 3] x", {"w": normal(6, 2, 2, 2)}),
    "Gemm with alpha": ("h = Gemm <alpha = 0.5> (x, w)", "float[3, 5] x", {"w": normal(5, 4)}),
    "Gemm with beta": ("h = Gemm <beta = 2.0> (x, w, b)", "float[3, 5] x", {"w": normal(5, 4), "b": normal(4)}),
    "Gemm with a bias a row": ("h = Gemm (x, w, b)", "float[3, 5] x", {"w": normal(5, 4), "b": normal(3, 1)}),
    "MatMul": ("h = MatMul (x, w)", "float[3, 5] x", {"w": normal(5, 4)}),
    "MaxPool": ("h = MaxPool <kernel_shape = [2, 2]> (x)", "float[2, 4, 6, 5] x", {}),
}  # fmt: skip

# Links of a chain: {0} is the value in front, {1} the result, {2} a constant.
LINKS = [
    "{1} = Mul ({0}, {2})",
    "{1} = Mul ({2}, {0})",
    "{1} = Add ({0}, {2})",
    "{1} = Add ({2}, {0})",
    "{1} = Sub ({0}, {2})",
    "{1} = Sub ({2}, {0})",
    "{1} = Div ({0}, {2})",
    "{1} = Neg ({0})",
    "{1} = BatchNormalization <epsilon = 0.001> ({0}, gamma, beta, mean, var)",
]


def rank_of(inputs: str) -> int:
    return inputs.count(",") + 1


def per_channel(inputs: str, seed: int) -> Array:
    return away_from_zero(1, CHANNELS, *(1,) * (rank_of(inputs) - 2), seed=seed)


def chain(
    head: tuple[str, str, dict[str, Array]], links: list[int], scalars: list[bool], tail: str = "y = Tanh (last)"
) -> ir.Model:
    text, inputs, constants = head
    lines, value = [text], "h"
    more: dict[str, Array] = {}
    for index, (link, scalar) in enumerate(zip(links, scalars, strict=True)):
        result = "last" if index == len(links) - 1 else f"v{index}"
        name = f"c{index}"
        more[name] = np.float32(0.4 + index) if scalar else per_channel(inputs, index)
        lines.append(LINKS[link].format(value, result, name))
        value = result
    return build("\n".join([*lines, tail]), inputs, **constants, **more, **batch_norm())


@settings(max_examples=60)
@given(
    head=st.sampled_from([*HEADS, *LEFT_ALONE]),
    links=st.lists(st.tuples(st.integers(0, len(LINKS) - 1), st.booleans()), min_size=1, max_size=6),
)
def test_any_chain_behind_anything_computes_the_same(head: str, links: list[tuple[int, bool]]) -> None:
    model = chain({**HEADS, **LEFT_ALONE}[head], [link for link, _ in links], [scalar for _, scalar in links])
    types = [node.op_type for node in model.graph][-len(links) - 1 : -1]
    needs_nothing = head in LEFT_ALONE and types in (["Mul"], ["Add"], ["Mul", "Add"])
    check_pass(model, FoldAffine(), modified=not needs_nothing, tolerance=1e-4)
    # An identity (Neg Neg) leaves neither; "residual Add" has an Add of its own.
    left = operators(model) - operators(without_links({**HEADS, **LEFT_ALONE}[head]))
    assert sum(left.values()) <= (2 if head in LEFT_ALONE else 0)


def without_links(head: tuple[str, str, dict[str, Array]]) -> ir.Model:
    text, inputs, constants = head
    return build(f"{text}\ny = Tanh (h)", inputs, **constants)


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_norm_and_its_neighbours_vanish_into_the_operator_in_front(head: str) -> None:
    model = chain(HEADS[head], [0, 8, 5, 7, 6], [False, False, False, False, True])
    bare = operators(without_links(HEADS[head]))
    check_pass(model, FoldAffine(), tolerance=1e-4)
    assert operators(model) == bare


@pytest.mark.parametrize("head", LEFT_ALONE)
def test_behind_anything_else_one_mul_and_one_add_are_left(head: str) -> None:
    model = chain(LEFT_ALONE[head], [0, 8, 5, 7, 6], [False, False, False, False, True])
    bare = operators(without_links(LEFT_ALONE[head]))
    check_pass(model, FoldAffine(), tolerance=1e-4)
    assert operators(model) == bare + operators(build("a = Mul (x, c)\ny = Add (a, c)", "float[2] x", c=1.5))


@pytest.mark.parametrize("name", ["y", "last"])
def test_the_value_behind_the_chain_keeps_its_name(name: str) -> None:
    tail = "y = Tanh (last)" if name == "y" else "y = Identity (last)"
    model = check_pass(chain(HEADS["Conv"], [8, 2], [False, False], tail), FoldAffine())
    assert [value.name for node in model.graph for value in node.outputs] == ["last", "y"]


@pytest.mark.parametrize("outputs", ["y, b", "b, y", "y, a", "y, h", "y, h, a, b"])
def test_an_output_in_the_middle_ends_a_chain(outputs: str) -> None:
    body = "h = Conv (x, w)\na = Mul (h, c)\nb = Add (a, d)\ne = Div (b, c)\ny = Sub (d, e)"
    constants = {"w": normal(4, 3, 3, 3), "c": away_from_zero(4, 1, 1), "d": normal(4, 1, 1)}
    model = build(body, X, outputs, **constants)
    check_pass(model, FoldAffine(), tolerance=1e-4)


def test_a_value_used_twice_ends_a_chain() -> None:
    body = "h = Conv (x, w)\na = Mul (h, c)\nt = Tanh (a)\nb = Add (a, d)\ny = Mul (b, t)"
    model = build(body, X, w=normal(4, 3, 3, 3), c=away_from_zero(4, 1, 1), d=normal(4, 1, 1))
    check_pass(model, FoldAffine())
    assert operators(model) == {"Conv": 1, "Tanh": 1, "Add": 1, "Mul": 1}


def test_two_batch_norms_on_one_convolution_stay_behind_it() -> None:
    body = """
    h = Conv (x, w)
    a = BatchNormalization (h, gamma, beta, mean, var)
    b = BatchNormalization (h, beta, gamma, mean, var)
    t = Tanh (a)
    y = Mul (t, b)"""
    model = check_pass(build(body, X, w=normal(4, 3, 3, 3), **batch_norm()), FoldAffine())
    assert operators(model) == {"Conv": 1, "Mul": 3, "Add": 2, "Tanh": 1}


def test_weights_shared_by_two_convolutions_are_scaled_for_one_of_them() -> None:
    body = "h = Conv (x, w)\na = BatchNormalization (h, gamma, beta, mean, var)\nk = Conv (x, w)\ny = Max (a, k)"
    model = check_pass(build(body, X, w=normal(4, 3, 3, 3), **batch_norm()), FoldAffine())
    assert operators(model) == {"Conv": 2, "Max": 1}


@pytest.mark.parametrize(
    "body",
    [
        "t = Tanh (x)\na = Neg (t)\nb = Neg (a)\ny = Relu (b)",
        "t = Tanh (x)\na = Mul (t, half)\nb = Div (a, half)\ny = Relu (b)",
        "t = Tanh (x)\na = Sub (half, t)\ny = Sub (half, a)",
        "a = Neg (x)\nb = Neg (a)\ny = Relu (b)",
        "a = Neg (x)\ny = Neg (a)",
        "t = Tanh (x)\na = Add (t, zero)\ny = Mul (a, one)",
    ],
)
def test_a_chain_that_does_nothing_vanishes(body: str) -> None:
    model = check_pass(build(body, X, half=0.5, zero=0.0, one=1.0), FoldAffine())
    assert not set(operators(model)) & {"Neg", "Mul", "Div", "Sub", "Add"}
    assert model.graph.outputs[0].name == "y"


def test_a_chain_that_does_nothing_between_two_outputs_keeps_both_names() -> None:
    model = build("t = Tanh (x)\na = Neg (t)\ny = Neg (a)", X, "t, y")
    check_pass(model, FoldAffine())
    assert [value.name for value in model.graph.outputs] == ["t", "y"]


def test_factors_of_zero_are_folded_and_divisors_of_zero_are_left() -> None:
    some = np.array([0.5, 0, -1, 2], np.float32).reshape(4, 1, 1)
    model = build("h = Conv (x, w)\na = Mul (h, c)\ny = Add (a, d)", X, w=normal(4, 3, 3, 3), c=some, d=normal(4, 1, 1))
    assert operators(check_pass(model, FoldAffine())) == {"Conv": 1}
    assert not FoldAffine()(build("h = Conv (x, w)\ny = Div (h, c)", X, w=normal(4, 3, 3, 3), c=some)).modified


@pytest.mark.parametrize(
    "body",
    [
        "y = Add (x, full)",  # varies over the map
        "y = Add (x, row)",
        "y = Mul (x, batch)",  # varies over the batch
        "y = Div (v, x)",  # 1 / x
        "y = Mul (x, x)",
        "y = Add (x, z)",  # computed
        "y = Mul (x, wide)",  # gives the result its shape
    ],
)
def test_what_is_no_affine_function_a_channel_is_left(body: str) -> None:
    constants = {
        "full": normal(1, 3, 6, 5),
        "row": normal(5),
        "batch": normal(2, 1, 1, 1),
        "v": normal(3, 1, 1),
        "wide": normal(1, 1, 3, 1, 1),
    }
    check_pass(build(body, f"{X}, {X[:-1]}z", **constants), FoldAffine(), modified=False)


@pytest.mark.parametrize("body", ["y = Sub (one, x)", "a = Neg (x)\ny = Add (a, one)", "a = Sub (x, one)\ny = Neg (a)"])
def test_a_constant_less_a_value_is_one_sub(body: str) -> None:
    model = build(body, X, one=1.0)
    assert FoldAffine()(model).modified is (body != "y = Sub (one, x)")
    assert operators(model) == {"Sub": 1}
    check_pass(build(f"{body}\nz = Exp (y)", X, "z", one=1.0), FoldAffine(), modified=body != "y = Sub (one, x)")


def test_the_composition_is_in_double_precision() -> None:
    """x + 0.3 + 2e5 + 2e5 - 4e5: in float32 each of these sums is off by up to 0.03; the shift is 0.3."""
    c, big = np.full((1, 3, 1, 1), 0.3, np.float32), np.full((1, 3, 1, 1), 2e5, np.float32)
    body = "a = Add (x, c)\nb = Add (a, big)\nd = Add (b, big)\ne = Sub (d, twice)\ny = Relu (e)"
    model = build(body, X, c=c, big=big, twice=2 * big)
    feeds = draw(model)
    assert np.abs(run_model(model, feeds)["y"] - np.maximum(feeds["x"] + c, 0)).max() > 1e-3
    FoldAffine()(model)
    np.testing.assert_allclose(
        run_model(model, feeds)["y"], np.maximum(feeds["x"].astype(np.float64) + c, 0), atol=1e-6
    )


def test_a_chain_of_many_scales_is_rounded_once() -> None:
    factors = {f"c{index}": np.full((1, 3, 1, 1), 1.1 if index % 2 else 1 / 3, np.float32) for index in range(12)}
    lines, value = [], "x"
    for name in factors:
        lines.append(f"v{name} = Mul ({value}, {name})")
        value = f"v{name}"
    model = check_pass(build("\n".join(lines) + f"\ny = Tanh ({value})", X, **factors), FoldAffine())
    product = np.prod([np.float64(array.flat[0]) for array in factors.values()])
    assert np.all(array_of(node_of(model, "Mul").inputs[1]) == np.float32(product))


@pytest.mark.parametrize("order", ["a = Add (x, c)\nb = Sub (a, c)", "a = Sub (x, c)\nb = Add (c, a)"])
def test_a_magic_number_that_rounds_is_kept(order: str) -> None:
    """(x + 1.5·2²³) - 1.5·2²³ rounds to the nearest integer."""
    model = build(f"{order}\ny = Relu (b)", X, c=12582912.0)
    check_pass(model, FoldAffine(), modified=False)
    assert set(np.unique(run_model(model, draw(model))["y"])) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_training_batch_norms_and_other_types_are_left() -> None:
    training = build("y, m, v = BatchNormalization <training_mode = 1> (x, gamma, beta, mean, var)", X, **batch_norm(3))
    assert not FoldAffine()(training).modified
    double = {name: array.astype(np.float64) for name, array in batch_norm(3).items()}
    body = "y = BatchNormalization (x, gamma, beta, mean, var)"
    check_pass(build(body, X.replace("float", "double"), **double), FoldAffine(), modified=False)
    check_pass(build("y = Add (x, c)", "int64[2, 3] x", c=np.array([[1, 2, 3]])), FoldAffine(), modified=False)
