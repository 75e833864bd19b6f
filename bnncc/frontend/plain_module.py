"""Bring the user's module into the form that the rest works on: float32, without what only training needs around it.

torch.compile, DataParallel and DistributedDataParallel wrap a network, or a part of it, in a module that computes the
same; their keys in a state_dict (`_orig_mod.`, `module.`) make no difference to `load_weights`.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnncc.errors import InputError
from bnncc.frontend.copying import copy_of

_CONVERTED = (torch.float16, torch.bfloat16, torch.float64)


def unwrapped(module: nn.Module) -> nn.Module:
    """The network inside of wrappers around the whole."""
    while (inner := _inner(module)) is not None:
        module = inner
    return module


def plain_module(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """`module` without wrappers and in float32, and warnings that say what was converted.

    `module` itself is never changed: it is returned where nothing is to be done, else a copy.  Raises InputError for
    parameters that have no values yet.
    """
    module = unwrapped(module)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            kind = "it is on the device 'meta'" if tensor.is_meta else "it belongs to a lazy module"
            raise InputError(
                f"{name} has no values yet: {kind}. Build the network on the CPU, run it once if it is lazy, or load "
                "its weights (--weights)"
            )
    types = _types_to_convert(module)
    is_wrapped = any(_inner(child) is not None for child in module.modules())
    if not types and not is_wrapped:
        return module, []
    module = copy_of(module)
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and _inner(child) is not None:
                parent._modules[name] = unwrapped(child)
    if not types:
        return module, []
    _convert(module)
    held = " and ".join(f"{count:,} {str(dtype).removeprefix('torch.')} tensors" for dtype, count in types.items())
    return module, [f"the network's {held} are converted to float32, in which everything is compared with PyTorch"]


def _inner(module: nn.Module) -> nn.Module | None:
    """What a wrapper wraps; None for any other module."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module.module  # type: ignore[no-any-return]
    # torch.compile's class; to import it would import the compiler.
    return module._modules["_orig_mod"] if type(module).__module__.startswith("torch._dynamo") else None


def _types_to_convert(module: nn.Module) -> dict[torch.dtype, int]:
    tensors = [*module.parameters(), *module.buffers()]
    return dict(Counter(tensor.dtype for tensor in tensors if tensor.dtype in _CONVERTED))


def _convert(module: nn.Module) -> None:
    """Parameters, buffers, and tensors that are mere attributes."""
    module._apply(lambda tensor: tensor.float() if tensor.dtype in _CONVERTED else tensor)  # type: ignore[no-untyped-call]
    for child in module.modules():
        if isinstance(child, torch.jit.ScriptModule):
            continue
        for name, value in vars(child).items():
            if isinstance(value, Tensor) and value.dtype in _CONVERTED:
                vars(child)[name] = value.float()
