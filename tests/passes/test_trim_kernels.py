import numpy as np
import pytest
import torch
from hypothesis import given, settings

from bnncc.passes.trim_kernels import TrimKernels
from tests.passes.convolutions import (
    GEOMETRIES,
    Geometry,
    binary_conv_model,
    float_conv_model,
    geometries,
    torch_sums,
)
from tests.passes.helpers import array_of, build, check_pass, draw, node_of, normal, run_model, signs


def reads_data(geometry: Geometry, axis: int) -> list[bool]:
    """For each tap, whether any output reads the map with it: found by convolving a map of ones with that tap alone."""
    size, kernel = geometry.size[axis], geometry.kernel[axis]
    begin, end = geometry.pads[axis], geometry.pads[axis + 2]
    padded = torch.nn.functional.pad(torch.ones(1, 1, size), (begin, end))
    result = []
    for tap in range(kernel):
        weight = torch.zeros(1, 1, kernel)
        weight[0, 0, tap] = 1
        stride, dilation = geometry.strides[axis], geometry.dilations[axis]
        result.append(bool(torch.nn.functional.conv1d(padded, weight, None, stride, 0, dilation).any()))
    return result


@settings(max_examples=150)
@given(geometry=GEOMETRIES)
def test_a_trimmed_binary_convolution_has_torchs_sums_exactly(geometry: Geometry) -> None:
    model = binary_conv_model(geometry)
    feeds = draw(model)
    expected = torch_sums(geometry, np.where(feeds["x"] < 0, -1, 1))
    TrimKernels()(model)
    np.testing.assert_array_equal(run_model(model, feeds)["y"], expected)
    assert not TrimKernels()(model).modified


@settings(max_examples=80)
@given(geometry=GEOMETRIES)
def test_a_trimmed_float_convolution_computes_what_torch_does(geometry: Geometry) -> None:
    model = float_conv_model(geometry)
    feeds = draw(model)
    expected = torch_sums(geometry, feeds["x"])
    TrimKernels()(model)
    np.testing.assert_allclose(run_model(model, feeds)["y"], expected, rtol=1e-5, atol=1e-5)
    pads = list(node_of(model, "Conv").attributes["pads"].as_ints())
    assert min(pads) >= 0, "Conv takes no negative padding"


@settings(max_examples=150)
@given(geometry=geometries(largest_dilation=1))
def test_no_outer_tap_is_left_that_reads_nothing(geometry: Geometry) -> None:
    """With dilation 1: with a larger one, a tap may have to stay because padding cannot be negative."""
    model = binary_conv_model(geometry)
    TrimKernels()(model)
    kernel = array_of(node_of(model, "BinaryConv").inputs[1]).shape[2:]
    for axis in (0, 1):
        reads = reads_data(geometry, axis)
        used = len(reads) - reads.index(True) - reads[::-1].index(True) if any(reads) else len(reads)
        assert kernel[axis] == used


@pytest.mark.parametrize(("size", "kernel"), [((1, 1), (1, 1)), ((2, 2), (3, 3)), ((1, 5), (1, 3)), ((1, 2), (1, 3))])
def test_3x3_kernels_on_tiny_maps(size: tuple[int, int], kernel: tuple[int, int]) -> None:
    model = binary_conv_model(Geometry(size, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)))
    check_pass(model, TrimKernels(), modified=kernel != (3, 3))
    assert array_of(node_of(model, "BinaryConv").inputs[1]).shape[2:] == kernel


def test_5x5_on_2x2_at_stride_2_keeps_the_three_taps_that_read() -> None:
    """One output a side: taps 2 and 3 read rows 0 and 1."""
    model = check_pass(binary_conv_model(Geometry((2, 2), (5, 5), (2, 2), (1, 1), (2, 2, 2, 2))), TrimKernels())
    assert array_of(node_of(model, "BinaryConv").inputs[1]).shape[2:] == (2, 2)
    assert list(node_of(model, "BinaryConv").attributes["pads"].as_ints())[:2] == [0, 0]


def test_a_convolution_padded_with_ones_is_left() -> None:
    model = binary_conv_model(Geometry((1, 1), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), pad_value=1.0)
    check_pass(model, TrimKernels(), modified=False)


def test_attributes_that_spell_the_old_kernel_go_away() -> None:
    body = 'y = Conv <auto_pad = "SAME_UPPER", kernel_shape = [3, 3]> (x, w)'
    model = check_pass(build(body, "float[1, 2, 1, 4] x", w=normal(3, 2, 3, 3)), TrimKernels())
    assert not set(node_of(model, "Conv").attributes) & {"auto_pad", "kernel_shape"}


def test_other_ranks_and_weights_computed_at_run_time_are_left() -> None:
    check_pass(
        build("y = Conv <pads = [1, 1]> (x, w)", "float[1, 2, 1] x", w=normal(3, 2, 3)), TrimKernels(), modified=False
    )
    body = "y = Conv <pads = [1, 1, 1, 1]> (x, w)"
    check_pass(build(body, "float[1, 2, 1, 1] x, float[3, 2, 3, 3] w"), TrimKernels(), modified=False)


def test_shared_weights_are_trimmed_for_one_reader_only() -> None:
    body = """
    a = MaxPool <kernel_shape = [5, 5]> (x)
    b = Conv <pads = [1, 1, 1, 1]> (a, w)
    c = Conv <pads = [1, 1, 1, 1]> (x, w)
    y = Add (b, c)"""
    model = check_pass(build(body, "float[1, 2, 5, 5] x", w=signs(3, 2, 3, 3)), TrimKernels())
    assert sorted(array_of(node.inputs[1]).shape[2] for node in model.graph if node.op_type == "Conv") == [1, 3]
