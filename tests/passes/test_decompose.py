"""Operators as others: the same numbers in ONNX Runtime, names and sources kept, nothing left that need not be."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from bnncc.passes.decompose import Decompose
from bnncc.passes.replace_cast_like import ReplaceCastLike
from tests.passes.helpers import build, check_pass, normal, operators

X = "float[2, 6, 5, 7] x"


PLAIN = {"Mul", "Transpose", "MatMul", "Add", "Softmax", "Reshape", "Unsqueeze", "Identity", "Where"}


def ints(*numbers: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = LayerNormalization<axis=-2>(x, s, b)", {"s": normal(5, 7), "b": normal(5, 7, seed=1)}),
        ("y = LayerNormalization<axis=1>(x, s)", {"s": normal(6, 5, 7)}),
        ("y = InstanceNormalization(x, s, b)", {"s": normal(6), "b": normal(6, seed=1)}),
        ("y = GroupNormalization<num_groups=3>(x, s, b)", {"s": normal(3), "b": normal(3, seed=1)}),
        ("y = MeanVarianceNormalization(x)", {}),
        ("y = LpNormalization<axis=1, p=1>(x)", {}),
        ("y = LRN<size=3, alpha=0.2>(x)", {}),
    ],
)
def test_normalizations(body: str, constants: dict[str, Any]) -> None:
    model = check_pass(build(body, X, **constants), Decompose())
    assert not [name for name in operators(model) if "Normalization" in name or name == "LRN"]


def test_a_large_mean_does_not_drown_the_deviation() -> None:
    """Where the mean is 4,096 times the deviation, E[x²] - E[x]² in float32 has no digit right."""
    body = "t = Add(x, c) y = LayerNormalization(t, s)"
    check_pass(build(body, X, c=4096.0, s=normal(7)), Decompose(), tolerance=1e-3)


def test_log_sum_exp_of_large_numbers_is_finite() -> None:
    body = "t = Mul(x, c) y = ReduceLogSumExp<keepdims=0>(t, a)"
    check_pass(build(body, X, c=100.0, a=ints(1, 3)), Decompose())


@pytest.mark.parametrize("operator", ["Sigmoid", "HardSwish", "Gelu", "ArgMax"])
def test_what_targets_have_stays(operator: str) -> None:
    body = "y = ArgMax<axis=1>(x)" if operator == "ArgMax" else f"y = {operator}(x)"
    check_pass(build(body, X, opset=20), Decompose(), modified=False)


def test_a_convolution_with_constant_weights_and_a_plain_pool_stay() -> None:
    model = build("c = Conv(x, w) y = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(c)", X, w=normal(3, 6, 3, 3))
    check_pass(model, Decompose(), modified=False)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_gather_elements(axis: int) -> None:
    shape = [2, 6, 5, 7]
    index = np.random.default_rng(0).integers(-shape[axis], shape[axis], (2, 3, 2, 4))
    check_pass(build(f"y = GatherElements<axis={axis}>(x, i)", X, i=index), Decompose())


@pytest.mark.parametrize("batch", [0, 1])
def test_gather_nd(batch: int) -> None:
    index = np.random.default_rng(0).integers(-2, 2, (2, 3, 2))
    check_pass(build(f"y = GatherND<batch_dims={batch}>(x, i)", X, i=index), Decompose())


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatters_take_updates_that_meet_one_after_the_other(reduction: str) -> None:
    inputs = f"{X}, float[2, 4, 2, 3] u"
    index = np.random.default_rng(0).integers(-6, 6, (2, 4, 2, 3))
    if reduction == "none":  # which of several wins is not defined
        index = np.broadcast_to(np.array([0, -1, 3, 1]).reshape(1, 4, 1, 1), index.shape).copy()
    body = f'y = ScatterElements<axis=1, reduction="{reduction}">(x, i, u)'
    check_pass(build(body, inputs, i=index), Decompose())
    rows = ints(0, 1, 1, 5, 0, 3).reshape(3, 2) if reduction == "none" else ints(0, 1, 1, 5, 0, 1).reshape(3, 2)
    body = f'y = ScatterND<reduction="{reduction}">(x, i, u)'
    check_pass(build(body, f"{X}, float[3, 5, 7] u", i=rows), Decompose())


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatters_by_a_computed_index(reduction: str) -> None:
    """The indices of the three largest, and of the pair of the largest and the smallest."""
    body = f'v, i = TopK<axis=1>(x, k) y = ScatterElements<axis=1, reduction="{reduction}">(x, i, u)'
    check_pass(build(body, f"{X}, float[2, 3, 5, 7] u", k=ints(3)), Decompose())
    if reduction in ("none", "add"):
        body = f"""p = ReduceMean<keepdims=0>(x, a) l = ArgMax<axis=1>(p) s = ArgMin<axis=1>(p) b = Add(l, six)
            i = Concat<axis=1>(b, s) j = Unsqueeze(i, last) r = Reshape(x, rows)
            y = ScatterND<reduction="{reduction}">(r, j, u)"""
        constants: dict[str, Any] = {
            "a": ints(2, 3),
            "six": ints(0, 6).reshape(2, 1),
            "last": ints(-1),
            "rows": ints(12, 35),
        }
        check_pass(build(body, f"{X}, float[2, 2, 35] u", **constants), Decompose())


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    "attributes", ["kernel_shape=[2, 2], strides=[2, 2]", "kernel_shape=[3, 2], pads=[1, 0, 1, 1], dilations=[1, 2]"]
)
def test_max_pools_with_indices(attributes: str, order: int) -> None:
    check_pass(build(f"y, i = MaxPool<{attributes}, storage_order={order}>(x)", X, "y i"), Decompose())
    check_pass(build("y, i = MaxPool<kernel_shape=[1, 1], strides=[2, 3]>(x)", X, "y i"), Decompose())


@pytest.mark.parametrize(
    "body",
    [
        "y = Trilu<upper=0>(x, k)",
        "y = CumSum<reverse=1>(x, a)",
        "y = CumSum<exclusive=1>(x, a)",
        "y = Hardmax<axis=2>(x)",
        "y = ArgMax<axis=2, select_last_index=1, keepdims=0>(x)",
        "i = ArgMin<axis=1, keepdims=0>(x) y = OneHot<axis=1>(i, d, v)",
        'y = Einsum<equation="nchw,nkhw->kc">(x, x)',
        'y = Einsum<equation="...w,w...->...">(x, z)',
        'y = Einsum<equation="nchw->cn">(x)',
    ],
)
def test_choices_sums_and_products(body: str) -> None:
    constants = {
        "k": ints(-1),
        "a": ints(3),
        "d": ints(6),
        "v": np.array([-0.5, 2], np.float32),
        "z": normal(7, 2, 6, 5),
    }
    used = {name: array for name, array in constants.items() if f" {name}" in body or f"{name})" in body}
    check_pass(build(body, X, **used), Decompose())


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers(operator: str, direction: str) -> None:
    directions, gates = 2 if direction == "bidirectional" else 1, {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    constants = {
        "w": normal(directions, gates * 4, 5),
        "r": normal(directions, gates * 4, 4, seed=1),
        "b": normal(directions, gates * 8, seed=2),
        "h": normal(directions, 3, 4, seed=3),
    }
    extra = ", linear_before_reset=1" if operator == "GRU" and direction == "reverse" else ""
    body = f'y, s = {operator}<hidden_size=4, direction="{direction}"{extra}>(x, w, r, b, , h)'
    check_pass(build(body, "float[6, 3, 5] x", "y s", **constants), Decompose(), tolerance=1e-4)


def test_peepholes_and_the_last_cell() -> None:
    constants = {"w": normal(1, 16, 5), "r": normal(1, 16, 4), "p": normal(1, 12, seed=1)}
    body = "y, s, c = LSTM<hidden_size=4>(x, w, r, , , , , p)"
    check_pass(build(body, "float[6, 3, 5] x", "y s c", **constants), Decompose(), tolerance=1e-4)


@pytest.mark.parametrize("attributes", ["", ", strides=[2, 1, 2], dilations=[1, 2, 1], pads=[1, 2, 0, 0, 1, 2]"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_three_dimensional_convolutions(attributes: str, groups: int) -> None:
    body = f"y = Conv<group={groups}{attributes}>(x, w, b)"
    model = build(body, "float[2, 4, 7, 6, 9] x", w=normal(8, 4 // groups, 3, 2, 3), b=normal(8))
    assert operators(check_pass(model, Decompose()))["Conv"] == (1 if groups == 1 else 3)


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        ", strides=[2, 1, 2], pads=[1, 1, 0, 0, 0, 2], output_padding=[1, 0, 1]",
        ", strides=[1, 2, 1], dilations=[2, 1, 1]",
        ", strides=[3, 2, 2], dilations=[2, 1, 1]",
        ", strides=[4, 2, 2]",
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_three_dimensional_transposed_convolutions(attributes: str, groups: int) -> None:
    body = f"y = ConvTranspose<group={groups}{attributes}>(x, w, b)"
    model = build(body, "float[2, 4, 3, 5, 4] x", w=normal(4, 6 // groups, 3, 2, 3), b=normal(6))
    check_pass(model, Decompose())
    check_pass(build(body, f"float[2, 4, 3, 5, 4] x, float[4, {6 // groups}, 3, 2, 3] w, float[6] b"), Decompose())


@pytest.mark.parametrize(
    "body",
    [
        "y = MaxPool<kernel_shape=[3, 2, 3], strides=[2, 1, 2], pads=[1, 1, 0, 1, 0, 1]>(x)",
        "y = AveragePool<kernel_shape=[3, 2, 3], strides=[2, 1, 2], pads=[1, 1, 0, 1, 0, 1]>(x)",
        "y = AveragePool<kernel_shape=[2, 2, 2], pads=[1, 1, 1, 1, 1, 1], count_include_pad=1>(x)",
        "y = LpPool<kernel_shape=[3, 2, 2], p=3>(x)",
    ],
)
def test_three_dimensional_pools(body: str) -> None:
    check_pass(build(body, "float[2, 3, 7, 6, 9] x"), Decompose())


def test_dilated_pools() -> None:
    attributes = "kernel_shape=[3, 2], dilations=[2, 3], strides=[1, 2], pads=[1, 0, 2, 1]"
    check_pass(build(f"y = MaxPool<{attributes}>(x)", "float[2, 3, 9, 11] x"), Decompose())


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_computed_weights(groups: int) -> None:
    inputs = f"float[2, 4, 7, 6] x, float[8, {4 // groups}, 3, 2] w, float[8] b"
    attributes = f"group={groups}, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 2, 1]"
    check_pass(build(f"y = Conv<{attributes}>(x, w, b)", inputs), Decompose())
    inputs = f"float[2, 4, 7, 6] x, float[4, {8 // groups}, 3, 2] w, float[8] b"
    attributes = f"group={groups}, strides=[2, 1], pads=[1, 0, 2, 1], output_padding=[1, 0]"
    check_pass(build(f"y = ConvTranspose<{attributes}>(x, w, b)", inputs), Decompose())


def test_columns_add_up_where_their_windows_lie() -> None:
    body = "y = Col2Im<strides=[2, 1], pads=[1, 0, 1, 1], dilations=[1, 2]>(x, s, k)"
    model = build(body, "float[2, 18, 15] x", s=ints(8, 6), k=ints(2, 3))
    check_pass(model, Decompose())


@pytest.mark.parametrize(
    "attributes",
    [
        'mode="cubic"',
        'mode="cubic", cubic_coeff_a=-0.5, coordinate_transformation_mode="align_corners"',
        'mode="cubic", exclude_outside=1',
        'mode="linear", antialias=1',
        'mode="cubic", antialias=1',
    ],
)
@pytest.mark.parametrize("size", [(9, 4), (3, 3)])
def test_interpolations_that_are_matrices(attributes: str, size: tuple[int, int]) -> None:
    body = f"y = Resize<{attributes}, axes=[2, 3]>(x, , , s)"
    model = check_pass(build(body, "float[1, 3, 5, 7] x", s=ints(*size)), Decompose())
    assert operators(model)["Resize"] == 0


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(mode: str, padding: str, align: int) -> None:
    body = f'y = GridSample<mode="{mode}", padding_mode="{padding}", align_corners={align}>(x, g)'
    check_pass(build(body, "float[2, 3, 5, 7] x, float[2, 4, 6, 2] g"), Decompose(), tolerance=1e-4)


def test_a_function_body_may_hold_what_decomposes_further() -> None:
    inputs = "float[2, 3, 5, 8] q, float[2, 3, 7, 8] k, float[2, 3, 7, 8] v"
    model = check_pass(build("y = Attention<is_causal=1>(q, k, v)", inputs, opset=23), Decompose())
    assert set(operators(model)) <= PLAIN


def test_a_refusal_keeps_its_reason() -> None:
    model = build("y = ScatterElements(x, i, x)", "float[300, 300] x, int64[300, 300] i")
    assert not Decompose()(model).modified
    assert "the index is not a constant" in str(next(iter(model.graph)).metadata_props)


def test_cast_like_follows_a_type_not_a_value() -> None:
    model = check_pass(build("c = CastLike(k, x) y = Min(x, c)", X, k=ints(1)), ReplaceCastLike())
    assert operators(model) == {"Cast": 1, "Min": 1}


@pytest.mark.parametrize(
    ("layer", "zeros"),
    [
        *product(["ConvInteger <pads = [1, 1, 1, 1]> (q, w", "MatMulInteger (q, w"], ["", ", za, zw"]),
        ("MatMulInteger (q, w", ", za, many"),
    ],
)
def test_products_of_integers_are_exact_in_floats(layer: str, zeros: str) -> None:
    shape = (4, 6, 3, 3) if "Conv" in layer else (7, 4)
    kind = np.uint8 if zeros else np.int8
    weights = np.random.default_rng(0).integers(0 if zeros else -128, 255 if zeros else 127, shape).astype(kind)
    points = {"za": np.array(7, kind), "zw": np.array(130), "many": np.array([130, 0, 7, 255])}
    constants = {"w": weights, **{name: array.astype(kind) for name, array in points.items() if name in zeros}}
    body = f"c = Clip (x, low, high)\nf = Mul (c, scale)\nq = Cast <to = {2 if zeros else 3}> (f)\ny = {layer}{zeros})"
    model = build(body, X, low=0.0, high=1.0, scale=100.0, **constants)
    found = operators(check_pass(model, Decompose()))
    assert found["Conv"] + found["MatMul"] == 1
    assert found["ConvInteger"] + found["MatMulInteger"] == 0


def test_products_of_integers_that_float32_may_round_stay() -> None:
    body = "q = Cast <to = 3> (x)\ny = MatMulInteger (q, w)"
    model = build(body, "float[4, 2000] x", w=np.full((2000, 3), 100, np.int8))
    check_pass(model, Decompose(), modified=False)
