"""Numbers that forward reads from its parameters are known to torch.export; those of its input are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.errors import FrozenValueError
from tests.frontend.proven import assert_close, file_outputs

# What is subtracted for so many points: a key that is no number in TorchScript's tracer.
OFFSETS = {24: 0.5, 40: 0.75}


class Scaled(nn.Linear):
    """±1 by ±1, and a scale that the first call of the training computes."""

    def __init__(self, features: int, scale: float) -> None:
        super().__init__(features, features)
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        if self.scale.item() == 0.0:
            self.scale = nn.Parameter(x.std())
        assert self.scale > 0
        return F.linear(torch.where(x >= 0, 1.0, -1.0), torch.sign(self.weight) * self.scale, self.bias)


class Points(nn.Module):
    """Two such layers, which read other numbers at the same line."""

    def __init__(self, *scales: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([Scaled(32, scale) for scale in scales])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x - OFFSETS[x.shape[1]]) * float(layer.scale) ** 2
        return x.amax(1)


def test_branches_on_parameters_are_taken_as_the_checkpoint_has_it() -> None:
    network = Points(0.3, 0.7).eval()
    compiled = bnncc.compile(network, input_shapes=["1x24x32"])
    assert compiled.traced.exporter == "torch.export"
    assert [layer.reason for layer in compiled.layers] == [None, None]
    x = torch.randn(1, 24, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert_close(file_outputs(compiled, [x])["output"], network(x))


def test_a_scale_that_the_first_call_sets_is_state() -> None:
    with pytest.raises(FrozenValueError, match=r"layers\.1\.scale, at test_known_numbers\.py:\d+"):
        bnncc.compile(Points(0.7, 0.0).eval(), input_shapes=["1x24x32"])


class Reading(nn.Module):
    def __init__(self, function: Callable[[nn.Parameter, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.number = function, nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.number, x)


READINGS: dict[str, Callable[[nn.Parameter, Tensor], Tensor]] = {
    "bool": lambda number, x: x + 1 if number > 1 else x - 1,
    "int": lambda number, x: torch.cat([x * turn for turn in range(int(number) + 1)], 1),
    "item in a loop": lambda number, x: sum((x**turn * number.item() for turn in (1, 2)), x),
    "index": lambda number, x: x[:, number.long()],
}


@pytest.mark.parametrize("name", READINGS)
def test_a_number_of_a_parameter_is_a_constant(name: str) -> None:
    network = Reading(READINGS[name]).eval()
    compiled = bnncc.compile(network, input_shapes=["2x5"])
    assert compiled.traced.exporter == "torch.export"
    x = torch.randint(-8, 9, (2, 5), generator=torch.Generator().manual_seed(0)) / 8
    (found,) = file_outputs(compiled, [x]).values()
    with torch.no_grad():
        np.testing.assert_array_equal(found, network(x).numpy())


def test_a_number_of_the_input_beside_it_is_none() -> None:
    function = READINGS["bool"]

    def forward(number: nn.Parameter, x: Tensor) -> Tensor:
        x = function(number, x)
        return x * number.item() if x.mean().item() > 0 else x

    with pytest.raises(FrozenValueError, match=r"x\.mean\(\)\.item\(\) > 0"):
        bnncc.compile(Reading(forward).eval(), input_shapes=["2x5"])
