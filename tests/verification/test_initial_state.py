"""Sums of ±α that are exactly 0, as in networks that are not trained yet: which sign they have is rounding's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.ir.evaluate import random_inputs
from bnncc.ir.modes import SignOfZero
from bnncc.verification import verify
from tests.passes.helpers import normal
from tests.passes.proof import equals_pytorch, operators_in_file


def compared(x: Tensor) -> Tensor:
    """±1, and +1 for 0, as ones and their negatives."""
    ones = torch.ones_like(x)
    return torch.where(x >= 0, ones, -ones)


class BinaryConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return self._conv_forward(compared(x), compared(self.weight) * scale, None)


class BinaryLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(compared(x), compared(self.weight) * self.weight.abs().mean(1, keepdim=True))


class TwoLevels(nn.Conv2d):
    """The sign of the map, and half the sign of what it leaves."""

    def forward(self, x: Tensor) -> Tensor:
        first = torch.sign(x)
        levels = first + 0.5 * torch.sign(x - first)
        return self._conv_forward(levels, compared(self.weight) * self.weight.abs().mean((1, 2, 3), keepdim=True), None)


class Transposed(nn.ConvTranspose2d):
    """A crop stands between it and a sign behind it."""

    def forward(self, x: Tensor) -> Tensor:
        weight = compared(self.weight) * self.weight.abs().mean((0, 2, 3), keepdim=True)
        return F.conv_transpose2d(torch.sign(x), weight, None, self.stride, self.padding)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = (BinaryConv(32, 32, 3, 1, 1), BinaryConv(32, 32, 3, 1, 1), nn.BatchNorm2d(32))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.a(x))
        return self.b(y + self.norm(self.b(y)))


def chain(*between: Callable[[], nn.Module], padding: int = 1) -> nn.Module:
    return nn.Sequential(BinaryConv(32, 40, 3, 1, padding), *(make() for make in between), BinaryConv(40, 33, 3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "floats": chain,
    "thresholds": lambda: chain(padding=0),
    "thresholds and a pool": lambda: chain(lambda: nn.MaxPool2d(2), padding=0),
    "an average": lambda: chain(lambda: nn.AvgPool2d(2)),
    "a norm": lambda: chain(lambda: nn.BatchNorm2d(40), nn.Hardtanh),
    "a PReLU": lambda: chain(lambda: nn.PReLU(40)),
    "residual": Residual,
    "a pixel shuffle": lambda: nn.Sequential(BinaryConv(32, 128, 3), nn.PixelShuffle(2), BinaryConv(32, 33, 3)),
    "a transposed convolution": lambda: nn.Sequential(
        BinaryConv(32, 40, 3), Transposed(40, 32, 4, 2, 1), nn.BatchNorm2d(32), Transposed(32, 33, 4, 2, 1)
    ),
    "two levels": lambda: nn.Sequential(BinaryConv(32, 40, 3, 1, 1), TwoLevels(40, 40, 3), TwoLevels(40, 33, 3)),
    "linears": lambda: nn.Sequential(nn.Flatten(), BinaryLinear(3200, 64), BinaryLinear(64, 10)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_untrained_network_is_proven(name: str) -> None:
    torch.manual_seed(0)
    compiled = bnncc.compile(NETWORKS[name]().eval(), input_shapes=["1x32x10x10"])
    assert all(layer.reason is None for layer in compiled.layers)
    result = verify(compiled, [[normal(1, 32, 10, 10, seed=seed)] for seed in range(3)])
    assert result.passed, result.problems
    assert sum(sign.flipped for sign in result.signs) == sum(sign.explained for sign in result.signs) > 0


class SignLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.sign(x), compared(self.weight))


@pytest.mark.parametrize("reading", SignOfZero)
def test_zeros_behind_a_pool_a_clip_and_a_norm_are_read_as_the_bits_in_front(reading: SignOfZero) -> None:
    torch.manual_seed(0)
    between = nn.BatchNorm2d(40), nn.Hardtanh(), nn.MaxPool2d(2), nn.Flatten(), nn.BatchNorm1d(640), nn.Hardtanh()
    network = nn.Sequential(BinaryConv(32, 40, 3), *between, SignLinear(640, 10)).eval()
    compiled = bnncc.compile(network, input_shapes=["1x32x10x10"], options=bnncc.Options(sign_of_zero=reading))
    result = verify(compiled, [[normal(1, 32, 10, 10, seed=seed)] for seed in range(2)])
    assert result.passed, result.problems
    assert result.zeros > 0


class Attention(nn.Module):
    """The sum over all pixels of scaled torch.signs, of which some are 0, by signs that are all +1; and its sign."""

    def __init__(self) -> None:
        super().__init__()
        self.values, self.scale = nn.Conv2d(32, 32, 1), nn.Parameter(torch.linspace(0.5, 2, 32).view(-1, 1, 1))
        self.binary = BinaryConv(32, 33, 1)

    def forward(self, x: Tensor) -> Tensor:
        values = F.conv2d(compared(x), compared(self.values.weight))
        values = torch.sign((values / self.scale).clamp(-1, 1)) * self.scale
        weights = torch.sign(x.flatten(2).softmax(1)) * 0.5
        return self.binary((values.flatten(2) @ weights.transpose(1, 2))[..., None])


def test_the_zeros_of_scaled_signs_are_no_faults_of_what_reads_them() -> None:
    torch.manual_seed(0)
    options = bnncc.Options(sign_of_zero=SignOfZero.PLUS_ONE)
    compiled = bnncc.compile(Attention().eval(), input_shapes=["1x32x10x10"], options=options)
    result = verify(compiled, [[normal(1, 32, 10, 10)]])
    assert result.passed, result.problems
    assert result.zeros > 100


def test_zeros_that_two_bits_of_a_map_read_are_one_problem() -> None:
    class Levels(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            first = torch.sign(x)
            return self._conv_forward(first + 0.5 * torch.sign(x - first), torch.sign(self.weight), None)

    torch.manual_seed(0)
    network = nn.Sequential(BinaryConv(8, 8, 1), Levels(8, 8, 1))
    network[0].weight.data.sign_()
    compiled = bnncc.compile(network.eval(), input_shapes=["1x8x10x10"])
    result = verify(compiled, [[normal(1, 8, 10, 10)]])
    assert result.zero_problems == len(result.problems) == 1, result.problems


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("integers", [False, True])
def test_a_comparison_behind_a_pad_is_no_torch_sign(strict: bool, integers: bool) -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(32, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.pad(x if integers else F.relu(x - 0.5), (1, 1, 1, 1))
            signs = torch.where(x > 0, 1.0, -1.0) if strict else torch.where(x >= 0, 1.0, -1.0)
            return F.conv2d(signs, torch.sign(self.conv.weight))

    network = Padded().eval()
    compiled = bnncc.compile(network, input_shapes=["1x32x8x9"])
    generator = np.random.default_rng(0)
    x = generator.integers(-2, 3, (1, 32, 8, 9)).astype(np.float32) if integers else normal(1, 32, 8, 9)
    assert equals_pytorch(compiled, network, x)
    result = verify(compiled, [[x]])
    assert result.passed, result.problems


EQUATIONS = {
    "bchw,oc->bohw": ((1, 32, 6, 6), (40, 32)),
    "btd,od->bto": ((1, 6, 32), (40, 32)),
    "btd,dhk->bhtk": ((1, 6, 64), (64, 4, 16)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_layers_of_an_einsum_are_proven(equation: str) -> None:
    shape, weights = EQUATIONS[equation]

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(weights))

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum(equation, compared(x), compared(self.weight))

    compiled = bnncc.compile(Sum(), input_shapes=[shape])
    assert [layer.reason for layer in compiled.layers] == [None]
    result = verify(compiled, [[normal(*shape)]])
    assert result.passed, result.problems
    assert result.layers[0].sums > 0


def test_the_layers_of_a_convolution_of_volumes_are_proven() -> None:
    class Volumes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(32, 36, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv3d(compared(x), compared(self.conv.weight), padding=1).mean((2, 3, 4))

    compiled = bnncc.compile(Volumes(), input_shapes=["1x32x4x5x5"])
    result = verify(compiled, [[normal(1, 32, 4, 5, 5)]])
    assert result.passed, result.problems


class TwoHeads(nn.Module):
    """Two layers that take the sign of one map each for itself; the map is 0 now and then, and their sums are read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weights = nn.ParameterList([torch.randn(out, 128, 1, 1) for out in (64, 8, 12)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, one, other = (torch.sign(weight) for weight in self.weights)
        x = F.conv2d(torch.sign(x), first)
        x = torch.cat([x, x + 2.0], 1)
        return F.conv2d(torch.sign(x), one), F.conv2d(torch.sign(x), other)


def test_zeros_are_plus_one_for_all_signs_of_a_map() -> None:
    compiled = bnncc.compile(TwoHeads().eval(), input_shapes=["1x128x4x4"])
    found = verify(compiled, [random_inputs(compiled.traced.model, seed) for seed in range(2)])
    assert found.zeros > 0
    assert found.problems == []


class OfZeroAndOne(nn.Conv2d):
    """±1 weights on 0 and 1: sums that are 0 where as many ones meet +1 as -1."""

    def __init__(self, padding: int, strict: bool, pool: int = 1) -> None:
        super().__init__(32, 32, 3, 1, padding, bias=False)
        self.strict, self.pool = strict, pool

    def forward(self, x: Tensor) -> Tensor:
        steps = (x > 0 if self.strict else x >= 0).float()
        return self._conv_forward(
            steps if self.pool == 1 else F.max_pool2d(steps, self.pool), compared(self.weight), None
        )


@pytest.mark.parametrize(("padding", "strict"), [(1, False), (0, True)])
def test_sums_of_zeros_and_ones_that_are_0_behind_a_norm_are_compared_as_pytorch_compares_them(
    padding: int, strict: bool
) -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(2) for layer in (OfZeroAndOne(padding, strict), nn.BatchNorm2d(32))]
    network = nn.Sequential(*layers, OfZeroAndOne(0, strict)).eval()
    compiled = bnncc.compile(network, input_shapes=["1x32x9x9"])
    assert equals_pytorch(compiled, network, normal(1, 32, 9, 9))


@pytest.mark.parametrize("strict", [False, True])
def test_zeros_and_ones_are_pooled_as_bits(strict: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(OfZeroAndOne(0, strict), nn.BatchNorm2d(32), OfZeroAndOne(1, strict, 2)).eval()
    compiled = bnncc.compile(network, input_shapes=["1x32x10x10"])
    found = operators_in_file(compiled)
    assert found["LceBMaxPool2d"] == 1
    assert found["MAX_POOL_2D"] == found["MUL"] == 0
    assert equals_pytorch(compiled, network, normal(1, 32, 10, 10))


class PaddedSign(nn.Conv2d):
    """A Pad stands between the sums and torch.sign: a zero that it adds is no sum that happens to be 0."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(torch.sign(F.pad(x, (1, 1, 1, 1))), compared(self.weight), None)


def test_zeros_that_a_pad_adds_in_front_of_a_sign_stay_zeros_where_those_of_sums_are_ones() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(PaddedSign(32, 16, 3), nn.MaxPool2d(2), PaddedSign(16, 8, 3)).eval()
    compiled = bnncc.compile(network, input_shapes=["1x32x10x10"])
    result = verify(compiled, [[normal(1, 32, 10, 10)]])
    assert result.passed, result.problems
    assert result.zeros > 0
