"""`y[mask] = v` keeps its meaning: a choice for each element, whatever the mask selects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.errors import ExportError
from bnncc.verification import verify
from tests.passes.helpers import normal


def number(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[x > 0.5] = 1.0
    return y


def minus_one(x: Tensor) -> Tensor:
    y = torch.ones_like(x)
    y[x < 0] = -1.0
    return y


def both(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[x >= 0] = 1
    y[x < 0] = -1.0
    return y


def multiplied(x: Tensor) -> Tensor:
    y = x.clone()
    y[x < 0] *= -1.0
    y[x > 1] = x[x > 1] + 2
    return y


def negated(x: Tensor) -> Tensor:
    y = torch.ones_like(x)
    y[x < 0] *= -1.0
    return y


def copied(x: Tensor) -> Tensor:
    y, mask = torch.zeros_like(x), x > 0
    y[mask] = x[mask]
    return y


def computed(x: Tensor) -> Tensor:
    y, mask = torch.zeros_like(x), x > 0
    y[mask] = torch.sqrt(x[mask]) * 2
    y[~mask] = x[~mask].abs() + 1
    return y


def by_channel(x: Tensor) -> Tensor:
    y = x.clone()
    y[(x.mean((2, 3), keepdim=True) > 0).expand_as(x)] = 1.0
    return y


class Network(nn.Module):
    """A convolution, an assignment, and a binary convolution where asked for."""

    def __init__(self, assign: Callable[[Tensor], Tensor], binary: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.assign, self.binary = assign, binary
        self.first, self.second = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 8, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.assign(self.first(x))
        return F.conv2d(x, torch.sign(self.second.weight), padding=1) if self.binary else x


@pytest.mark.parametrize(
    "assign", [number, minus_one, both, negated, multiplied, copied, computed, by_channel], ids=lambda one: one.__name__
)
def test_an_assignment_is_a_choice(assign: Callable[[Tensor], Tensor]) -> None:
    binary = assign in (number, minus_one, both, negated)
    network = Network(assign, binary).eval()
    compiled = bnncc.compile(network, input_shapes=["1x3x8x8"])
    assert [layer.reason for layer in compiled.layers] == [None] * binary
    x = normal(1, 3, 8, 8)
    with torch.no_grad():
        expected = compiled.as_stored(network(torch.from_numpy(x)).numpy())
    (found,) = compiled.run([compiled.as_stored(x)])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(found) > 0.5
    assert verify(compiled, [[x]]).passed


def test_rows_that_depend_on_data_are_refused() -> None:
    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.clone()
            y[:, x.mean((0, 2, 3)) > 0] = 1.0
            return y

    with pytest.raises(ExportError, match="a shape depends on the values of the input"):
        bnncc.compile(Rows(), input_shapes=["1x3x8x8"])
