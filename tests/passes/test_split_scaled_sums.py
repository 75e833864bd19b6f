"""Layers of sums of signs with computed scales: as a pass and end to end."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.split_scaled_sums import SplitScaledSums
from tests.passes.helpers import build, check_pass, normal, signs
from tests.passes.proof import operators_in_file, proven


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def scaled(x: Tensor) -> Tensor:
    """The signs, of the size of the image."""
    return sign(x) * x.abs().mean(tuple(range(1, x.ndim)), keepdim=True)


def two_terms(x: Tensor) -> Tensor:
    first = scaled(x)
    return scaled(x - first) + first


def a_difference(x: Tensor) -> Tensor:
    return scaled(x) - sign(x.flip(1)) * 0.5 - scaled(x - 0.25)


def two_maps(x: Tensor) -> Tensor:
    return sign(x) + sign(x.roll(1, 1))


def mean_of_two(x: Tensor) -> Tensor:
    return 3 * ((sign(x) + sign(x.roll(1, 1))) / 2 - 0.5)


def spikes(x: Tensor) -> Tensor:
    """0, 1 and 2: what a shortcut of a spiking network adds."""
    return (x >= 0.25).float() + (x.roll(1, 1) > 0.5).float()


def shifted(x: Tensor) -> Tensor:
    """A learnt shift behind two scales of rows."""
    rows = sign(x - 0.5) * x.abs().mean(-1, keepdim=True)
    return sign(x) + rows - torch.linspace(-1, 1, x.shape[-1])


Sum = Callable[[Tensor], Tensor]
CASES: dict[str, tuple[Sum, tuple[int, ...], tuple[int, ...], int]] = {
    "padded convolution": (two_terms, (1, 32, 6, 8), (24, 32, 3, 3), 2),
    "three terms, two subtracted": (a_difference, (2, 33, 6, 8), (24, 33, 3, 3), 3),
    "flattened rows": (two_terms, (1, 64, 4, 4), (512, 1024), 2),
    "a constant for each feature": (shifted, (1, 9, 128), (256, 128), 2),
    "a scale behind the sum": (mean_of_two, (1, 32, 6, 8), (24, 32, 3, 3), 2),
    "no computed scales": (two_maps, (1, 32, 6, 8), (24, 32, 3, 3), 2),
    "zeros and ones": (spikes, (1, 32, 6, 8), (24, 32, 3, 3), 2),
}


class Layer(nn.Module):
    def __init__(self, of: Sum, shape: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.of = of
        self.weight, self.bias = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randint(-9, 9, shape[:1]) / 4)

    def forward(self, x: Tensor) -> Tensor:
        x, weight = self.of(x), sign(self.weight)
        if weight.ndim == 2:
            return F.linear(x if x.ndim == 3 else x.flatten(1), weight, self.bias)
        return F.conv2d(x, weight, self.bias, padding=1)


@pytest.mark.parametrize("name", CASES)
def test_each_term_is_bits(name: str) -> None:
    of, shape, weight, terms = CASES[name]
    compiled = proven(Layer(of, weight), *shape)
    found = operators_in_file(compiled)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert found["LceBconv2d"] == terms
    assert found["CONV_2D"] == found["FULLY_CONNECTED"] == 0


def test_a_layer_that_is_faster_as_floats_says_so() -> None:
    compiled = proven(Layer(two_terms, (8, 72)), 1, 8, 3, 3)
    assert [layer.reason for layer in compiled.layers] == [
        "its input is a sum of 2 scaled signs, and as small as it is, it is faster as floats"
    ]


SIGNS = "s = bnncc.Sign (x)\nt = bnncc.Sign (z)\n"
MAPS = "float[2, 6, 5, 7] x, float[2, 6, 5, 7] z, float[2, 1, 1, 1] r"


@pytest.mark.parametrize(
    ("body", "split"),
    [
        ("a = Mul (s, r)\nb = Sub (t, a)\ny = Conv (b, w)", True),
        ("a = Mul (s, r)\nb = Add (t, a)\nc = Sub (b, k)\ny = Conv <pads = [1, 1, 1, 1]> (c, w)", True),
        ("a = Mul (s, r)\nb = Sub (k, a)\nc = Pad (b, p)\ny = Conv <strides = [2, 2]> (c, w, bias)", True),
        ("a = Sub (s, t)\nb = Mul (two, a)\nc = Div (b, half)\nd = Sub (c, s)\ny = Conv (d, w)", True),
        ("a = Sub (s, t)\nb = Mul (a, v)\ny = Conv (b, w)", False),
        ("a = Mul (s, v)\nb = Sub (a, t)\ny = Conv (b, w)", False),
        ("a = Add (s, t)\nb = Div (two, a)\ny = Conv (b, w)", False),
        ("b = Sub (s, k)\ny = Conv <pads = [1, 1, 1, 1]> (b, w)", False),
        ("a = Mul (s, r)\nb = Add (t, a)\nc = Relu (b)\ny = Conv (c, w)", False),
        ("a = Mul (s, r)\nb = Add (z, a)\ny = Conv (b, w)", False),
        ("a = Mul (s, r)\nb = Add (t, a)\ny = Conv (b, f)", False),
    ],
    ids=[
        "signs",
        "a constant",
        "one sign and a constant",
        "scales of a sum",
        "a scale of each channel",
        "a term with a scale of each channel",
        "a number over a sum",
        "a shift of bits",
        "behind a ReLU",
        "a term of floats",
        "weights of floats",
    ],
)
def test_a_sum_is_split_where_all_of_it_is_bits(body: str, split: bool) -> None:
    constants = {
        "w": signs(4, 6, 3, 3),
        "f": normal(4, 6, 3, 3),
        "k": normal(6, 1, 1),
        "v": normal(6, 1, 1) + 3,
        "two": np.array(2, np.float32),
        "half": np.array(0.5, np.float32),
        "p": np.array([0, 0, 1, 0, 0, 0, 0, 2]),
        "bias": normal(4),
    }
    read = {name: array for name, array in constants.items() if re.search(rf"\b{name}\b", body)}
    model = build(SIGNS + body, MAPS, **read)
    check_pass(model, SplitScaledSums(), modified=split)
