"""Load a checkpoint into a network, and say exactly what does not fit."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnncc.errors import WeightsError

# Where training scripts put the state_dict, and what DataParallel and torch.compile put into the path of its keys.
_HOLDERS = ("state_dict", "model", "net", "model_state_dict")
_WRAPPERS = ("module", "_orig_mod")
# Harmless types that training scripts save beside the weights: parsed arguments, the best accuracy.
_SAFE_TYPES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    type(np.dtype("f8")),
    type(np.dtype("f4")),
    np.float64(0).__reduce__()[0],
]
# Buffers that inference does not read: older PyTorch versions did not save them.
_HARMLESS = "num_batches_tracked"
# A message lists so many keys of a group; more are counted.
_LISTED = 20


def load_weights(network: nn.Module, path: Path, *, allow_partial: bool = False) -> list[str]:
    """Load the state_dict in `path` into `network`, in place.

    Args:
        path: a file written by torch.save: a state_dict, or a dict with one under state_dict, model, net or
            model_state_dict.  `module.` and `_orig_mod.` in its keys, or the network's, make no difference.
        allow_partial: missing and unexpected keys become warnings.

    Returns:
        Warnings.

    Raises:
        WeightsError: the file cannot be read, holds no state_dict, or does not belong to the network.
    """
    expected = network.state_dict()
    given = _renamed(_state_dict(_read(path), path), expected)
    missing = [key for key in expected if key not in given and not key.endswith(_HARMLESS)]
    unexpected = [key for key in given if key not in expected and not key.endswith(_HARMLESS)]
    wrong = [
        f"{key}: {_size(tensor)} in the file, {_size(expected[key])} in the network"
        for key, tensor in given.items()
        if key in expected and tensor.shape != expected[key].shape
    ]
    problems = _group("of another shape", wrong)
    partial = _group("missing from the file", missing) + _group("in the file but not in the network", unexpected)
    if wrong or (partial and not allow_partial):
        advice = "Check that the network is built with the arguments it was trained with"
        if not wrong:
            advice += ", or pass --allow-partial-weights to keep what the file does not give"
        raise WeightsError(f"{path} does not fit the network:\n" + "\n".join(problems + partial) + f"\n{advice}.")
    if not any(key in expected for key in given):
        raise WeightsError(f"{path} has no key in common with the network: {', '.join(list(given)[:3])}, …")
    network.load_state_dict({key: tensor for key, tensor in given.items() if key in expected}, strict=False)
    return [f"{path}: " + "\n".join(partial).strip()] if partial else []


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


def _read(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    try:
        with torch.serialization.safe_globals(_SAFE_TYPES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "Weights only load failed" in reason or "weights_only" in reason:
            raise WeightsError(
                f"{path} holds Python objects beside tensors, which bnncc does not execute. "
                "Save only the weights: torch.save(network.state_dict(), path)"
            ) from error
        raise WeightsError(
            f"{path} cannot be read ({type(error).__name__}: {reason}). It is truncated, or was not written by "
            "torch.save; download or save it again"
        ) from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for holder in (None, *_HOLDERS):
        if holder is None:
            candidate = content
        elif isinstance(content, Mapping):
            candidate = content.get(holder)
        if isinstance(candidate, Mapping) and any(isinstance(value, Tensor) for value in candidate.values()):
            return {str(key): value for key, value in candidate.items() if isinstance(value, Tensor)}
    held = (
        f"a dict with {', '.join(map(str, list(content)[:10]))}"
        if isinstance(content, Mapping)
        else type(content).__name__
    )
    raise WeightsError(
        f"{path} holds no state_dict: it is {held}. bnncc looks for tensors at the top and under {', '.join(_HOLDERS)}"
    )


def _renamed(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`given` under the names that `expected` has, where both are the same but for wrappers."""
    names = {_unwrapped(key): key for key in expected}
    renamed = {names.get(_unwrapped(key), _unwrapped(key)): tensor for key, tensor in given.items()}
    return renamed if len(renamed) == len(given) and len(names) == len(expected) else dict(given)


def _unwrapped(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _group(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    lines = [f"  {len(entries)} {title}:"] + [f"    {entry}" for entry in entries[:_LISTED]]
    if len(entries) > _LISTED:
        lines.append(f"    … and {len(entries) - _LISTED} more")
    return lines


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
