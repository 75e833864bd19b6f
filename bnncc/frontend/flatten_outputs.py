"""Call the user's network and bring what it returns into a flat list of named tensors.

This file is the boundary between bnncc and the network: `source.py` looks for the user's lines inside of it.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnncc.frontend.cpu_only import cpu_only
from bnncc.frontend.data_assignment import DataAssignment, attributes_restored

# The attribute that holds the network; exporters put it in front of every module path.
NETWORK = "network"


def named_tensors(result: Any) -> dict[str, Tensor]:
    """The tensors in what forward returned, in order, by name; everything else is dropped.

    A single tensor is `output`, several are `output_0`, `output_1`, …; a dict's tensors keep their keys.
    """
    if isinstance(result, Mapping):
        named: dict[str, Tensor] = {}
        for key, value in result.items():
            tensors = _tensors(value)
            for index, tensor in enumerate(tensors):
                named[str(key) if len(tensors) == 1 else f"{key}_{index}"] = tensor
        return named
    tensors = _tensors(result)
    if len(tensors) == 1:
        return {"output": tensors[0]}
    return {f"output_{index}": tensor for index, tensor in enumerate(tensors)}


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: sums are the same on every machine, and a single image through a binary network is too
    little work to share (on a busy machine, waiting for a second thread costs twenty times the work)."""
    saved = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(saved)


def forward_parameters(module: nn.Module) -> list[inspect.Parameter]:
    """The parameters of `module.forward` that take an input (no `*args`, no `**kwargs`)."""
    return [
        parameter
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]


class FlattenOutputs(nn.Module):
    """`network` with inputs in the order of `names` and a tuple of tensors as its output.

    Inputs are passed by name where forward has parameters of all these names, and by position otherwise.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names)
        known = {p.name for p in forward_parameters(network) if p.kind is not inspect.Parameter.POSITIONAL_ONLY}
        self.by_name = set(self.names) <= known

    def call(self, *tensors: Tensor) -> Any:
        """What the network itself returns.  GPU calls are redirected to the CPU."""
        with cpu_only():
            if self.by_name:
                return self.network(**dict(zip(self.names, tensors, strict=True)))
            return self.network(*tensors)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The form that is traced: assignments to `.data` are recorded and attributes are put back afterwards."""
        assignments = DataAssignment()
        with attributes_restored(self.network), assignments:
            result = self.call(*tensors)
        return tuple(assignments.resolve(tensor) for tensor in named_tensors(result).values())

    def outputs(self, *tensors: Tensor) -> dict[str, Tensor]:
        """The eager reference, in eval mode and without gradients."""
        if any(module.training for module in self.modules()):  # eval() takes ten times as long as to see that
            self.eval()
        with torch.no_grad(), one_thread():
            return named_tensors(self.call(*tensors))
