"""Which kind of data an option or an argument names."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from bnncc.data import ArrayDataset, DataSource, Preprocessing
from bnncc.data.folder import FolderDataset
from bnncc.data.user_dataset import UserDataset
from bnncc.errors import InputError
from bnncc.frontend import InputSpec

SPECS = [InputSpec("x", (1, 3, 4, 5))]
TWO = [*SPECS, InputSpec("z", (1, 2))]
IMAGES = np.random.default_rng(0).random((4, 3, 4, 5), np.float32)
LABELS = np.array([2, 0, 1, 3])


def opened(data, specs=SPECS, classes=()):
    return DataSource(data).open(specs, Preprocessing(), classes)


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_path_names_an_archive_or_a_folder(tmp_path, kind):
    np.savez(tmp_path / "data.npz", images=IMAGES)
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    Image.new("RGB", (5, 4)).save(tmp_path / "pictures" / "cat" / "1.png")
    assert isinstance(opened(kind(tmp_path / "data.npz")), ArrayDataset)
    folder = opened(kind(tmp_path / "pictures"), classes=("dog", "cat"))
    assert isinstance(folder, FolderDataset)
    assert folder.read(0).label == 1


@pytest.mark.parametrize("as_path", [False, True])
def test_a_file_and_a_callable_name_the_users_data(tmp_path, as_path):
    file = tmp_path / "own_source.py"
    file.write_text("import numpy as np\ndef make():\n    return [(np.zeros((3, 4, 5), np.float32), 7)]\n")
    dataset = opened(file.with_name("own_source.py:make") if as_path else f"{file}:make")
    assert isinstance(dataset, UserDataset)
    assert dataset.read(0).label == 7


def test_a_module_and_a_callable_name_the_users_data(tmp_path, monkeypatch):
    (tmp_path / "own_package").mkdir()
    code = "import numpy as np\ndef make():\n    return [(np.zeros((3, 4, 5), np.float32), 7)]\n"
    (tmp_path / "own_package" / "sets.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert opened("own_package.sets:make").read(0).label == 7


def test_a_name_with_a_colon_is_a_folder_where_there_is_one(tmp_path):
    (tmp_path / "a:b").mkdir()
    Image.new("RGB", (5, 4)).save(tmp_path / "a:b" / "1.png")
    assert isinstance(opened(str(tmp_path / "a:b")), FolderDataset)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.npz", r"gone\.npz does not exist"),
        ("gone/", "gone does not exist"),
        ("", "does not exist"),
        ("gone.py", r"is Python code: write .*gone\.py:callable"),
        ("gone.py:make", r"there is no file .*gone\.py"),
        ("gone_module:make", "importing gone_module failed"),
    ],
)
def test_what_does_not_exist_is_said(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        opened(text)


def test_python_code_without_a_callable_is_told_to_name_one(tmp_path):
    (tmp_path / "data.py").write_text("def make(): return []\n")
    with pytest.raises(InputError, match=r"is Python code: write .*data\.py:callable"):
        opened(tmp_path / "data.py")


def test_one_picture_is_no_data(tmp_path):
    Image.new("RGB", (5, 4)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"1\.png is no readable \.npz file"):
        opened(tmp_path / "1.png")


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor], ids=["array", "tensor"])
def test_images_and_labels_may_be_in_memory(convert):
    alone = opened(convert(IMAGES))
    assert isinstance(alone, ArrayDataset)
    assert alone.read(1).label is None
    for labels in (convert(LABELS), LABELS.tolist()):
        both = opened((convert(IMAGES), labels))
        assert isinstance(both, ArrayDataset)
        assert [both.read(row).label for row in range(4)] == LABELS.tolist()
        np.testing.assert_array_equal(both.sample(3)[0][0], IMAGES[3])
    assert opened((convert(IMAGES), None)).read(0).label is None


def test_datasets_and_lists_may_be_in_memory():
    for data in (TensorDataset(torch.tensor(IMAGES), torch.tensor(LABELS)), list(zip(IMAGES, LABELS, strict=True))):
        dataset = opened(data)
        assert isinstance(dataset, UserDataset)
        assert [dataset.read(row).label for row in range(4)] == LABELS.tolist()


def test_a_generator_that_can_be_read_only_once_is_refused():
    with pytest.raises(InputError, match="a generator can be read only once; give a list or a Dataset"):
        opened(item for item in [(IMAGES[0], 1)])


def test_one_array_for_two_inputs_is_refused():
    for data in (IMAGES, (IMAGES, LABELS)):
        with pytest.raises(InputError, match="1 arrays of images for the inputs x, z"):
            opened(data, TWO)


@pytest.mark.parametrize("labels", [[1, 2], ["a", "b", "c", "d"], [1, [2], 3, 4], 3, {}])
def test_labels_in_memory_that_do_not_fit_are_refused(labels):
    with pytest.raises(InputError, match="--data: the arrays: "):
        opened((IMAGES, labels))


@pytest.mark.parametrize("data", [None, 3, {"images": IMAGES}.__len__])
def test_what_is_no_data_is_refused(data):
    with pytest.raises(InputError, match="is no Dataset"):
        opened(data)


def test_a_source_can_be_sent_to_another_process(tmp_path):
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=LABELS)
    again = pickle.loads(pickle.dumps(DataSource(tmp_path / "data.npz")))
    assert again.open(SPECS, Preprocessing()).read(3).label == 3
