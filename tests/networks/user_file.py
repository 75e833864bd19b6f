"""Networks of a user's file, as the commands load them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from torch import nn


def load_file(path: Path) -> ModuleType:
    """The module of a Python file, run."""
    spec = importlib.util.spec_from_file_location("user_net", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def randomize_state(network: nn.Module, generator: torch.Generator) -> None:
    """Random parameters and buffers, in place, for convolutions of sums of 72 products of ±1, which deviate by about 8:
    variances match.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(40 + 50 * values.abs() if name.endswith("var") else values)
