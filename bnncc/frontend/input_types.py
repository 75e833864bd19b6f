"""Find out which inputs are integers, and which values they may have, where the user does not say.

Types: forward is tried, with every input that it annotates as integers or that nobody has given a type.  Ranges: an
index into a table of n rows is one of 0 … n-1; which inputs are such indices shows a run:

    ids ─ (reshape, slice, cast) ─ embedding(table of 100 rows)        →        ids in 0…99
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bnncc.ir.input_spec import InputSpec

# Forward is tried with every combination of these for so many inputs; with more, all of them change together.
_TRIED = ("float32", "int64", "bool")
_MOST_INPUTS = 3
# PyTorch's complaints about a tensor of floats.
_WANTS_INTEGERS = re.compile(
    r"scalar types: Long|LongTensor|dtype int64|must be long|must be of type long|torch\.long|torch\.int64|boolean"
    r"|[Bb]ool|integer|integral|not implemented for 'Float'|expected.*(Long|Int)\b|tensors used as indices|bitwise"
)
# What it says of an argument that is no tensor, as a stride.
_OF_NUMBERS = re.compile(r"must be (tuple|list) of |argument '\w+' \(position \d+\) must be (int|bool)\b")
_ANNOTATED = {"LongTensor": "int64", "IntTensor": "int32", "BoolTensor": "bool", "ByteTensor": "uint8"}

# Operators that hand on integers as they are; and where the tensor and the index into it stand in those that look up.
_KEEP_VALUES = frozenset((
    "view", "reshape", "_unsafe_view", "_reshape_alias", "_to_copy", "clone", "expand", "slice", "select", "transpose",
    "t", "permute", "unsqueeze", "squeeze", "alias", "detach", "cat", "stack", "repeat", "flip", "split", "unbind",
))  # fmt: skip
_LOOK_UP = {"embedding": (0, 1, None), "index_select": (0, 2, 1), "gather": (0, 2, 1), "scatter": (0, 2, 1)}


def annotated_type(parameter: inspect.Parameter) -> str | None:
    """The type that `ids: torch.LongTensor` says; None where the annotation says none."""
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return next((dtype for name, dtype in _ANNOTATED.items() if re.search(rf"\b{name}\b", text)), None)


def wants_integers(error: BaseException) -> bool:
    """Whether PyTorch complains that a tensor holds floats."""
    return _WANTS_INTEGERS.search(str(error)) is not None and _OF_NUMBERS.search(str(error)) is None


def find_types(
    specs: Sequence[InputSpec], run: Callable[[Sequence[InputSpec]], object]
) -> tuple[list[InputSpec], BaseException] | None:
    """The inputs with the types on which `run` succeeds, and what it said of floats; None where there are none.

    Args:
        run: calls the network on zeros for these inputs.
    """
    try:
        run(specs)
    except Exception as error:
        if not wants_integers(error):
            return None
        complaint = error
    else:
        return None
    for types in _combinations([spec.is_float for spec in specs]):
        changed = [spec.with_dtype(dtype) if spec.is_float else spec for spec, dtype in zip(specs, types, strict=True)]
        try:
            run(changed)
        except Exception:  # said above, of the floats
            continue
        return changed, complaint
    return None


def _combinations(free: Sequence[bool]) -> Iterable[tuple[str, ...]]:
    """Types for each input, those with few integers first."""
    if sum(free) > _MOST_INPUTS:
        return [(dtype,) * len(free) for dtype in _TRIED[1:]]
    every = itertools.product(*(_TRIED if is_free else _TRIED[:1] for is_free in free))
    return sorted(every, key=lambda types: sum(map(_TRIED.index, types)))[1:]


class IndexRanges(TorchDispatchMode):
    """While active, notes which of `inputs` look something up, and in how many rows.

    limits: by the number of the input.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limits: dict[int, int] = {}
        # id → (the tensor, kept alive so that its id stays its own; the inputs whose values it holds)
        self._known = {id(tensor): (tensor, {number}) for number, tensor in enumerate(inputs) if not _is_float(tensor)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_") if func.namespace == "aten" else ""
        result = func(*args, **(kwargs or {}))
        if name in _KEEP_VALUES:
            sources = set().union(*(self._sources(argument) for argument in args))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if sources and isinstance(tensor, Tensor) and not _is_float(tensor):
                    self._known[id(tensor)] = (tensor, sources)
        elif name in _LOOK_UP:
            table, index, axis = _LOOK_UP[name]
            self._limit(args[index], args[table].shape[0 if axis is None else args[axis]])
        elif name == "index":
            for axis, index in enumerate(args[1]):
                self._limit(index, args[0].shape[axis])
        return result

    def _sources(self, value: Any) -> set[int]:
        if isinstance(value, tuple | list):
            return set().union(*map(self._sources, value))
        return self._known[id(value)][1] if id(value) in self._known else set()

    def _limit(self, index: Any, rows: int) -> None:
        if isinstance(index, Tensor) and index.dtype != torch.bool:
            for number in self._sources(index):
                self.limits[number] = min(rows, self.limits.get(number, rows))


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
