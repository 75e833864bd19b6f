"""Max-unpools end to end: no flat tensors, and what each element goes by is proven as a choice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.errors import UnsupportedOperatorsError
from bnncc.ir.evaluate import random_inputs
from bnncc.verification import verify
from tests.passes.proof import operators_in_file

SIZES = {"even": (8, 12), "odd": (9, 13)}


class Unpool(nn.Module):
    """A binary layer, whose sums tie often, between a pool and its unpool, and one behind."""

    def __init__(self, kernel: int, *stride: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weights = nn.ParameterList(torch.randn(32, 32, 3, 3) for _ in range(3))
        self.kernel, self.stride = (kernel, kernel), stride

    def layer(self, x: Tensor, index: int) -> Tensor:
        return F.conv2d(torch.where(x >= 0, 1.0, -1.0), torch.sign(self.weights[index]) / 16, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x, 0)
        size = x.shape
        x, index = F.max_pool2d(x, self.kernel, self.stride, return_indices=True)
        x = F.max_unpool2d(self.layer(x, 1) + 0.25, index, self.kernel, self.stride, output_size=size)
        return self.layer(x - 0.1, 2) + x


@pytest.mark.parametrize("stride", [(2, 2), (2, 3)], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_an_unpool_is_a_choice_of_phases(size: str, stride: tuple[int, int]) -> None:
    compiled = bnncc.compile(Unpool(2, *stride).eval(), input_shapes=[(1, 32, *SIZES[size])])
    assert [layer.reason for layer in compiled.layers] == [None] * 3
    operators = operators_in_file(compiled)
    assert operators["ARG_MAX"] == 1
    assert stride != (2, 2) or (operators["DEPTH_TO_SPACE"] == 1 and "TRANSPOSE" not in operators)
    result = verify(compiled, [random_inputs(compiled.traced.model, seed) for seed in range(2)])
    assert result.passed, result.problems
    assert "ArgMax" in [step.operator for step in result.steps]


def test_windows_that_overlap_are_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedOperatorsError, match=r"max-unpool has a form where the windows .* do not overlap"):
        bnncc.compile(Unpool(3, 2, 2).eval(), input_shapes=["1x32x17x17"])
