"""What every kind of data offers: samples by number, each checked when it is read."""

from __future__ import annotations

import hashlib
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bnncc.data.preprocessing import MODES, Preprocessing
from bnncc.errors import InputError
from bnncc.ir.arrays import Array
from bnncc.ir.input_spec import InputSpec

if TYPE_CHECKING:
    from PIL.Image import Image

LABEL_NAMES = ("labels", "label", "y")


class BadImageError(InputError):
    """One image that cannot be used: it cannot be decoded, or holds NaN.  `--skip-bad-images` leaves it out."""


@dataclass(frozen=True)
class Sample:
    """One image: an array for each graph input, as the data have it (uint8 or float, NCHW without N); its label."""

    inputs: tuple[npt.NDArray[Any], ...]
    label: int | None


class Dataset(ABC):
    """Numbered samples for a network with the inputs `specs`.

    classes: names of the classes by label, where the data know them.  class_folders: how many of them are folders,
    whose order says which is which.  class_order: a sentence, where that order may not be the one of training; "" else.
    """

    classes: tuple[str, ...] = ()
    class_folders: int = 0
    class_order: str = ""

    def __init__(self, specs: Sequence[InputSpec], preprocessing: Preprocessing) -> None:
        self.specs = tuple(specs)
        self.preprocessing = preprocessing

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Tells these data from others, so that an interrupted run is not resumed with others."""

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are, bad ones included."""

    @abstractmethod
    def read(self, row: int) -> Sample:
        """Sample `row`, in the shapes of `specs`.  Raises InputError; BadImageError where only this one is bad."""

    def name(self, row: int) -> str:
        """What a message calls the sample."""
        return f"image {row}"

    def sample(self, row: int) -> tuple[list[Array], int | None]:
        """(an array for each graph input, of its type, NCHW without N; the label).  Raises as `read` does."""
        sample = self.read(row)
        with np.errstate(over="ignore"):  # a float64 that is too large for float32 becomes infinite
            try:
                arrays = [
                    self.preprocessing.normalize(array) if spec.is_float else spec.convert(array)
                    for array, spec in zip(sample.inputs, self.specs, strict=True)
                ]
            except InputError as error:
                raise InputError(f"--data: {self.name(row)}: {error}") from error
        if not all(np.all(np.isfinite(array)) for array in arrays):
            raise BadImageError(f"--data: {self.name(row)} holds NaN or infinity")
        return arrays, sample.label

    def picture(self, row: int) -> npt.NDArray[np.uint8] | None:
        """The first input as pixels to look at [H, W, C]; None where it is no picture."""
        array = self.read(row).inputs[0]
        if array.ndim != 3 or array.shape[0] not in (1, 3):
            return None
        if array.dtype != np.uint8:
            array = array.astype(np.float64)  # float16 has no room for the product
            low, high = float(array.min()), float(array.max())
            array = np.rint((array - low) * (255 / (high - low or 1))).astype(np.uint8)
        return np.ascontiguousarray(array.transpose(1, 2, 0))

    def _open_pixels(self, path: Path, spec: InputSpec, name: str) -> npt.NDArray[np.uint8]:
        """The picture in a file, as `_pixels`; BadImageError also where it is none."""
        from PIL import Image, UnidentifiedImageError

        if path.exists() and not path.is_file():  # opening a pipe would wait for who writes to it
            raise BadImageError(f"--data: {name} is no file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about large pictures and odd metadata
            try:
                picture = Image.open(path)
            except UnidentifiedImageError as error:
                raise BadImageError(f"--data: {name} is no picture that Pillow knows") from error
            except Exception as error:  # Pillow's decoders raise errors of many types
                raise BadImageError(f"--data: {name} cannot be read: {error}") from error
            with picture:
                return self._pixels(picture, spec, name)

    def _pixels(self, picture: Image, spec: InputSpec, name: str) -> npt.NDArray[np.uint8]:
        """A picture as one sample of the input `spec`.  Raises InputError; BadImageError where it cannot be decoded."""
        shape = spec.shape[1:]
        if len(shape) != 3 or shape[0] not in MODES:
            raise InputError(f"--data: {name} is a picture, and the input '{spec.name}' takes {shape}")
        try:
            pixels = self.preprocessing.decode(picture, shape[0])
        except InputError as error:
            raise InputError(f"--data: {name}: {error}") from error
        except Exception as error:  # Pillow's decoders raise errors of many types
            raise BadImageError(f"--data: {name} cannot be decoded: {error}") from error
        if pixels.shape != shape:
            (height, width), (rows, columns) = pixels.shape[1:], shape[1:]
            raise InputError(
                f"--data: {name} is {height}x{width}, and the network takes {rows}x{columns}: give --resize PIXELS and "
                f"--crop {rows}x{columns} as they were in training"
            )
        return pixels

    def batches(self, count: int, skip_bad: bool) -> list[list[Array]]:
        """The first `count` batches in the network's own batch size, fewer where the data end.

        A batch holds one array [N, …] for each graph input, NCHW; the last one is filled up with its last
        sample.  Raises InputError where an image cannot be used, a bad one only without `skip_bad`, or none can.
        """
        size = self.specs[0].shape[0]
        batches: list[list[Array]] = []
        samples: list[list[Array]] = []
        for row in range(len(self)):
            try:
                samples.append(self.sample(row)[0])
            except BadImageError:
                if not skip_bad:
                    raise
                continue
            if len(samples) == size:
                batches.append(stack(samples, size))
                samples = []
            if len(batches) == count:
                return batches
        if samples:
            batches.append(stack(samples, size))
        if not batches:
            raise InputError(f"--data: none of the {len(self)} images can be used")
        return batches


def digest(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """sha256 over types, shapes and bytes."""
    result = hashlib.sha256()
    for array in arrays:
        result.update(f"{array.dtype}{array.shape}".encode())
        result.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return result.hexdigest()


def stack(samples: Sequence[Sequence[Array]], size: int) -> list[Array]:
    """A batch of `size`, one array for each input; filled up with the last sample."""
    filled = [*samples, *[samples[-1]] * (size - len(samples))]
    return [np.stack(arrays) for arrays in zip(*filled, strict=True)]


def by_input(entries: Mapping[str, Any], specs: Sequence[InputSpec]) -> tuple[list[Any], Any]:
    """(the entry of each input, None where there is none; the labels or None), of entries by name.

    Labels have one of LABEL_NAMES that is no input's.  A network of one input takes a single entry besides them.
    """
    entries, inputs = dict(entries), [spec.name for spec in specs]
    labels = next((entries.pop(name) for name in LABEL_NAMES if name in entries and name not in inputs), None)
    if len(inputs) == len(entries) == 1:
        return list(entries.values()), labels
    return [entries.get(name) for name in inputs], labels


def is_tensor(value: Any) -> bool:
    """True for PyTorch's.  Does not import it, which takes seconds: who has a tensor has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_array(value: Any, name: str) -> npt.NDArray[Any]:
    """A NumPy array from a tensor, an array, a number or nested lists, in data called `name`.  Raises InputError."""
    try:
        if is_tensor(value):
            value = value.detach().cpu()
            value = (value.float() if value.dtype == sys.modules["torch"].bfloat16 else value).numpy()  # not NumPy's
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"--data: {name}: a {type(value).__name__} cannot be read as an array: {error}") from error


def fit(array: npt.NDArray[Any], spec: InputSpec, name: str) -> npt.NDArray[Any]:
    """`array` as one sample of the input `spec`: its shape in NCHW without N, from NCHW or NHWC.

    It is uint8 or float for an input of floats, and of the input's own type for others.  Raises InputError, in which
    the data are called `name`.
    """
    wanted = spec.shape[1:]
    if not spec.is_float:
        try:
            array = spec.convert(array)
        except InputError as error:
            raise InputError(f"--data: {name}: {error}") from error
    elif array.dtype.kind != "f" and array.dtype != np.uint8:
        raise InputError(f"--data: {name}: images must be uint8 or float, not {array.dtype}")
    if array.shape == wanted:
        return array
    if len(wanted) == 3 and array.shape == (wanted[1], wanted[2], wanted[0]):
        return np.ascontiguousarray(array.transpose(2, 0, 1))
    if len(wanted) == 3 and wanted[0] == 1 and array.shape == wanted[1:]:
        return array[np.newaxis]
    raise InputError(
        f"--data: {name}: images of shape {array.shape} do not fit the input '{spec.name}', which takes {wanted} (NCHW)"
    )
