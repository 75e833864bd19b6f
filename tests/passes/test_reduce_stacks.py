"""Reductions over the axis of a stack: as a pass and end to end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.reduce_stacks import ReduceStacks
from tests.passes.helpers import build, check_pass, operators
from tests.passes.proof import operators_in_file, proven

INPUTS = "float[2, 3, 4, 5] x, float[2, 3, 4, 5] z"
STACK = "a = Unsqueeze (x, axis)\nb = Unsqueeze (z, axis)\ns = Concat <axis = {axis}> (a, b, a)\n"


def stacked(body: str, axis: int = 0, **constants: np.typing.ArrayLike) -> ir.Model:
    arrays = {name: np.asarray(array) for name, array in constants.items()}
    return build(STACK.format(axis=axis) + body, INPUTS, axis=np.array([axis]), **arrays)


@pytest.mark.parametrize("axis", [0, 1, 4, -2])
@pytest.mark.parametrize(
    ("reduction", "found"),
    [
        ("ReduceSum", {"Add": 2}),
        ("ReduceMean", {"Add": 2, "Div": 1}),
        ("ReduceMax", {"Max": 2}),
        ("ReduceMin", {"Min": 2}),
        ("ReduceProd", {"Mul": 2}),
    ],
)
def test_the_maps_themselves_are_reduced(axis: int, reduction: str, found: dict[str, int]) -> None:
    after = check_pass(stacked(f"y = {reduction} <keepdims = 0> (s, axis)", axis), ReduceStacks())
    assert operators(after) == found


def test_the_axis_may_be_kept() -> None:
    after = check_pass(stacked("y = ReduceSum (s, axis)", 2), ReduceStacks())
    assert operators(after) == {"Add": 2, "Reshape": 1}


@pytest.mark.parametrize(
    "model",
    [
        stacked("y = ReduceSum <keepdims = 0> (s, other)", other=[1]),
        stacked("y = ReduceSum <keepdims = 0> (s, both)", both=[0, 1]),
        stacked("m = Relu (s)\ny = ReduceSum <keepdims = 0> (m, axis)"),
        build("c = Concat <axis = 0> (x, z)\ny = ReduceSum <keepdims = 0> (c, axis)", INPUTS, axis=np.array([0])),
    ],
    ids=["another axis", "two axes", "not the stack itself", "joined, not stacked"],
)
def test_other_reductions_are_left(model: ir.Model) -> None:
    check_pass(model, ReduceStacks(), modified=False)


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


class Layer(nn.Module):
    def __init__(self, reduce: Callable[[list[Tensor]], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reduce = reduce
        self.weight = nn.Parameter(torch.randn(16, 32, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.reduce([sign(x), sign(x.roll(1, 1)), sign(x - 0.5)]), sign(self.weight), padding=1)


@pytest.mark.parametrize(
    "reduce",
    [
        lambda maps: torch.stack(maps).mean(0),
        lambda maps: torch.stack(maps, -1).sum(-1),
    ],
    ids=["mean", "last axis"],
)
def test_a_sum_of_stacked_bits_is_a_binary_layer_for_each(reduce: Callable[[list[Tensor]], Tensor]) -> None:
    found = operators_in_file(proven(Layer(reduce), 1, 32, 5, 6))
    assert found["LceBconv2d"] == 3
    assert not {"CONV_2D", "SUM", "MEAN", "LceDequantize"} & set(found)
