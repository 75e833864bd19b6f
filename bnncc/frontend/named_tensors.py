"""The tensors in what forward returned, in order, each under a name of its own."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

# So deep may a result be nested; one that holds itself has no end.
_DEEPEST = 16


def named_tensors(result: Any, taken: Collection[str] = ()) -> dict[str, Tensor]:
    """Tensors in mappings, sequences, named tuples, dataclasses and plain objects; everything else is dropped.

    A name is made of the keys and fields that lead to the tensor, "head_boxes", or is `output` where there are none.
    Where several have the same one, as in a list, they are numbered: `output_0`, `output_1`, …; so is one whose name is
    in `taken`, those of the inputs.
    """
    found = [("_".join(path) or "output", tensor) for path, tensor in _walk(result, (), _DEEPEST)]
    counts = Counter(name for name, _ in found)
    named: dict[str, Tensor] = {}
    numbers: Counter[str] = Counter()
    for base, tensor in found:
        name = base
        while name in named or name in taken or (name == base and counts[base] > 1):
            name = f"{base}_{numbers[base]}"
            numbers[base] += 1
        named[name] = tensor
    return named


def _walk(value: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif depth > 0:
        for key, part in _parts(value):
            yield from _walk(part, path if key is None else (*path, key), depth - 1)


def _parts(value: Any) -> list[tuple[str | None, Any]]:
    """What `value` holds, with the key or field of each."""
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, list | tuple):
        return [(None, item) for item in value]
    if isinstance(value, type):
        return []
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    attributes = getattr(value, "__dict__", None)  # of a plain object
    return [(name.lstrip("_"), item) for name, item in attributes.items()] if isinstance(attributes, dict) else []
