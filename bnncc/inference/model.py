"""A .tflite file as its user meets it: what it takes, what its metadata say of pictures and classes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from bnncc.data import Preprocessing
from bnncc.errors import InputError
from bnncc.inference.classes import class_count
from bnncc.ir.input_spec import INPUT_TYPES, InputSpec
from bnncc.options import FileMetadata, Options
from bnncc.targets.tflite.digest import METADATA_NAME
from bnncc.targets.tflite.reader import TfliteFile


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

    def with_pixels(self, pixels: str) -> Model:
        """The same file, with what its metadata do not say.  Raises InputError where they say it."""
        if self.preprocessing.says_pixels:
            raise InputError(f"--pixels: {self.path} says what pixels become: {self.preprocessing.as_json()}")
        preprocessing = replace(self.preprocessing, pixels=pixels)
        return replace(self, options=replace(self.options, preprocessing=preprocessing))

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.file.content

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs in PyTorch's order (NCHW)."""
        return tuple(
            InputSpec(tensor.name, self.options.as_nchw(tensor.shape), tensor.dtype) for tensor in self.file.inputs
        )

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
        """How many logits the first output has; None where it is no row of them for each image."""
        return class_count(self.file.outputs[0].shape)

    def class_name(self, index: int) -> str:
        """As the metadata call it, else its number."""
        return self.classes[index] if index < len(self.classes) else str(index)
