"""What the user's own code may return, and what a message says when it fails."""

import textwrap
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from bnncc.data import BadImageError, DataSource, Preprocessing
from bnncc.data.user_dataset import UserDataset
from bnncc.errors import InputError
from bnncc.frontend import InputSpec

ONE = [InputSpec("x", (1, 3, 4, 5))]
TWO = [InputSpec("a", (1, 3, 4, 5)), InputSpec("b", (1, 2))]
COUNT = 7
IMAGES = np.random.default_rng(0).random((COUNT, 3, 4, 5), np.float32)
VECTORS = np.random.default_rng(1).random((COUNT, 2), np.float32)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2])
TENSORS = TensorDataset(torch.tensor(IMAGES), torch.tensor(LABELS))


def opened(data, specs=ONE, **preprocessing):
    preprocessing.setdefault("pixels", "" if "mean" in preprocessing else "0..255")
    return UserDataset(lambda: data, specs, Preprocessing(**preprocessing), "data")


def of_code(folder, code, specs=ONE, name="make"):
    (folder / "own_data.py").write_text(textwrap.dedent(code))
    return DataSource(f"{folder / 'own_data.py'}:{name}").open(specs, Preprocessing(pixels="0..255"))


def assert_holds_everything(dataset, labels=LABELS, count=COUNT):
    assert len(dataset) == count
    for row in [*range(count), 2, 0, count - 1]:  # a report asks for some of them again
        arrays, label = dataset.sample(row)
        np.testing.assert_array_equal(arrays[0], IMAGES[row])
        if len(arrays) > 1:
            np.testing.assert_array_equal(arrays[1], VECTORS[row])
        assert label == (None if labels is None else labels[row])


class MapStyle(Dataset):
    def __len__(self):
        return COUNT

    def __getitem__(self, row):
        return torch.tensor(IMAGES[row]), int(LABELS[row])


class Stream(IterableDataset):
    def __iter__(self):
        return zip(torch.tensor(IMAGES), LABELS.tolist(), strict=True)


class StreamWithLength(Stream):
    def __len__(self):
        return 999  # a wrong guess, as streams make it

    def __getitem__(self, row):
        raise NotImplementedError


PAIRS = [(image, label) for image, label in zip(IMAGES, LABELS, strict=True)]
Item = namedtuple("Item", ["image", "target"])


@pytest.mark.parametrize(
    "data",
    [
        MapStyle(),
        Stream(),
        StreamWithLength(),
        TENSORS,
        Subset(TENSORS, range(COUNT)),
        ConcatDataset([Subset(TENSORS, range(3)), Subset(TENSORS, range(3, COUNT))]),
        PAIRS,
        tuple(PAIRS),
        [list(pair) for pair in PAIRS],
        [Item(*pair) for pair in PAIRS],
        [(torch.tensor(image, requires_grad=True), label) for image, label in PAIRS],
        [((image,), label) for image, label in PAIRS],
        [({"x": image}, label) for image, label in PAIRS],
        [{"x": image, "label": label} for image, label in PAIRS],
        [{"pixel_values": image, "labels": label} for image, label in PAIRS],
        [(image.tolist(), label) for image, label in PAIRS],
        [(image.transpose(1, 2, 0), label) for image, label in PAIRS],
        [(torch.tensor(image).permute(1, 2, 0), label) for image, label in PAIRS],
        DataLoader(TENSORS),
        DataLoader(TENSORS, batch_size=3),
        DataLoader(TENSORS, batch_size=2),
        DataLoader(TENSORS, batch_size=None),
        DataLoader(TENSORS, batch_sampler=BatchSampler(SequentialSampler(TENSORS), 3, False)),
        DataLoader(Stream(), batch_size=3),
        DataLoader(Stream(), batch_size=None),
        DataLoader([((torch.tensor(image),), label) for image, label in PAIRS], batch_size=2),
        DataLoader([{"x": image, "y": label} for image, label in PAIRS], batch_size=2),
    ],
)
def test_every_kind_of_data_gives_the_same_images_and_labels(data):
    assert_holds_everything(opened(data))


@pytest.mark.parametrize(
    "data",
    [
        IMAGES,
        torch.tensor(IMAGES),
        list(IMAGES),
        TensorDataset(torch.tensor(IMAGES)),
        DataLoader(torch.tensor(IMAGES), batch_size=3),
        DataLoader(TensorDataset(torch.tensor(IMAGES)), batch_size=2),
        [(image, None) for image in IMAGES],
        [{"x": image} for image in IMAGES],
    ],
)
def test_images_without_labels_have_none(data):
    assert_holds_everything(opened(data), labels=None)


TRIPLES = list(zip(torch.tensor(IMAGES), torch.tensor(VECTORS), LABELS.tolist(), strict=True))


@pytest.mark.parametrize(
    "data",
    [
        [((a, b), label) for a, b, label in TRIPLES],
        [([a, b], label) for a, b, label in TRIPLES],
        [(a, b, label) for a, b, label in TRIPLES],
        [({"b": b, "a": a}, label) for a, b, label in TRIPLES],
        [{"label": label, "b": b, "a": a} for a, b, label in TRIPLES],
        TensorDataset(torch.tensor(IMAGES), torch.tensor(VECTORS), torch.tensor(LABELS)),
        DataLoader([((a, b), label) for a, b, label in TRIPLES], batch_size=2),
        DataLoader([(a, b, label) for a, b, label in TRIPLES], batch_size=3),
        DataLoader([({"b": b, "a": a}, label) for a, b, label in TRIPLES], batch_size=3),
    ],
)
def test_several_inputs_come_in_order_or_by_name(data):
    assert_holds_everything(opened(data, TWO))


@pytest.mark.parametrize(
    "data",
    [
        [(a, b) for a, b, _ in TRIPLES],
        [{"a": a, "b": b} for a, b, _ in TRIPLES],
        DataLoader([(a, b) for a, b, _ in TRIPLES], batch_size=3),
    ],
)
def test_several_inputs_may_have_no_label(data):
    assert_holds_everything(opened(data, TWO), labels=None)


def test_a_loader_that_drops_the_last_batch_has_fewer_images():
    assert_holds_everything(opened(DataLoader(TENSORS, batch_size=3, drop_last=True)), count=6)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TENSORS, shuffle=True),
        DataLoader(TENSORS, sampler=SubsetRandomSampler(range(COUNT))),
        DataLoader(TENSORS, sampler=WeightedRandomSampler([1.0] * COUNT, COUNT)),
        DataLoader(TENSORS, batch_sampler=BatchSampler(RandomSampler(TENSORS), 2, False)),
    ],
)
def test_a_loader_that_shuffles_is_refused(loader):
    with pytest.raises(InputError, match="DataLoader shuffles; build it with shuffle=False"):
        opened(loader)


def test_a_generator_function_is_called_again_for_an_earlier_row():
    calls = []

    def make():
        calls.append(1)
        yield from PAIRS

    dataset = UserDataset(make, ONE, Preprocessing(pixels="0..255"), "data")
    calls.clear()
    for row in (0, 1, 3):
        dataset.read(row)
    assert len(calls) == 1
    np.testing.assert_array_equal(dataset.read(2).inputs[0], IMAGES[2])
    assert len(calls) == 2
    np.testing.assert_array_equal(dataset.read(6).inputs[0], IMAGES[6])
    assert len(calls) == 2


def test_a_row_may_be_asked_for_twice():
    dataset = UserDataset(lambda: iter(PAIRS), ONE, Preprocessing(pixels="0..255"), "data")
    for row in (0, 0, 3, 3, 6, 6):
        np.testing.assert_array_equal(dataset.read(row).inputs[0], IMAGES[row])


def test_a_generator_that_ends_earlier_the_next_time_is_an_error():
    once = iter(PAIRS)
    with pytest.raises(InputError, match="yielded 7 images at first, and fewer when asked again"):
        UserDataset(lambda: once, ONE, Preprocessing(pixels="0..255"), "data").read(0)


@pytest.mark.parametrize(
    "label",
    [3, 3.0, np.int64(3), np.uint8(3), np.float32(3), torch.tensor(3), torch.tensor([3]), torch.tensor(3.0), [3]],
)
def test_a_whole_number_of_every_type_is_a_label(label):
    found = opened([(IMAGES[0], label)]).read(0).label
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize(
    "label",
    [
        3.5,
        float("nan"),
        float("inf"),
        "3",
        True,
        torch.nn.functional.one_hot(torch.tensor(3), 10),
        np.eye(10)[3],
        [0, 1],
        {"boxes": [1]},
        object(),
    ],
)
def test_what_is_no_whole_number_is_no_label(label):
    with pytest.raises(InputError, match="data: image 0: the label must be a whole number"):
        opened([(IMAGES[0], label)]).read(0)


def test_a_ragged_label_is_refused():
    with pytest.raises(InputError, match="data: image 0: a list cannot be read as an array"):
        opened([(IMAGES[0], [1, [2, 3]])]).read(0)


@pytest.mark.parametrize(
    "item",
    [
        (IMAGES[0], 3, "path.jpg"),
        (IMAGES[0], 3, 4, 5),
        (),
        None,
        (None, 3),
        ((IMAGES[0], IMAGES[1]), 3),
        ((), 3),
        {},
        {"image": IMAGES[0], "mask": IMAGES[0]},
    ],
)
def test_an_item_that_is_not_an_image_and_a_label_is_refused(item):
    with pytest.raises(InputError, match=r"data: image 0: a \w+ of \d fields is not \(image, label\).*input \(x\)"):
        opened([item]).read(0)


@pytest.mark.parametrize(
    "item",
    [
        (IMAGES[0],),
        IMAGES[0],
        ((IMAGES[0],), 3),
        ({"a": IMAGES[0]}, 3),
        (IMAGES[0], VECTORS[0], 1, 2),
        ((IMAGES[0], VECTORS[0]), 1, 2),
        None,
    ],
)
def test_an_item_that_lacks_an_input_is_refused(item):
    with pytest.raises(InputError, match=r"data: image 0: .* is not \(image, label\).*each input \(a, b\)"):
        opened([item], TWO).read(0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("1.jpg", "must be uint8 or float"),
        (b"123", "must be uint8 or float"),
        (7, "must be uint8 or float"),
        (object(), "must be uint8 or float"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), "must be uint8 or float, not int64"),
        (torch.zeros(3, 5, 4), r"of shape \(3, 5, 4\) do not fit the input 'x'"),
        (torch.zeros(1, 3, 4, 5), "do not fit the input 'x'"),
        (torch.zeros(3, 4, 5).to_sparse(), "a Tensor cannot be read as an array"),
        ([[1.0], [2.0, 3.0]], "a list cannot be read as an array"),
    ],
)
def test_an_image_that_does_not_fit_is_named(image, message):
    with pytest.raises(InputError, match=f"--data: data: image 1: .*{message}"):
        opened([PAIRS[0], (image, 0)]).read(1)


def test_bfloat16_and_half_images_become_float32():
    image = torch.tensor(IMAGES[0])
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        found = opened([(image.to(dtype), 0)]).sample(0)[0][0]
        np.testing.assert_array_equal(found, image.to(dtype).float().numpy())


def test_nan_is_a_bad_image():
    image = IMAGES[0].copy()
    image[0, 0, 0] = np.nan
    dataset = opened([PAIRS[0], (torch.tensor(image), 0)])
    with pytest.raises(BadImageError, match="data: image 1 holds NaN"):
        dataset.sample(1)


def picture(width=5, height=4):
    return Image.fromarray(np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8))


def test_pictures_take_the_preprocessing():
    dataset = opened([(picture(10, 8), 3)], resize=4, crop=(4, 5), mean=(0.5,), std=(0.25,))
    pixels = np.asarray(picture(10, 8).resize((5, 4), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(dataset.read(0).inputs[0], pixels)
    np.testing.assert_allclose(dataset.sample(0)[0][0], (pixels / 255 - 0.5) / 0.25, atol=1e-6)


def test_tensors_of_uint8_take_mean_and_std():
    image = torch.arange(60, dtype=torch.uint8).view(3, 4, 5)
    found = opened([(image, 0)], mean=(0.5,), std=(0.25,)).sample(0)[0][0]
    np.testing.assert_array_equal(found, ((image / 255 - 0.5) / 0.25).numpy())


def test_a_picture_of_another_size_is_named_and_tells_the_options():
    with pytest.raises(InputError, match="data: image 0 is 8x10, and the network takes 4x5: give --resize"):
        opened([(picture(10, 8), 3)]).read(0)
    with pytest.raises(InputError, match="data: image 0: it is 8x10, smaller than the crop of 9x9"):
        opened([(picture(10, 8), 3)], crop=(9, 9)).read(0)


def test_a_picture_for_a_vector_is_refused():
    with pytest.raises(InputError, match=r"image 0 is a picture, and the input 'x' takes \(60,\)"):
        opened([(picture(), 3)], [InputSpec("x", (1, 60))]).read(0)


def test_a_picture_that_is_decoded_late_is_a_bad_image(tmp_path):
    path = tmp_path / "1.png"
    Image.effect_noise((50, 40), 90).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(BadImageError, match="data: image 0 cannot be decoded: "):
        opened([(Image.open(path), 3)]).read(0)


def test_a_list_of_pictures_can_be_read_again():
    dataset = opened([(picture(), 3)])
    np.testing.assert_array_equal(dataset.read(0).inputs[0], dataset.read(0).inputs[0])


@pytest.mark.parametrize("data", [[], iter(()), DataLoader([]), {}, "", np.zeros((0, 3, 4, 5))])
def test_nothing_is_refused(data):
    with pytest.raises(InputError, match="data yields no images"):
        opened(data)


class NoLength(Dataset):
    def __getitem__(self, row):
        return PAIRS[row]


@pytest.mark.parametrize("data", [None, 3, object(), NoLength(), lambda: PAIRS])
def test_what_is_no_dataset_and_no_iterable_is_refused(data):
    with pytest.raises(InputError, match=r"data: a \w+ is no Dataset \(with __len__ and __getitem__\) and no iterable"):
        opened(data)


# The user's own file.


def test_a_function_of_the_users_file_returns_the_data(tmp_path):
    dataset = of_code(
        tmp_path,
        """
        import torch
        def make():
            for row in range(3):
                yield torch.full((3, 4, 5), float(row)), row
        """,
    )
    assert len(dataset) == 3
    assert [dataset.read(row).label for row in (0, 2, 1)] == [0, 2, 1]
    np.testing.assert_array_equal(dataset.read(1).inputs[0], np.ones((3, 4, 5)))


def test_a_class_of_the_users_file_is_the_dataset(tmp_path):
    dataset = of_code(
        tmp_path,
        """
        import torch
        class Make(torch.utils.data.Dataset):
            def __len__(self):
                return 2
            def __getitem__(self, row):
                return torch.zeros(3, 4, 5), row
        """,
        name="Make",
    )
    assert dataset.read(1).label == 1


def test_code_that_raises_is_quoted_with_its_line(tmp_path):
    code = """
        def make():
            return open_images("/nowhere")
        def open_images(path):
            raise RuntimeError(f"no images in {path}")
    """
    with pytest.raises(InputError, match=r"make\(\) failed: RuntimeError: no images in /nowhere\n  at own_data\.py:5"):
        of_code(tmp_path, code)


def test_an_item_that_raises_is_named_with_the_users_line(tmp_path):
    code = """
        import torch
        class make(torch.utils.data.Dataset):
            def __len__(self):
                return 9
            def __getitem__(self, row):
                if row == 4:
                    raise ValueError("a bad row")
                return torch.zeros(3, 4, 5), row
    """
    dataset = of_code(tmp_path, code)
    dataset.read(3)
    message = r"reading .*own_data\.py:make: image 4 failed: ValueError: a bad row\n  at own_data\.py:8 in __getitem__"
    with pytest.raises(InputError, match=message) as caught:
        dataset.read(4)
    assert not isinstance(caught.value, BadImageError)
    dataset.read(5)


def test_a_picture_that_the_users_code_cannot_open_is_a_bad_image(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    code = f"""
        from PIL import Image
        class make:
            def __len__(self):
                return 1
            def __getitem__(self, row):
                return Image.open({str(tmp_path / "1.jpg")!r}), row
    """
    with pytest.raises(BadImageError, match="image 0 cannot be read: cannot identify image file"):
        of_code(tmp_path, code).read(0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            """
            def make():
                yield [[0.0]], 0
                yield [[0.0]], 1
                raise ValueError("the third")
            """,
            r"reading .*own_data\.py:make: image 2 failed: ValueError: the third\n  at own_data\.py:5 in make",
        ),
        (
            """
            class make:
                def __len__(self):
                    raise NotImplementedError
                def __getitem__(self, row):
                    return 0
            """,
            r"failed: NotImplementedError: \n  at own_data\.py:4 in __len__",
        ),
        (
            """
            import sys
            class make(list):
                def __iter__(self):
                    sys.exit("usage: train.py")
                __getitem__ = None
            class make:
                def __iter__(self):
                    sys.exit(3)
            """,
            r"the code ended the process \(exit status 3\)",
        ),
        ("make = 3", r"own_data\.py:make is a int, not a callable that returns a Dataset"),
        ("def make(root): return []", r"cannot call make\(\).*make\(root\)"),
        ("def make(): return None", "a NoneType is no Dataset"),
        ("def make(): return []", "yields no images"),
        ("import no_such_module_of_mine", "No module named 'no_such_module_of_mine'"),
        ("def other(): return []", "has no 'make'; it defines other"),
        ("def make() return []", "SyntaxError"),
    ],
)
def test_code_that_gives_no_data_is_told_why(tmp_path, code, message):
    with pytest.raises(InputError, match=message):
        of_code(tmp_path, code)


def test_an_interruption_while_reading_is_passed_on(tmp_path):
    code = """
        class make:
            def __len__(self):
                return 1
            def __getitem__(self, row):
                raise KeyboardInterrupt
    """
    with pytest.raises(KeyboardInterrupt):
        of_code(tmp_path, code).read(0)


def test_sibling_modules_are_found_when_they_are_needed(tmp_path):
    """Imported at the top, by the function and by an item: the same module each time."""
    (tmp_path / "sibling_of_data.py").write_text("LOADED = []\nclass Label(int): pass\n")
    (tmp_path / "late_sibling.py").write_text("from sibling_of_data import Label\nmade = []\n")
    dataset = of_code(
        tmp_path,
        """
        import torch
        import sibling_of_data
        class make:
            def __init__(self):
                import late_sibling
                late_sibling.made.append(self)
            def __len__(self):
                import late_sibling
                assert late_sibling.made == [self], "imported twice"
                return 2
            def __getitem__(self, row):
                from late_sibling import Label, made
                assert made == [self], "imported twice"
                assert Label is sibling_of_data.Label
                return torch.zeros(3, 4, 5), Label(row)
        """,
    )
    assert dataset.read(1).label == 1


def test_two_files_may_have_siblings_of_one_name(tmp_path):
    datasets = []
    for label in (1, 2):
        folder = tmp_path / str(label)
        folder.mkdir()
        (folder / "shared_sibling.py").write_text(f"LABEL = {label}\n")
        code = """
            import numpy as np
            class make:
                def __len__(self):
                    return 1
                def __getitem__(self, row):
                    from shared_sibling import LABEL
                    return np.zeros((3, 4, 5), np.float32), LABEL
        """
        datasets.append(of_code(folder, code))
    assert [dataset.read(0).label for dataset in datasets] == [1, 2]
    assert [dataset.read(0).label for dataset in reversed(datasets)] == [2, 1]


class Counted(MapStyle):
    """Counts how often an item is read."""

    def __init__(self):
        self.reads = 0

    def __getitem__(self, row):
        self.reads += 1
        return super().__getitem__(row)


def test_the_fingerprint_reads_three_images_and_only_when_it_is_asked_for():
    data = Counted()
    dataset = opened(data)
    assert data.reads == 0
    assert dataset.fingerprint == opened(Stream()).fingerprint
    assert dataset.fingerprint == opened(DataLoader(TENSORS, batch_size=3)).fingerprint
    assert data.reads == 3


@pytest.mark.parametrize("row", [0, COUNT // 2, COUNT - 1])
@pytest.mark.parametrize("field", [0, 1], ids=["image", "label"])
def test_the_fingerprint_changes_with_the_first_the_middle_and_the_last_image(row, field):
    pairs = [(image.copy(), label) for image, label in PAIRS]
    assert opened(pairs).fingerprint == opened(PAIRS).fingerprint
    pairs[row] = (IMAGES[row] + 1, LABELS[row]) if field == 0 else (IMAGES[row], LABELS[row] + 1)
    assert opened(pairs).fingerprint != opened(PAIRS).fingerprint


def test_the_fingerprint_changes_with_the_number_of_images_and_the_name():
    one = [PAIRS[0]]
    found = {opened(data).fingerprint for data in (one, one * 2, one * 3)}
    other = UserDataset(lambda: one, ONE, Preprocessing(pixels="0..255"), "others")
    assert len({*found, other.fingerprint}) == 4


def test_the_fingerprint_passes_over_a_bad_image():
    class Bad(MapStyle):
        def __getitem__(self, row):
            if row == 0:
                raise OSError(f"cannot identify {object()}")
            return super().__getitem__(row)

    assert opened(Bad()).fingerprint == opened(Bad()).fingerprint != opened(MapStyle()).fingerprint
