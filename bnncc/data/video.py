"""The frames of a video, decoded by PyAV, each treated as a picture.

PyAV is an extra, `bnncc[video]`: it brings FFmpeg's libraries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from bnncc.data.dataset import Dataset, Sample
from bnncc.data.preprocessing import Preprocessing, takes_pictures
from bnncc.errors import InputError
from bnncc.ir.input_spec import InputSpec

SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}


class VideoDataset(Dataset):
    """The first of each `every` frames, in the order in which they are shown; no labels.

    A frame is turned as the video says it is to be shown, where pictures are turned by their EXIF orientation.
    """

    def __init__(self, path: Path, specs: Sequence[InputSpec], preprocessing: Preprocessing, every: int = 1) -> None:
        """Raises InputError where the network takes no pictures, PyAV is missing, or the video cannot be decoded."""
        super().__init__(specs, preprocessing)
        if not takes_pictures([spec.shape for spec in specs]):
            raise InputError(f"--data: {path}: the network does not take one picture as input; give a .npz file")
        self._path, self._every = path, every
        self._frames: Iterator[Any] = iter(())
        self._position = 0  # of the next of `_frames`
        self._count = sum(1 for _ in self._decode())  # a file's own count may be missing, or wrong
        if not self._count:
            raise InputError(f"--data: {path} has no frames")

    @cached_property
    def fingerprint(self) -> str:
        """Of the name, the size of the file, and which frames are taken."""
        parts = f"{self._path}\0{self._path.stat().st_size}\0{self._every}\0{self._count}"
        return hashlib.sha256(parts.encode(errors="surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return self._count

    def name(self, row: int) -> str:
        return f"{self._path}: frame {row * self._every}"

    def read(self, row: int) -> Sample:
        from PIL import Image

        frame = self._skip_to(row)
        picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
        if self.preprocessing.exif == "apply":
            picture = picture.rotate(frame.rotation, expand=True)
        return Sample((self._pixels(picture, self.specs[0], self.name(row)),), None)

    def _skip_to(self, row: int) -> Any:
        """Frame `row` of those that are taken: rows are asked for in rising order, but for the few of a report."""
        if row < self._position or self._position == 0:
            self._frames, self._position = self._decode(), 0
        for frame in self._frames:
            self._position += 1
            if self._position == row + 1:
                return frame
        raise InputError(f"--data: {self._path} had {self._count} frames at first, and has fewer when read again")

    def _decode(self) -> Iterator[Any]:
        """PyAV's frames that are taken, from the first on."""
        try:
            import av
        except ImportError as error:
            raise InputError(
                f"--data: {self._path} is a video, which PyAV decodes: pip install 'bnncc[video]' ({error})"
            ) from error
        try:
            with av.open(str(self._path)) as container:
                yield from islice(container.decode(video=0), 0, None, self._every)
        except Exception as error:  # PyAV's are of many types
            raise InputError(f"--data: {self._path} cannot be decoded: {error}") from error
