"""Gemm, MatMul and Conv1d of ±1 by ±1 as two-dimensional binary convolutions between Reshapes."""

import numpy as np
import onnx_ir as ir
import pytest

from bnncc.ir.graph import CONV_KEY, LEFT_IN_FLOAT_KEY
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from bnncc.passes.remove_unused import RemoveUnused
from bnncc.passes.sink_moves import SinkMoves
from tests.passes.helpers import array_of, build, check_pass, node_of, normal, operators, signs

SCALES = np.array([0.5, 1e-4, 2, 4, 8], np.float32)[:, None]
W = (signs(5, 37) * SCALES).astype(np.float32)
X = "float[3, 37] x"
FLAT = ir.passes.Sequential(RecognizeBinaryConv(), RemoveUnused(), SinkMoves(), RemoveUnused())
BINARY_LAYER = {"bnncc.Sign": 1, "Reshape": 2, "bnncc.BinaryConv": 1}


@pytest.mark.parametrize(
    "body",
    [
        "y = Gemm <transB = 1> (s, w, b)",
        "y = Gemm (s, v, b)",
        "y = Gemm <transB = 1, alpha = 0.5, beta = 3.0> (s, w, b)",
        "y = Gemm <alpha = -2.0> (s, v, b)",
        "y = Gemm (s, v)",
        "y = Gemm <transB = 1> (s, w, c)",
        "y = Gemm <transB = 1> (s, w, d)",
        "y = MatMul (s, v)",
        "m = MatMul (s, v)\ny = Add (m, b)",
        "m = MatMul (s, v)\ny = Add (b, m)",
        "m = MatMul (s, v)\na = Add (m, b)\ny = BatchNormalization (a, b, b, b, e)",
    ],
)
def test_a_linear_layer_is_a_1x1_convolution(body: str) -> None:
    constants = {
        "w": W,
        "v": W.T.copy(),
        "b": normal(5),
        "c": normal(1, 5),
        "d": np.float32(0.3),
        "e": np.abs(normal(5)),
    }
    used = {name: array for name, array in constants.items() if f" {name}" in body.replace("(", " ")}
    model = build(f"s = bnncc.Sign (x)\n{body}", X, **used)
    check_pass(model, RecognizeBinaryConv())
    assert operators(model) == BINARY_LAYER
    node = node_of(model, "BinaryConv")
    np.testing.assert_array_equal(array_of(node.inputs[1])[:, :, 0, 0], np.sign(W))
    assert node.metadata_props[CONV_KEY] == ("m" if "m =" in body else "y")


def test_a_bias_of_every_row_is_added_behind() -> None:
    model = build("s = bnncc.Sign (x)\ny = Gemm <transB = 1> (s, w, b)", X, w=W, b=normal(3, 5))
    check_pass(model, RecognizeBinaryConv())
    assert operators(model) == {**BINARY_LAYER, "Add": 1}


def test_a_transposed_input_is_turned() -> None:
    model = build("s = bnncc.Sign (x)\ny = Gemm <transA = 1, transB = 1> (s, w)", "float[37, 3] x", w=W)
    check_pass(model, RecognizeBinaryConv())
    assert operators(model) == {**BINARY_LAYER, "Transpose": 1}


@pytest.mark.parametrize(
    ("shape", "filters", "is_flat"),
    [((2, 1, 7, 9), 3, True), ((2, 3, 6, 6), 40, True), ((2, 3, 6, 6), 3, False), ((2, 64, 2, 3), 40, False)],
)
@pytest.mark.parametrize(
    "body",
    [
        "s = bnncc.Sign (x)\nf = Flatten (s)",
        "g = Flatten (x)\nf = bnncc.Sign (g)",
        "s = bnncc.Sign (x)\nh = Mul (s, half)\nb = Add (h, half)\nf = Flatten (b)",
    ],
)
def test_a_map_of_few_channels_is_packed_flat(body: str, shape: tuple[int, ...], filters: int, is_flat: bool) -> None:
    weight = signs(filters, int(np.prod(shape[1:])))
    used = {"half": np.float32(0.5)} if "half" in body else {}
    model = build(f"{body}\ny = Gemm <transB = 1> (f, w)", f"float{list(shape)} x", w=weight, **used)
    check_pass(model, FLAT)
    taps = array_of(node_of(model, "BinaryConv").inputs[1]).shape[1:]
    assert taps == ((int(np.prod(shape[1:])), 1, 1) if is_flat else shape[1:])


def test_bits_of_a_binary_convolution_are_not_moved_as_floats() -> None:
    body = "s = bnncc.Sign (x)\nc = Conv (s, v)\nt = bnncc.Sign (c)\nf = Flatten (t)\ny = Gemm <transB = 1> (f, w)"
    model = build(body, "float[2, 32, 6, 6] x", v=signs(3, 32, 1, 1), w=signs(40, 108))
    check_pass(model, FLAT)
    assert [array_of(node.inputs[1]).shape for node in model.graph if node.op_type == "BinaryConv"][1] == (40, 3, 6, 6)


@pytest.mark.parametrize("flatten", ["f = Flatten (s)", "f = Reshape (s, shape)"])
def test_a_linear_layer_of_a_flattened_map_is_a_convolution_over_the_map(flatten: str) -> None:
    weight = (signs(5, 33 * 2 * 3) * SCALES).astype(np.float32)
    used = {"shape": np.array([2, -1])} if "shape" in flatten else {}
    model = build(
        f"s = bnncc.Sign (x)\n{flatten}\ny = Gemm <transB = 1> (f, w)", "float[2, 33, 2, 3] x", w=weight, **used
    )
    check_pass(model, RecognizeBinaryConv())
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1, "Reshape": 1}
    assert array_of(node_of(model, "BinaryConv").inputs[1]).shape == (5, 33, 2, 3)


def test_activations_of_zero_and_one_reach_a_linear_layer() -> None:
    body = "s = bnncc.Sign (x)\nt = Mul (s, a)\nu = Add (t, m)\nf = Flatten (u)\ny = Gemm <transB = 1> (f, w, b)"
    weight = (signs(5, 4 * 6) * SCALES).astype(np.float32)
    model = build(body, "float[1, 4, 2, 3] x", w=weight, b=normal(5), a=-0.5, m=0.5)
    check_pass(model, RecognizeBinaryConv())
    assert operators(model) == {"bnncc.Sign": 1, "Flatten": 1, "bnncc.BinaryConv": 1, "Reshape": 1} or operators(
        model
    ) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1, "Reshape": 1}


@pytest.mark.parametrize("bias", ["", "\ny = Add (m, b)"])
def test_a_product_of_three_axes_is_a_convolution_of_all_rows(bias: str) -> None:
    body = f"s = bnncc.Sign (x)\nt = Mul (s, a)\nm = MatMul (t, v){bias}"
    used = {"b": normal(5)} if bias else {}
    model = build(body, "float[2, 7, 37] x", "y" if bias else "m", v=W.T.copy(), a=0.25, **used)
    check_pass(model, RecognizeBinaryConv())
    assert operators(model) == BINARY_LAYER


def test_the_rows_of_three_axes_are_packed_once() -> None:
    model = build("s = bnncc.Sign (x)\ny = MatMul (s, v)", "float[2, 7, 37] x", v=W.T.copy())
    check_pass(model, RecognizeBinaryConv())
    assert [node.op_type for node in model.graph] == ["Reshape", "Sign", "BinaryConv", "Reshape"]


@pytest.mark.parametrize(
    ("shape", "perm", "rows", "product"),
    [
        ((2, 37, 3, 5), (0, 2, 3, 1), None, "MatMul (t, v)"),
        ((2, 37, 3, 5), (0, 2, 3, 1), (2, 15, 37), "MatMul (t, v)"),
        ((2, 37, 3, 5), (0, 2, 3, 1), (30, 37), "Gemm (t, v, b)"),
        ((2, 37, 6), (0, 2, 1), None, "MatMul (t, v)"),
        ((2, 37, 6), (0, 2, 1), (12, 37), "Gemm <transB = 1> (t, w)"),
    ],
)
def test_a_linear_layer_at_each_position_of_a_map_reads_the_map_as_it_is(
    shape: tuple[int, ...], perm: tuple[int, ...], rows: tuple[int, ...] | None, product: str
) -> None:
    reshape = "" if rows is None else "t = Reshape (u, rows)\n"
    body = f"s = bnncc.Sign (x)\n{'t' if rows is None else 'u'} = Transpose <perm = {list(perm)}> (s)\n{reshape}"
    constants = {"v": W.T.copy(), "w": W, "b": normal(5), "rows": np.array(rows or ())}
    used = {name: array for name, array in constants.items() if f" {name}" in f"{reshape}{product}".replace("(", " ")}
    model = build(f"{body}y = {product}", f"float{list(shape)} x", **used)
    check_pass(model, RecognizeBinaryConv())
    sign, *between, conv = list(model.graph)[: 2 if len(shape) == 4 else 3]
    assert (sign.op_type, conv.op_type) == ("Sign", "BinaryConv")
    assert [node.op_type for node in between] == ["Reshape"] * (len(shape) == 3)  # [N, C, 1, L]


@pytest.mark.parametrize("perm", [(0, 3, 2, 1), (2, 0, 3, 1), (0, 2, 1, 3)])
def test_positions_in_another_order_stay_where_the_network_has_them(perm: tuple[int, ...]) -> None:
    size = (2, 37, 3, 37)[perm[-1]]
    body = f"s = bnncc.Sign (x)\nt = Transpose <perm = {list(perm)}> (s)\ny = MatMul (t, v)"
    model = build(body, "float[2, 37, 3, 37] x", v=W.T.copy()[:size])
    check_pass(model, RecognizeBinaryConv())
    assert [node.op_type for node in model.graph].count("Transpose") == 1


@pytest.mark.parametrize(
    "attributes",
    ["", "<pads = [2, 1]>", "<strides = [2], dilations = [2], pads = [1, 1]>", '<auto_pad = "SAME_UPPER">'],
)
@pytest.mark.parametrize("affine", ["", "m = "])
def test_a_one_dimensional_convolution_is_a_two_dimensional_one(attributes: str, affine: str) -> None:
    weight = (signs(5, 7, 3) * SCALES[:, :, None]).astype(np.float32)
    tail = "c = Conv {} (s, w, b)\ny = BatchNormalization (c, b, b, b, e)" if affine else "y = Conv {} (s, w, b)"
    used = {"e": np.abs(normal(5))} if affine else {}
    model = build("s = bnncc.Sign (x)\n" + tail.format(attributes), "float[2, 7, 11] x", w=weight, b=normal(5), **used)
    check_pass(model, RecognizeBinaryConv())
    assert operators(model) == BINARY_LAYER


def test_grouped_one_dimensional_convolutions_keep_their_groups() -> None:
    model = build("s = bnncc.Sign (x)\ny = Conv <group = 2> (s, w)", "float[2, 8, 11] x", w=signs(6, 4, 3))
    check_pass(model, RecognizeBinaryConv())
    assert node_of(model, "BinaryConv").attributes["group"].as_int() == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("t = Tanh (x)\ny = MatMul (t, v)", "float-input: its weights are binary but its input is not"),
        ("s = bnncc.Sign (x)\ny = MatMul (s, f)", "float-weights: its input is binary but its weights are not"),
        (
            "s = bnncc.Sign (x)\nt = Transpose (s)\ny = MatMul (w, t)",
            "weights-first: its weights are the first operand of the product",
        ),
    ],
)
def test_what_stays_in_float_says_why(body: str, reason: str) -> None:
    constants = {"v": W.T.copy(), "w": W, "f": normal(37, 5)}
    used = {name: array for name, array in constants.items() if f", {name})" in body or f"({name}," in body}
    model = build(body, X, **used)
    check_pass(model, RecognizeBinaryConv(), modified=False)
    node = next(node for node in model.graph if node.op_type == "MatMul")
    assert node.metadata_props[LEFT_IN_FLOAT_KEY] == reason
