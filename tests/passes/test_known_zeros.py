"""Maps of ±1 with other numbers in known places, and maps of ±1 that are resized: the layers that read them are binary.

All parameters are integers and powers of two, so that nothing rounds: the file's outputs are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.options import Options
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify
from bnncc.verification.passes import first_difference
from tests.passes.helpers import normal
from tests.passes.proof import equals_pytorch

Between = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A convolution of integers, what `between` makes binary and pads, a binary convolution."""

    def __init__(self, between: Between, *, channels: int, kernel: int, padding: int, stride: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randint(-2, 3, (32, 3, 3, 3), generator=generator).float())
        self.bias = nn.Parameter(torch.full((32,), 0.5))
        self.second = nn.Parameter(torch.randn(20, channels, kernel, kernel, generator=generator))
        self.between, self.padding, self.stride = between, padding, stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(torch.round(x), self.first, self.bias, padding=1)
        return F.conv2d(self.between(x), torch.sign(self.second), padding=self.padding, stride=self.stride)


def ends(x: Tensor, top: int, bottom: int, left: int, right: int, value: float = 0.0) -> Tensor:
    """A map with so many rows and columns around it."""
    return F.pad(x, (left, right, top, bottom), value=value)


def scaled(x: Tensor, scale: float, offset: float) -> Tensor:
    return scale * torch.sign(x) + offset


def shifted(x: Tensor) -> Tensor:
    """±¾ with an offset of its own for each channel."""
    return 0.75 * torch.sign(x) + torch.arange(32).view(1, -1, 1, 1) / 8


def interleaved(x: Tensor) -> Tensor:
    padded = ends(torch.sign(x), 0, 1, 0, 1)
    return torch.cat([padded[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)], 1)


def unshuffled(x: Tensor) -> Tensor:
    return F.pixel_unshuffle(x, 2)


def of_size(height: int, width: int) -> dict[str, tuple[int, int]]:
    return {"size": (height, width)}


# (what stands between, channels behind it, kernel, padding, the operators of the file from the sign on)
KINDS: dict[str, tuple[Between, int, int, int, list[str]]] = {
    "unshuffled": (
        lambda x: unshuffled(ends(torch.sign(x), 0, 1, 0, 1)), 128, 1, 0, ["LceQuantize", "LceBconv2d"]),
    "unshuffled, then the sign": (
        lambda x: torch.sign(unshuffled(ends(x, 0, 1, 0, 1))), 128, 1, 0, ["LceQuantize", "LceBconv2d"]),
    "unshuffled, 3x3": (
        lambda x: unshuffled(ends(torch.sign(x), 0, 1, 0, 1)), 128, 3, 1, ["LceQuantize", "LceBconv2d"]),
    "unshuffled, more rows": (
        lambda x: unshuffled(ends(torch.sign(x), 2, 1, 1, 2)), 128, 1, 0,
        ["LceQuantize", "PAD", "LceBconv2d", "ADD"]),
    "unshuffled, parts of words": (
        lambda x: unshuffled(torch.sign(x[:, :20, :8, :8])), 80, 1, 0, ["LceQuantize", "LceBconv2d"]),
    "rolled": (
        lambda x: torch.roll(ends(torch.sign(x), 1, 0, 1, 0), 1, 3), 32, 3, 1,
        ["LceQuantize", "PAD", "STRIDED_SLICE", "STRIDED_SLICE", "CONCATENATION", "LceBconv2d", "ADD"]),
    "turned": (
        lambda x: torch.flip(torch.sign(ends(x, 0, 1, 0, 1)), (3,)), 32, 3, 1,
        ["LceQuantize", "PAD", "REVERSE_V2", "LceBconv2d", "ADD"]),
    "cropped": (
        lambda x: ends(torch.sign(x), 2, 2, 2, 2)[:, :, 1:, 1::2], 32, 3, 1,
        ["LceQuantize", "PAD", "STRIDED_SLICE", "LceBconv2d", "ADD"]),
    "padded twice": (
        lambda x: ends(ends(torch.sign(x), 1, 1, 1, 1, -1.0), 1, 1, 1, 1), 32, 3, 1,
        ["LceQuantize", "PADV2", "PAD", "LceBconv2d", "ADD"]),
    "padded with 2": (
        lambda x: ends(scaled(x, 0.5, 0.5), 1, 0, 1, 0, 2.0), 32, 3, 1, ["LceQuantize", "PAD", "LceBconv2d", "ADD"]),
    "scaled, then rolled": (
        lambda x: torch.roll(ends(scaled(x, -0.5, 0.25), 1, 0, 1, 0), 1, 2), 32, 3, 1,
        ["LceQuantize", "PAD", "STRIDED_SLICE", "STRIDED_SLICE", "CONCATENATION", "LceBconv2d", "ADD"]),
    "interleaved": (
        interleaved, 128, 1, 0,
        ["LceQuantize", "PAD", "SPACE_TO_DEPTH", "LceBconv2d", "ADD"]),
    "flattened": (
        lambda x: ends(torch.sign(x), 0, 1, 0, 1).flatten(1)[..., None, None], 32 * 100, 1, 0,
        ["LceQuantize", "PAD", "LceBconv2d", "RESHAPE"]),
    "shifted": (shifted, 32, 3, 1, ["LceQuantize", "LceBconv2d", "ADD"]),
    "resized": (
        lambda x: F.interpolate(torch.sign(x), scale_factor=2), 32, 3, 1,
        ["LceQuantize", "GATHER", "GATHER", "LceBconv2d"]),
    "resized, then the sign": (
        lambda x: torch.sign(F.interpolate(x, **of_size(13, 9))), 32, 3, 1, ["LceQuantize", "GATHER", "LceBconv2d"]),
    "resized steps": (
        lambda x: F.interpolate(torch.where(x > 0, 1.0, 0.0), **of_size(5, 20)), 32, 1, 0,
        ["LceQuantize", "GATHER", "GATHER", "LceBconv2d"]),
    "padded, then resized": (
        lambda x: F.interpolate(ends(torch.sign(x), 0, 1, 1, 0), scale_factor=2), 32, 3, 0,
        ["LceQuantize", "PAD", "GATHER", "GATHER", "LceBconv2d", "ADD"]),
}  # fmt: skip


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_known_numbers_among_bits(kind: str, stride: int) -> None:
    between, channels, kernel, padding, expected = KINDS[kind]
    network = Net(between, channels=channels, kernel=kernel, padding=padding, stride=stride).eval()
    compiled = bnncc.compile(network, input_shapes=["1x3x9x9"], options=Options(compare_passes=first_difference))
    assert compiled.layers[-1].reason is None
    names = [operator.name for operator in TfliteFile(compiled.content).operators]
    behind = [name for name in names[names.index("LceQuantize") :] if name != "RESHAPE" or name in expected]
    assert stride == 2 or behind == expected
    for seed in range(2):
        x = 2 * normal(1, 3, 9, 9, seed=seed)
        assert equals_pytorch(compiled, network, x)
        result = verify(compiled, [[x]])
        assert result.passed, result.problems
