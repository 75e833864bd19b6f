import numpy as np
import onnx_ir as ir
import pytest

from bnncc.ir.geometry import Window
from bnncc.ir.modes import Padding
from bnncc.ir.pass_runner import PassRunner
from bnncc.passes.legalize import legalization, moved_bytes, zero_padding_is_exact
from bnncc.passes.windows import windows_of
from bnncc.verification.passes import first_difference
from tests.passes.helpers import Array, assert_same, build, normal, operators, signs

FLOAT = 4
BINARY_CONV = "bnncc.BinaryConv <strides = {0}, dilations = [1, 1], group = 1, pads = {1}, pad_value = 0.0>"


def network(size: int, channels: int = 8) -> ir.Model:
    """Three binary 3x3 convolutions at stride 2 with padding 1, and a global pool: the mirrored frame suits it."""
    lines, value = ["e = Conv (x, stem)"], "e"
    constants: dict[str, Array] = {"stem": normal(channels, 1, 1, 1)}
    for index in range(3):
        operator = BINARY_CONV.format([2, 2], [1, 1, 1, 1])
        lines += [f"s{index} = bnncc.Sign ({value})", f"c{index} = {operator} (s{index}, w{index}, m{index}, b{index})"]
        constants[f"w{index}"] = signs(channels, channels, 3, 3, seed=index)
        constants[f"m{index}"], constants[f"b{index}"] = normal(channels, seed=index), normal(channels, seed=index + 9)
        value = f"c{index}"
    return build("\n".join([*lines, f"y = GlobalAveragePool ({value})"]), f"float[1, 1, {size}, {size}] x", **constants)


def pointwise_network() -> ir.Model:
    """A padded stride-2 convolution with few channels and many unpadded ones: the upright frame suits it."""
    body = f"""
    s = bnncc.Sign (x)
    a = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (x)
    b = AveragePool <kernel_shape = [1, 1], strides = [2, 2]> (x)
    c = {BINARY_CONV.format([2, 2], [1, 1, 1, 1])} (s, w, m, m)
    d = Concat <axis = 1> (a, b, c)
    y = GlobalAveragePool (d)"""
    return build(body, "float[1, 8, 12, 12] x", w=signs(1, 8, 3, 3), m=normal(1))


def names(model: ir.Model, padding: Padding) -> list[str]:
    return [step.name for step in legalization(model, padding)]


@pytest.mark.parametrize("padding", list(Padding))
@pytest.mark.parametrize("size", [7, 8, 5, 2, 1])
def test_every_way_leaves_only_padding_that_lce_can_do(padding: Padding, size: int) -> None:
    model = network(size)
    before = model.clone()
    PassRunner(compare=first_difference).run(model, legalization(model, padding))
    assert_same(before, model, tolerance=1e-4, force_jumps=True)
    for node in model.graph:
        if node.op_type == "BinaryConv":
            windows = windows_of(node)
            assert windows is not None
            assert node.attributes["pad_value"].as_float() == 1.0 or zero_padding_is_exact(windows)


def test_the_frame_is_the_users_or_that_which_moves_fewer_bytes() -> None:
    assert names(network(24), Padding.MIRRORED) == ["trim-kernels", "mirror-frame", "pad-with-ones"]
    assert names(network(24), Padding.ONE_PADDED) == ["trim-kernels", "pad-with-ones"]
    assert names(network(24), Padding.AUTO) == names(network(24), Padding.MIRRORED)
    assert names(pointwise_network(), Padding.AUTO) == names(pointwise_network(), Padding.ONE_PADDED)


def test_trying_the_mirrored_frame_leaves_the_model_alone() -> None:
    model = network(24)
    content = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    legalization(model, Padding.AUTO)
    assert ir.serde.serialize_model(model).SerializeToString(deterministic=True) == content


def test_weights_that_were_rotated_are_not_kept_beside_the_rotated_ones() -> None:
    model = network(24)
    PassRunner().run(model, legalization(model, Padding.MIRRORED))
    assert {"w0", "w1", "w2"}.isdisjoint(model.graph.initializers)
    assert all(value.uses() for value in model.graph.initializers.values())


def test_mirrored_needs_one_slice_and_one_padded_one_correction_a_convolution() -> None:
    mirrored, padded = network(24), network(24)
    PassRunner().run(mirrored, legalization(mirrored, Padding.MIRRORED))
    PassRunner().run(padded, legalization(padded, Padding.ONE_PADDED))
    assert operators(mirrored) - operators(network(24)) == {"Slice": 1}
    assert operators(padded) - operators(network(24)) == {"Add": 3}


def test_bytes_are_those_of_pads_slices_and_corrections() -> None:
    assert moved_bytes(build("y = Relu (x)", "float[1, 2, 8, 8] x")) == 0
    ring = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    assert moved_bytes(build("y = Pad (x, ring)", "float[1, 2, 8, 8] x", ring=ring)) == FLOAT * 2 * (64 + 100)
    # Three corrections, each reads a value, adds a constant and writes.
    assert moved_bytes(network(24)) == 3 * FLOAT * 8 * (12 * 12 + 6 * 6 + 3 * 3)
    # TensorFlow's SAME and VALID cost nothing; a float convolution with PyTorch's split is padded first.
    conv = "y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)"
    assert moved_bytes(build(conv, "float[1, 2, 7, 7] x", w=normal(3, 2, 3, 3))) == 0
    assert moved_bytes(build(conv, "float[1, 2, 8, 8] x", w=normal(3, 2, 3, 3))) == FLOAT * 2 * (64 + 81)
    assert moved_bytes(build("y = Conv <strides = [2, 2]> (x, w)", "float[1, 2, 8, 8] x", w=normal(3, 2, 3, 3))) == 0


@pytest.mark.parametrize(
    ("window", "exact"),
    [
        (Window(8, 3, 1, 1, 1, 1), True),
        (Window(8, 3, 1, 1, 0, 0), True),
        (Window(8, 3, 2, 1, 1, 0), False),  # PyTorch's split
        (Window(8, 3, 2, 1, 0, 1), True),
        (Window(3, 3, 1, 1, 1, 1), True),
        (Window(2, 3, 1, 1, 1, 1), False),  # smaller than the kernel
        (Window(3, 3, 1, 2, 2, 2), False),  # smaller than the dilated kernel
    ],
)
def test_what_lce_pads_right(window: Window, exact: bool) -> None:
    assert zero_padding_is_exact((window, window)) is exact
