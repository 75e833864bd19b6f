"""All passes, in order, on networks as PyTorch's exporter writes them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc.passes
from bnncc.ir.modes import Padding
from bnncc.ir.step import Step
from bnncc.passes import PIPELINE
from bnncc.passes.balance_rows import balancing
from bnncc.passes.legalize import legalization
from bnncc.verification.passes import first_difference
from tests.networks import BiRealNet18, ReActNet, randomize
from tests.networks.binarize import ClippedSign, ScaledBinaryConv2d
from tests.passes.helpers import assert_same, export, operators


class OddVgg(nn.Module):
    """VGG-small with odd channel counts: pools in front of batch norms, ±α weights in the checkpoint, 5x5 padding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 3, padding=1)
        self.bn = nn.ModuleList(nn.BatchNorm2d(channels) for channels in (7, 13, 5))
        self.conv1 = ScaledBinaryConv2d(7, 13, 3, 1, 1)
        self.conv2 = nn.Conv2d(13, 5, 5, stride=2, padding=2)
        self.pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.fc = nn.Linear(5 * 4 * 5, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = ClippedSign.apply(self.bn[0](self.stem(x)))
        x = ClippedSign.apply(F.hardtanh(self.bn[1](self.pool(self.conv1(x)))))
        return self.fc(self.bn[2](self.conv2(x)).flatten(1))


class Padded(nn.Module):
    """An explicit pad in front of a sign, `x[:, :, ::2, ::2]` with zero channels as shortcut, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ScaledBinaryConv2d(5, 9, 3, 2)
        self.bn = nn.BatchNorm2d(9)
        self.point = ScaledBinaryConv2d(9, 9, 1)
        self.slope = nn.PReLU(9)

    def forward(self, x: Tensor) -> Tensor:
        s = ClippedSign.apply(F.pad(x, (1, 1, 1, 1)))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        y = self.slope(self.bn(self.conv(s)) + shortcut)
        return self.point((torch.sign(y) - torch.tanh(y)) + torch.tanh(y)) * 0.5 + y


def odd_vgg() -> ir.Model:
    network = OddVgg()
    randomize(network)
    with torch.no_grad():
        weight = network.conv2.weight
        weight.copy_(weight.abs().mean((1, 2, 3), keepdim=True) * weight.sign())
    return export(network, 1, 3, 15, 17)


def padded() -> ir.Model:
    return export(randomize(Padded()), 1, 5, 11, 10)


def reactnet() -> ir.Model:
    return export(randomize(ReActNet(blocks=((16, 1), (32, 2)), stem=8, classes=5)), 1, 3, 32, 32)


def odd_reactnet() -> ir.Model:
    return export(randomize(ReActNet(blocks=((10, 1), (20, 2)), stem=5, classes=7)), 1, 3, 27, 24)


def birealnet() -> ir.Model:
    return export(randomize(BiRealNet18(widths=(6, 9, 11, 13), classes=4)), 1, 3, 64, 64)


LARGEST = "Bi-Real Net"
# The network, and how many of its convolutions are binary.
NETWORKS: dict[str, tuple[Callable[[], ir.Model], int]] = {
    "ReActNet": (reactnet, 6),
    "odd ReActNet": (odd_reactnet, 6),
    LARGEST: (birealnet, 16),
    "odd VGG": (odd_vgg, 2),
    "padded": (padded, 2),
}


EACH = [pytest.param(name, marks=pytest.mark.slow) if name == LARGEST else name for name in NETWORKS]


@cache
def exported(name: str) -> ir.Model:
    return NETWORKS[name][0]()


def run_checked(model: ir.Model, step: Step) -> None:
    before = model.clone()
    step.make()(model)
    assert first_difference(before, model) is None, step.name
    assert_same(before, model, tolerance=1e-3, force_jumps=True)


@pytest.mark.parametrize("name", EACH)
def test_every_step_keeps_what_the_network_computes(name: str) -> None:
    model = exported(name).clone()
    traced = model.clone()
    for step in PIPELINE:
        run_checked(model, step)
    binary = sum(count for operator, count in operators(model).items() if operator.startswith("bnncc.BinaryConv"))
    assert binary == NETWORKS[name][1]
    assert not set(operators(model)) & {"BatchNormalization", "Identity", "Dropout", "Less", "Cast", "Sub"}
    for padding in (Padding.MIRRORED, Padding.ONE_PADDED):
        legal = model.clone()
        for step in legalization(legal, padding):
            run_checked(legal, step)
        assert first_difference(traced, legal) is None


@pytest.mark.parametrize("name", EACH)
def test_a_second_run_of_the_pipeline_changes_nothing(name: str) -> None:
    model = exported(name).clone()
    for step in PIPELINE:
        step.make()(model)
    once = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    changed = [step.name for step in PIPELINE if step.make()(model).modified]
    assert not changed
    assert ir.serde.serialize_model(model).SerializeToString(deterministic=True) == once


@pytest.mark.parametrize("name", EACH)
def test_two_runs_from_the_same_model_give_the_same_bytes(name: str) -> None:
    contents = set()
    for _ in range(2):
        model = exported(name).clone()
        for step in PIPELINE:
            step.make()(model)
        for step in legalization(model, Padding.AUTO):
            step.make()(model)
        contents.add(ir.serde.serialize_model(model).SerializeToString(deterministic=True))
    assert len(contents) == 1


def every_step() -> list[Step]:
    empty = ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)
    legalizations = [legalization(empty, padding) for padding in (Padding.MIRRORED, Padding.ONE_PADDED)]
    return [*PIPELINE, *(step for steps in legalizations for step in steps), balancing(1)]


@pytest.mark.parametrize("step", every_step(), ids=lambda step: step.name)
def test_a_pass_has_the_name_of_the_file_and_of_the_class_in_it(step: Step) -> None:
    module = import_module(f"bnncc.passes.{step.name.replace('-', '_')}")
    assert Path(module.__file__ or "").name == f"{step.name.replace('-', '_')}.py"
    made = type(step.make())
    assert inspect.getmodule(made) is module
    assert made.__name__.lower() == step.name.replace("-", "")


def test_the_folder_lists_every_file_that_is_no_step() -> None:
    docstring = bnncc.passes.__doc__ or ""
    steps = {step.name.replace("-", "_") for step in every_step()}
    files = {path.stem for path in Path(bnncc.passes.__file__ or "").parent.glob("*.py")} - {"__init__"}
    assert steps <= files
    listed = re.findall(r"`(\w+)\.py`", docstring)
    assert len(set(listed)) == len(listed)
    assert files - steps <= set(listed) <= files
