"""A folder of pictures: one folder a class, as torchvision's ImageFolder reads them, or pictures without classes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from bnncc.data.dataset import Dataset, Sample
from bnncc.data.preprocessing import MODES, Preprocessing
from bnncc.errors import InputError
from bnncc.ir.input_spec import InputSpec

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class FolderDataset(Dataset):
    """Pictures under `root`, in ImageFolder's order; decoded when they are read.  Hidden files are left out.

    A class folder's label is its place in `classes` where that lists all folders by name, else its place in the sorted
    folder names, empty folders included.
    """

    def __init__(
        self, root: Path, specs: Sequence[InputSpec], preprocessing: Preprocessing, classes: Sequence[str] = ()
    ) -> None:
        """Raises InputError where there are no pictures, the network takes none, or `classes` does not fit."""
        super().__init__(specs, preprocessing)
        shape = specs[0].shape[1:]
        if len(specs) != 1 or len(shape) != 3 or shape[0] not in MODES:
            raise InputError(f"--data: {root}: the network does not take one picture as input; give a .npz file")
        self._root = root
        self._entries: list[tuple[str, int | None]] = []
        folders, flat = _list(root)
        pictures = [_pictures(root, folder) for folder in folders]
        if any(pictures):
            labels = _labels(root, folders, classes)
            self._entries = [(path, label) for label, paths in zip(labels, pictures, strict=True) for path in paths]
        else:
            folders = []
            self._entries = [(path, None) for path in flat]
        if not self._entries:
            raise InputError(
                f"--data: {root} has no pictures: put them into one folder a class ({', '.join(sorted(SUFFIXES))})"
            )
        self.classes = tuple(classes) or tuple(folders)
        self.class_folders = len(folders)
        self.class_order = _order(folders, classes)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, labels and the sizes of the files."""
        listing = "\n".join(f"{path}\0{label}\0{_size(self._root / path)}" for path, label in self._entries)
        return hashlib.sha256(os.fsencode(listing)).hexdigest()

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, row: int) -> str:
        return os.fsencode(self._entries[row][0]).decode(errors="replace")  # a name in another encoding can be shown

    def read(self, row: int) -> Sample:
        path, label = self._entries[row]
        return Sample((self._open_pixels(self._root / path, self.specs[0], self.name(row)),), label)


def _list(root: Path) -> tuple[list[str], list[str]]:
    """The names of the folders in `root`, and those of the pictures, both sorted; no hidden ones."""
    try:
        entries = sorted((entry.name, entry.is_dir()) for entry in os.scandir(root))
    except OSError as error:
        raise InputError(f"--data: {root} cannot be read: {error}") from error
    folders = [name for name, is_folder in entries if is_folder and not name.startswith(".")]
    return folders, [name for name, is_folder in entries if not is_folder and _is_picture(name)]


def _pictures(root: Path, folder: str) -> list[str]:
    """The pictures in and below a folder, relative to the root, in ImageFolder's order: folder by folder."""
    found = []
    for directory, names in sorted(_walk(root / folder, frozenset())):
        inside = Path(directory).relative_to(root)
        if not any(part.startswith(".") for part in inside.parts):
            found += [(inside / name).as_posix() for name in sorted(names) if _is_picture(name)]
    return found


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, list[str]]]:
    """(folder, the names of its files) of it and those below.  Links are followed, but not to a folder `above`: two
    that lead back would open more folders than can be counted.
    """
    try:
        found = folder.stat()
        place = (found.st_dev, found.st_ino)
        entries = [] if place in above else [(entry.name, entry.is_dir()) for entry in os.scandir(folder)]
    except OSError:  # it is left out, as os.walk does
        return
    yield str(folder), [name for name, is_folder in entries if not is_folder]
    for name, is_folder in entries:
        if is_folder:
            yield from _walk(folder / name, above | {place})


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def _labels(root: Path, folders: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Each class folder's label.  Raises InputError where the folders cannot be told apart by `classes`."""
    unknown = [folder for folder in folders if folder not in classes]
    if classes and not unknown:
        return [classes.index(folder) for folder in folders]
    # Names of another kind, as ImageNet's n01440764 for "tench": the sorted folders are the classes in their order.
    if classes and not (len(unknown) == len(folders) == len(classes)):
        raise InputError(
            f"--data: {root} has {len(folders)} class folders, and --classes names {len(classes)} but not "
            f"{', '.join(unknown[:3])}: name the folders as the classes"
        )
    return list(range(len(folders)))


def _order(folders: Sequence[str], classes: Sequence[str]) -> str:
    """What a user should know of the labels that the order of the folders gives; "" where it is clear."""
    if not folders or set(folders) <= set(classes):
        return ""
    in_numbers = sorted(folders, key=_by_number)
    if in_numbers != list(folders):
        label = next(index for index, (one, other) in enumerate(zip(folders, in_numbers, strict=True)) if one != other)
        return (
            f"the class folders are numbered, and in the order of their names, as torchvision's ImageFolder has them, "
            f"class {label} is '{folders[label]}' and not '{in_numbers[label]}': give --classes FILE with the folders' "
            "names, one a line, if the network was trained with another order"
        )
    if classes:
        return (
            f"the class folders are not called as --classes names the classes, and are matched by their order: "
            f"'{folders[0]}' is taken for '{classes[0]}', '{folders[-1]}' for '{classes[-1]}'"
        )
    return ""


def _by_number(name: str) -> list[tuple[int, int, str]]:
    """A key that puts 2 in front of 10, alone or inside a name."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link that leads nowhere: an image that cannot be read
        return 0
