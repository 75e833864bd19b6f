"""Thermometer codes in any rank: as a pass and end to end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.recognize_thermometer import RecognizeThermometer
from bnncc.targets.tflite.reader import TfliteFile
from tests.passes.helpers import build, check_pass, normal, operators
from tests.passes.proof import eighths, equals_pytorch, operators_in_file, proven

LEVELS = torch.arange(-3.0, 4.0) / 2


def pm(condition: Tensor) -> Tensor:
    return condition.float() * 2 - 1


def channels_then_levels(x: Tensor) -> Tensor:
    return pm(x.unsqueeze(2) > LEVELS.view(1, 1, -1, *(1,) * (x.ndim - 2))).flatten(1, 2)


def assigned(x: Tensor) -> Tensor:
    bits = torch.zeros(len(x), 3 * len(LEVELS), *x.shape[2:])
    for index, (channel, level) in enumerate((c, t) for c in range(3) for t in LEVELS.tolist()):
        bits[:, index] = x[:, channel] > level
    return 2 * bits - 1


def assigned_together(x: Tensor) -> Tensor:
    bits = torch.empty(len(x), 3 * len(LEVELS), *x.shape[2:])
    for index, level in enumerate(LEVELS.tolist()):
        bits[:, 3 * index : 3 * index + 3] = torch.where(x > level, 1.0, -1.0)
    return bits


CODES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "channels, then levels": (channels_then_levels, (1, 3, 6, 7)),
    "two images": (channels_then_levels, (2, 3, 6, 7)),
    "gray": (channels_then_levels, (1, 1, 6, 7)),
    "many channels": (channels_then_levels, (1, 10, 6, 7)),
    "a sequence": (channels_then_levels, (1, 3, 11)),
    "levels, then channels": (lambda x: pm(x.unsqueeze(1) >= LEVELS.view(-1, 1, 1, 1)).flatten(1, 2), (1, 3, 6, 7)),
    "flattened before ±1": (
        lambda x: pm((x.unsqueeze(2) > LEVELS.view(1, 1, -1, 1, 1)).flatten(1, 2)),
        (1, 3, 6, 7),
    ),
    "levels last": (lambda x: pm(x.unsqueeze(-1) > LEVELS).permute(0, 1, 4, 2, 3).flatten(1, 2), (1, 3, 6, 7)),
    "channels last": (
        lambda x: torch.where(x.unsqueeze(-1) > LEVELS, 1.0, -1.0).flatten(3).permute(0, 3, 1, 2),
        (1, 6, 7, 3),
    ),
    "joined": (lambda x: torch.cat([torch.where(x >= float(t), 1.0, -1.0) for t in LEVELS], 1), (1, 3, 6, 7)),
    "stacked": (lambda x: torch.stack([pm(x > float(t)) for t in LEVELS], 2).flatten(1, 2), (1, 3, 6, 7)),
    "assigned": (assigned, (1, 3, 6, 7)),
    "assigned together": (assigned_together, (1, 3, 6, 7)),
    "levels of their own": (
        lambda x: pm(
            x.unsqueeze(2) > (LEVELS + torch.arange(3.0)[:, None] / 8).view(1, 3, -1, 1, 1)
        ).flatten(1, 2),
        (1, 3, 6, 7),
    ),
    "0 and 1": (lambda x: (x.unsqueeze(2) > LEVELS.view(1, 1, -1, 1, 1)).float().flatten(1, 2), (1, 3, 6, 7)),
    "falling": (lambda x: pm(x.unsqueeze(2) < LEVELS.view(1, 1, -1, 1, 1)).flatten(1, 2), (1, 3, 6, 7)),
    "whole numbers": (
        lambda x: torch.sign(torch.round(x * 4).unsqueeze(2) - LEVELS.view(1, 1, -1, 1, 1) * 4 + 0.5).flatten(1, 2),
        (1, 3, 6, 7),
    ),
}  # fmt: skip


class Coded(nn.Module):
    """A code, a binary convolution over one or two axes."""

    def __init__(self, code: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.code = code
        channels, rank = code(torch.zeros(shape)).shape[1], len(shape) - 2
        self.weight = nn.Parameter(torch.randn(16, channels, *(3,) * rank))

    def forward(self, x: Tensor) -> Tensor:
        convolve = F.conv2d if self.weight.ndim == 4 else F.conv1d
        return convolve(self.code(x), torch.sign(self.weight), padding=1)


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_one_sign_of_repeated_channels(code: str) -> None:
    function, shape = CODES[code]
    network = Coded(function, shape)
    compiled = proven(network, *shape)
    found = operators_in_file(compiled)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert found["LceBconv2d"] == found["LceQuantize"] == 1
    assert not {"BROADCAST_TO", "GREATER", "LESS", "GREATER_EQUAL", "CAST", "CONCATENATION"} & set(found)
    file = TfliteFile(compiled.content)
    assert equals_pytorch(compiled, network, eighths(*shape))
    assert max(len(tensor.shape) for operator in file.operators for tensor in operator.outputs) <= 4


@pytest.mark.parametrize(
    ("body", "rewritten"),
    [
        ("u = Unsqueeze (x, two)\ng = Greater (u, t)\nc = Cast <to = 1> (g)\ny = Reshape (c, shape)", True),
        ("u = Unsqueeze (x, two)\ng = Add (u, t)\ny = Reshape (g, shape)", False),
        ("u = Unsqueeze (x, two)\ng = Greater (u, v)\nc = Cast <to = 1> (g)\ny = Reshape (c, shape)", False),
        ("u = Unsqueeze (x, two)\ng = Greater (u, t)\ny = Cast <to = 1> (g)", False),
    ],
    ids=["a code", "floats", "thresholds a pixel", "five axes"],
)
def test_steps_of_channels_alone_are_rewritten(body: str, rewritten: bool) -> None:
    t, v = normal(1, 1, 4, 1, 1), normal(1, 1, 4, 5, 7)
    given = {"two": np.array([2]), "t": t, "v": v, "shape": np.array([2, 24, 5, 7])}
    used = {name: array for name, array in given.items() if f", {name})" in body}
    model = check_pass(build(body, "float[2, 6, 5, 7] x", **used), RecognizeThermometer(), modified=rewritten)
    assert operators(model)["bnncc.Sign"] == rewritten


def test_words_that_can_be_joined_are_not_compared_together() -> None:
    body = "a = Greater (x, s)\nb = Greater (x, t)\nc = Concat <axis = 1> (a, b)\ny = Cast <to = 1> (c)"
    check_pass(build(body, "float[1, 64, 5, 7] x", s=0.5, t=-0.25), RecognizeThermometer(), modified=False)


def test_copies_of_a_convolution_that_are_shifted_are_left_to_it() -> None:
    """RepConv's: the convolution itself computes the copies."""
    body = "c = Conv (x, w)\nr = PRelu (c, a)\nt = Concat <axis = 1> (r, r)\ny = Greater (t, b)\nz = Cast <to = 1> (y)"
    shifts = normal(1, 12, 1, 1)
    model = build(body, "float[1, 3, 5, 7] x", "z", w=normal(6, 3, 1, 1), a=normal(6, 1, 1), b=shifts)
    check_pass(model, RecognizeThermometer(), modified=False)
