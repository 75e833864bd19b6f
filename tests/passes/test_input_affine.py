"""What stands between a binariser and its convolution: scales, offsets, pads and moves, folded into the BinaryConv."""

import json

import numpy as np
import onnx_ir as ir
import pytest

from bnncc.ir.graph import LEFT_IN_FLOAT_KEY, TRACED_KEY
from bnncc.passes.express_pad_value import ExpressPadValue
from bnncc.passes.fold_affine import FoldAffine
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from tests.passes.helpers import Array, build, check_pass, node_of, normal, operators, signs

X = "float[1, 5, 6, 7] x"
W = (signs(4, 5, 3, 3) * np.array([0.5, 1e-4, 2, 0.03], np.float32)[:, None, None, None]).astype(np.float32)
PADDED = "Conv <pads = [1, 1, 1, 1]>"


def recognized(body: str, *, x: str = X, w: Array = W, **constants: Array | float) -> ir.Model:
    model = build(body, x, w=w, **constants)
    check_pass(model, RecognizeBinaryConv())
    return model


def pad_value(model: ir.Model) -> float:
    return node_of(model, "BinaryConv").attributes["pad_value"].as_float()


@pytest.mark.parametrize(
    "spelling",
    [
        "t = Mul (s, a)\nu = Add (t, m)",
        "t = Mul (a, s)\nu = Add (m, t)",
        "t = Add (s, c)\nu = Mul (t, a)",
        "t = Div (s, i)\nn = Neg (m)\nu = Sub (t, n)",
    ],
)
@pytest.mark.parametrize("conv", ["Conv", PADDED])
def test_a_scale_and_an_offset_in_either_order_are_folded(spelling: str, conv: str) -> None:
    a, m = -0.5, 0.5
    body = f"s = bnncc.Sign (x)\n{spelling}\ny = {conv} (u, w, b)".replace("n = Neg (m)\n", "").replace(
        "(t, n)", "(t, n)"
    )
    model = recognized(body, a=a, m=m, c=m / a, i=1 / a, n=-m, b=normal(4))
    assert pad_value(model) == (1.0 if conv == PADDED else 0.0)
    assert "Conv" not in operators(model)
    node = node_of(model, "BinaryConv")
    assert node.inputs[0] is not None
    assert node.inputs[0].name == "s"
    np.testing.assert_array_equal(node.inputs[1].const_value.numpy(), np.sign(W))
    assert json.loads(node.metadata_props[TRACED_KEY]) == {"value": "u", "scale": -2.0, "offset": 1.0}


@pytest.mark.parametrize(("a", "m"), [(0.5, 0.5), (0.7, 0.0), (2.0, -1.0), (-1.5, -1.5), (0.5, -0.5)])
def test_zero_padding_of_the_affine_value_is_padding_of_the_signs(a: float, m: float) -> None:
    model = recognized("s = bnncc.Sign (x)\nt = Mul (s, a)\nu = Add (t, m)\n"
        "v = Conv <pads = [1, 0, 2, 1], strides = [2, 2]> (u, w)\ny = Mul (v, g)",
                       a=a, m=m, g=normal(1, 4, 1, 1))  # fmt: skip
    assert pad_value(model) == pytest.approx(-m / a)
    check_pass(model, FoldAffine())
    if -m / a not in (0.0, 1.0):
        check_pass(model, ExpressPadValue())
        assert pad_value(model) == 0.0
    else:
        assert not ExpressPadValue()(model).modified
    left = operators(model)
    assert left["bnncc.BinaryConv"] == 1
    assert left["Conv"] == 0
    assert left["Mul"] == 0


@pytest.mark.parametrize("fill", [0.0, 1.0, -1.0, 0.25])
@pytest.mark.parametrize("mode", ["before the affine", "behind the affine", "alone"])
def test_a_pad_node_is_folded(fill: float, mode: str) -> None:
    pad = 'Pad <mode = "constant"> ({}, p, f)'
    body = {
        "before the affine": f"q = {pad.format('s')}\nu = Mul (q, a)",
        "behind the affine": f"q = Mul (s, a)\nu = {pad.format('q')}",
        "alone": f"u = {pad.format('s')}",
    }[mode]
    body = f"s = bnncc.Sign (x)\n{body}\ny = Conv <strides = [2, 1]> (u, w)"
    model = recognized(body, a=0.5, p=np.array([0, 0, 1, 2, 0, 0, 1, 0]), f=fill)
    assert pad_value(model) == (fill / 0.5 if mode == "behind the affine" else fill)
    assert list(node_of(model, "BinaryConv").attributes["pads"].as_ints()) == [1, 2, 1, 0]
    if pad_value(model) not in (0.0, 1.0):
        check_pass(model, ExpressPadValue())


def test_a_pad_node_and_padding_of_the_convolution_add_up_where_their_values_agree() -> None:
    body = f"s = bnncc.Sign (x)\nu = Pad (s, p, f)\ny = {PADDED} (u, w)"
    model = recognized(body, p=np.array([0, 0, 1, 0, 0, 0, 2, 1]), f=0.0)
    assert list(node_of(model, "BinaryConv").attributes["pads"].as_ints()) == [2, 1, 3, 2]
    # A pad of signs with signs is binary as it is.
    other = build(body, X, w=W, p=np.array([0, 0, 1, 0, 0, 0, 2, 1]), f=1.0)
    check_pass(other, RecognizeBinaryConv())
    assert operators(other)["Pad"] == 1
    assert list(node_of(other, "BinaryConv").attributes["pads"].as_ints()) == [1, 1, 1, 1]
    scaled = build(body.replace("Pad (s, p, f)", "Pad (t, p, f)").replace("u =", "t = Mul (s, a)\nu ="), X, w=W,
                   p=np.array([0, 0, 1, 0, 0, 0, 2, 1]), f=1.0, a=0.5)  # fmt: skip
    check_pass(scaled, RecognizeBinaryConv(), modified=False)
    assert (
        node_of(scaled, "Conv").metadata_props[LEFT_IN_FLOAT_KEY]
        == "padded-twice: it is padded twice, with different values"
    )


def test_reflected_signs_are_signs() -> None:
    body = 's = bnncc.Sign (x)\nt = Pad <mode = "reflect"> (s, p)\nu = Mul (t, a)\ny = Conv (u, w)'
    model = recognized(body, a=0.5, p=np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    assert "Conv" not in operators(model)


def test_moves_behind_the_affine_are_applied_to_the_signs() -> None:
    body = """s = bnncc.Sign (x)
t = Mul (s, a)
u = Add (t, m)
p = MaxPool <kernel_shape = [2, 2], strides = [1, 1]> (u)
y = Conv (p, w)
z = Mul (p, a)"""
    model = build(body, X, "y, z", w=W, a=0.25, m=0.5)
    check_pass(model, RecognizeBinaryConv())
    # The pool of the affine value is still there for its other user.
    assert operators(model)["MaxPool"] == 2
    assert operators(model)["bnncc.BinaryConv"] == 1


def test_a_maximum_of_negated_signs_is_no_maximum_of_signs() -> None:
    body = "s = bnncc.Sign (x)\nu = Mul (s, a)\np = MaxPool <kernel_shape = [2, 2]> (u)\ny = Conv (p, w)"
    model = build(body, X, w=W, a=-0.25)
    check_pass(model, RecognizeBinaryConv(), modified=False)


def test_a_concatenation_of_scaled_signs_has_a_scale_per_channel() -> None:
    """The filters hold the reciprocal scales, so that the products are of one magnitude."""
    w = signs(4, 5, 3, 3).copy()
    w[:, 2:] *= 4
    body = """s = bnncc.Sign (x)
r = bnncc.Sign (z)
t = Mul (r, a)
u = Add (t, m)
c = Concat <axis = 1> (s, u)
y = Conv (c, w)"""
    model = build(body, "float[1, 2, 6, 7] x, float[1, 3, 6, 7] z", w=w, a=0.25, m=0.5)
    check_pass(model, RecognizeBinaryConv())
    assert operators(model)["bnncc.BinaryConv"] == 1


def test_padding_that_means_different_things_per_channel_stays_in_float() -> None:
    body = f"s = bnncc.Sign (x)\nu = Add (s, m)\ny = {PADDED} (u, w)"
    model = build(body, X, w=W, m=normal(1, 5, 1, 1))
    check_pass(model, RecognizeBinaryConv(), modified=False)
    reason = node_of(model, "Conv").metadata_props[LEFT_IN_FLOAT_KEY]
    assert (
        reason
        == "channel-dependent-padding: its zero padding means different things for different channels of its input"
    )


@pytest.mark.parametrize(
    "body",
    [
        "c = Concat <axis = 1> (s, r)\ny = Conv (c, w)",
        "c = Concat <axis = 1> (s, r)\nd = Slice (c, b, e, o)\ny = Conv (d, v)",
        "c = Tile (s, t)\ny = Conv (c, w)",
        "c = Concat <axis = 1> (s, s)\ny = Conv (c, w)",
    ],
)
def test_joined_and_sliced_signs_are_signs(body: str) -> None:
    constants = {
        "w": signs(4, 10, 3, 3), "v": signs(4, 7, 3, 3), "b": np.array([2]), "e": np.array([9]), "o": np.array([1]),
        "t": np.array([1, 2, 1, 1]),
    }  # fmt: skip
    model = build(f"s = bnncc.Sign (x)\nn = Neg (x)\nr = bnncc.Sign (n)\n{body}", X, **constants)
    check_pass(model, RecognizeBinaryConv())
    assert operators(model)["bnncc.BinaryConv"] == 1
