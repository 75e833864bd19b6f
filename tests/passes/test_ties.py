"""Comparisons at their threshold, by more than chance, in channels that fall: where `x >= t` holds, `-(-x >= -t)` does
not.

All parameters are integers and powers of two, so that nothing rounds: the file's outputs are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify
from tests.passes.helpers import Array, normal
from tests.passes.proof import compared, equals_pytorch
from tests.verification.test_verification import with_constant


class Net(nn.Module):
    """A convolution, a chain that ends in a batch norm of either sign, a comparison, a binary convolution."""

    def __init__(self, chain: str, padding: int, binary: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.chain, self.padding, self.binary = chain, padding, binary
        self.first = nn.Parameter(torch.randint(-2, 3, (6, 3, 3, 3), generator=generator).float())
        self.second = nn.Parameter(torch.randn(4, 6, 3, 3, generator=generator))
        self.norm = nn.BatchNorm2d(6, eps=0)
        self.norm.weight.data = torch.tensor([1.0, -1, 2, -2, -0.5, 0.5])
        self.norm.bias.data = torch.tensor([0.0, 0, 0, 4, -4, 2])
        self.norm.running_mean = torch.tensor([0.0, 0, 2, 2, 4, 0])

    def compared(self, x: Tensor) -> Tensor:
        return compared(x)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(compared(x), compared(self.first)) if self.binary else F.conv2d(torch.round(x), self.first)
        if self.chain == "pool":
            x = self.norm(F.max_pool2d(x, 2))
        elif self.chain == "pool, relu":
            x = torch.relu(self.norm(F.max_pool2d(x, 2)))
        elif self.chain == "pool, -relu6":
            x = -F.relu6(self.norm(F.max_pool2d(x, 2)))
        elif self.chain == "relu, average":
            x = self.norm(F.avg_pool2d(torch.relu(x), 2))
        elif self.chain == "relu, resize":
            x = self.norm(F.interpolate(torch.relu(x), scale_factor=2))
        elif self.chain == "round":
            x = self.norm(torch.round(x / 4))
        elif self.chain == "relu and a shortcut":
            x = self.norm(torch.relu(x))
            return F.conv2d(self.compared(x), compared(self.second), padding=self.padding) + x.sum()
        else:
            x = self.norm(x)
        return F.conv2d(self.compared(x), compared(self.second), padding=self.padding)


class Strict(Net):
    """-1 where the operand is the threshold."""

    def compared(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, -1.0)


CHAINS = ("", "pool", "pool, relu", "pool, -relu6", "relu, average", "relu, resize", "round", "relu and a shortcut")


@pytest.mark.parametrize("binary", [False, True], ids=["integers", "binary sums"])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_comparison_at_its_threshold_is_pytorchs(chain: str, padding: int, binary: bool) -> None:
    network = Net(chain, padding, binary).eval()
    compiled = bnncc.compile(network, input_shapes=["1x3x12x12"])
    assert compiled.layers[-1].reason is None
    for seed in range(2):
        x = 2 * normal(1, 3, 12, 12, seed=seed)
        assert equals_pytorch(compiled, network, x)
        assert verify(compiled, [[x]]).passed


class Sums(nn.Module):
    """A norm of either sign behind the sum of an input of integers and a binary convolution of it, and a comparison."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.padding = padding
        self.first = nn.Parameter(torch.randn(32, 32, 3, 3, generator=generator))
        self.second = nn.Parameter(torch.randn(8, 32, 1, 1, generator=generator))
        self.norm = nn.BatchNorm2d(32, eps=0)
        self.norm.weight.data = torch.tensor([1.0, -1, 2, -0.5]).repeat(8)
        self.norm.bias.data = torch.tensor([0.0, 0, 4, -2, 0, 6, -1, 0.5]).repeat(4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(compared(x), compared(self.first), padding=self.padding)
        x = self.norm((x if self.padding else x[:, :, 1:-1, 1:-1]) + y)
        return F.conv2d(compared(x), compared(self.second))


@pytest.mark.parametrize("padding", [0, 1])
def test_data_of_integers_meet_the_threshold_of_a_sum(padding: int) -> None:
    """The graph does not know that the input holds integers; the file is right all the same."""
    network = Sums(padding).eval()
    compiled = bnncc.compile(network, input_shapes=["1x32x8x8"])
    x: Array = np.random.default_rng(0).integers(-4, 5, (1, 32, 8, 8)).astype(np.float32)
    assert equals_pytorch(compiled, network, x)


def to_the_threshold(shift: Array) -> None:
    """From beyond it, which is ½ away."""
    shift[shift != np.rint(shift)] += 0.5


def test_a_file_that_compares_otherwise_is_found_out() -> None:
    compiled = bnncc.compile(Net("relu and a shortcut", 0, False).eval(), input_shapes=["1x3x12x12"])
    wrong = with_constant(compiled, "Where/shifted", "ADD", 1, to_the_threshold)
    problems = verify(wrong, [[2 * normal(1, 3, 12, 12)]]).problems
    assert any("lie exactly on the threshold, and the file takes them for the other side" in one for one in problems)


@pytest.mark.parametrize("chain", CHAINS)
def test_a_strict_comparison_at_its_threshold_is_pytorchs(chain: str) -> None:
    network = Strict(chain, 1, False).eval()
    compiled = bnncc.compile(network, input_shapes=["1x3x12x12"])
    x = 2 * normal(1, 3, 12, 12)
    assert equals_pytorch(compiled, network, x)
    assert verify(compiled, [[x]]).passed


class PooledSigns(nn.Module):
    """A convolution without a bias, a batch norm as it is made, signs that are -1 at 0, a pool of them, twice."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.first = nn.Conv2d(3, 8, 3, bias=False)
        self.second, self.third = (nn.Parameter(torch.randn(8, 8, 3, 3)) for _ in range(2))
        self.norm = nn.BatchNorm2d(8, eps=0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.where(self.norm(self.first(x)) > 0, 1.0, -1.0), 2)
        x = self.norm(F.conv2d(x, compared(self.second), padding=self.padding))
        return F.conv2d(F.max_pool2d(torch.where(x > 0, 1.0, -1.0), 2), compared(self.third), padding=1)


@pytest.mark.parametrize("padding", [0, 1])
def test_signs_that_are_minus_one_at_0_are_pooled_as_bits_alone(padding: int) -> None:
    torch.manual_seed(0)
    network = PooledSigns(padding).eval()
    compiled = bnncc.compile(network, input_shapes=["1x3x18x18"])
    assert not {"MUL", "MAX_POOL_2D", "LceDequantize"} & {one.name for one in TfliteFile(compiled.content).operators}
    x = normal(1, 3, 18, 18)
    x[..., 9:] = 0
    assert equals_pytorch(compiled, network, x)
    assert verify(compiled, [[x]]).passed


# An element that is compared with itself, in some place: the largest, the middle one, the diagonal.
MEETINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "at least the fifth": lambda x: (x >= x.topk(5, 1)[0][:, 4:5]).float(),
    "not below the largest": lambda x: torch.where(x < x.amax((2, 3), keepdim=True), -1.0, 1.0),
    "at most the third": lambda x: (x <= x.sort(1)[0][:, 2:3]).float(),
    "as large as its neighbours": lambda x: (x >= F.max_pool2d(x, 3, 1, 1)).float(),
    "above its mirror image": lambda x: torch.where(x > x.transpose(2, 3), 1.0, -1.0),
    "sign of what lacks to the largest": lambda x: torch.sign(x - x.amax(1, keepdim=True)),
    "sign beside the mirror image": lambda x: torch.sign(x - x.flip(1)),
}


class Meeting(nn.Module):
    """Floats of a convolution, of which no two are equal by chance; a comparison among them; a binary convolution."""

    def __init__(self, meeting: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.meeting = meeting
        self.first = nn.Conv2d(3, 9, 3)
        self.second = nn.Parameter(torch.randn(4, 9, 3, 3, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(MEETINGS[self.meeting](self.first(x)), compared(self.second), padding=1)


@pytest.mark.parametrize("meeting", MEETINGS)
def test_an_element_that_meets_itself_is_compared_as_pytorch_does(meeting: str) -> None:
    network = Meeting(meeting).eval()
    compiled = bnncc.compile(network, input_shapes=["1x3x9x9"])
    x = normal(1, 3, 9, 9)
    assert equals_pytorch(compiled, network, x)
    assert verify(compiled, [[x]]).passed


def test_a_file_in_which_such_elements_fall_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnncc.passes.strict_threshold._meets_zero", lambda _: False)
    compiled = bnncc.compile(Meeting("above its mirror image").eval(), input_shapes=["1x3x9x9"])
    problems = verify(compiled, [[normal(1, 3, 9, 9)]]).problems
    assert any("lie exactly on the threshold, and the file takes them for the other side" in one for one in problems)
