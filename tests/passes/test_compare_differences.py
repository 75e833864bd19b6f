"""What is decided by comparing two computed maps is a sign of their difference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.options import Options
from bnncc.verification import verify
from bnncc.verification.passes import first_difference
from tests.passes.helpers import Array, normal
from tests.passes.proof import equals_pytorch


def ones(condition: Tensor) -> Tensor:
    return torch.where(condition, 1.0, -1.0)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "the mean": lambda x: ones(x >= x.mean((2, 3), keepdim=True)),
    "the mean of all": lambda x: (x > x.mean()).float(),
    "another map": lambda x: ones(x < x.roll(1, 1)),
    "at most": lambda x: (x <= F.avg_pool2d(x, 3, 1, 1)) * 2.0 - 1.0,
}


class Compared(nn.Module):
    """A convolution of integers, a comparison, a binary convolution: nothing rounds but the mean."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randint(-2, 3, (32, 3, 3, 3), generator=generator).float())
        self.second = nn.Parameter(torch.randn(8, 32, 3, 3, generator=generator))
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(torch.round(x), self.first, padding=1)
        return F.conv2d(KINDS[self.kind](x), torch.sign(self.second))


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_as_bits(kind: str) -> None:
    network = Compared(kind).eval()
    options = Options(compare_passes=first_difference)
    compiled = bnncc.compile(network, input_shapes=["1x3x8x8"], options=options)
    assert compiled.layers[-1].reason is None
    x: Array = 2 * normal(1, 3, 8, 8)
    assert equals_pytorch(compiled, network, x)
    result = verify(compiled, [[x]])
    assert result.passed, result.problems


def test_a_comparison_that_no_layer_reads_stays() -> None:
    class Mask(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (x >= x.mean())

    compiled = bnncc.compile(Mask(), input_shapes=["1x3x8x8"])
    assert all(node.op_type != "Sub" for node in compiled.graph.graph)
