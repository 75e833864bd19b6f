import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.errors import UnsupportedOperatorsError
from tests.targets.tflite.compare import assert_same, node_model, normal, operators


def conv(channels, filters, kernel, size, attributes="", *, group=1, bias=True, body="y = {}", batch=1):
    """A model of one Conv on [batch, channels, *size]."""
    constants = {"w": normal(filters, channels // group, *kernel)}
    if bias:
        constants["b"] = normal(filters, seed=1)
    attributes = ", ".join(part for part in (attributes, f"group={group}") if part)
    node = f"Conv<{attributes}>(x, w{', b' if bias else ''})"
    dims = ", ".join(str(number) for number in (batch, channels, *size))
    return node_model(body.format(node), f"float[{dims}] x", constants=constants)


@pytest.mark.parametrize("channels", [1, 3, 5, 33])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 7), (8, 8)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padded_3x3(channels, size, stride):
    assert_same(conv(channels, 5, (3, 3), size, f"pads=[1, 1, 1, 1], strides=[{stride}, {stride}]", batch=2))


@pytest.mark.parametrize(
    "attributes", ["", "pads=[1, 0, 2, 1]", "pads=[0, 2, 0, 0], strides=[2, 1]", "dilations=[2, 3]"]
)
@pytest.mark.parametrize("group", [1, 2, 3, 6])
@pytest.mark.parametrize("bias", [True, False])
def test_groups_dilation_and_uneven_padding(attributes, group, bias):
    content = assert_same(conv(6, 12, (3, 2), (9, 10), attributes, group=group, bias=bias))
    counts = operators(content)
    assert counts["DEPTHWISE_CONV_2D"] == (group == 6)
    assert counts["CONV_2D"] == (group != 6)
    assert counts["SPLIT"] == counts["CONCATENATION"] == 0


def test_depthwise_with_a_channel_multiplier_dilation_and_padding():
    assert_same(conv(5, 15, (3, 3), (7, 7), "pads=[2, 2, 2, 2], dilations=[2, 2]", group=5))


@pytest.mark.parametrize("kind", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_auto_pad(kind, size):
    assert_same(conv(3, 4, (3, 2), size, f'auto_pad="{kind}", strides=[2, 2]'))


def test_padding_that_same_covers_needs_no_pad():
    assert operators(assert_same(conv(3, 4, (3, 3), (8, 8), "pads=[1, 1, 1, 1]"))) == {"CONV_2D": 1}
    assert operators(assert_same(conv(3, 4, (3, 3), (9, 9), "pads=[1, 1, 1, 1], strides=[2, 2]"))) == {"CONV_2D": 1}


def test_padding_that_same_does_not_cover_is_one_pad():
    content = assert_same(conv(3, 4, (3, 3), (8, 8), "pads=[1, 1, 1, 1], strides=[2, 2]"))
    assert operators(content) == {"PAD": 1, "CONV_2D": 1}


def test_positions_that_no_window_reaches_need_nothing():
    assert operators(assert_same(conv(3, 4, (1, 1), (8, 8), "strides=[2, 2]"))) == {"CONV_2D": 1}
    assert operators(assert_same(conv(3, 4, (2, 2), (7, 7), "strides=[3, 3]"))) == {"CONV_2D": 1}


@pytest.mark.parametrize(("low", "high"), [(0, 6), (-1, 1)])
def test_activation_is_fused(low, high):
    model = node_model(
        "z = Conv(x, w) y = Clip(z, l, h)",
        "float[1, 3, 5, 5] x",
        constants={"w": normal(4, 3, 3, 3), "l": np.float32(low), "h": np.float32(high)},
    )
    assert operators(assert_same(model)) == {"CONV_2D": 1}
    assert operators(assert_same(conv(3, 4, (3, 3), (5, 5), body="z = {} y = Relu(z)"))) == {"CONV_2D": 1}


def test_activation_of_a_value_used_twice_is_not_fused():
    assert operators(assert_same(conv(3, 4, (3, 3), (5, 5), body="z = {} r = Relu(z) y = Add(z, r)")))["RELU"] == 1


@pytest.mark.parametrize("attributes", ["", "pads=[1, 1], strides=[2]", "dilations=[2]", 'auto_pad="SAME_LOWER"'])
@pytest.mark.parametrize("group", [1, 3])
def test_one_dimensional(attributes, group):
    assert_same(conv(3, 6, (3,), (9,), attributes, group=group, body="z = {} y = Relu(z)"))


@given(data=st.data())
@settings(max_examples=60)
def test_any_geometry(data):
    integer = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    kernel, stride = [integer(1, 5), integer(1, 5)], [integer(1, 3), integer(1, 3)]
    dilation = [integer(1, 2), integer(1, 2)]
    pads = [integer(0, 3) for _ in range(4)]
    size = []
    for axis in range(2):
        extent = (kernel[axis] - 1) * dilation[axis] + 1
        size.append(integer(max(1, extent - pads[axis] - pads[axis + 2]), 12))
    group, per_group, filters = integer(1, 3), integer(1, 3), integer(1, 3)
    attributes = f"pads={pads}, strides={stride}, dilations={dilation}"
    assert_same(conv(group * per_group, group * filters, kernel, size, attributes, group=group))


def conv_transpose(attributes, *, kernel=(3, 3), size=(5, 6), group=1, body="y = {}"):
    constants = {"w": normal(4, 3, *kernel), "b": normal(3 * group, seed=1)}
    dims = ", ".join(str(number) for number in (2, 4, *size))
    node = f"ConvTranspose<{', '.join(part for part in (attributes, f'group={group}') if part)}>(x, w, b)"
    return node_model(body.format(node), f"float[{dims}] x", constants=constants)


@pytest.mark.parametrize(
    ("attributes", "kernel"),
    [
        ("", (3, 3)),
        ("strides=[2, 2]", (2, 2)),
        ("strides=[2, 2], pads=[1, 1, 1, 1]", (4, 4)),
        ("strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]", (3, 3)),
        ("strides=[3, 2], pads=[1, 0, 0, 2], output_padding=[2, 0]", (3, 4)),
        ("strides=[3, 3], output_padding=[2, 1]", (1, 2)),
        ("dilations=[2, 1], pads=[1, 1, 1, 1]", (3, 3)),
    ],
)
@pytest.mark.parametrize("group", [1, 2, 4])
def test_conv_transpose(attributes, kernel, group):
    assert_same(conv_transpose(attributes, kernel=kernel, group=group))


def test_conv_transpose_fuses_the_activation_and_crops_only_where_padded():
    assert operators(assert_same(conv_transpose("", body="z = {} y = Relu(z)"))) == {"TRANSPOSE_CONV": 1}
    content = assert_same(conv_transpose("pads=[1, 1, 1, 1]"))
    assert operators(content) == {"TRANSPOSE_CONV": 1, "STRIDED_SLICE": 1}


def test_conv_transpose_one_dimensional():
    assert_same(conv_transpose("strides=[2], pads=[1, 0]", kernel=(3,), size=(5,)))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: conv(3, 4, (1, 1, 1), (2, 2, 2)), "3 spatial axes"),
        (
            lambda: node_model("y = Conv(x, w)", "float[1, 3, 5, 5] x, float[2, 3, 3, 3] w"),
            "the weight is not a constant",
        ),
        (lambda: conv_transpose("output_shape=[9, 9], strides=[2, 2]"), "output_shape"),
    ],
)
def test_what_has_no_form_says_why(model, reason):
    with pytest.raises(UnsupportedOperatorsError, match=reason):
        assert_same(model())
