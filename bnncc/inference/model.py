"""A .tflite file as its user meets it: what it takes, what its metadata say of pictures and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bnncc.data import Preprocessing
from bnncc.errors import InputError
from bnncc.inference.classes import file_class_count
from bnncc.ir.arrays import Array
from bnncc.ir.input_spec import INPUT_TYPES, InputSpec
from bnncc.options import FileMetadata, Options
from bnncc.targets.tflite.digest import METADATA_NAME
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import Tensor


@dataclass(frozen=True)
class Model:
    """A file and its metadata.

    target: the name of the device that it was compiled for.  options: how it was compiled.  Of a file that is none of
    bnncc's the target is None and the options are the default ones: NHWC, no preprocessing and no classes.
    """

    path: Path
    file: TfliteFile
    target: str | None = None
    options: Options = field(default_factory=Options)

    @classmethod
    def read(cls, path: Path) -> Model:
        """Raises InputError where the file cannot be read, or takes something else than arrays of numbers."""
        file = TfliteFile.open(path)
        try:
            metadata = FileMetadata.read(file) if METADATA_NAME in file.metadata() else None
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if not file.inputs or not file.outputs:
            raise InputError(f"{path} has {len(file.inputs)} inputs and {len(file.outputs)} outputs: nothing to run")
        for tensor in file.inputs:
            if tensor.dtype not in INPUT_TYPES or not tensor.shape:
                raise InputError(f"{path}: the input '{tensor.name}' takes {tensor.dtype} {tensor.shape}, not images")
        return cls(path, file) if metadata is None else cls(path, file, metadata.target, metadata.options)

    def with_preprocessing(self, given: Mapping[str, Any]) -> Model:
        """The same file, with other fields of `Preprocessing`: how pictures are cut, and what its metadata do not say.

        Raises InputError for mean, std and pixels where they say it.
        """
        named = next((name for name in ("mean", "std", "pixels") if name in given), None)
        if named is not None and self.preprocessing.says_pixels:
            raise InputError(f"--{named}: {self.path} says what pixels become: {self.preprocessing.as_json()}")
        preprocessing = replace(self.preprocessing, **given)
        return replace(self, options=replace(self.options, preprocessing=preprocessing))

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.file.content

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs in PyTorch's order (NCHW)."""
        return tuple(
            InputSpec(tensor.name, self.options.as_nchw(tensor.shape), tensor.dtype, is_bytes=self._takes_bytes(tensor))
            for tensor in self.file.inputs
        )

    def _takes_bytes(self, tensor: Tensor) -> bool:
        """True for an input that takes pictures as they are decoded: the file says what becomes of them."""
        return tensor.quantization is not None and tensor.dtype == self.options.input_type.value

    @property
    def preprocessing(self) -> Preprocessing:
        """What turns a picture into the input."""
        return self.options.preprocessing

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by label; none where the metadata hold none."""
        return self.options.classes

    @property
    def class_count(self) -> int | None:
        """How many classes the first output tells apart; None where it is no row of logits, nor their index."""
        return file_class_count(self.file)

    def scores(self, output: Array) -> Array:
        """What the numbers of the first output stand for, float64."""
        found = self.file.outputs[0].quantization
        numbers = output.astype(np.float64)
        return numbers if found is None else found.scales[0] * (numbers - found.zero_points[0])

    def class_name(self, index: int) -> str:
        """As the metadata call it, else its number."""
        return self.classes[index] if index < len(self.classes) else str(index)
