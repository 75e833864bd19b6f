"""What `bnncc compile` prints of the weights that stay in float32."""

from __future__ import annotations

import functools
import re
from io import StringIO

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import bnncc
from bnncc.model import CompiledModel
from bnncc.options import Options
from bnncc.report import compilation, print_compilation
from bnncc.targets.tflite.precision import WeightsPrecision


class Net(nn.Module):
    """A float stem of so many channels, a binary convolution, and a Linear to so many classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, bias=False)
        self.binary = nn.Conv2d(channels, channels, 3, bias=False)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.where(self.stem(x) >= 0, 1.0, -1.0)
        x = nn.functional.conv2d(x, torch.where(self.binary.weight >= 0, 1.0, -1.0))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@functools.cache
def compiled(
    channels: int = 32, classes: int = 500, precision: WeightsPrecision = WeightsPrecision.FLOAT32
) -> CompiledModel:
    torch.manual_seed(0)
    network = Net(channels, classes).eval()
    return bnncc.compile(network, input_shapes=["1x3x8x8"], options=Options(weights_precision=precision))


def row(model: CompiledModel) -> str:
    """What is said of float weights; "" where nothing is."""
    text = StringIO()
    print_compilation(Console(file=text, width=200), model)
    found = re.search(r"^float weights +(.*\S)", text.getvalue(), re.MULTILINE)
    return found[1] if found else ""


def test_layers_whose_float_weights_are_most_of_a_file_are_named() -> None:
    model = compiled()
    heavy = 500 * 32 * 4
    stem = 32 * 3 * 9 * 4
    share = round(100 * (heavy + stem) / len(model.content))
    assert row(model) == (
        f"67.5 kB, {share}% of the file: 'head' 64.0 kB, 'stem' 3,456 bytes; "
        "--weights-precision int8 makes them a quarter"
    )
    assert compilation(model)["float_weights"] == {"head": heavy, "stem": stem}


def test_rounded_they_are_a_quarter() -> None:
    """And a scale of each channel."""
    saved = len(compiled().content) - len(compiled(precision=WeightsPrecision.INT8).content)
    assert saved == pytest.approx(0.75 * (500 * 32 + 32 * 27) * 4 - (500 + 32) * 4, rel=0.02)
    assert row(compiled(precision=WeightsPrecision.INT8)).startswith("int8: ")


def test_nothing_is_said_of_few_bytes_and_of_small_shares() -> None:
    few = compiled(classes=10)
    assert sum(compilation(few)["float_weights"].values()) == (10 * 32 + 32 * 27) * 4
    assert not row(few)
    small = compiled(channels=128, classes=10)
    assert sum(compilation(small)["float_weights"].values()) == (10 * 128 + 128 * 27) * 4
    assert not row(small)
