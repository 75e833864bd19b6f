"""A function in PyTorch's old form gives what its `forward` returns, eagerly and in the compiled file."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function

import bnncc
from bnncc.frontend.legacy_functions import legacy_functions
from bnncc.ir.evaluate import random_inputs
from bnncc.verification import verify_in
from tests.needs import RUNTIMES


class SignAndMean(Function):
    """`forward` as a method, two results, state that only `backward` reads."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        self.save_for_backward(value)
        return torch.where(value >= 0, 1.0, -1.0), value.abs().mean(self.axis, keepdim=True)


class Static(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.sign()


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        signs, means = SignAndMean(1)(self.stem(x))
        weight, _ = SignAndMean(1)(self.conv.weight)
        return nn.functional.conv2d(signs, weight, padding=1) * means


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_its_binary_layer_is_bits_and_proven() -> None:
    torch.manual_seed(0)
    model = bnncc.compile(Network(), input_shapes=["1x3x9x9"])
    assert [layer.reason for layer in model.layers] == [None]
    inputs = [random_inputs(model.traced.model, seed) for seed in range(2)]
    for found in verify_in(RUNTIMES[:1], model, inputs):
        assert found.passed, found.problems


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_only_the_old_form_and_only_inside_can_be_called() -> None:
    x = torch.tensor([-2.0, 1.0])
    with legacy_functions():
        signs, mean = SignAndMean(0)(x)
        with pytest.raises(RuntimeError, match="static forward"):
            Static()(x)
    assert signs.tolist() == [-1, 1]
    assert mean.tolist() == [1.5]
    with pytest.raises(RuntimeError, match="static forward"):
        SignAndMean(0)(x)
