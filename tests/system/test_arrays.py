"""NumPy's files from anyone: what is damaged, too large or no array is told, and no Python object is loaded."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bnncc.errors import InputError
from bnncc.system.arrays import npz, read_npy, read_npz


def test_arrays_come_back_by_name_and_what_is_no_array_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, a=np.arange(6).reshape(2, 3), b=np.float32(2))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "x")
    found = read_npz(path)
    assert sorted(found) == ["a", "b"]
    assert np.array_equal(found["a"], np.arange(6).reshape(2, 3))


def test_an_archive_that_unpacks_to_more_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(2**24, np.uint8))
    monkeypatch.setenv("BNNCC_MEMORY", "1M")
    assert (tmp_path / "bomb.npz").stat().st_size < 2**16
    with pytest.raises(InputError, match=r"bomb\.npz, unpacked, takes"):
        read_npz(tmp_path / "bomb.npz")


@pytest.mark.parametrize("size", range(0, 400, 7))
def test_a_file_cut_anywhere_is_an_input_error(tmp_path: Path, size: int) -> None:
    stream = io.BytesIO()
    np.savez(stream, a=np.arange(20))
    (tmp_path / "cut.npz").write_bytes(stream.getvalue()[:size])
    with pytest.raises(InputError, match=r"cut\.npz"):
        read_npz(tmp_path / "cut.npz")
    stream = io.BytesIO()
    np.save(stream, np.arange(20))
    (tmp_path / "cut.npy").write_bytes(stream.getvalue()[: size % 280])
    with pytest.raises(InputError, match=r"cut\.npy"):
        read_npy(tmp_path / "cut.npy")


def test_python_objects_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([object, object]), allow_pickle=True)
    with pytest.raises(InputError, match="allow_pickle"):
        read_npy(tmp_path / "objects.npy")


def test_any_name_is_that_of_an_array(tmp_path: Path) -> None:
    """numpy.savez has parameters called so."""
    names = ("file", "allow_pickle", "a/b", "ä")
    (tmp_path / "data.npz").write_bytes(npz({name: np.arange(index) for index, name in enumerate(names)}))
    found = read_npz(tmp_path / "data.npz")
    assert {name: len(array) for name, array in found.items()} == {name: index for index, name in enumerate(names)}
