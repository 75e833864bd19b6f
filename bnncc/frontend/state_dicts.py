"""Find the state_dicts in what a checkpoint file holds, and the one that belongs to the network.

A training script's checkpoint is a tree of dicts, lists and objects; a state_dict may be anywhere in it, its keys may
have a prefix, and there may be several of them:

    {"state_dict": {"module.model.conv.weight": …}, "state_dict_ema": {…}, "best_acc1": tensor(71.2)}

Every dict with tensors is a candidate, the object of a pickled module is one, and so are dicts of dicts.  That one is
chosen whose keys and shapes fit the network best, after its prefix; what is chosen among equals is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnncc.errors import WeightsError
from bnncc.frontend.restricted_pickle import NumPyArray, Placeholder

# What DataParallel, torch.compile, FSDP and activation checkpointing put into the path of a key.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# The key of what a module's own get_extra_state returns: it need not be a tensor.
EXTRA_STATE = "_extra_state"
# Checkpoints are nested so deep at most; what is deeper belongs to an optimizer.
_DEEPEST = 6
# Words in a path that make it the second choice among state_dicts that fit equally well: averages, and other networks.
_SECOND_CHOICE = ("ema", "swa", "avg", "average", "shadow", "teacher", "momentum", "target", "best", "old", "init")
# A checkpoint has fewer entries, counted once for each dict that they are in or below.  One where dicts share others,
# as no training script makes them, may have more names than can be counted.
_MOST_ENTRIES = 1_000_000
# Up to so many prefixes are tried.
_PREFIXES_TRIED = 8


@dataclass(frozen=True)
class Candidate:
    """A state_dict in a file.

    path: the keys that lead to it.  entries: tensors by name, and what is under `_extra_state`.  metadata: what
    `state_dict()` keeps beside them, by module path.  is_module: read off a pickled module.  is_joined: made of several
    dicts, whose keys are in front of the names.
    """

    path: tuple[str, ...]
    entries: dict[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    is_module: bool = False
    is_joined: bool = False

    @property
    def name(self) -> str:
        """As --weights-key takes it; "" at the top."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Fit:
    """A candidate under the network's names.

    names: the network's name of each of the candidate's entries; what is left out has none.  prefix: was stripped;
    added: was put in front.  matched: how many of the network's entries it gives, in their shapes; named: in any shape;
    placed: how many entries are those of a module of the network, whatever their own name.  other_prefixes: would give
    as many.
    """

    candidate: Candidate
    names: dict[str, str]
    matched: int
    named: int
    placed: int
    prefix: str = ""
    added: str = ""
    other_prefixes: tuple[str, ...] = ()

    @property
    def left_out(self) -> list[str]:
        """Keys without the prefix: of something else beside the network."""
        return [key for key in self.candidate.entries if key not in self.names]

    @cached_property
    def rank(self) -> tuple[int, ...]:
        """Higher fits better."""
        second = any(word in part for part in self.candidate.path for word in _SECOND_CHOICE)
        return (
            self.matched,
            self.named,
            self.placed,
            -int(self.candidate.is_joined),
            self.matched - len(self.candidate.entries),
            -int(second),
            -len(self.candidate.path),
        )


@dataclass
class _Budget:
    """How many entries may still be looked at."""

    left: int = field(default_factory=lambda: _MOST_ENTRIES)

    def take(self, entries: Sized) -> None:
        """Raises WeightsError where they are too many."""
        self.left -= 1 + len(entries)
        if self.left < 0:
            raise WeightsError(
                f"the checkpoint has more than {_MOST_ENTRIES:,} entries, or dicts in it hold each other so that there "
                "is no end of names: save the state_dict alone"
            )


def find_candidates(content: Any) -> list[Candidate]:
    """Every state_dict in `content`, outer ones first.  Raises WeightsError where there are too many names."""
    budget = _Budget()
    found: list[Candidate] = []
    pending: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen: set[int] = set()
    while pending:
        path, value = pending.pop(0)
        if id(value) in seen or len(path) > _DEEPEST:
            continue
        seen.add(id(value))
        if is_pickled_module(value):
            found.append(Candidate(path, dict(_module_entries(value, "", set(), budget)), is_module=True))
            continue
        children = children_of(value)
        is_named = not isinstance(value, list | tuple)
        direct = {key: child for key, child in children.items() if is_named and _is_entry(key, child)}
        if any(not key.endswith(EXTRA_STATE) for key in direct):
            found.append(Candidate(path, direct, getattr(value, "_metadata", {})))
        nested = dict(_flattened(children, "", len(path), set(), budget))
        if is_named and len(nested) > len(direct):
            # The attributes of a TorchScript module are its names; dicts of dicts are joined.
            is_script = isinstance(value, Placeholder) and type(value).__module__.startswith("__torch__")
            found.append(Candidate(path, nested, is_joined=not is_script))
        pending += [((*path, key), child) for key, child in children.items()]
    return found


def children_of(value: Any) -> dict[str, Any]:
    """What a container of any kind holds, by name; empty for anything else."""
    if isinstance(value, Placeholder):
        return {**{str(key): child for key, child in value.entries.items()}, **_numbered(value.items)}
    if isinstance(value, Mapping):
        return {key: child for key, child in value.items() if isinstance(key, str)}
    return _numbered(value) if isinstance(value, list | tuple) else {}


def _numbered(values: Sequence[Any]) -> dict[str, Any]:
    return {str(index): child for index, child in enumerate(values)}


def is_pickled_module(value: Any) -> bool:
    """Whether `value` stands for an nn.Module that was pickled whole."""
    return isinstance(value, Placeholder) and "_modules" in value.entries and "_parameters" in value.entries


def _module_entries(module: Placeholder, prefix: str, seen: set[int], budget: _Budget) -> Iterator[tuple[str, Any]]:
    """As `nn.Module.state_dict` collects them."""
    if id(module) in seen:
        return
    transient = module.entries.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers", "_modules"):
        budget.take(module.entries.get(group) or {})
    for group in ("_parameters", "_buffers"):
        for key, value in (module.entries.get(group) or {}).items():
            if key not in transient and _is_tensor(value):
                yield f"{prefix}{key}", value
    for key, child in (module.entries.get("_modules") or {}).items():
        if is_pickled_module(child):
            yield from _module_entries(child, f"{prefix}{key}.", seen | {id(module)}, budget)


def _flattened(
    children: Mapping[str, Any], prefix: str, depth: int, seen: set[int], budget: _Budget
) -> Iterator[tuple[str, Any]]:
    """The tensors of dicts of dicts, and of a TorchScript module's attributes, under dotted names."""
    if depth > _DEEPEST:
        return
    budget.take(children)
    for key, child in children.items():
        if _is_entry(key, child):
            yield prefix + key, child
        elif is_pickled_module(child):
            yield from _module_entries(child, f"{prefix}{key}.", set(), budget)
        elif isinstance(child, Mapping | Placeholder) and id(child) not in seen:
            yield from _flattened(children_of(child), f"{prefix}{key}.", depth + 1, seen | {id(child)}, budget)


def _is_entry(key: str, value: Any) -> bool:
    return _is_tensor(value) or key.split(".")[-1] == EXTRA_STATE


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray | np.generic | NumPyArray)


def as_tensor(value: Any) -> Tensor | None:
    """A tensor of any kind, or an array, as a tensor; None for an array of Python objects.

    Raises:
        pickle.UnpicklingError: an array is damaged.
    """
    if isinstance(value, Tensor):
        return value.detach()
    array = value.array() if isinstance(value, NumPyArray) else np.asarray(value)
    if array is None or array.dtype.kind not in "bifuc":
        return None
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)).reshape(array.shape)
    try:
        return torch.from_numpy(array.copy())
    except TypeError:  # a type that PyTorch lacks, as float128
        return torch.from_numpy(array.astype(np.float64))


def fit(candidate: Candidate, expected: Mapping[str, tuple[int, ...] | None], stripped: Sequence[str] = ()) -> Fit:
    """`candidate` under the network's names.

    Args:
        expected: the shape of each of the network's entries; None where it is not fixed.
        stripped: prefixes that the user names; keys with none of them are left out where the network lacks them.
    """
    names, modules = _by_unwrapped(expected)
    keys = _strip(candidate.entries, stripped) if stripped else _unwrap_all(candidate.entries)
    shapes = {key: _shape(value) for key, value in candidate.entries.items()}
    hypotheses = [("", "")]
    if not stripped and not candidate.is_joined:
        hypotheses += _prefixes(list(keys.values()), names)
    fits = [_try(candidate, keys, shapes, names, modules, expected, *hypothesis) for hypothesis in hypotheses]
    best = max(fits, key=lambda one: (one.matched, one.named, one.placed, *_preference(one)))
    others = [one for one in fits if one is not best and one.matched == best.matched and best.matched and one.prefix]
    if stripped:
        unknown = {key for key in candidate.entries if keys[key] == key and key not in expected}
        kept = {key: name for key, name in best.names.items() if key not in unknown}
        return Fit(candidate, kept, best.matched, best.named, best.placed)
    return Fit(
        candidate,
        best.names,
        best.matched,
        best.named,
        best.placed,
        best.prefix,
        best.added,
        tuple(one.prefix for one in others if best.prefix),
    )


def _preference(one: Fit) -> tuple[int, int]:
    second = any(word in part for part in one.prefix.split(".") for word in _SECOND_CHOICE)
    return -int(second), -len(one.prefix) - len(one.added)


def _try(
    candidate: Candidate,
    keys: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...] | None],
    names: Mapping[str, str],
    modules: Mapping[str, str],
    expected: Mapping[str, tuple[int, ...] | None],
    prefix: str,
    added: str,
) -> Fit:
    """The names that result where `prefix` is stripped and `added` is put in front."""
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for has_prefix in (True, False):
        for key, unwrapped in keys.items():
            if unwrapped.startswith(prefix) is not has_prefix:
                continue
            bare = added + (unwrapped.removeprefix(prefix) if has_prefix else unwrapped)
            if not has_prefix and bare not in names:
                continue
            name = _rewrapped(bare, names, modules)
            if name not in taken:
                taken.add(name)
                chosen[key] = name
    named = [key for key, name in chosen.items() if name in expected]
    matched = sum(1 for key in named if expected[chosen[key]] in (None, shapes[key]))
    paths = {name.rpartition(".")[0] for name in expected}
    placed = sum(1 for name in chosen.values() if name.rpartition(".")[0] in paths)
    return Fit(candidate, chosen, matched, len(named), placed, prefix, added)


def _rewrapped(bare: str, names: Mapping[str, str], modules: Mapping[str, str]) -> str:
    """The network's own spelling; of a key that only a load hook knows, the spelling of its module."""
    if bare in names:
        return names[bare]
    module, _, leaf = bare.rpartition(".")
    return f"{modules[module]}.{leaf}" if modules.get(module) else bare


def _by_unwrapped(expected: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """(the network's keys, its modules' paths), by their names without wrappers; as they are where that is no name."""
    names = _inverse({key: _unwrapped(key) for key in expected})
    paths = [".".join(key.split(".")[:size]) for key in expected for size in range(1, key.count(".") + 1)]
    modules = {_unwrapped(path) if names is not None else path: path for path in sorted(set(paths), key=len)}
    return (names if names is not None else {key: key for key in expected}), modules


def _unwrap_all(keys: Mapping[str, Any]) -> dict[str, str]:
    """Keys without wrappers, or as they are where two would become one."""
    unwrapped = {key: _unwrapped(key) for key in keys}
    return unwrapped if _inverse(unwrapped) is not None else {key: key for key in keys}


def _unwrapped(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def _inverse(names: Mapping[str, str]) -> dict[str, str] | None:
    inverse = {name: key for key, name in names.items()}
    return inverse if len(inverse) == len(names) else None


def _strip(keys: Mapping[str, Any], prefixes: Sequence[str]) -> dict[str, str]:
    """Without the prefixes that the user names, in their order."""
    stripped = {}
    for key in keys:
        bare = key
        for prefix in prefixes:
            bare = bare.removeprefix(prefix).removeprefix(".") if bare.startswith(prefix) else bare
        stripped[key] = bare
    return stripped


def _prefixes(keys: Sequence[str], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """What may have to be stripped from the keys, or put in front: (prefix, added), the likeliest first."""
    strips: Counter[tuple[str, str]] = Counter()
    modules = {name.rpartition(".")[0] for name in names} - {""}
    for key in keys:
        parts = key.split(".")
        for size in range(1, len(parts)):
            suffix, prefix = ".".join(parts[size:]), ".".join(parts[:size]) + "."
            # A key that only a load hook knows still names its module.
            if suffix in names or suffix.rpartition(".")[0] in modules:
                strips[prefix, ""] += 1
    given = set(keys)
    adds: Counter[tuple[str, str]] = Counter()
    for name in names:
        parts = name.split(".")
        for size in range(1, len(parts)):
            if ".".join(parts[size:]) in given:
                adds["", ".".join(parts[:size]) + "."] += 1
    return [one for one, _ in (strips.most_common(_PREFIXES_TRIED) + adds.most_common(_PREFIXES_TRIED))]


def _shape(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, NumPyArray):
        array = value.array()
        return None if array is None else array.shape
    return tuple(value.shape) if isinstance(value, Tensor | np.ndarray | np.generic) else ()
