"""Call the user's network with a flat list of tensors, and bring what it returns into one.

This file is the boundary between bnncc and the network: `source.py` looks for the user's lines inside of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnncc.errors import InputError
from bnncc.frontend.cpu_only import cpu_only
from bnncc.frontend.data_assignment import DataAssignment, attributes_restored
from bnncc.frontend.legacy_functions import legacy_functions
from bnncc.frontend.named_tensors import named_tensors
from bnncc.frontend.removed_names import removed_names
from bnncc.frontend.signature import bind, signature_of

# The attribute that holds the network; exporters put it in front of every module path.
NETWORK = "network"


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


class FlattenOutputs(nn.Module):
    """`network` with inputs in the order of `names` and a tuple of tensors as its output.

    Inputs become arguments as `bind` describes.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names)
        self.parameters_of_forward = signature_of(network)

    def call(self, *tensors: Tensor) -> Any:
        """What the network itself returns.  GPU calls are redirected to the CPU."""
        positional, keywords = bind(self.parameters_of_forward, self.names, tensors)
        with cpu_only(), legacy_functions(), removed_names():
            return self.network(*positional, **keywords)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The form that is traced: assignments to `.data` are recorded and attributes are put back afterwards."""
        assignments = DataAssignment()
        with attributes_restored(self.network), assignments:
            result = self.call(*tensors)
        return tuple(assignments.resolve(tensor) for tensor in named_tensors(result).values())

    def outputs(self, *tensors: Tensor) -> dict[str, Tensor]:
        """The eager reference, in eval mode and without gradients.

        Raises InputError where an output is no array of real numbers.
        """
        if any(module.training for module in self.modules()):  # eval() takes ten times as long as to see that
            self.eval()
        with torch.no_grad(), one_thread():
            outputs = named_tensors(self.call(*tensors), self.names)
        for name, tensor in outputs.items():
            if tensor.is_complex():
                raise InputError(f"{name} is complex: return torch.view_as_real of it, a file holds real numbers only")
            if tensor.layout != torch.strided or tensor.is_quantized:
                kind = "quantized: return its dequantize()" if tensor.is_quantized else "sparse: return its to_dense()"
                raise InputError(f"{name} is {kind}")
        return outputs
