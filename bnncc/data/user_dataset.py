"""Data that the user's own code makes: a torch Dataset or DataLoader, or any iterable of (image, label)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import cached_property
from typing import Any

import numpy.typing as npt
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from bnncc.data.dataset import BadImageError, Dataset, Sample, as_array, by_input, digest, fit
from bnncc.data.preprocessing import Preprocessing
from bnncc.errors import InputError
from bnncc.frontend.user_code import UserCode, refuse
from bnncc.ir.input_spec import InputSpec

_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


class UserDataset(Dataset):
    """What `make` returns; called again where an iterator has to start anew.

    Items are (image, label), or an image alone.  An image is a tensor, an array or a PIL picture.  For a network of
    several inputs it is a sequence in their order, (a, b, label) and ((a, b), label) alike, or a mapping by their
    names, which may hold the label too, as a .npz file does.  A DataLoader's batches are taken apart.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        specs: Sequence[InputSpec],
        preprocessing: Preprocessing,
        name: str,
        code: UserCode | None = None,
    ) -> None:
        """Raises InputError where `make` returns something else, or nothing."""
        super().__init__(specs, preprocessing)
        self._make, self._name, self._code = make, name, code or UserCode()
        self._data = data = make()
        if isinstance(data, DataLoader) and _shuffles(data):
            raise InputError(f"--data: {name}: the DataLoader shuffles; build it with shuffle=False")
        is_map = hasattr(data, "__getitem__") and isinstance(data, Sized)
        if not is_map and not isinstance(data, Iterable):
            raise InputError(
                f"--data: {name}: a {type(data).__name__} is no Dataset (with __len__ and __getitem__) and no iterable"
            )
        self._map: Any = data if is_map and not isinstance(data, IterableDataset) else None
        self._items: Iterator[Any] = iter(())
        self._position = 0  # of the next of `_items`
        self._count = self._count_items()
        if self._count == 0:
            raise InputError(f"--data: {name} yields no images")

    @cached_property
    def fingerprint(self) -> str:
        """Of the name, the number of images, and three of them: to read all would take as long as to measure them.

        Code that makes other pixels of an image each time has another one each time.
        """
        parts = [f"{self._name}\0{self._count}"]
        for row in sorted({0, self._count // 2, self._count - 1}):
            try:
                sample = self.read(row)
            except InputError:  # said when it is measured
                parts.append("bad")
            else:
                parts.append(f"{digest(sample.inputs)} {sample.label}")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def __len__(self) -> int:
        return self._count

    def name(self, row: int) -> str:
        return f"{self._name}: image {row}"

    def read(self, row: int) -> Sample:
        name = self.name(row)
        with self._code.active():
            try:
                item: Any = self._map[row] if self._map is not None else self._skip_to(row)
            except (OSError, SyntaxError) as error:  # what Pillow raises for a picture that it cannot decode
                raise BadImageError(f"--data: {name} cannot be read: {error}") from error
            except BaseException as error:
                refuse(f"--data: reading {name} failed", error)
        images, label = self._split(item, name)
        arrays = [self._array(image, spec, name) for image, spec in zip(images, self.specs, strict=True)]
        return Sample(tuple(arrays), _label(label, name))

    def _count_items(self) -> int:
        count = 0
        with self._code.active():
            try:
                if self._map is not None:
                    return len(self._map)
                for _ in self._iterate():
                    count += 1
            except BaseException as error:
                refuse(f"--data: reading {self.name(count)} failed", error)
        return count

    def _split(self, item: Any, name: str) -> tuple[list[Any], Any]:
        """(what each input gets, the label or None) of an item of the user's."""
        count = len(self.specs)
        fields = list(item) if isinstance(item, tuple | list) else [item]
        nests = (tuple, list, Mapping) if count > 1 else (tuple, Mapping)  # for one input a list is the image itself
        if fields and isinstance(fields[0], nests):
            image, labels = fields[0], fields[1:]
        else:
            image, labels = fields[:count], fields[count:]
        if isinstance(image, Mapping):
            images, label = by_input(image, self.specs)
            labels = labels or [label]
        else:
            images = list(image)
        if len(images) != count or len(labels) > 1 or any(image is None for image in images):
            inputs = ", ".join(spec.name for spec in self.specs)
            raise InputError(
                f"--data: {name}: a {type(item).__name__} of {len(fields)} fields is not (image, label), with "
                f"an image for each input ({inputs})"
            )
        return images, labels[0] if labels else None

    def _array(self, image: Any, spec: InputSpec, name: str) -> npt.NDArray[Any]:
        if hasattr(image, "convert"):  # a PIL picture
            return self._pixels(image, spec, name)
        return fit(as_array(image, name), spec, name)

    def _iterate(self) -> Iterator[Any]:
        """The items from the first on; a DataLoader's batches one by one."""
        data = self._make() if isinstance(self._data, Iterator) else self._data
        for item in data:
            if isinstance(data, DataLoader) and data.batch_sampler is not None:
                yield from _unbatched(item)
            else:
                yield item

    def _skip_to(self, row: int) -> Any:
        """Item `row`: rows are asked for in rising order, but for the few that a report shows."""
        if row < self._position or self._position == 0:
            self._items, self._position = self._iterate(), 0
        for item in self._items:
            self._position += 1
            if self._position == row + 1:
                return item
        raise InputError(f"--data: {self._name} yielded {self._count} images at first, and fewer when asked again")


def _label(label: Any, name: str) -> int | None:
    if label is None:
        return None
    array = as_array(label, name)
    if array.size != 1 or array.dtype.kind not in "iuf" or not float(array.item()).is_integer():
        raise InputError(f"--data: {name}: the label must be a whole number, the index of its class, not {label!r}")
    return int(array.item())


def _shuffles(loader: DataLoader[Any]) -> bool:
    samplers = (loader.sampler, getattr(loader.batch_sampler, "sampler", None))
    return any(isinstance(sampler, _SHUFFLING) for sampler in samplers)


def _unbatched(batch: Any) -> Iterator[Any]:
    """The items of a DataLoader's batch, which holds each field of them stacked."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        yield from zip(_unbatched(batch[0]), batch[1], strict=True)
    elif isinstance(batch, Mapping):
        for parts in zip(*batch.values(), strict=True):
            yield dict(zip(batch, parts, strict=True))
    elif isinstance(batch, tuple | list):
        yield from zip(*batch, strict=True)
    else:
        yield from batch
