import numpy as np
import pytest
import torch
from hypothesis import given, settings

from bnncc.ir.geometry import Window
from bnncc.passes.border import border_sums
from bnncc.passes.legalize import zero_padding_is_exact
from bnncc.passes.pad_with_ones import PadWithOnes
from tests.passes.convolutions import GEOMETRIES, Geometry, binary_conv_model, some_scales, torch_sums
from tests.passes.helpers import build, check_pass, draw, node_of, normal, operators, run_model, signs


def nothing_is_expressible(windows: tuple[Window, Window]) -> bool:
    return False


@settings(max_examples=150)
@given(geometry=GEOMETRIES)
def test_the_integer_sums_are_torchs_exactly(geometry: Geometry) -> None:
    model = binary_conv_model(geometry)
    feeds = draw(model)
    expected = torch_sums(geometry, np.where(feeds["x"] < 0, -1, 1))
    assert PadWithOnes(nothing_is_expressible)(model).modified
    assert node_of(model, "BinaryConv").attributes["pad_value"].as_float() == 1.0
    np.testing.assert_array_equal(run_model(model, feeds)["y"], expected)


@settings(max_examples=60)
@given(geometry=GEOMETRIES)
def test_with_scales_of_both_signs_and_a_bias(geometry: Geometry) -> None:
    multiplier, bias = some_scales()
    model = binary_conv_model(geometry, multiplier=multiplier, bias=bias)
    feeds = draw(model)
    sums = torch_sums(geometry, np.where(feeds["x"] < 0, -1, 1))
    PadWithOnes(nothing_is_expressible)(model)
    expected = sums * multiplier[:, None, None] + bias[:, None, None]
    np.testing.assert_allclose(run_model(model, feeds)["y"], expected, rtol=1e-5, atol=1e-4)


@settings(max_examples=80)
@given(geometry=GEOMETRIES)
def test_the_border_is_the_convolution_of_the_frame_by_the_signs(geometry: Geometry) -> None:
    weight = signs(4, 3, *geometry.kernel, seed=7)
    top, left, bottom, right = geometry.pads
    frame = torch.nn.functional.pad(torch.zeros(1, 3, *geometry.size), (left, right, top, bottom), value=1.0)
    expected = torch.nn.functional.conv2d(
        frame, torch.from_numpy(weight), None, geometry.strides, 0, geometry.dilations
    )
    windows = (
        Window(geometry.size[0], geometry.kernel[0], geometry.strides[0], geometry.dilations[0], top, bottom),
        Window(geometry.size[1], geometry.kernel[1], geometry.strides[1], geometry.dilations[1], left, right),
    )
    np.testing.assert_array_equal(border_sums(weight, windows), expected.numpy()[0])


def strided(size: int) -> Geometry:
    return Geometry((size, size), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1))


def test_the_form_changes_as_described() -> None:
    multiplier, bias = some_scales()
    model = binary_conv_model(strided(8), multiplier=multiplier, bias=bias)
    check_pass(model, PadWithOnes(zero_padding_is_exact))
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1, "Add": 1}
    assert model.graph.outputs[0].name == "y"
    assert node_of(model, "BinaryConv").outputs[0].name == "y/one_padded"


@pytest.mark.parametrize(
    "geometry",
    [
        strided(7),  # TensorFlow's SAME
        Geometry((8, 8), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
        Geometry((8, 8), (1, 1), (2, 2), (1, 1), (0, 0, 0, 0)),  # VALID
        Geometry((8, 5), (3, 3), (2, 2), (1, 1), (0, 0, 0, 0)),
    ],
)
def test_what_the_kernels_can_do_is_left(geometry: Geometry) -> None:
    check_pass(binary_conv_model(geometry), PadWithOnes(zero_padding_is_exact), modified=False)


def test_a_convolution_padded_with_ones_is_left() -> None:
    check_pass(binary_conv_model(strided(8), pad_value=1.0), PadWithOnes(nothing_is_expressible), modified=False)


def test_every_reader_of_the_convolution_gets_the_corrected_value() -> None:
    body = """
    s = bnncc.Sign (x)
    c = bnncc.BinaryConv <strides = [2, 2], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1], pad_value = 0.0>
        (s, w, m, b)
    t = bnncc.Sign (c)
    a = Relu (c)
    y = Mul (a, t)"""
    constants = {"w": signs(4, 3, 3, 3), "m": normal(4), "b": normal(4)}
    model = build(body, "float[1, 3, 6, 8] x", "y, c", **constants)
    check_pass(model, PadWithOnes(zero_padding_is_exact))
    assert operators(model)["Add"] == 1


def test_groups() -> None:
    body = """
    s = bnncc.Sign (x)
    y = bnncc.BinaryConv <strides = [2, 2], dilations = [1, 1], group = 2, pads = [1, 1, 1, 1], pad_value = 0.0>
        (s, w, m, b)"""
    constants = {"w": signs(6, 2, 3, 3), "m": normal(6), "b": normal(6)}
    check_pass(build(body, "float[1, 4, 6, 8] x", **constants), PadWithOnes(zero_padding_is_exact))
