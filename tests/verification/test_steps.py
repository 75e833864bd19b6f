"""Roundings and comparisons are points: the file starts anew from the reference's values behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.model import CompiledModel
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import pack, unpack
from bnncc.verification import Verification, verify

CHANNELS = 32


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def quantize(x: Tensor, steps: int) -> Tensor:
    """To `steps` + 1 levels in [-1, 1]."""
    return torch.round((x.clamp(-1, 1) + 1) / (2 / steps)) * (2 / steps) - 1


def requantize(x: Tensor, step: Tensor, zero: Tensor) -> Tensor:
    """To eight levels of `step` around `zero`."""
    return torch.round((x - zero) / step).clamp(-4, 3) * step + zero


STEPS = torch.rand(1, CHANNELS, 1, 1, generator=torch.Generator().manual_seed(0)) + 0.3
ZEROS = torch.rand(1, CHANNELS, 1, 1, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A stem, a function, a binary convolution of its sign with the function as a shortcut, a Linear."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.function = function
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3)
        self.fc = nn.Linear(CHANNELS, 10)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        t = self.function(self.stem(x))
        y = F.conv2d(sign(t + 0.013), sign(self.conv.weight), padding=1)
        return self.fc((y * 0.05 + t).mean((2, 3)))


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    # Means of four levels are exact ties in a quarter of all cases.
    "4 bits, averaged, 4 bits": (lambda x: quantize(F.avg_pool2d(quantize(x, 15), 2), 15), "Round"),
    "8 levels by a multiplication": (lambda x: torch.round(F.avg_pool2d(quantize(x, 7), 2) * 3.5) / 3.5, "Round"),
    "floor of a quantised mean": (lambda x: torch.floor(F.avg_pool2d(quantize(x, 15), 2) * 7.5) / 7.5, "Floor"),
    "ceil of a shifted sum": (lambda x: torch.ceil((quantize(x, 5) + quantize(-x, 15)) * 7.5 - 3) / 7.5, "Ceil"),
    "learnt steps and zero points, a channel": (
        lambda x: requantize(F.avg_pool2d(requantize(x, STEPS, ZEROS), 2), STEPS, ZEROS),
        "Round",
    ),
    "a mask of what exceeds a mean": (
        lambda x: quantize(x, 15) * (quantize(x, 15) > F.avg_pool2d(quantize(x, 15), 3, 1, 1)).float(),
        "Greater",
    ),
}


def compiled(name: str) -> CompiledModel:
    return bnncc.compile(Net(FUNCTIONS[name][0]), input_shapes=["1x3x16x16"])


def inputs(count: int = 3) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(0)
    return [[generator.standard_normal((1, 3, 16, 16), dtype=np.float32)] for _ in range(count)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_at_ties_are_counted_and_explain_what_differs(name: str) -> None:
    found: Verification = verify(compiled(name), inputs())
    assert found.problems == []
    last = [step for step in found.steps if step.operator == FUNCTIONS[name][1]][-1]
    assert last.ties > 0
    assert last.differing == last.explained
    assert sum(sign.flipped - sign.explained for sign in found.signs) == 0
    assert found.output_error < 1e-5  # behind the steps, the file starts from the reference's values


@pytest.mark.parametrize("name", FUNCTIONS)
def test_free_running_the_file_is_the_network_to_within_float_noise(name: str) -> None:
    """Ties fall as they do in PyTorch: the file computes what a rounding reads in the network's own order."""
    assert verify(compiled(name), inputs()).free_error < 1e-5


def scaled(model: CompiledModel, name: str, factor: float) -> CompiledModel:
    """The file with the one constant of the multiplication or division in front of a step changed."""
    file, content = TfliteFile(model.content), unpack(model.content)
    producers = {tensor: operator for operator in file.operators for tensor in operator.outputs}
    (step,) = [operator for operator in file.operators if operator.name == name][-1:]
    operator = producers[step.inputs[0]]  # type: ignore[index]
    while not any(tensor is not None and file.data(tensor) is not None for tensor in operator.inputs[1:2]):
        operator = producers[operator.inputs[0]]  # type: ignore[index]
    constant = operator.inputs[1]
    assert constant is not None
    data = file.data(constant)
    assert data is not None
    buffer = content.buffers[content.subgraphs[0].tensors[constant.index].buffer]
    buffer.data = (data * np.float32(factor)).astype(np.float32).reshape(-1).view(np.uint8)
    return dataclasses.replace(model, content=pack(content))


@pytest.mark.parametrize(
    "name", ["4 bits, averaged, 4 bits", "8 levels by a multiplication", "floor of a quantised mean"]
)
def test_a_wrong_scale_in_front_of_a_rounding_is_found_and_the_first_point_is_named(name: str) -> None:
    operator = FUNCTIONS[name][1]
    problems = verify(scaled(compiled(name), operator.upper(), 1.3), inputs()).problems
    assert any(problem.startswith(operator) and "not by rounding" in problem for problem in problems)
