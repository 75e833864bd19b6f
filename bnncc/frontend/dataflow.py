"""Watch an eager run: what each output is computed from, and which Python values forward reads out of tensors.

    x ─ max ─ gt(1) ─► bool        read at net.py:12, True
    x ─ div(255) ─ conv(weight) ─► output

Every storage has a *fingerprint*: a hash of the operator that wrote it, of its arguments and of the fingerprints that
these had in turn, down to the inputs and parameters, which go by name, and to other constants, which go by content.
Two runs whose outputs have the same fingerprints compute them by the same operators in the same order, whatever else
they do: print, assert, keep statistics.

A *reading* is a Python value that PyTorch computes from an input: `bool(x)`, `if x > 0`, `.item()`, `int(x)`, an index
or a size that is a tensor, `.tolist()`, `.numpy()`, `torch.equal`, and the size of `nonzero(x)` or `x[mask]`.  Readings
can be forced to another value, which is how `frozen_values.py` finds out what depends on them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bnncc.frontend.flatten_outputs import NETWORK, FlattenOutputs
from bnncc.frontend.source import SourceLocation, location_in_stack
from bnncc.system.memory import return_free_pages

# Tensor methods that hand elements to Python without an operator that a dispatch mode would see.
_EXPORTS = {
    torch.Tensor.tolist: "tolist", torch.Tensor.numpy: "numpy", torch.Tensor.__array__: "numpy",
    torch.Tensor.__repr__: "text", torch.Tensor.__format__: "text",
}  # fmt: skip
# What reads one number of a tensor.
NUMBERS = (
    torch.Tensor.item, torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__, torch.Tensor.__index__,
)  # fmt: skip
# Arguments of operators that mean the same in every run, however their repr is spelt.
_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
_MASKS = (torch.bool, torch.uint8)
# The small objects by which storages are known lie between the large ones, so that what these have left is not used
# again: half a gigabyte for ReActNet-A.  It is returned whenever so much more has been computed.
_BYTES_BETWEEN_RETURNS = 1 << 28

Nothing: frozenset[SourceLocation] = frozenset()


@dataclass(frozen=True)
class Site:
    """Where a value is read: the user's line, and how ("scalar", "size", "tolist", "numpy", "text")."""

    source: SourceLocation | None
    kind: str


# For a reading of a site: (which time it is in this run, from 0; the value) → the value to hand to forward.
Forced = Mapping[Site, Callable[[int, Any], Any]]


@dataclass
class Origin:
    """What a storage was computed from.

    fingerprint: see above.  dependent: whether an input is among it.  random: the lines that drew random numbers for
    it.
    """

    fingerprint: int
    dependent: bool = False
    random: frozenset[SourceLocation | None] = Nothing


@dataclass
class Flow:
    """What one run did.

    outputs: their origins, by name.  values: the outputs.  readings: the values that were read, by site and in order.
    operations: (fingerprint, line) of every operator, in order.  batch_statistics: lines of batch norms that normalise
    by the batch's own statistics although they have running ones.  state_writes: parameters and buffers, by name, that
    operators wrote into, with the line.  numbers: what `NUMBERS` read, by site and in order, None where it depends on
    an input.
    """

    outputs: dict[str, Origin] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    readings: dict[Site, list[Any]] = field(default_factory=lambda: defaultdict(list))
    operations: list[tuple[int, SourceLocation | None]] = field(default_factory=list)
    batch_statistics: list[SourceLocation | None] = field(default_factory=list)
    state_writes: dict[str, SourceLocation | None] = field(default_factory=dict)
    numbers: dict[Site, list[Any]] = field(default_factory=lambda: defaultdict(list))

    @property
    def fingerprints(self) -> dict[str, int]:
        """Of the outputs."""
        return {name: origin.fingerprint for name, origin in self.outputs.items()}

    @property
    def random(self) -> list[SourceLocation | None]:
        """The lines that draw random numbers that reach an output, each once."""
        return list(dict.fromkeys(line for origin in self.outputs.values() for line in origin.random))


def observe(network: FlattenOutputs, inputs: Sequence[Tensor], forced: Forced | None = None) -> Flow:
    """Run `network`, which may change itself, on `inputs`.  Raises what forward raises."""
    with observing(network, inputs, forced) as watch:
        outputs = network.outputs(*inputs)
    watch.flow.values = outputs
    watch.flow.outputs = {name: watch.origin(tensor) for name, tensor in outputs.items()}
    return watch.flow


@contextlib.contextmanager
def observing(network: FlattenOutputs, inputs: Sequence[Tensor], forced: Forced | None = None) -> Iterator[_Watch]:
    """Watch what the body runs of `network` on `inputs`; with `forced`, readings yield other values."""
    watch = _Watch(forced or {})
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        watch.know(tensor, Origin(hash(("state", name))), name)
    for index, tensor in enumerate(inputs):
        watch.know(tensor, Origin(hash(("input", index)), dependent=True))
    with _Exports(watch), _Operators(watch):
        yield watch


class _Watch:
    """Origins of storages, and the flow that results."""

    def __init__(self, forced: Forced) -> None:
        self.flow = Flow()
        self.paused = False
        self._forced = forced
        # The weak reference keeps a storage's address from being used again.
        self._origins: dict[int, tuple[StorageWeakRef | Tensor, Origin]] = {}
        self._state: dict[int, str] = {}

    def know(self, tensor: Tensor, origin: Origin, name: str | None = None) -> None:
        """Set the origin of the tensor's storage, unless it has one.  name: of the parameter or buffer that it is."""
        key, keeper = _storage(tensor)
        if key not in self._origins:
            self._origins[key] = (keeper, origin)
            if name is not None:
                self._state[key] = name.removeprefix(f"{NETWORK}.")

    def write(self, tensor: Tensor, origin: Origin, line: SourceLocation | None) -> None:
        """Replace it."""
        key, keeper = _storage(tensor)
        self._origins[key] = (keeper, origin)
        if key in self._state:
            self.flow.state_writes[self._state[key]] = line

    def origin(self, tensor: Tensor) -> Origin:
        """Of the tensor: its storage's, and which part of that it is."""
        key, _ = _storage(tensor)
        if key not in self._origins:
            self.know(tensor, Origin(_content(tensor)))
        found = self._origins[key][1]
        part = (found.fingerprint, tuple(tensor.shape), _strides(tensor), tensor.dtype)
        return Origin(hash(part), found.dependent, found.random)

    def read(self, kind: str, value: Any, forced: Callable[[Any], Any] | None = None) -> Any:
        """Note a reading, and return what forward shall get.

        forced: applies what `Forced` yields, where that is more than to return it.
        """
        site = Site(location_in_stack(sys._getframe(2)), kind)
        values = self.flow.readings[site]
        values.append(value)
        replace = self._forced.get(site)
        return value if replace is None else replace(len(values) - 1, value)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, watch: _Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch = watch
        self._new_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._watch.paused:
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            return self._observe(func, args, kwargs)

    def _observe(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        watch = self._watch
        given = list(_tensors((args, kwargs)))
        origins = [watch.origin(tensor) for tensor in given]
        called = hash((str(func), _key(args), _key(kwargs), tuple(origin.fingerprint for origin in origins)))
        dependent = any(origin.dependent for origin in origins)
        random = frozenset(line for origin in origins for line in origin.random)
        result = func(*args, **kwargs)
        if torch.Tag.nondeterministic_seeded in func.tags:
            random |= {location_in_stack(sys._getframe(2))}
        if dependent and torch.Tag.data_dependent_output in func.tags and not isinstance(result, Tensor):
            return watch.read("scalar", result)
        if dependent and torch.Tag.dynamic_output_shape in func.tags and _has_dynamic_shape(func, args):
            result = watch.read("size", result)
        line = location_in_stack(sys._getframe(2))
        if _uses_batch_statistics(func, args):
            watch.flow.batch_statistics.append(line)
        watch.flow.operations.append((called, line))
        written = list(_written(func, args, kwargs))
        for index, tensor in enumerate(written):
            watch.write(tensor, Origin(hash((called, "written", index)), dependent, random), line)
        known = {_storage(tensor)[0] for tensor in given}
        for index, tensor in enumerate(_tensors(result)):
            if _storage(tensor)[0] not in known:
                watch.write(tensor, Origin(hash((called, index)), dependent, random), line)
                self._new_bytes += tensor.nbytes if tensor.layout == torch.strided else 0
        if self._new_bytes > _BYTES_BETWEEN_RETURNS:
            self._new_bytes = 0
            return_free_pages()
        return result


class _Exports(TorchFunctionMode):
    """Readings without an operator."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = _EXPORTS.get(func)
        if func in NUMBERS and not self._watch.paused:
            return self._number(func, args, kwargs)
        if kind is None or self._watch.paused:
            return func(*args, **kwargs)
        self._watch.paused = True
        try:
            result = func(*args, **kwargs)
            with torch._C.DisableTorchFunction():
                dependent = self._watch.origin(args[0]).dependent
        finally:
            self._watch.paused = False
        return self._watch.read(kind, result) if dependent else result

    def _number(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        watch = self._watch
        watch.paused = True
        try:
            with torch._C.DisableTorchFunction():
                dependent = watch.origin(args[0]).dependent
        finally:
            watch.paused = False
        result = func(*args, **kwargs)
        site = Site(location_in_stack(sys._getframe(2)), "scalar")
        watch.flow.numbers[site].append(None if dependent else result)
        return result


def _storage(tensor: Tensor) -> tuple[int, StorageWeakRef | Tensor]:
    """(what tells the storage from all others that live, what keeps that so)."""
    try:
        reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    except (NotImplementedError, RuntimeError):  # sparse, quantized and the like: the tensor itself
        return -id(tensor), tensor
    return reference.cdata, reference


def _strides(tensor: Tensor) -> tuple[object, ...]:
    return (tensor.stride(), tensor.storage_offset()) if tensor.layout == torch.strided else ()


def _content(tensor: Tensor) -> int:
    """A hash of a constant that has no name."""
    try:
        storage = torch.tensor([], dtype=torch.uint8).set_(tensor.untyped_storage())
        return hash(hashlib.sha1(storage.numpy().data, usedforsecurity=False).digest())
    except (NotImplementedError, RuntimeError, TypeError):
        return hash(("opaque", tuple(tensor.shape)))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)


def _key(value: Any) -> object:
    """The arguments without their tensors, as something to hash."""
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    if isinstance(value, Mapping):
        return tuple((name, _key(item)) for name, item in value.items())
    return repr(value) if isinstance(value, _PLAIN) else type(value).__name__


@functools.cache
def _written_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    """(position, name) of the arguments that an operator writes into."""
    return tuple(
        (index, argument.name)
        for index, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    for index, name in _written_arguments(func):
        yield from _tensors(args[index] if index < len(args) else kwargs.get(name))


def _has_dynamic_shape(func: Any, args: Sequence[Any]) -> bool:
    """False for `x[index]` with whole numbers, which has the index's shape."""
    if func.overloadpacket is not torch.ops.aten.index:
        return True
    return any(tensor.dtype in _MASKS for tensor in _tensors(args[1]))


def _uses_batch_statistics(func: Any, args: Sequence[Any]) -> bool:
    """True for a batch norm in training mode that has running statistics."""
    aten = torch.ops.aten
    packets = (aten.native_batch_norm, aten._native_batch_norm_legit, aten._native_batch_norm_legit_functional)
    return func.overloadpacket in packets and len(args) > 5 and isinstance(args[3], Tensor) and args[5] is True
