"""From a picture to the numbers that the network was trained on: resize, centre crop, mean and standard deviation.

    picture ─ resize (shorter side) ─ centre crop ─ uint8 pixels ─ (pixels / 255 − mean) / std ─ float32
                                                                 ─ pixels / 255, with pixels "0..1"
                                                                 ─ pixels, with pixels "0..255"

A network that was trained on one of the three is wrong on the others without a sign of it, so none is taken for
granted.

The steps and their rounding are those of torchvision's Resize, CenterCrop, ToTensor and Normalize on PIL images, which
is what training scripts use; before them a picture is turned as its EXIF orientation says.  They are given once, when
the network is compiled, and kept in the file's metadata.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bnncc.errors import InputError
from bnncc.system.memory import require_memory

if TYPE_CHECKING:
    from PIL.Image import Image

# What pixels become where there is no mean and std.
PIXELS = ("0..1", "0..255")
INTERPOLATIONS = ("bilinear", "bicubic")
# A camera that is held sideways writes the pixels as they fall on its sensor, and beside them which way is up.
ORIENTATIONS = ("apply", "ignore")
# Pillow's mode for a network input of so many channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Of Pillow's modes, those whose numbers it cuts off at 255 instead of scaling them: 16 and 32 bits, and floats.
WIDE_MODES = ("I", "F")
# Pixels of a side at most: no network takes more, and a picture so large does not fit into memory.
LONGEST_SIDE = 2**16


UNSAID = (
    "pixels are numbers from 0 to 255, and nobody said what the network takes: give --mean and --std as in training's "
    "Normalize, --pixels 0..1 where training only scaled them (ToTensor), or --pixels 0..255 where it took them as "
    "they are"
)


def takes_pictures(shapes: Sequence[Sequence[int]]) -> bool:
    """True for a network of one input [N, C, H, W] whose channels are a picture's."""
    return len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] in MODES


@dataclass(frozen=True)
class Preprocessing:
    """How pictures and uint8 pixels become the network's input; floats are taken as they are.

    resize: the shorter side becomes so many pixels.  crop: (height, width) of the centre that is kept.
    mean, std: per channel, or one for all, of pixels scaled to 0…1.  pixels: one of PIXELS, or "" where nobody said.
    exif: whether a picture is turned as its EXIF orientation says, as phones show it; torchvision's loaders do not.
    """

    resize: int | None = None
    crop: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: str = "bilinear"
    pixels: str = ""
    exif: str = "apply"

    def __post_init__(self) -> None:
        numbers = (self.resize, *(self.crop or ()))
        if not all(one is None or isinstance(one, Integral) for one in numbers):
            raise InputError("--resize and --crop are whole numbers of pixels")
        if not all(isinstance(one, Real) for one in (*self.mean, *self.std)):
            raise InputError("--mean and --std are numbers")
        if bool(self.mean) != bool(self.std):
            raise InputError("--mean and --std go together, as in torchvision's Normalize(mean, std)")
        if self.pixels not in ("", *PIXELS):
            raise InputError(f"--pixels: {self.pixels!r} is none of {', '.join(PIXELS)}")
        if self.pixels and self.mean:
            raise InputError("--pixels goes without --mean and --std, which are of pixels scaled to 0…1 already")
        if self.mean and len(self.mean) != len(self.std):
            raise InputError(f"--mean has {len(self.mean)} values and --std has {len(self.std)}")
        with np.errstate(over="ignore", under="ignore"):  # as float32, in which the pixels are computed
            mean, std = np.array(self.mean, np.float64).astype(np.float32), np.array(self.std).astype(np.float32)
        if not np.isfinite(mean).all() or not np.isfinite(std).all() or not (std >= np.finfo(np.float32).tiny).all():
            raise InputError("--mean must be finite, and --std positive")
        if (mean > 1).any():
            means, deviations = (",".join(f"{one / 255:.6g}" for one in values) for values in (self.mean, self.std))
            raise InputError(
                f"--mean {max(self.mean):g} is above all pixels, which are scaled to 0…1 first. If it is of pixels "
                f"from 0 to 255, give a 255th of both: --mean {means} --std {deviations}"
            )
        sides = (*(() if self.resize is None else (self.resize,)), *(self.crop or ()))
        if not all(1 <= side <= LONGEST_SIDE for side in sides):
            raise InputError(f"--resize and --crop are at least one pixel, and at most {LONGEST_SIDE:,}")
        if self.exif not in ORIENTATIONS:
            raise InputError(f"--exif: {self.exif!r} is none of {', '.join(ORIENTATIONS)}")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"--interpolation: {self.interpolation!r} is none of {', '.join(INTERPOLATIONS)}")

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Preprocessing:
        """From what `as_json` returned and the file's metadata kept."""
        crop = entry.get("crop")
        return cls(
            entry.get("resize"),
            None if crop is None else (int(crop[0]), int(crop[1])),
            tuple(entry.get("mean", ())),
            tuple(entry.get("std", ())),
            entry.get("interpolation", "bilinear"),
            entry.get("pixels", ""),
            entry.get("exif", ORIENTATIONS[0]),
        )

    def as_json(self) -> dict[str, Any]:
        """For the file's metadata: only what is set."""
        entry: dict[str, Any] = {}
        if self.resize is not None:
            entry["resize"] = self.resize
        if self.crop is not None:
            entry["crop"] = list(self.crop)
        if self.mean:
            entry["mean"], entry["std"] = list(self.mean), list(self.std)
        if self.pixels:
            entry["pixels"] = self.pixels
        if self.exif != ORIENTATIONS[0]:
            entry["exif"] = self.exif
        if self.resize is not None or self.interpolation != INTERPOLATIONS[0]:
            entry["interpolation"] = self.interpolation
        return entry

    @property
    def says_pixels(self) -> bool:
        """True where it is known what pixels become."""
        return bool(self.mean or self.pixels)

    def decode(self, picture: Image, channels: int) -> npt.NDArray[np.uint8]:
        """The picture, resized and cropped, [channels, H, W].

        Raises InputError where the picture is smaller than the crop; Pillow's errors where it cannot be decoded.
        """
        from PIL import ImageOps
        from PIL.Image import Resampling

        if self.exif == "apply":
            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith(WIDE_MODES):
            raise InputError(
                f"its pixels have more than 8 bits ({picture.mode}), and what is above 255 would become white: convert "
                "it to 8 bits a channel, or give arrays of floats"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's advice about transparency, which training's loaders drop too
            picture = picture.convert(MODES[channels])
        if self.resize is not None:
            width, height = picture.size
            shorter = min(width, height)
            size = tuple(int(self.resize * side / shorter) for side in (width, height))
            require_memory(size[0] * size[1] * channels, f"a picture of {width}x{height} pixels, resized,")
            if size != (width, height):
                picture = picture.resize((size[0], size[1]), Resampling[self.interpolation.upper()])
        if self.crop is not None:
            (width, height), (rows, columns) = picture.size, self.crop
            if rows > height or columns > width:
                raise InputError(f"it is {height}x{width}, smaller than the crop of {rows}x{columns}: give --resize")
            top, left = round((height - rows) / 2), round((width - columns) / 2)
            picture = picture.crop((left, top, left + columns, top + rows))
        array = np.asarray(picture, dtype=np.uint8)
        return np.ascontiguousarray(array.reshape(*array.shape[:2], channels).transpose(2, 0, 1))

    def normalize(self, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """float32 from an input [C, …]: uint8 pixels are normalised, floats are handed on as they are.

        Raises InputError for pixels of which nobody said what they become.
        """
        if array.dtype != np.uint8:
            return array.astype(np.float32)
        if not self.says_pixels:
            raise InputError(UNSAID)
        if not self.mean:
            scale = np.float32(255 if self.pixels == "0..1" else 1)
            return array.astype(np.float32) / scale
        if len(self.mean) not in (1, array.shape[0]):
            raise InputError(f"--mean has {len(self.mean)} values, and the images have {array.shape[0]} channels")
        shape = (-1, *[1] * (array.ndim - 1))
        mean, std = (np.array(values, np.float32).reshape(shape) for values in (self.mean, self.std))
        normalized: npt.NDArray[np.float32] = (array.astype(np.float32) / np.float32(255) - mean) / std
        return normalized
