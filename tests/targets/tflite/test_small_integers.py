"""Arithmetic on integers of 8 bits wraps around as PyTorch's does; to LCE's kernels such tensors are quantised."""

import pytest
import torch
from torch import Tensor, nn

import bnncc
from bnncc.verification import verify
from tests.passes.helpers import normal
from tests.passes.proof import equals_pytorch


class Small(nn.Module):
    def __init__(self, dtype: torch.dtype, name: str) -> None:
        super().__init__()
        self.dtype, self.name = dtype, name

    def forward(self, x: Tensor) -> Tensor:
        a, b = ((torch.sigmoid(factor * x) * 100).to(self.dtype) for factor in (1, -2))
        y = {"sum": a + b + 100, "product": a * 3, "difference": a - b, "larger": torch.maximum(a, b)}.get(self.name)
        return (a > b).float() if y is None else y.float()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
@pytest.mark.parametrize("name", ["sum", "product", "difference", "larger", "comparison"])
def test_it_is_pytorchs(dtype: torch.dtype, name: str) -> None:
    network = Small(dtype, name)
    compiled = bnncc.compile(network, input_shapes=["1x3x4x4"])
    x = normal(1, 3, 4, 4)
    assert equals_pytorch(compiled, network, x)
    assert verify(compiled, [[x]]).passed
