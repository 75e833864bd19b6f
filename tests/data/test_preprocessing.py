"""Pictures become what torchvision's Resize, CenterCrop, ToTensor and Normalize make of them.

torchvision is not installed: `torchvision_tensor` writes down its published formulas (transforms/functional.py).
"""

import io
import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bnncc.data import Preprocessing
from bnncc.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def noise(width, height, mode="RGB", seed=0):
    shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode if len(mode) == 4 else None
    )


def torchvision_pixels(picture, resize, crop, interpolation="bilinear"):
    """[H, W, C] uint8 after Resize(resize, interpolation) and CenterCrop(crop)."""
    if resize is not None:
        width, height = picture.size
        short, long = (width, height) if width <= height else (height, width)
        new_short, new_long = resize, int(resize * long / short)
        new = (new_short, new_long) if width <= height else (new_long, new_short)
        picture = picture.resize(new, FILTERS[interpolation])
    array = np.asarray(picture)
    if crop is not None:
        top = round((array.shape[0] - crop[0]) / 2.0)
        left = round((array.shape[1] - crop[1]) / 2.0)
        array = array[top : top + crop[0], left : left + crop[1]]
    return array if array.ndim == 3 else array[:, :, None]


def torchvision_tensor(pixels, mean, std):
    """ToTensor() and Normalize(mean, std)."""
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    mean, std = (torch.as_tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (mean, std))
    return tensor.sub_(mean).div_(std).numpy()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 30), (30, 40), (41, 29), (29, 41), (33, 33), (17, 61), (32, 32)])
def test_resize_crop_and_normalize_equal_torchvisions(size, interpolation):
    picture = noise(*size)
    preprocessing = Preprocessing(32, (27, 28), MEAN, STD, interpolation)
    expected = torchvision_pixels(picture, 32, (27, 28), interpolation)
    pixels = preprocessing.decode(picture, 3)
    np.testing.assert_array_equal(pixels, expected.transpose(2, 0, 1))
    np.testing.assert_array_equal(preprocessing.normalize(pixels), torchvision_tensor(expected, MEAN, STD))


@settings(max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.data())
def test_every_size_is_resized_and_cropped_as_torchvision_does(width, height, resize, data):
    crop = (data.draw(st.integers(1, resize)), data.draw(st.integers(1, resize)))
    picture = noise(width, height, "L")
    expected = torchvision_pixels(picture, resize, crop)
    np.testing.assert_array_equal(Preprocessing(resize, crop).decode(picture, 1), expected.transpose(2, 0, 1))


def test_the_crop_of_odd_margins_rounds_half_to_even():
    columns = Image.fromarray(np.tile(np.arange(11, dtype=np.uint8), (11, 1)))
    starts = {size: int(Preprocessing(crop=(size, size)).decode(columns, 1)[0, 0, 0]) for size in (10, 8, 6, 4)}
    assert starts == {10: 0, 8: 2, 6: 2, 4: 4}  # the margins 0.5, 1.5, 2.5 and 3.5


def test_without_options_the_pixels_are_the_pictures_own():
    picture = noise(7, 5)
    pixels = Preprocessing().decode(picture, 3)
    np.testing.assert_array_equal(pixels, np.asarray(picture).transpose(2, 0, 1))
    for said, scale in (("0..255", 1), ("0..1", 255)):
        normalized = Preprocessing(pixels=said).normalize(pixels)
        np.testing.assert_array_equal(normalized, pixels.astype(np.float32) / np.float32(scale))


def test_pixels_of_which_nobody_said_what_they_become_are_refused_and_floats_are_not():
    pixels = np.zeros((3, 2, 2), np.uint8)
    with pytest.raises(InputError, match=r"give --mean and --std .*--pixels 0\.\.1 .*--pixels 0\.\.255"):
        Preprocessing(resize=3).normalize(pixels)
    np.testing.assert_array_equal(Preprocessing().normalize(pixels.astype(np.float64)), pixels.astype(np.float32))


@pytest.mark.parametrize("options", [{"pixels": "0..2"}, {"pixels": "0..1", "mean": (0.5,), "std": (1.0,)}])
def test_what_pixels_become_is_said_once(options):
    with pytest.raises(InputError, match="--pixels"):
        Preprocessing(**options)


def test_a_grey_picture_fills_the_three_channels():
    grey = noise(6, 5, "L")
    pixels = Preprocessing().decode(grey, 3)
    np.testing.assert_array_equal(pixels, np.stack([np.asarray(grey)] * 3))


def test_a_colour_picture_becomes_its_luma_for_a_one_channel_network():
    picture = noise(6, 5)
    red, green, blue = np.asarray(picture).astype(np.int64).transpose(2, 0, 1)
    luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # ITU-R 601-2, in 16 bits
    np.testing.assert_array_equal(Preprocessing().decode(picture, 1)[0], luma)


def test_transparency_is_dropped_and_not_blended():
    picture = noise(6, 5, "RGBA")
    np.testing.assert_array_equal(Preprocessing().decode(picture, 3), np.asarray(picture)[..., :3].transpose(2, 0, 1))


def test_a_palette_is_looked_up_before_the_picture_is_resized():
    indices = np.random.default_rng(1).integers(0, 4, (20, 24), np.uint8)
    palette = np.random.default_rng(2).integers(0, 256, (4, 3), np.uint8)
    picture = Image.fromarray(indices).convert("L")
    picture.putpalette(palette.tobytes())
    assert picture.mode == "P"
    colours = Image.fromarray(palette[indices])
    expected = torchvision_pixels(colours, 10, None)
    np.testing.assert_array_equal(Preprocessing(10).decode(picture, 3), expected.transpose(2, 0, 1))


def test_a_palette_with_transparency_prints_no_warning():
    picture = Image.fromarray(np.zeros((4, 4), np.uint8))
    picture.putpalette(bytes(range(48)))
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=bytes(range(16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = Preprocessing().decode(Image.open(file), 3)
    np.testing.assert_array_equal(pixels[:, 0, 0], [0, 1, 2])


def test_cmyk_becomes_rgb():
    ink = np.random.default_rng(3).integers(0, 256, (5, 6, 4), np.uint8)
    light = 255 - ink.astype(np.float64)
    expected = (light[..., :3] * light[..., 3:] / 255).transpose(2, 0, 1)
    found = Preprocessing().decode(Image.fromarray(ink, "CMYK"), 3)
    assert np.abs(found - expected).max() <= 1  # Pillow's own rounding


def test_a_16_bit_picture_is_refused_whose_lights_would_all_be_white():
    """ImageFolder's convert("RGB") clips 16 bits to 255 without a word."""
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 100, 255], [256, 1000, 65535]], np.uint16)).save(file, "PNG")
    for channels in (1, 3):
        with pytest.raises(InputError, match="more than 8 bits"):
            Preprocessing().decode(Image.open(file), channels)


def test_the_exif_orientation_is_applied_or_ignored_as_in_training():
    """ImageFolder's loader ignores it; phones apply it."""
    picture = Image.fromarray(np.arange(15, dtype=np.uint8).reshape(3, 5))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    stored, upright = np.asarray(picture), np.rot90(np.asarray(picture), -1)
    np.testing.assert_array_equal(Preprocessing(exif="ignore").decode(Image.open(file), 1)[0], stored)
    np.testing.assert_array_equal(Preprocessing().decode(Image.open(file), 1)[0], upright)


def test_a_crop_that_is_larger_than_the_picture_is_refused():
    with pytest.raises(InputError, match="5x6, smaller than the crop of 5x7: give --resize"):
        Preprocessing(crop=(5, 7)).decode(noise(6, 5), 3)


def test_one_mean_and_std_serve_all_channels():
    pixels = np.random.default_rng(4).integers(0, 256, (3, 4, 5), np.uint8)
    expected = torchvision_tensor(pixels.transpose(1, 2, 0), [0.5] * 3, [0.25] * 3)
    np.testing.assert_array_equal(Preprocessing(mean=(0.5,), std=(0.25,)).normalize(pixels), expected)


def test_a_vector_is_normalised_along_its_first_axis_and_keeps_its_shape():
    vector = np.array([0, 51, 255], np.uint8)
    normalized = Preprocessing(mean=(0.5,), std=(0.5,)).normalize(vector)
    np.testing.assert_allclose(normalized, [-1, -0.6, 1], rtol=1e-6)
    assert normalized.shape == (3,)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_are_not_normalised(dtype):
    array = np.array([[[0.5, -3, 200]]], dtype)
    found = Preprocessing(mean=(0.5,), std=(0.25,)).normalize(array)
    assert found.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(found, [[[0.5, -3, 200]]])


def test_as_many_means_as_channels_are_needed():
    with pytest.raises(InputError, match="--mean has 3 values, and the images have 1 channels"):
        Preprocessing(mean=MEAN, std=STD).normalize(np.zeros((1, 2, 2), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": MEAN}, "go together"),
        ({"std": STD}, "go together"),
        ({"mean": MEAN, "std": STD[:2]}, "--mean has 3 values and --std has 2"),
        ({"mean": (0.5,), "std": (0.0,)}, "--std positive"),
        ({"mean": (0.5,), "std": (-1.0,)}, "--std positive"),
        ({"mean": (0.5,), "std": (float("nan"),)}, "--std positive"),
        ({"mean": (float("nan"),), "std": (1.0,)}, "must be finite"),
        ({"mean": (float("inf"),), "std": (1.0,)}, "must be finite"),
        ({"mean": (127.5, 51), "std": (51, 25.5)}, "--mean 127.5 is above all pixels.* --mean 0.5,0.2 --std 0.2,0.1$"),
        ({"interpolation": "nearest"}, "none of bilinear, bicubic"),
        ({"resize": 0}, "at least one pixel"),
        ({"crop": (3, 0)}, "at least one pixel"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Preprocessing(**arguments)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(256, (224, 192), MEAN, STD, "bicubic"),
        Preprocessing(resize=32),
        Preprocessing(crop=(28, 28)),
        Preprocessing(mean=(0.1,), std=(0.3,)),
        Preprocessing(interpolation="bicubic"),
    ],
)
def test_the_metadata_keep_it_exactly(preprocessing):
    assert Preprocessing.from_json(json.loads(json.dumps(preprocessing.as_json()))) == preprocessing


def test_the_metadata_hold_only_what_is_set():
    assert Preprocessing().as_json() == {}
    assert Preprocessing(crop=(2, 3)).as_json() == {"crop": [2, 3]}
