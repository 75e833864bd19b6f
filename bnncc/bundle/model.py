"""A .tflite file as its user meets it: what it takes, what its metadata say of pictures and classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bnncc.data import Preprocessing
from bnncc.errors import InputError
from bnncc.evaluate import Array
from bnncc.frontend import InputSpec
from bnncc.options import METADATA_NAME, FileMetadata
from bnncc.targets.tflite.reader import TfliteFile


@dataclass(frozen=True)
class Model:
    """A file and its metadata; one that bnncc did not compile has no preprocessing, no classes and NHWC images.

    target: the name of the device that it was compiled for, where the metadata tell it.
    """

    path: Path
    file: TfliteFile
    target: str | None = None
    channels_last: bool = True
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Model:
        """Raises InputError where the file cannot be read, or takes something else than float32 arrays."""
        file = TfliteFile.open(path)
        try:
            metadata = FileMetadata.read(file) if METADATA_NAME in file.metadata() else None
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        for tensor in file.inputs:
            if tensor.dtype != "float32" or not tensor.shape:
                raise InputError(f"{path}: the input '{tensor.name}' takes {tensor.dtype} {tensor.shape}, not images")
        if metadata is None:
            return cls(path, file)
        options = metadata.options
        return cls(path, file, metadata.target, options.channels_last, options.preprocessing, options.classes)

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.file.content

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs in PyTorch's order (NCHW)."""
        return tuple(InputSpec(tensor.name, self._as_nchw(tensor.shape)) for tensor in self.file.inputs)

    @property
    def class_count(self) -> int | None:
        """How many logits the first output has; None where it is no row of them for each image."""
        shape = self.file.outputs[0].shape
        return shape[1] if len(shape) == 2 and shape[1] > 1 else None

    def as_stored(self, array: Array) -> Array:
        """An input [N, …] in the file's layout, from PyTorch's."""
        moves = self.channels_last and array.ndim == 4
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if moves else array

    def class_name(self, index: int) -> str:
        """As the metadata call it, else its number."""
        return self.classes[index] if index < len(self.classes) else str(index)

    def _as_nchw(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(shape[axis] for axis in (0, 3, 1, 2)) if self.channels_last and len(shape) == 4 else shape
