"""Images and labels in arrays: of a .npz file, or in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnncc.data.dataset import Dataset, Sample, as_array, by_input, digest, fit
from bnncc.data.preprocessing import Preprocessing
from bnncc.errors import InputError
from bnncc.ir.input_spec import InputSpec
from bnncc.system.arrays import read_npz


class ArrayDataset(Dataset):
    """arrays: for each graph input an array or tensor [count, …], NCHW or NHWC, uint8 or float.

    labels: [count] or [count, 1], whole numbers; or None.
    """

    def __init__(
        self,
        arrays: Sequence[Any],
        labels: Any,
        specs: Sequence[InputSpec],
        preprocessing: Preprocessing,
        name: str = "the arrays",
    ) -> None:
        """Raises InputError where shapes, types or lengths do not fit; `name` is what it calls the data."""
        super().__init__(specs, preprocessing)
        self._arrays, self._name = tuple(as_array(array, name) for array in arrays), name
        if len(self._arrays) != len(self.specs):
            wanted = ", ".join(spec.name for spec in self.specs)
            raise InputError(f"--data: {name}: {len(self._arrays)} arrays of images for the inputs {wanted}")
        for array, spec in zip(self._arrays, self.specs, strict=True):
            if array.ndim == 0:
                raise InputError(f"--data: {name}: the images do not fit the input '{spec.name}': a single number")
            if len(array):
                fit(array[0], spec, name)
        self._labels = None if labels is None else _labels(as_array(labels, name), name)
        counts = {len(array) for array in self._columns}
        if len(counts) != 1 or 0 in counts:
            raise InputError(
                f"--data: {name}: images and labels must be of one length, and at least one; found {sorted(counts)}"
            )

    @property
    def _columns(self) -> list[npt.NDArray[Any]]:
        return [*self._arrays, *(() if self._labels is None else (self._labels,))]

    @cached_property
    def fingerprint(self) -> str:
        return digest(self._columns)

    def __len__(self) -> int:
        return len(self._arrays[0])

    def name(self, row: int) -> str:
        return f"{self._name}: image {row}"

    def read(self, row: int) -> Sample:
        inputs = (fit(array[row], spec, self._name) for array, spec in zip(self._arrays, self.specs, strict=True))
        return Sample(tuple(inputs), None if self._labels is None else int(self._labels[row]))


def _labels(labels: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    """[count] from [count] or [count, 1].  Raises InputError where they are no whole numbers."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(f"--data: {name}: labels of shape {labels.shape}; give each image's class, not one-hot")
    if labels.dtype.kind not in "iuf" or not np.all(np.isfinite(labels) & (labels == np.round(labels))):
        raise InputError(f"--data: {name}: the labels must be whole numbers, the index of each image's class")
    return labels.astype(np.int64)


def open_npz(path: Path, specs: Sequence[InputSpec], preprocessing: Preprocessing) -> ArrayDataset:
    """Read images and labels from a .npz file.

    One array for each input, under the input's name; a network of one input takes any single array besides the labels
    (`labels`, `label` or `y`).  Raises InputError where the file or a shape does not fit.
    """
    try:
        arrays = read_npz(path, "write it with numpy.savez(path, images=..., labels=...)")
    except InputError as error:
        raise InputError(f"--data: {error}") from error
    inputs, labels = by_input(arrays, specs)
    for spec, array in zip(specs, inputs, strict=True):
        if array is None:
            found = ", ".join(arrays) or "none"
            raise InputError(f"--data: {path} has no array for the input '{spec.name}' (its arrays: {found})")
    return ArrayDataset(inputs, labels, specs, preprocessing, str(path))
