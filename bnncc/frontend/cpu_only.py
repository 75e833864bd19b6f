"""Run code that asks for a GPU on the CPU: `.cuda()`, `.to("cuda")`, `device="cuda"`, `torch.cuda.FloatTensor`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# The legacy tensor types that torch.cuda offers; a build without CUDA has them too, but they refuse to be used.
_LEGACY_TYPES = tuple(
    f"{kind}Tensor" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
)
# What may name a device: an argument of these types, and a bare integer where one of these functions gets it.
_NAMES = (str, torch.device)
_TAKES_INTEGERS = frozenset((torch.Tensor.cuda, torch.Tensor.to, torch._C._nn._parse_to))


def _on_cpu(argument: Any) -> Any:
    if isinstance(argument, torch.device):
        return torch.device("cpu") if argument.type == "cuda" else argument
    if isinstance(argument, str):
        if argument == "cuda" or argument.startswith("cuda:"):
            return "cpu"
        return argument.replace("torch.cuda.", "torch.")
    return argument


class CpuOnly(TorchFunctionMode):
    """While this mode is active, every PyTorch function that is given a CUDA device works on the CPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # Every call that the network makes comes by here: those that name no device, which are most, must be quick.
        if func not in _TAKES_INTEGERS and "device" not in kwargs:
            for argument in (*args, *kwargs.values()):
                if isinstance(argument, _NAMES):
                    break
            else:
                return func(*args, **kwargs)
        if func == torch.Tensor.cuda:
            return args[0]
        if func in _TAKES_INTEGERS:
            args = ["cpu" if type(argument) is int else argument for argument in args]
        changed = {name: _on_cpu(argument) for name, argument in kwargs.items()}
        if type(changed.get("device")) is int:
            changed["device"] = "cpu"
        return func(*(_on_cpu(argument) for argument in args), **changed)


@contextlib.contextmanager
def cpu_only() -> Iterator[None]:
    """`CpuOnly`, and the tensor types of `torch.cuda` replaced by the CPU's for as long."""
    saved = {name: getattr(torch.cuda, name) for name in _LEGACY_TYPES}
    try:
        for name in _LEGACY_TYPES:
            setattr(torch.cuda, name, getattr(torch, name))
        with CpuOnly():
            yield
    finally:
        for name, value in saved.items():
            setattr(torch.cuda, name, value)
