"""The images that `--input` names: pictures, frames of videos, arrays in .npy and .npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bnncc.data import ArrayDataset, Dataset, DataSource, Sample
from bnncc.data.video import SUFFIXES as VIDEOS
from bnncc.errors import InputError
from bnncc.inference.model import Model
from bnncc.system.arrays import read_npy
from bnncc.system.files import check_readable


class Picture(Dataset):
    """One picture file, for a network of one input."""

    def __init__(self, path: Path, model: Model) -> None:
        """Raises InputError where the network takes several inputs, or the file is not there."""
        super().__init__(model.inputs, model.preprocessing)
        if len(self.specs) != 1:
            names = ", ".join(spec.name for spec in self.specs)
            raise InputError(f"{path}: the network takes the inputs {names}: give a .npz file with an array for each")
        check_readable(path)
        self._path = path

    @property
    def fingerprint(self) -> str:
        return str(self._path)

    def __len__(self) -> int:
        return 1

    def name(self, row: int) -> str:
        return str(self._path)

    def read(self, row: int) -> Sample:
        return Sample((self._open_pixels(self._path, self.specs[0], self.name(row)),), None)


def open_input(path: Path, model: Model, every: int = 1) -> Dataset:
    """The images of one file.  Raises InputError where they do not fit the network.

    every: of a video, the first of so many frames is taken.  .npz: as `bnncc check --data` takes it.  .npy: images
    [count, …] or one image, NCHW or NHWC, uint8 or float.
    """
    if path.suffix == ".npz" or (path.suffix.lower() in VIDEOS and path.is_file()):
        return DataSource(path, every).open(model.inputs, model.preprocessing, model.classes)
    if path.suffix != ".npy":
        return Picture(path, model)
    array = read_npy(path)
    if array.ndim == len(model.inputs[0].shape) - 1:
        array = array[np.newaxis]
    return ArrayDataset([array], None, model.inputs, model.preprocessing, str(path))
