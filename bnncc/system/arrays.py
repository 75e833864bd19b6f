"""Read NumPy's files, .npy and .npz, from anyone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnncc.errors import InputError, first_line
from bnncc.system.files import read_whole
from bnncc.system.memory import require_memory


def npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of a .npz file, whatever the arrays are called: `numpy.savez` takes no array called "file"."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.save(member, array, allow_pickle=False)
    return stream.getvalue()


def read_npz(path: Path, advice: str = "") -> dict[str, npt.NDArray[Any]]:
    """The arrays of a .npz file by name.

    Raises InputError where it cannot be read, is none (with the `advice`), holds Python objects, or unpacked does not
    fit into memory.
    """
    content = read_whole(path)
    try:
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise ValueError(advice or "it is no zip archive")
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            require_memory(sum(member.file_size for member in archive.zip.infolist()), f"{path}, unpacked,")
            members = {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except Exception as error:  # a broken file makes zipfile, zlib and NumPy raise errors of many types
        raise InputError(f"{path} is no readable .npz file: {first_line(error)}") from error
    # NumPy hands on the bytes of what is no array.
    return {name: array for name, array in members.items() if isinstance(array, np.ndarray)}


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file.  Raises InputError where it cannot be read, or holds Python objects."""
    content = read_whole(path)
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # as above
        raise InputError(f"{path} is no readable .npy file: {first_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is no readable .npy file: it is an archive; call it .npz")
    return array
