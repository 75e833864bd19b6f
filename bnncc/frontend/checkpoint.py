"""Load a checkpoint into a network, and say exactly what does not fit."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnncc.errors import WeightsError
from bnncc.frontend.checkpoint_file import CheckpointContent, read_checkpoint
from bnncc.frontend.export import describe_error, silence
from bnncc.frontend.key_differences import explain_difference
from bnncc.frontend.restricted_pickle import Placeholder
from bnncc.frontend.state_dicts import EXTRA_STATE, Candidate, Fit, as_tensor, children_of, find_candidates, fit

# Entries that inference does not read: a batch norm's counter, which older PyTorch versions did not save; what
# averaged models and thop's profiler count.
_HARMLESS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
# A message lists so many keys of a group; more are counted.
_LISTED = 20
# Another state_dict in the file is worth a word where it gives this share of what the chosen one gives.
_ALTERNATIVE = 0.9
_SIZE_MISMATCH = re.compile(
    r"size mismatch for (?P<key>\S+): copying a param with shape torch\.Size\((?P<file>.*?)\) from checkpoint, "
    r"the shape in current model is torch\.Size\((?P<network>.*?)\)"
)


@dataclass(frozen=True)
class WeightsChoice:
    """Which of a file's state_dicts, under which names.

    key: the keys that lead to it, as "model.state_dict"; None: the one that fits best.  strip_prefixes: what its keys
    begin with and the network's do not, in the order in which they are stripped; none: one is found where there is one.
    """

    key: str | None = None
    strip_prefixes: tuple[str, ...] = ()


def load_weights(
    network: nn.Module, path: Path, *, allow_partial: bool = False, choice: WeightsChoice | None = None
) -> list[str]:
    """Load the state_dict in `path` into `network`, in place, through its own load_state_dict and its hooks.

    Args:
        path: a file of any of the formats of `checkpoint_file.py`: a state_dict, or anything with one in it.
            `module.` and `_orig_mod.` in its keys, or the network's, make no difference, nor does one common prefix.
        allow_partial: missing and unexpected keys become warnings.
        choice: which state_dict; None: the one that fits best.

    Returns:
        Warnings.

    Raises:
        WeightsError: the file cannot be read, holds no state_dict, or does not belong to the network.
    """
    choice = choice or WeightsChoice()
    state = network.state_dict()
    expected = {key: _expected_shape(value) for key, value in state.items()}
    read = read_checkpoint(path)
    fits = _fits(read, path, expected, choice)
    chosen = max(fits, key=lambda one: one.rank)
    given, notes = _tensors(
        chosen, path, {key: value.dtype for key, value in state.items() if isinstance(value, Tensor)}
    )
    missing, unexpected, wrong = _load(network, given, chosen, path, expected)
    missing = [key for key in missing if not key.endswith(_HARMLESS)]
    needed = {key for key in expected if not key.endswith(_HARMLESS)}
    unexpected = [key for key in unexpected if not key.endswith((*_HARMLESS, EXTRA_STATE))]
    problems = _group("of another shape", wrong)
    partial = _group("missing from the file", missing) + _group("in the file but not in the network", unexpected)
    others = _alternatives(chosen, fits)
    if wrong or (partial and not allow_partial):
        advice = "Check that the network is built with the arguments it was trained with"
        if not wrong:
            advice += ", or pass --allow-partial-weights to keep what the file does not give"
        raise WeightsError(
            f"{_where(path, chosen.candidate)} does not fit the network:\n"
            + "\n".join(problems + partial)
            + f"\n{advice}.{explain_difference(missing, unexpected)}{_hint(chosen, fits)}"
            + "".join(f"\n{note}" for note in notes)
        )
    if needed and not wrong and needed <= set(missing):
        raise WeightsError(
            f"{_where(path, chosen.candidate)} has no key in common with the network: {', '.join(list(given)[:3])}, …"
            + _hint(chosen, fits)
        )
    warnings = [*read.notes, *_chosen_notes(chosen, others, path), *notes]
    return warnings + ([f"{path}: " + "\n".join(partial).strip()] if partial else [])


def digest(tensors: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in the order of the sorted names, in hexadecimal."""
    result = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        result.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        result.update(array.reshape(-1).view(np.uint8).data)
    return result.hexdigest()


def state_digest(network: nn.Module) -> str:
    """`digest` of the network's state_dict."""
    arrays = {}
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor):
            tensor = tensor.detach().cpu()
            if tensor.layout != torch.strided:
                tensor = tensor.to_dense()
            arrays[name] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return digest(arrays)


def _expected_shape(value: Any) -> tuple[int, ...] | None:
    """None for what takes any shape: a lazy parameter, and extra state."""
    if not isinstance(value, Tensor) or nn.parameter.is_lazy(value):
        return None
    return tuple(value.shape)


def _fits(
    read: CheckpointContent, path: Path, expected: Mapping[str, tuple[int, ...] | None], choice: WeightsChoice
) -> list[Fit]:
    content, below = _at(read.content, choice.key, path)
    candidates = find_candidates(content)
    candidates = [replace(one, path=(*below, *one.path)) for one in candidates if one.entries]
    if not candidates:
        where = "" if choice.key is None else f" under {choice.key!r} (--weights-key)"
        raise WeightsError(f"{path} holds no state_dict{where}: it is {_description(content)}{_unnamed_hint(content)}")
    for prefix in choice.strip_prefixes:
        if not any(key.startswith(prefix) for one in candidates for key in _stripped_before(one, prefix, choice)):
            keys = ", ".join(list(candidates[0].entries)[:3])
            raise WeightsError(f"--strip-prefix {prefix}: no key in {path} begins with it; the first are {keys}")
    return [fit(candidate, expected, choice.strip_prefixes) for candidate in candidates]


def _stripped_before(candidate: Candidate, prefix: str, choice: WeightsChoice) -> list[str]:
    """The keys as they are when it is the turn of `prefix`."""
    keys = list(candidate.entries)
    for earlier in choice.strip_prefixes[: choice.strip_prefixes.index(prefix)]:
        keys = [key.removeprefix(earlier).removeprefix(".") if key.startswith(earlier) else key for key in keys]
    return keys


def _at(content: Any, key: str | None, path: Path) -> tuple[Any, tuple[str, ...]]:
    """What --weights-key names, and its path.  A key of the file may itself hold dots."""
    taken: tuple[str, ...] = ()
    rest = key or ""
    while rest:
        children = children_of(content)
        matching = [name for name in children if rest == name or rest.startswith(f"{name}.")]
        if not matching:
            names = [f"{one.name} ({len(one.entries)} tensors)" for one in _named_ones(content)]
            known = ", ".join([".".join((*taken, name)) for name in names][:_LISTED]) or _description(content)
            raise WeightsError(f"--weights-key {key}: there is no {rest!r} in {path}. It holds {known}")
        name = max(matching, key=len)
        content, rest, taken = children[name], rest[len(name) + 1 :], (*taken, name)
    return content, taken


def _named_ones(content: Any) -> list[Candidate]:
    """The state_dicts that --weights-key can name."""
    return [one for one in find_candidates(content) if one.path and not one.is_joined]


def _description(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict with {', '.join(map(str, list(content)[:10]))}" if content else "an empty dict"
    if isinstance(content, Placeholder):
        return f"a Python object of the class {type(content).__module__}.{type(content).__name__}, without parameters"
    return "a single tensor" if isinstance(content, Tensor) else f"of the type {type(content).__name__}"


def _unnamed_hint(content: Any) -> str:
    """Averages of some libraries are lists: they have no names."""
    for key, value in children_of(content).items():
        if isinstance(value, list | tuple) and value and all(isinstance(one, Tensor) for one in value):
            return f"; {key} is a list of {len(value)} tensors without names, which cannot be told apart"
    return ". Save the weights: torch.save(network.state_dict(), path)" if isinstance(content, Placeholder) else ""


def _tensors(chosen: Fit, path: Path, types: Mapping[str, torch.dtype]) -> tuple[dict[str, Any], list[str]]:
    """The chosen entries under the network's names as plain tensors, and what was made of them.

    types: of the network's own.
    """
    given: dict[str, Any] = {}
    changed: dict[str, list[str]] = {}
    without_values = []
    for key, name in chosen.names.items():
        value = chosen.candidate.entries[key]
        if key.split(".")[-1] == EXTRA_STATE and not isinstance(value, Tensor):
            if isinstance(value, Placeholder):
                changed.setdefault("left out, as it holds objects of Python classes", []).append(key)
            else:
                given[name] = value
            continue
        tensor = as_tensor(value)
        if tensor is None:
            changed.setdefault("left out, as it holds Python objects", []).append(key)
            continue
        if tensor.is_meta:
            without_values.append(key)
        elif tensor.is_quantized:
            changed.setdefault("dequantized", []).append(key)
            tensor = tensor.dequantize()
        elif tensor.layout != torch.strided:
            changed.setdefault("sparse in the file, made dense", []).append(key)
            tensor = tensor.to_dense()
        elif tensor.is_complex():
            raise WeightsError(f"{path}: {key!r} holds complex numbers, which bnncc does not read")
        elif not tensor.is_floating_point() and types.get(name, tensor.dtype).is_floating_point:
            kind = f"{str(tensor.dtype).removeprefix('torch.')} in the file, taken as numbers without a scale"
            changed.setdefault(kind, []).append(key)
        elif tensor.dtype == torch.float64:
            changed.setdefault("float64 in the file, rounded to the network's type", []).append(key)
        given[name] = tensor
    if without_values:
        raise WeightsError(
            f"{path} holds shapes without values (tensors on the device 'meta') for:\n"
            + "\n".join(_group("on 'meta'", without_values))
            + "\nSave the network after its weights are on a real device."
        )
    return given, [f"{path}: {what}: {_few(keys)}" for what, keys in changed.items()]


def _load(
    network: nn.Module,
    given: dict[str, Any],
    chosen: Fit,
    path: Path,
    expected: Mapping[str, tuple[int, ...] | None],
) -> tuple[list[str], list[str], list[str]]:
    """Through the network's own load_state_dict: (missing keys, unexpected keys, those of another shape)."""
    state: OrderedDict[str, Any] = OrderedDict(given)
    # Load hooks read a module's version from here.
    state._metadata = _renamed_metadata(chosen)  # type: ignore[attr-defined]  # as torch's own state_dict() does
    wrong: list[str] = []
    try:
        with torch.no_grad(), silence():
            result: Any = network.load_state_dict(state, strict=False)
    except Exception as error:
        text = str(error)
        found = list(_SIZE_MISMATCH.finditer(text))
        # One line for each problem, behind a title.
        if not isinstance(error, RuntimeError) or len(found) != len(text.strip().splitlines()) - 1:
            raise WeightsError(
                f"{_where(path, chosen.candidate)} cannot be loaded: load_state_dict fails:\n  {describe_error(error)}"
            ) from error
        wrong = [
            f"{one['key']}: {_size(one['file'])} in the file, {_size(one['network'])} in the network" for one in found
        ]
        result = None
    if hasattr(result, "missing_keys"):
        missing, unexpected = list(result.missing_keys), list(result.unexpected_keys)
    else:  # It stopped at a shape, or is a load_state_dict of the network's own that does not tell.
        missing = [key for key in expected if key not in given]
        unexpected = [key for key in given if key not in expected]
    return missing, unexpected, wrong


def _renamed_metadata(chosen: Fit) -> dict[str, Any]:
    """The modules' metadata under the network's paths, as far as keys tell them."""
    renamed = {}
    for key, name in chosen.names.items():
        module, new = key.rpartition(".")[0], name.rpartition(".")[0]
        while module in chosen.candidate.metadata and new not in renamed:
            renamed[new] = chosen.candidate.metadata[module]
            if not module or not new:
                break
            module, new = module.rpartition(".")[0], new.rpartition(".")[0]
    return renamed


def _alternatives(chosen: Fit, fits: Sequence[Fit]) -> list[Fit]:
    """Other state_dicts of the file that fit nearly as well, and are not the same or a part of it."""
    found = []
    for other in fits:
        enough = other.matched >= max(1, _ALTERNATIVE * chosen.matched)
        own = {id(value) for value in chosen.candidate.entries.values()}
        theirs = [other.candidate.entries[key] for key in other.names]
        is_part = all(id(value) in own for value in theirs)
        if other is not chosen and enough and not is_part and not _equal(chosen, other):
            found.append(other)
    return found


def _equal(one: Fit, other: Fit) -> bool:
    values = {name: one.candidate.entries[key] for key, name in one.names.items()}
    for key, name in other.names.items():
        mine, its = values.get(name), other.candidate.entries[key]
        if isinstance(mine, Tensor) and isinstance(its, Tensor):
            plain = all(not t.is_meta and not t.is_quantized and t.layout == torch.strided for t in (mine, its))
            if not plain or not torch.equal(mine, its):
                return False
        elif mine is not its:
            return False
    return True


def _chosen_notes(chosen: Fit, others: Sequence[Fit], path: Path) -> list[str]:
    """What was chosen, and how to choose otherwise."""
    notes = []
    if others:
        where = f"that under {chosen.candidate.name!r}" if chosen.candidate.path else "the one at the top"
        keys = ", ".join(f"--weights-key {other.candidate.name}" for other in others[:_LISTED] if other.candidate.path)
        notes.append(f"{path} holds several state_dicts that fit; {where} is taken. For another: {keys or 'name it'}")
    if chosen.candidate.is_module:
        notes.append(f"{path} holds a pickled module: its parameters and buffers are taken, its code is not run")
    if chosen.prefix:
        note = f"{path}: the prefix {chosen.prefix!r} is stripped from its keys"
        if chosen.left_out:
            note += f"; {len(chosen.left_out)} keys without it are left out ({_few(chosen.left_out)})"
        if chosen.other_prefixes:
            options = ", ".join(f"--strip-prefix {prefix}" for prefix in chosen.other_prefixes)
            note += f". Another fits as well: {options}"
        notes.append(note)
    elif chosen.left_out:
        notes.append(f"{path}: {len(chosen.left_out)} keys are left out ({_few(chosen.left_out)})")
    if chosen.added:
        notes.append(f"{path}: its keys are taken as those of {chosen.added.removesuffix('.')!r} in the network")
    return notes


def _hint(chosen: Fit, fits: Sequence[Fit]) -> str:
    """Where else in the file weights are."""
    others = [one.candidate for one in fits if one is not chosen and one.matched]
    others = [one for one in others if one.path and not one.is_joined]
    if not others:
        return ""
    named = ", ".join(f"{one.name} ({len(one.entries)} tensors)" for one in others[:_LISTED])
    return f"\nThe file also holds {named}: name one with --weights-key."


def _where(path: Path, candidate: Candidate) -> str:
    return f"{candidate.name!r} in {path}" if candidate.path else f"{path}"


def _group(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    lines = [f"  {len(entries)} {title}:"] + [f"    {entry}" for entry in entries[:_LISTED]]
    if len(entries) > _LISTED:
        lines.append(f"    … and {len(entries) - _LISTED} more")
    return lines


def _few(keys: Sequence[str]) -> str:
    listed = 3
    return ", ".join(keys[:listed]) + (f", … {len(keys)} in all" if len(keys) > listed else "")


def _size(text: str) -> str:
    """`[4, 1, 3, 3]` → 4x1x3x3."""
    return text.strip("[]").replace(", ", "x") or "scalar"
