"""Weights α·{0, 1} on binary inputs, as a pass and end to end."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.passes.split_step_weights import SplitStepWeights
from tests.passes.helpers import Array, build, check_pass, normal, operators, signs

X = "float[2, 6, 5, 5] x"


def steps(seed: int = 0) -> Array:
    """α_o·{0, 1} with α of both signs; channel 1 is all 0, channel 2 all α."""
    ones = (signs(4, 6, 3, 3, seed=seed) > 0).astype(np.float32)
    ones[1], ones[2] = 0, 1
    return ones * np.array([0.7, 0.2, -0.4, -1.3], np.float32).reshape(4, 1, 1, 1)


def test_weights_of_zero_and_alpha_become_signs_on_the_input_twice() -> None:
    model = build(
        "s = bnncc.Sign (x)\ny = Conv <pads = [1, 1, 1, 1], strides = [2, 1]> (s, w, b)", X, w=steps(), b=normal(4)
    )
    assert operators(check_pass(model, SplitStepWeights()))["Concat"] == 1


@pytest.mark.parametrize(
    ("body", "weight"),
    [
        ("y = Conv (x, w)", steps()),
        ("s = bnncc.Sign (x)\ny = Conv (s, w)", signs(4, 6, 3, 3)),
        ("s = bnncc.Sign (x)\ny = Conv (s, w)", normal(4, 6, 3, 3)),
        ("s = bnncc.Sign (x)\ny = Conv <group = 2> (s, w)", np.ascontiguousarray(steps()[:, :3])),
        ("s = bnncc.Sign (x)\ny = Conv (s, w)", signs(4, 6, 3, 3) * (signs(4, 6, 3, 3, seed=1) > 0).astype(np.float32)),
    ],
    ids=["float input", "signs", "real weights", "groups", "ternary weights"],
)
def test_other_convolutions_stay_as_they_are(body: str, weight: Array) -> None:
    check_pass(build(body, X, w=weight), SplitStepWeights(), modified=False)


class Steps(nn.Module):
    """A convolution of weights α_o·(w > 0), a batch norm and, unpadded, a second binary convolution."""

    def __init__(self, channels: int, unit: bool, padded: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.unit, self.padded = unit, padded
        self.stem = nn.Conv2d(3, channels, 1)
        self.weight = nn.Parameter(torch.randn(33, channels, 3, 3))
        self.scale = nn.Parameter((torch.rand(33, 1, 1, 1) + 0.2) * torch.where(torch.rand(33, 1, 1, 1) < 0.5, -1, 1))
        self.bn = nn.BatchNorm2d(33)
        self.second = nn.Parameter(torch.randn(7, 33, 1, 1))
        with torch.no_grad():
            self.bn.weight.copy_(torch.randn(33))
            self.bn.bias.copy_(torch.randn(33))
            self.bn.running_var.copy_(torch.rand(33) * 30 + 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        bits = (x > 0).float() if self.unit else torch.sign(x)
        y = self.bn(F.conv2d(bits, self.scale * (self.weight > 0).float(), padding=int(self.padded)))
        return y if self.padded else F.conv2d(torch.sign(y), torch.sign(self.second))


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("unit", [True, False], ids=["{0, 1} activations", "±1 activations"])
@pytest.mark.parametrize("channels", [40, 64])
def test_layers_with_such_weights_are_binary_and_exact(channels: int, unit: bool, padded: bool) -> None:
    compiled = bnncc.compile(Steps(channels, unit, padded), input_shapes=["1x3x8x7"])
    assert all(layer.reason is None for layer in compiled.layers)
    assert len(compiled.layers) == (1 if padded else 2)
    found = bnncc.verify(compiled, [[np.random.default_rng(0).standard_normal((1, 3, 8, 7), dtype=np.float32)]])
    assert found.passed, found.problems
