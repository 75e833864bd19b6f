import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.errors import UnsupportedOperatorsError
from tests.targets.tflite.compare import assert_same, export, node_model, operators


def pool(kind, attributes, size=(8, 7), body="y = {}", channels=3):
    dims = ", ".join(str(number) for number in (2, channels, *size))
    return node_model(body.format(f"{kind}<{attributes}>(x)"), f"float[{dims}] x")


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("size", [(5, 7), (8, 8), (2, 2), (1, 1)])
@pytest.mark.parametrize("channels", [1, 33])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padded_3x3(kind, size, channels, stride):
    attributes = f"kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[{stride}, {stride}]"
    assert_same(pool(kind, attributes, size, channels=channels))


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    ['auto_pad="SAME_LOWER"', 'auto_pad="SAME_UPPER"', 'auto_pad="VALID"', "ceil_mode=1", "pads=[2, 0, 0, 1]"],
)
def test_paddings(kind, attributes):
    assert_same(pool(kind, f"kernel_shape=[3, 2], strides=[2, 2], {attributes}"))


@pytest.mark.parametrize(
    "attributes", ["pads=[1, 1, 1, 1]", "pads=[1, 0, 0, 1], strides=[2, 2]", 'auto_pad="SAME_UPPER"']
)
def test_average_over_the_padding_too(attributes):
    assert_same(pool("AveragePool", f"kernel_shape=[3, 2], count_include_pad=1, {attributes}"))


class TorchPools(torch.nn.Module):
    """Every ceil_mode: here PyTorch decides what a window counts and which windows there are."""

    def __init__(self) -> None:
        super().__init__()
        self.pools = torch.nn.ModuleList(
            [
                torch.nn.AvgPool2d(kernel, stride, padding, ceil_mode=True, count_include_pad=include)
                for kernel, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 3, 1), ((3, 2), (2, 3), (1, 0)))
                for include in (True, False)
            ]
            + [torch.nn.MaxPool2d(3, 2, 1, ceil_mode=True), torch.nn.MaxPool2d(2, 2, 1, ceil_mode=True)]
        )

    def forward(self, x):
        return tuple(pool(x) for pool in self.pools)


@pytest.mark.parametrize("size", [(7, 8), (5, 6)])
def test_ceil_mode_is_that_of_pytorch(size):
    module, x = TorchPools(), torch.randn(2, 3, *size)
    model = export(module, (2, 3, *size))
    assert_same(model, inputs=[x.numpy()], expected=[output.numpy() for output in module(x)])


def test_2x2_stride_2_is_one_operator():
    for kind, builtin in (("MaxPool", "MAX_POOL_2D"), ("AveragePool", "AVERAGE_POOL_2D")):
        content = assert_same(pool(kind, "kernel_shape=[2, 2], strides=[2, 2]", body="z = {} y = Relu(z)"))
        assert operators(content) == {builtin: 1}


def test_one_dimensional():
    assert_same(pool("MaxPool", "kernel_shape=[3], strides=[2], pads=[1, 1]", (9,)))
    assert_same(pool("AveragePool", "kernel_shape=[3], strides=[2], pads=[1, 1], count_include_pad=1", (9,)))


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("dims", ["2, 33, 7, 5", "1, 3, 9", "1, 3, 1, 1"])
def test_global(kind, dims):
    assert_same(node_model(f"y = {kind}(x)", f"float[{dims}] x"))


@given(data=st.data())
@settings(max_examples=60)
def test_any_geometry(data):
    integer = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    kernel, stride = [integer(1, 4), integer(1, 4)], [integer(1, 3), integer(1, 3)]
    pads = [integer(0, kernel[axis % 2] - 1) for axis in range(4)]
    size = [integer(max(1, kernel[axis] - pads[axis] - pads[axis + 2]), 10) for axis in range(2)]
    kind = data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    attributes = f"kernel_shape={kernel}, strides={stride}, pads={pads}"
    if kind == "AveragePool":
        attributes += f", count_include_pad={integer(0, 1)}"
    model = pool(kind, attributes, size)
    assert_same(model)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: pool("MaxPool", "kernel_shape=[2, 2], dilations=[2, 2]"), "dilations"),
        (lambda: pool("MaxPool", "kernel_shape=[2, 2, 2]", (4, 4, 4)), "3 spatial axes"),
        (
            lambda: node_model("y, i = MaxPool<kernel_shape=[2, 2]>(x)", "float[1, 1, 4, 4] x", outputs="y i"),
            "Indices",
        ),
    ],
)
def test_what_has_no_form_says_why(model, reason):
    with pytest.raises(UnsupportedOperatorsError, match=reason):
        assert_same(model())
