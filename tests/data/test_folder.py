"""Folders of pictures: which are read, in which order, with which labels, and what becomes of bad ones."""

import contextlib
import io
import os
import shutil
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from bnncc.data import BadImageError, Preprocessing
from bnncc.data.folder import FolderDataset
from bnncc.errors import InputError
from bnncc.frontend import InputSpec

SPECS = [InputSpec("x", (1, 3, 6, 8))]


def put(path, value=0, size=(8, 6)):
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def opened(root, classes=(), specs=SPECS, **preprocessing):
    preprocessing.setdefault("pixels", "" if "mean" in preprocessing else "0..255")
    return FolderDataset(root, specs, Preprocessing(**preprocessing), classes)


def listing(dataset):
    return [(dataset.name(row), dataset.read(row).label) for row in range(len(dataset))]


def image_folder(root):
    """What torchvision's ImageFolder lists (datasets/folder.py: find_classes and make_dataset)."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    found = []
    for label, name in enumerate(classes):
        for directory, _, names in sorted(os.walk(os.path.join(root, name), followlinks=True)):
            for file in sorted(names):
                if file.lower().endswith((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")):
                    found.append((os.path.relpath(os.path.join(directory, file), root), label))
    return found


def test_order_and_labels_are_image_folders(tmp_path):
    in_subfolders = ("a/z.png", "a/sub/a.png", "a/sub-1/b.png", "c/d/e.webp")
    for path in ("b/2.png", "b/10.png", "B/x.JPG", "a b/1.bmp", "ü/1.png", *in_subfolders):
        put(tmp_path / path)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    dataset = opened(tmp_path)
    assert listing(dataset) == image_folder(tmp_path)
    assert dataset.classes == ("B", "a", "a b", "b", "c", "ü")
    assert dataset.class_folders == 6


def test_the_pixels_are_the_pictures_own(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "1.png")
    dataset = opened(tmp_path, mean=(0.5,), std=(0.25,))
    np.testing.assert_array_equal(dataset.read(0).inputs[0], pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(dataset.picture(0), pixels)
    arrays, label = dataset.sample(0)
    np.testing.assert_allclose(arrays[0], (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.25, atol=1e-6)
    assert label == 0


def test_pictures_without_class_folders_have_no_label(tmp_path):
    put(tmp_path / "b.png")
    put(tmp_path / "A.PNG")
    (tmp_path / "empty").mkdir()
    dataset = opened(tmp_path)
    assert listing(dataset) == [("A.PNG", None), ("b.png", None)]
    assert (dataset.classes, dataset.class_folders) == ((), 0)


def test_pictures_beside_class_folders_are_left_out(tmp_path):
    put(tmp_path / "a" / "1.png")
    put(tmp_path / "overview.png")
    assert listing(opened(tmp_path)) == [("a/1.png", 0)]


def test_an_empty_class_folder_keeps_its_label(tmp_path):
    (tmp_path / "a").mkdir()
    put(tmp_path / "b" / "1.png")
    dataset = opened(tmp_path)
    assert listing(dataset) == [("b/1.png", 1)]
    assert dataset.classes == ("a", "b")


@pytest.mark.parametrize("folders", [(), ("a", "b")])
def test_no_pictures_are_refused(tmp_path, folders):
    for folder in folders:
        (tmp_path / folder).mkdir()
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(InputError, match=r"has no pictures.*\.jpg"):
        opened(tmp_path)


def test_hidden_files_and_folders_are_left_out(tmp_path):
    for path in ("a/1.png", "a/.thumb/1.png", "a/._1.png", ".cache/1.png", ".ipynb_checkpoints/1.png"):
        put(tmp_path / path)
    dataset = opened(tmp_path)
    assert listing(dataset) == [("a/1.png", 0)]
    assert dataset.class_folders == 1


def test_a_hidden_folder_may_hold_the_data(tmp_path):
    put(tmp_path / ".data" / "a" / "1.png")
    assert len(opened(tmp_path / ".data")) == 1


def test_folders_are_found_by_name_in_the_files_classes(tmp_path):
    for folder in ("cat", "dog"):
        put(tmp_path / folder / "1.png")
    dataset = opened(tmp_path, ("dog", "bird", "cat"))
    assert listing(dataset) == [("cat/1.png", 2), ("dog/1.png", 0)]
    assert dataset.classes == ("dog", "bird", "cat")


def test_folders_of_other_names_are_the_classes_in_sorted_order(tmp_path):
    """ImageNet's n01440764 is "tench"."""
    for folder in ("n02", "n01"):
        put(tmp_path / folder / "1.png")
    dataset = opened(tmp_path, ("tench", "goldfish"))
    assert listing(dataset) == [("n01/1.png", 0), ("n02/1.png", 1)]
    assert dataset.classes == ("tench", "goldfish")


@pytest.mark.parametrize("classes", [("tench",), ("tench", "goldfish", "shark"), ("dog", "tench")])
def test_folders_that_cannot_be_told_apart_are_refused(tmp_path, classes):
    """Of another count, or some of the same name and some not."""
    for folder in ("cat", "dog"):
        put(tmp_path / folder / "1.png")
    with pytest.raises(InputError, match=r"2 class folders, and --classes names . but not cat.*: name the folders"):
        opened(tmp_path, classes)


def test_pictures_without_class_folders_fit_any_classes(tmp_path):
    put(tmp_path / "1.png")
    (tmp_path / "other").mkdir()
    assert opened(tmp_path, ("tench", "goldfish", "shark")).classes == ("tench", "goldfish", "shark")


def noisy_jpeg():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (noisy_jpeg()[:-40], "cannot be decoded: .*truncated"),
        (b"I am a text file", "is no picture that Pillow knows"),
        (b"", "is no picture that Pillow knows"),
        (noisy_jpeg()[:3], "is no picture that Pillow knows"),
    ],
    ids=["truncated", "text", "empty", "three bytes"],
)
def test_a_corrupt_picture_is_a_bad_image_with_its_path(tmp_path, content, message):
    put(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.jpg").write_bytes(content)
    put(tmp_path / "a" / "3.png")
    dataset = opened(tmp_path)
    assert len(dataset) == 3
    with pytest.raises(BadImageError, match=rf"--data: a/2\.jpg {message}"):
        dataset.sample(1)
    assert dataset.sample(2)[1] == 0
    assert len(dataset.batches(9, skip_bad=True)) == 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp", "ppm"])
@pytest.mark.filterwarnings("error")
def test_changed_bytes_never_raise_anything_but_an_input_error(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # a changed size need not take time
    path = tmp_path / "a" / f"1.{suffix}"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)).save(path)
    content = path.read_bytes()
    generator = np.random.default_rng(1)
    dataset = opened(tmp_path)
    for position in generator.integers(0, min(len(content), 200), 60):
        changed = bytearray(content)
        changed[position] ^= int(generator.integers(1, 256))
        path.write_bytes(changed)
        with contextlib.suppress(InputError):
            dataset.sample(0)


def test_a_picture_of_another_size_tells_the_options(tmp_path):
    put(tmp_path / "a" / "1.png", size=(10, 7))
    with pytest.raises(
        InputError, match=r"a/1\.png is 7x10, and the network takes 6x8.*--resize PIXELS and --crop 6x8"
    ):
        opened(tmp_path).read(0)
    assert opened(tmp_path, crop=(6, 8)).read(0).inputs[0].shape == (3, 6, 8)


def test_another_size_is_no_bad_image_that_may_be_skipped(tmp_path):
    put(tmp_path / "a" / "1.png", size=(10, 7))
    with pytest.raises(InputError) as caught:
        opened(tmp_path).batches(1, skip_bad=True)
    assert not isinstance(caught.value, BadImageError)


def test_a_picture_that_is_smaller_than_the_crop_is_named(tmp_path):
    put(tmp_path / "a" / "1.png", size=(8, 5))
    with pytest.raises(InputError, match=r"--data: a/1\.png: it is 5x8, smaller than the crop of 6x8: give --resize"):
        opened(tmp_path, crop=(6, 8)).read(0)


def test_linked_pictures_and_linked_folders_are_followed(tmp_path):
    put(tmp_path / "store" / "deep" / "1.png")
    put(tmp_path / "store" / "2.png")
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (root / "a" / "2.png").symlink_to(tmp_path / "store" / "2.png")
    (root / "a" / "inner").symlink_to(tmp_path / "store" / "deep")
    (root / "b").symlink_to(tmp_path / "store" / "deep")
    assert listing(opened(root)) == [("a/2.png", 0), ("a/inner/1.png", 0), ("b/1.png", 1)]


def test_a_link_that_leads_nowhere_is_a_bad_image(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "gone.png")
    dataset = opened(tmp_path)
    with pytest.raises(BadImageError, match=r"a/1\.png cannot be read: .*No such file"):
        dataset.read(0)


def test_a_picture_that_vanished_is_a_bad_image(tmp_path):
    path = put(tmp_path / "a" / "1.png")
    dataset = opened(tmp_path)
    path.unlink()
    with pytest.raises(BadImageError, match=r"a/1\.png cannot be read: .*No such file"):
        dataset.read(0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything (use another user)")
def test_what_must_not_be_read_is_an_input_error(tmp_path):
    path = put(tmp_path / "a" / "1.png")
    path.chmod(0)
    dataset = opened(tmp_path)
    with pytest.raises(BadImageError, match=r"a/1\.png cannot be read: .*Permission denied"):
        dataset.read(0)
    tmp_path.chmod(0)
    try:
        with pytest.raises(InputError, match="cannot be read"):
            opened(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_unicode_names_are_read_and_shown(tmp_path):
    put(tmp_path / "Äpfel" / "写真 1.png")
    assert listing(opened(tmp_path)) == [("Äpfel/写真 1.png", 0)]


def test_a_name_in_another_encoding_is_read_and_can_be_printed(tmp_path):
    folder = put(tmp_path / "a" / "1.png").parent
    try:
        os.rename(os.fsencode(folder / "1.png"), os.fsencode(folder) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("the file system takes only UTF-8 names (put TMPDIR on another)")
    dataset = opened(tmp_path)
    assert dataset.read(0).label == 0
    assert dataset.name(0).encode("utf-8") == "a/caf\ufffd.png".encode()


def png(width, height):
    """A PNG file's head, of any size, without the pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_a_bad_image(tmp_path):
    (tmp_path / "1.png").write_bytes(png(20000, 20000))
    with pytest.raises(BadImageError, match=r"1\.png cannot be read: .*decompression bomb"):
        opened(tmp_path).read(0)


def test_a_large_picture_is_read_without_pillows_warning(tmp_path, monkeypatch):
    path = put(tmp_path / "1.png", size=(12, 9))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(path).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opened(tmp_path, crop=(6, 8)).read(0).inputs[0].shape == (3, 6, 8)


def test_a_truncated_picture_stays_bad_after_it_was_read_once(tmp_path):
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    (tmp_path / "1.jpg").write_bytes(noisy_jpeg()[:-40])
    dataset = opened(tmp_path)
    for _ in range(2):
        with pytest.raises(BadImageError):
            dataset.read(0)


@pytest.mark.parametrize(
    "specs",
    [
        [InputSpec("x", (1, 12))],
        [InputSpec("x", (1, 2, 6, 8))],
        [InputSpec("x", (1, 3, 6, 8)), InputSpec("z", (1, 3, 6, 8))],
    ],
)
def test_a_network_that_takes_no_picture_is_refused(tmp_path, specs):
    put(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"does not take one picture as input; give a \.npz file"):
        opened(tmp_path, specs=specs)


def test_the_fingerprint_changes_with_names_labels_and_sizes_but_not_with_the_place(tmp_path):
    put(tmp_path / "one" / "a" / "1.png")
    put(tmp_path / "one" / "b" / "1.png")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first = opened(tmp_path / "one").fingerprint
    assert opened(tmp_path / "two").fingerprint == first
    assert opened(tmp_path / "two", ("b", "a")).fingerprint != first
    put(tmp_path / "two" / "b" / "1.png", size=(9, 99))
    assert opened(tmp_path / "two").fingerprint != first
    shutil.rmtree(tmp_path / "two" / "b")
    assert opened(tmp_path / "two").fingerprint != first


# The order of the classes


@pytest.mark.parametrize(
    ("folders", "classes", "said"),
    [
        (("1", "2", "10"), (), "class 1 is '10' and not '2'"),
        (("class9", "class10", "class11"), (), "class 0 is 'class10' and not 'class9'"),
        (("n01", "n02"), ("tench", "goldfish"), "'n01' is taken for 'tench', 'n02' for 'goldfish'"),
        (("1", "2", "10"), ("one", "two", "ten"), "class 1 is '10' and not '2'"),
    ],
)
def test_an_order_that_may_not_be_that_of_training_is_told(tmp_path, folders, classes, said):
    for folder in folders:
        put(tmp_path / folder / "1.png")
    assert said in opened(tmp_path, classes).class_order


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (("cat", "dog"), ()),
        (("1", "2", "3"), ()),
        (("01", "02", "10"), ()),
        (("1", "2", "10"), ("1", "2", "10")),
        (("dog", "cat"), ("dog", "bird", "cat")),
    ],
)
def test_an_order_that_is_clear_is_not_talked_about(tmp_path, folders, classes):
    for folder in folders:
        put(tmp_path / folder / "1.png")
    assert opened(tmp_path, classes).class_order == ""


def test_a_picture_is_turned_as_its_exif_orientation_says(tmp_path):
    """Orientation 6: the camera was held with its right side up."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "sideways.png", exif=exif)
    np.testing.assert_array_equal(opened(tmp_path).read(0).inputs[0], pixels.transpose(2, 0, 1))
    as_stored = opened(tmp_path, specs=[InputSpec("x", (1, 3, 8, 6))], exif="ignore").read(0).inputs[0]
    np.testing.assert_array_equal(as_stored, np.rot90(pixels).transpose(2, 0, 1))


def test_a_pipe_among_the_pictures_is_a_bad_image_and_not_waited_for(tmp_path):
    put(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    dataset = opened(tmp_path)
    assert len(dataset) == 2
    with pytest.raises(BadImageError, match=r"b\.png is no file"):
        dataset.read(1)


def test_links_that_lead_back_are_not_followed_again(tmp_path):
    """Two of them would open 2^40 folders."""
    put(tmp_path / "a/inside/1.png")
    for name in ("first", "second"):
        (tmp_path / "a" / name).symlink_to(tmp_path / "a")
    (tmp_path / "a/inside/third").symlink_to(tmp_path)
    assert listing(opened(tmp_path)) == [("a/inside/1.png", 0)]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_pixels_of_more_than_8_bits_are_refused_and_not_cut_off(tmp_path, dtype):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((6, 8), 1000, dtype)).save(tmp_path / "a/1.tif")
    with pytest.raises(InputError, match="more than 8 bits"):
        opened(tmp_path).read(0)
