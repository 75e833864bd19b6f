import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from bnncc.errors import UnsupportedOperatorsError
from tests.targets.tflite.compare import assert_same, export, node_model, operators

X = "float[2, 3, 5, 7] x"
TRANSFORMATIONS = ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"]
SIZES = [(10, 14), (7, 3), (1, 21), (13, 1), (5, 11)]
SCALES = [(2.0, 2.0), (1.7, 0.6), (3.0, 1.0)]


def resize(attributes, *, sizes=None, scales=None):
    constants = {"s": np.array((2, 3, *sizes)) if sizes else np.array((1, 1, *scales), np.float32)}
    return node_model(f"y = Resize<{attributes}>(x, , {',' if sizes else ''} s)", X, constants=constants)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_nearest(transformation, rounding):
    attributes = f'mode="nearest", coordinate_transformation_mode="{transformation}", nearest_mode="{rounding}"'
    for sizes in SIZES:
        assert_same(resize(attributes, sizes=sizes))
    for scales in SCALES:
        assert_same(resize(attributes, scales=scales))


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_linear(transformation):
    attributes = f'mode="linear", coordinate_transformation_mode="{transformation}"'
    for sizes in SIZES:
        assert_same(resize(attributes, sizes=sizes))
    for scales in SCALES:
        assert_same(resize(attributes, scales=scales))


def test_one_dimensional():
    model = node_model('y = Resize<mode="linear">(x, , , s)', "float[2, 3, 7] x", constants={"s": np.array([2, 3, 13])})
    assert_same(model)


@pytest.mark.parametrize(("mode", "builtin"), [("nearest", "RESIZE_NEAREST_NEIGHBOR"), ("linear", "RESIZE_BILINEAR")])
def test_twice_the_size_is_one_operator(mode, builtin):
    transformation = "asymmetric" if mode == "nearest" else "half_pixel"
    attributes = f'mode="{mode}", coordinate_transformation_mode="{transformation}", nearest_mode="floor"'
    assert operators(assert_same(resize(attributes, scales=(2.0, 2.0)))) == {builtin: 1}


class TorchResizes(torch.nn.Module):
    def forward(self, x):
        return (
            interpolate(x, scale_factor=2, mode="nearest"),
            interpolate(x, size=(8, 11), mode="nearest"),
            interpolate(x, scale_factor=1.5, mode="nearest"),
            interpolate(x, scale_factor=2, mode="bilinear"),
            interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
            interpolate(x, size=(3, 10), mode="bilinear"),
            interpolate(x, scale_factor=(1.5, 0.7), mode="bilinear"),
        )


def test_interpolate_is_that_of_pytorch():
    x = torch.randn(2, 3, 5, 7)
    model = export(TorchResizes(), x.shape)
    assert_same(model, inputs=[x.numpy()], expected=[output.numpy() for output in TorchResizes()(x)])


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ('mode="cubic"', "mode cubic"),
        ('mode="linear", antialias=1', "antialias"),
        ('coordinate_transformation_mode="tf_crop_and_resize"', "coordinate_transformation_mode tf_crop_and_resize"),
    ],
)
def test_what_has_no_form_says_why(attributes, reason):
    with pytest.raises(UnsupportedOperatorsError, match=reason):
        assert_same(resize(attributes, sizes=(8, 8)), expected=[])
