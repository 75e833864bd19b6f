"""Layers of joined maps of bits whose levels differ: as a pass and end to end."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.split_joined_levels import SplitJoinedLevels
from tests.passes.helpers import build, check_pass, normal, signs
from tests.passes.proof import operators_in_file, proven


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def two_scales(x: Tensor) -> Tensor:
    return torch.cat([0.5 * sign(x), sign(x.roll(1, 1))], 1)


def spikes_behind_signs(x: Tensor) -> Tensor:
    return torch.cat([sign(x), (x.roll(1, 1) > 0).float()], 1)


def three_runs(x: Tensor) -> Tensor:
    """Two neighbours of one scale stay joined."""
    return torch.cat([sign(x), sign(x.roll(1, 1)), 0.25 * sign(x - 0.5) + 0.5, (x > 0.5).float()], 1)


def nested(x: Tensor) -> Tensor:
    inner = torch.cat([sign(x), (x >= 0.5).float()], 1)
    return torch.cat([inner, (x > 0.25).float()], 1)


def one_falls(x: Tensor) -> Tensor:
    return torch.cat([sign(x), -0.5 * sign(x.roll(1, 1))], 1)


def flattened(x: Tensor) -> Tensor:
    return two_scales(x).flatten(1)


def rows(x: Tensor) -> Tensor:
    return spikes_behind_signs(x.flatten(1))


def padded(x: Tensor) -> Tensor:
    return F.pad(spikes_behind_signs(x), (0, 1, 2, 0))


def of_one_map(x: Tensor) -> Tensor:
    """A thermometer code, of fewer channels than a word has."""
    return torch.cat([sign(x), (x > 0.5).float()], 1)


Join = Callable[[Tensor], Tensor]
# (what is joined, the input, the weights, binary layers)
CASES: dict[str, tuple[Join, tuple[int, ...], tuple[int, ...], int]] = {
    "two scales": (two_scales, (1, 32, 5, 6), (24, 64, 3, 3), 2),
    "zeros and ones behind signs": (spikes_behind_signs, (2, 24, 5, 5), (16, 48, 3, 3), 2),
    "three runs": (three_runs, (1, 32, 5, 6), (24, 128, 3, 3), 3),
    "nested": (nested, (1, 32, 5, 6), (24, 96, 1, 1), 3),
    "one falls": (one_falls, (1, 32, 5, 6), (24, 64, 3, 3), 2),
    "flattened": (flattened, (1, 32, 3, 4), (24, 768), 2),
    "rows": (rows, (1, 40, 2, 2), (24, 320), 2),
    "padded": (padded, (1, 32, 5, 6), (24, 64, 3, 3), 2),
    "of one map": (of_one_map, (1, 16, 5, 6), (24, 32, 3, 3), 2),
    "of one map, flattened": (lambda x: of_one_map(x).flatten(1), (1, 16, 5, 6), (24, 960), 2),
    "one axis": (two_scales, (1, 32, 9), (24, 64, 3), 2),
}


class Layer(nn.Module):
    def __init__(self, join: Join, shape: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.join = join
        self.weight, self.bias = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randint(-9, 9, shape[:1]) / 4)

    def forward(self, x: Tensor) -> Tensor:
        x, weight = self.join(x + 0.01), sign(self.weight)
        layer = {2: F.linear, 3: F.conv1d, 4: F.conv2d}[weight.ndim]
        return layer(x, weight, self.bias) if weight.ndim == 2 else layer(x, weight, self.bias, padding=1)


@pytest.mark.parametrize("case", CASES)
def test_each_run_of_levels_is_a_binary_layer_of_its_own(case: str) -> None:
    join, shape, weight, count = CASES[case]
    compiled = proven(Layer(join, weight), *shape)
    assert operators_in_file(compiled)["LceBconv2d"] == count
    assert not {"CONV_2D", "FULLY_CONNECTED", "LceDequantize"} & set(operators_in_file(compiled))


MAPS = "float[1, 4, 5, 5] x, float[1, 4, 5, 5] z"
SIGNS = "s = bnncc.Sign (x)\nt = bnncc.Sign (z)\n"


@pytest.mark.parametrize(
    ("body", "split"),
    [
        ("u = Mul (t, half)\nc = Concat <axis = 1> (s, u)\ny = Conv <pads = [1, 1, 1, 1]> (c, w, b)", True),
        ("u = Neg (t)\nc = Concat <axis = -3> (u, s)\ny = Conv (c, w)", True),
        ("c = Concat <axis = 1> (s, t)\ny = Conv (c, w)", False),
        ("u = Mul (t, half)\nc = Concat <axis = 1> (s, u)\ny = Conv <group = 2> (c, narrow)", False),
        ("u = Mul (z, half)\nc = Concat <axis = 1> (s, u)\ny = Conv (c, w)", False),
        ("u = Mul (t, half)\nc = Concat <axis = 2> (s, u)\ny = Conv (c, narrow)", False),
        ("u = Mul (t, half)\nc = Concat <axis = 1> (s, u)\ny = Conv (c, f)", False),
        ("u = Mul (t, half)\nc = Concat <axis = 1> (s, u)\ny = MatMul (c, rows)", False),
    ],
    ids=["a scale", "a sense", "one scale", "groups", "a part of floats", "another axis", "weights of floats", "rows"],
)
def test_a_join_is_split_where_its_scales_differ(body: str, split: bool) -> None:
    constants = {
        "w": signs(3, 8, 3, 3),
        "f": normal(3, 8, 3, 3),
        "b": normal(3),
        "narrow": signs(4, 4, 3, 3),
        "rows": signs(5, 6),
        "half": np.array(0.5, np.float32),
    }
    used = {name: constant for name, constant in constants.items() if re.search(rf"\b{name}\b", body)}
    check_pass(build(SIGNS + body, MAPS, **used), SplitJoinedLevels(), modified=split)
