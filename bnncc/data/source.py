"""Which kind of data an option or an argument names.

Code of the user's needs PyTorch, arrays and pictures do not: `bnncc run` does not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bnncc.data.arrays import ArrayDataset, open_npz
from bnncc.data.dataset import Dataset, is_tensor
from bnncc.data.folder import FolderDataset
from bnncc.data.preprocessing import Preprocessing
from bnncc.data.video import SUFFIXES, VideoDataset
from bnncc.errors import InputError
from bnncc.ir.input_spec import InputSpec
from bnncc.system.files import check_readable


@dataclass(frozen=True)
class DataSource:
    """Data by name or as objects; another process can open a name again.

    data: a .npz file; a folder of pictures; a video; "file.py:callable" or "package.module:callable" whose result is a
    torch Dataset, a DataLoader or an iterable of (image, label).  From Python also such an object itself, an array or
    tensor of images [count, …], or a pair of them (images, labels).

    every: of a video, the first of so many frames is taken.
    """

    data: Any
    every: int = 1

    @property
    def name(self) -> str:
        """For a report."""
        return str(self.data) if isinstance(self.data, str | Path) else f"a {type(self.data).__name__}"

    @property
    def files(self) -> tuple[str, str]:
        """The names of what is read: the data, or the code that returns them."""
        return self.name, self.name.rpartition(":")[0]

    def check_exists(self) -> None:
        """Raise InputError now for a file that is not there, so that nobody waits for a compilation in vain."""
        if isinstance(self.data, str | Path) and ":" not in str(self.data):
            _check_named(str(self.data))

    def open(self, specs: Sequence[InputSpec], preprocessing: Preprocessing, classes: Sequence[str] = ()) -> Dataset:
        """The data for a network with the inputs `specs`; classes: the file's names of its classes.

        Raises InputError where there are none, or they do not fit.
        """
        if isinstance(self.data, str | Path):
            return self._open_named(str(self.data), specs, preprocessing, classes)
        if isinstance(self.data, np.ndarray) or is_tensor(self.data):
            return ArrayDataset([self.data], None, specs, preprocessing)
        if isinstance(self.data, tuple) and len(self.data) == 2:
            images, labels = self.data
            if isinstance(images, np.ndarray) or is_tensor(images):
                return ArrayDataset([images], labels, specs, preprocessing)
        if isinstance(self.data, Iterator):
            raise InputError(f"--data: a {type(self.data).__name__} can be read only once; give a list or a Dataset")
        from bnncc.data.user_dataset import UserDataset

        return UserDataset(lambda: self.data, specs, preprocessing, f"the {type(self.data).__name__}")

    def _open_named(
        self, text: str, specs: Sequence[InputSpec], preprocessing: Preprocessing, classes: Sequence[str]
    ) -> Dataset:
        path = Path(text)
        if text and path.is_dir():
            return FolderDataset(path, specs, preprocessing, classes)
        if path.suffix == ".py":
            raise InputError(f"--data: {text} is Python code: write {text}:callable, which returns a Dataset")
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            return VideoDataset(path, specs, preprocessing, self.every)
        if path.is_file():
            return open_npz(path, specs, preprocessing)
        if ":" not in text:
            _check_named(text)
        from bnncc.data.user_dataset import UserDataset
        from bnncc.frontend.user_code import call, load_object

        found, code = load_object(text)
        return UserDataset(partial(call, found, text, {}, code, "a Dataset"), specs, preprocessing, text, code)


def _check_named(text: str) -> None:
    """Raise InputError where a name without a callable is neither a file nor a folder."""
    if not text:
        raise InputError("--data: a file without a name does not exist")
    if not Path(text).is_dir():
        try:
            check_readable(Path(text))
        except InputError as error:
            raise InputError(f"--data: {error}") from error
