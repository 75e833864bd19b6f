"""Make `x.data = y` inside forward visible to the exporters.

BinaryNet-style code binarises in place, by giving a tensor other contents:

    input.data = input.data.sign()
    self.weight.org = self.weight.data.clone()          # once
    self.weight.data = self.weight.org.sign()
    out = F.conv2d(input, self.weight)

No exporter records the assignment, so that the traced graph would use the old `input` and `weight`.  While
`DataAssignment` is active an assignment only notes that `y` now stands for `x`, and every later PyTorch function gets
`y` where it is given `x`:

    Before:  input ─ Sign      input, weight ─ Conv
    After:   input ─ Sign ─┐
             weight ─ Sign ─ Conv
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DATA_GET = torch.Tensor.data.__get__  # type: ignore[attr-defined]
DATA_SET = torch.Tensor.data.__set__  # type: ignore[attr-defined]


class DataAssignment(TorchFunctionMode):
    """One forward's assignments to `.data`.  Use a new one for every forward."""

    def __init__(self) -> None:
        super().__init__()
        # id → (the tensor, kept alive so that its id stays its own; what stands for it)
        self._replacements: dict[int, tuple[Tensor, Tensor]] = {}

    def resolve(self, value: Any) -> Any:
        """`value` with every tensor that was assigned to replaced by what was assigned; containers are searched."""
        if isinstance(value, Tensor):
            known = self._replacements.get(id(value))
            return value if known is None else known[1]
        if not self._replacements:
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self.resolve, value))
        if type(value) in (tuple, list):
            return type(value)(map(self.resolve, value))
        if type(value) is dict:
            return {key: self.resolve(item) for key, item in value.items()}
        return value

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func == DATA_SET:
            self._replacements[id(args[0])] = (args[0], self.resolve(args[1]))
            return None
        if func == DATA_GET:
            # detach() shares the storage, as .data does, and both exporters record it.
            return self.resolve(args[0]).detach()
        return func(*self.resolve(tuple(args)), **self.resolve(dict(kwargs or {})))


@contextlib.contextmanager
def attributes_restored(module: nn.Module) -> Iterator[None]:
    """Undo what a forward writes into `self.something` and `self.weight.something`.

    torch.export refuses a forward that leaves such a trace, and it runs forward more than once: an attribute of the
    first run would hold a tensor of a trace that is over.
    """
    modules = [
        (child, dict(vars(child))) for child in module.modules() if not isinstance(child, torch.jit.ScriptModule)
    ]
    tensors = [*module.parameters(), *module.buffers()]
    known = [(tensor, set(vars(tensor))) for tensor in tensors]
    try:
        yield
    finally:
        for child, attributes in modules:
            vars(child).clear()
            vars(child).update(attributes)
        for tensor, names in known:
            for name in set(vars(tensor)) - names:
                delattr(tensor, name)
