"""The user's own inputs: a .npz file with images and, if they are known, labels."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc.errors import InputError
from bnncc.evaluate import Array
from bnncc.frontend import InputSpec

LABEL_NAMES = ("labels", "label", "y")


@dataclass(frozen=True)
class Dataset:
    """inputs: for each graph input an array [count, …] in NCHW, as in the file.  labels: int64 [count] or None."""

    inputs: tuple[Array, ...]
    labels: Array | None

    def __len__(self) -> int:
        return int(self.inputs[0].shape[0])

    def batch(self, index: int, batch_size: int) -> list[Array]:
        """The `index`-th batch, float32, one array for each graph input; the last is filled up with its last sample."""
        rows = np.minimum(np.arange(index * batch_size, (index + 1) * batch_size), len(self) - 1)
        return [array[rows].astype(np.float32) for array in self.inputs]


def load_npz(path: Path, specs: Sequence[InputSpec]) -> Dataset:
    """Read images and labels for a network with the inputs `specs`.

    One array for each input, [count, …], under the input's name; a network of one input takes any single array
    besides the labels (`labels`, `label` or `y`).  Pixels are uint8 or float and are handed on as they are, as
    float32.  NHWC is recognised by the shape.  Raises InputError where the file or a shape does not fit.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array; write it with numpy.savez(path, images=..., labels=...)")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"--data: {path} does not exist") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"--data: {path} is no readable .npz file: {error}") from error
    labels = next((arrays.pop(name) for name in LABEL_NAMES if name in arrays), None)
    named = [arrays.get(spec.name) for spec in specs]
    if len(specs) == 1 and named[0] is None and len(arrays) == 1:
        named = list(arrays.values())
    inputs = []
    for spec, array in zip(specs, named, strict=True):
        if array is None:
            found = ", ".join(arrays) or "none"
            raise InputError(
                f"--data: {path} has no array for the input '{spec.name}' (arrays besides labels: {found})"
            )
        inputs.append(_fit(array, spec, path))
    counts = {array.shape[0] for array in inputs}
    if labels is not None:
        if not np.issubdtype(labels.dtype, np.number) or np.any(labels != np.round(labels)):
            raise InputError(f"--data: {path}: the labels must be whole numbers, the index of each image's class")
        labels = labels.reshape(-1)  # one-hot rows are too many then
        counts.add(labels.size)
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"--data: {path}: images and labels must be of one length, and at least one; found {sorted(counts)}"
        )
    return Dataset(tuple(inputs), None if labels is None else labels.astype(np.int64))


def _fit(array: Array, spec: InputSpec, path: Path) -> Array:
    """`array` as [count, …] in NCHW."""
    wanted = spec.shape[1:]
    if not (np.issubdtype(array.dtype, np.floating) or array.dtype == np.uint8):
        raise InputError(f"--data: {path}: images must be uint8 or float, not {array.dtype}")
    if np.issubdtype(array.dtype, np.floating) and not np.all(np.isfinite(array)):
        raise InputError(f"--data: {path}: the images hold NaN or infinity")
    if array.shape[1:] == wanted:
        return array
    if array.ndim == 4 and len(wanted) == 3 and array.shape[1:] == (wanted[1], wanted[2], wanted[0]):
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    raise InputError(
        f"--data: {path}: images of shape {array.shape[1:]} do not fit the input '{spec.name}', "
        f"which takes {wanted} (NCHW)"
    )
