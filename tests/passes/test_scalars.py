"""Values without an axis of channels, numbers and vectors: bits lie along the channels that they are given."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.inference.runners import Runtime
from bnncc.verification import verify_in
from tests.passes.helpers import normal
from tests.passes.proof import compared, operators_in_file, proven

SHAPE = (1, 32, 6, 6)


def channels() -> Tensor:
    return torch.linspace(-1, 1, 32).reshape(1, 32, 1, 1)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "less a scalar": lambda x: compared(x - x.amax()),
    "a scalar's thresholds": lambda x: compared(x.amax() - 3 + channels()).expand(SHAPE),
    "a scalar's thresholds, spread": lambda x: compared(x.amax() - 3 + channels() + 0 * x),
    "times a scalar's sign": lambda x: compared(x) * compared(x.amax() - 3),
    "times PyTorch's": lambda x: compared(x) * torch.sign(x.amin() + 2.5),
}


class Network(nn.Module):
    """A binary convolution of an activation, and a number's sign."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.randn(16, 32, 3, 3, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.conv2d(ACTIVATIONS[self.name](x), torch.sign(self.weight)), compared(x.amin() + 2.5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_that_reads_a_number(name: str) -> None:
    network = Network(name).eval()
    compiled = bnncc.compile(network, input_shapes=[SHAPE])
    assert [layer.reason for layer in compiled.layers] == [None]
    images = [normal(*SHAPE, seed=seed) for seed in range(4)]
    for runtime, found in zip(Runtime, verify_in(list(Runtime), compiled, [[x] for x in images]), strict=True):
        assert found.passed, (runtime, found.problems)
        assert found.free_error == 0


class Head(nn.Module):
    """A batch of one has lost its axis; binary Linears with a bias or a norm's affine between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv = nn.Conv2d(3, 40, 3)
        self.first, self.second, self.last = nn.Linear(40, 48), nn.Linear(48, 33), nn.Linear(33, 10)
        self.scale = nn.Parameter(torch.randn(48))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).mean((2, 3)).squeeze()
        y = F.linear(torch.sign(y), torch.sign(self.first.weight), self.first.bias) * self.scale
        y = F.linear(compared(y), torch.sign(self.second.weight), self.second.bias)
        return self.last(F.hardtanh(y))


def test_a_head_that_squeezed_the_batch_away_runs_as_bits() -> None:
    compiled = proven(Head(), 1, 3, 8, 8)
    assert [layer.reason for layer in compiled.layers] == [None, None]
    counts = operators_in_file(compiled)
    assert counts["LceBconv2d"] == 2
    assert counts["BATCH_MATMUL"] == 0
    # The second reads the first one's bits.
    assert counts["LceQuantize"] == 1
    assert counts["LceDequantize"] == 0
