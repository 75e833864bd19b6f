"""Images and labels of .npz files."""

import io
import zipfile

import numpy as np
import pytest
import torch

from bnncc.data import ArrayDataset, BadImageError, Preprocessing
from bnncc.data.arrays import open_npz
from bnncc.errors import InputError
from bnncc.frontend import InputSpec

COLOUR = [InputSpec("x", (1, 3, 4, 5))]
GREY = [InputSpec("x", (1, 1, 4, 5))]
NONE = Preprocessing(pixels="0..255")


def images(*shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, shape)
    return values.astype(dtype)


def saved(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def opened(folder, specs=COLOUR, preprocessing=NONE, **arrays):
    return open_npz(saved(folder, **arrays), specs, preprocessing)


def test_nchw_is_taken_as_it_is(tmp_path):
    x = images(6, 3, 4, 5)
    dataset = opened(tmp_path, images=x, labels=np.arange(6))
    assert len(dataset) == 6
    arrays, label = dataset.sample(4)
    np.testing.assert_array_equal(arrays[0], x[4])
    assert label == 4
    assert type(label) is int


def test_nhwc_is_turned(tmp_path):
    x = images(6, 4, 5, 3)
    arrays, label = opened(tmp_path, images=x).sample(2)
    np.testing.assert_array_equal(arrays[0], np.moveaxis(x[2], -1, 0))
    assert label is None


@pytest.mark.parametrize("shape", [(3, 3, 3), (3, 3, 5), (5, 3, 5)])
def test_nchw_wins_where_both_layouts_fit(shape):
    x = images(2, *shape)
    dataset = ArrayDataset([x], None, [InputSpec("x", (1, *shape))], NONE)
    np.testing.assert_array_equal(dataset.sample(1)[0][0], x[1])


def test_a_one_channel_network_takes_images_without_a_channel_axis(tmp_path):
    x = images(3, 4, 5, dtype=np.uint8)
    np.testing.assert_array_equal(opened(tmp_path, GREY, images=x).sample(1)[0][0], x[1][None])
    last = opened(tmp_path, GREY, images=x[..., None])
    np.testing.assert_array_equal(last.sample(1)[0][0], x[1][None])


def test_a_network_of_vectors_takes_vectors(tmp_path):
    x = images(3, 7)
    np.testing.assert_array_equal(opened(tmp_path, [InputSpec("x", (2, 7))], features=x).sample(2)[0][0], x[2])


def test_uint8_is_normalised_and_float_is_not(tmp_path):
    x = images(2, 3, 4, 5, dtype=np.uint8)
    preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    found = opened(tmp_path, preprocessing=preprocessing, images=x).sample(0)[0][0]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    np.testing.assert_array_equal(found, ((torch.from_numpy(x[0]) / 255 - mean) / std).numpy())
    as_float = opened(tmp_path, preprocessing=preprocessing, images=x.astype(np.float32)).sample(0)[0][0]
    np.testing.assert_array_equal(as_float, x[0])


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4", "<f8", ">f8"])
def test_every_float_becomes_native_float32(tmp_path, dtype):
    x = images(2, 3, 4, 5) / 8
    found = opened(tmp_path, images=x.astype(dtype)).sample(1)[0][0]
    assert found.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(found, x[1])


@pytest.mark.parametrize("name", ["labels", "label", "y"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, ">i4", np.float32])
def test_labels_of_every_numeric_type_are_read(tmp_path, name, dtype):
    dataset = opened(tmp_path, images=images(3, 3, 4, 5), **{name: np.array([2, 0, 7], dtype)})
    assert [dataset.read(row).label for row in range(3)] == [2, 0, 7]


def test_labels_may_be_a_column(tmp_path):
    dataset = opened(tmp_path, images=images(3, 3, 4, 5), labels=np.array([[2], [0], [7]]))
    assert [dataset.read(row).label for row in range(3)] == [2, 0, 7]


def test_a_negative_label_is_handed_on(tmp_path):
    """The check knows how many classes there are, and refuses it with the image's name."""
    assert opened(tmp_path, images=images(1, 3, 4, 5), labels=np.array([-3])).read(0).label == -3


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(5), r"one length, and at least one; found \[4, 5\]"),
        (np.array(3), r"labels of shape \(\)"),
        (np.eye(4), r"labels of shape \(4, 4\).*not one-hot"),
        (np.zeros((2, 2)), r"labels of shape \(2, 2\)"),  # as many numbers as images
        (np.array(["cat", "dog", "cat", "dog"]), "whole numbers"),
        (np.array([0, 1, 2.5, 3]), "whole numbers"),
        (np.array([0, 1, np.nan, 3]), "whole numbers"),
        (np.array([0, 1, np.inf, 3]), "whole numbers"),
        (np.array([0, 1, 2j, 3]), "whole numbers"),
        (np.array([True, False, True, False]), "whole numbers"),
    ],
)
def test_labels_that_are_no_class_of_each_image_are_refused(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        opened(tmp_path, images=images(4, 3, 4, 5), labels=labels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_in_one_image_is_found_when_it_is_read_and_named(tmp_path, value):
    x = images(4, 3, 4, 5)
    x[2, 1, 3, 0] = value
    dataset = opened(tmp_path, images=x)
    dataset.sample(1)
    with pytest.raises(BadImageError, match=r"data\.npz: image 2 holds NaN"):
        dataset.sample(2)
    dataset.sample(3)


@pytest.mark.filterwarnings("error")
def test_a_double_that_float32_cannot_hold_is_a_bad_image(tmp_path):
    dataset = opened(tmp_path, images=np.full((1, 3, 4, 5), 1e300))
    with pytest.raises(BadImageError, match="image 0 holds NaN or infinity"):
        dataset.sample(0)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16, np.bool_, np.complex64, "U1"])
def test_images_of_other_types_are_refused(tmp_path, dtype):
    with pytest.raises(InputError, match="images must be uint8 or float, not"):
        opened(tmp_path, images=np.zeros((2, 3, 4, 5)).astype(dtype))


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 1, 4, 5), (2, 4, 5), (2,), (3, 4, 5), (2, 60), (2, 3, 4, 5, 1)])
def test_images_of_another_shape_are_refused_with_the_networks(tmp_path, shape):
    with pytest.raises(InputError, match=r"do not fit the input 'x', which takes \(3, 4, 5\)"):
        opened(tmp_path, images=images(*shape))


def test_a_single_number_is_no_image(tmp_path):
    with pytest.raises(InputError, match="single number"):
        opened(tmp_path, images=np.float32(3))


def test_no_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least one"):
        opened(tmp_path, images=images(0, 3, 4, 5))
    with pytest.raises(InputError, match="at least one"):
        opened(tmp_path, images=images(0, 3, 4, 5), labels=np.zeros(0, int))


TWO = [InputSpec("left", (1, 3, 4, 5)), InputSpec("y", (1, 2))]


def test_several_inputs_are_found_by_name(tmp_path):
    left, y = images(3, 4, 5, 3), images(3, 2, seed=1)
    dataset = opened(tmp_path, TWO, y=y, left=left, labels=np.array([5, 6, 7]))
    arrays, label = dataset.sample(1)
    np.testing.assert_array_equal(arrays[0], np.moveaxis(left[1], -1, 0))
    np.testing.assert_array_equal(arrays[1], y[1])
    assert label == 6


def test_an_input_that_is_called_y_does_not_become_the_labels(tmp_path):
    dataset = opened(tmp_path, TWO, left=images(3, 3, 4, 5), y=images(3, 2))
    assert dataset.read(0).label is None


def test_a_missing_input_is_named_with_what_there_is(tmp_path):
    with pytest.raises(InputError, match=r"no array for the input 'y' \(its arrays: left, right\)"):
        opened(tmp_path, TWO, left=images(3, 3, 4, 5), right=images(3, 2))


def test_one_input_takes_any_single_array_but_not_one_of_two(tmp_path):
    assert len(opened(tmp_path, anything=images(3, 3, 4, 5), labels=np.arange(3))) == 3
    assert len(opened(tmp_path, other=images(9, 2), x=images(3, 3, 4, 5))) == 3
    with pytest.raises(InputError, match=r"no array for the input 'x' \(its arrays: train, test\)"):
        opened(tmp_path, train=images(3, 3, 4, 5), test=images(3, 3, 4, 5))


def test_inputs_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"found \[2, 3\]"):
        opened(tmp_path, TWO, left=images(3, 3, 4, 5), y=images(2, 2))


def test_fewer_arrays_than_inputs_are_refused():
    with pytest.raises(InputError, match="1 arrays of images for the inputs left, y"):
        ArrayDataset([images(3, 3, 4, 5)], None, TWO, NONE)


def test_an_empty_archive_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no array for the input 'x' \(its arrays: none\)"):
        opened(tmp_path)


def test_only_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match="no array for the input 'x'"):
        opened(tmp_path, labels=np.arange(3))


def test_pickled_arrays_are_not_loaded(tmp_path):
    with pytest.raises(InputError, match="Object arrays cannot be loaded"):
        opened(tmp_path, images=np.array([{"a": 1}, None], object))


def single_array(file):
    np.save(file, images(2, 3, 4, 5))


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write(b""),
        lambda file: file.write(b"image,label\n1,2\n"),
        lambda file: file.write(b"\x80\x04K\x01."),  # a pickle
        single_array,
    ],
    ids=["empty", "text", "pickle", "npy"],
)
def test_what_is_no_archive_is_refused_with_how_to_write_one(tmp_path, write):
    path = tmp_path / "data.npz"
    with path.open("wb") as file:
        write(file)
    with pytest.raises(InputError, match=r"data\.npz is no readable \.npz file: write it with numpy\.savez"):
        open_npz(path, COLOUR, NONE)


def test_an_archive_of_something_else_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"weights")
    with pytest.raises(InputError, match=r"no array for the input 'x' \(its arrays: none\)"):
        open_npz(path, COLOUR, NONE)


def test_a_broken_archive_never_raises_anything_but_an_input_error(tmp_path):
    """Cut or changed anywhere: an InputError, or the same arrays where the change hits no content."""
    file = io.BytesIO()
    x, labels = images(4, 3, 4, 5, dtype=np.uint8), np.arange(4)
    np.savez_compressed(file, images=x, labels=labels)
    content = file.getvalue()
    path = tmp_path / "data.npz"
    generator = np.random.default_rng(0)
    refused = 0
    for position in generator.integers(0, len(content), 150):
        changed = bytearray(content)
        changed[position] ^= int(generator.integers(1, 256))
        for broken in (content[:position], bytes(changed)):
            path.write_bytes(broken)
            try:
                dataset = open_npz(path, COLOUR, NONE)
            except InputError:
                refused += 1
            else:
                np.testing.assert_array_equal(dataset.read(3).inputs[0], x[3])
    assert refused > 200


def test_the_fingerprint_tells_data_labels_types_and_shapes_apart(tmp_path):
    x = images(2, 3, 3, 3, dtype=np.uint8)
    specs = [InputSpec("x", (1, 3, 3, 3))]
    changed = x.copy()
    changed[1, 2, 2, 2] ^= 1
    datasets = [
        ArrayDataset([x], None, specs, NONE),
        ArrayDataset([changed], None, specs, NONE),
        ArrayDataset([x], np.array([0, 1]), specs, NONE),
        ArrayDataset([x], np.array([1, 0]), specs, NONE),
        ArrayDataset([x.astype(np.float32)], None, specs, NONE),
    ]
    assert len({dataset.fingerprint for dataset in datasets}) == len(datasets)
    again = ArrayDataset([np.asfortranarray(x)], None, specs, NONE)
    assert again.fingerprint == datasets[0].fingerprint


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_are_filled_up_with_their_last_image(size):
    x = images(5, 3, 4, 5)
    batches = ArrayDataset([x], None, [InputSpec("x", (size, 3, 4, 5))], NONE).batches(9, skip_bad=False)
    assert len(batches) == -(-5 // size)
    rows = np.concatenate([batch[0] for batch in batches])
    np.testing.assert_array_equal(rows, x[np.minimum(np.arange(len(rows)), 4)])


def test_batches_skip_bad_images_only_where_asked():
    x = images(4, 3, 4, 5)
    x[[0, 2]] = np.nan
    dataset = ArrayDataset([x], None, COLOUR, NONE)
    with pytest.raises(BadImageError):
        dataset.batches(2, skip_bad=False)
    found = dataset.batches(2, skip_bad=True)
    np.testing.assert_array_equal([batch[0][0] for batch in found], x[[1, 3]])
    x[:] = np.nan
    with pytest.raises(InputError, match="none of the 4 images can be used"):
        dataset.batches(2, skip_bad=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-2.5, 3), (0, 1e-7), (-60000, 60000), (0.5, 0.5)])
def test_a_picture_of_floats_spans_black_to_white(dtype, low, high):
    x = np.linspace(low, high, 60).astype(dtype).reshape(1, 3, 4, 5)
    picture = ArrayDataset([x], None, COLOUR, NONE).picture(0)
    assert picture.shape == (4, 5, 3)
    assert picture.dtype == np.uint8
    assert (picture[0, 0, 0], picture[-1, -1, -1]) == ((0, 255) if low < high else (0, 0))


def test_vectors_and_two_channels_are_no_picture():
    assert ArrayDataset([images(1, 7)], None, [InputSpec("x", (1, 7))], NONE).picture(0) is None
    assert ArrayDataset([images(1, 2, 4, 5)], None, [InputSpec("x", (1, 2, 4, 5))], NONE).picture(0) is None
