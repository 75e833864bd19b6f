"""Infinities, NaN and numbers beyond all values are no pieces of a piecewise-linear function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnncc
from bnncc.verification import verify
from tests.passes.helpers import Array, normal

INFINITE = float("inf")
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax of a mask": lambda x: torch.softmax(x.masked_fill(x < 0, -INFINITE), 1),
    "a mask of -inf": lambda x: x.masked_fill(x < 0, -INFINITE),
    "a mask of another": lambda x: x.masked_fill(x.roll(1, 1) < 0, -INFINITE),
    "the smallest float": lambda x: x.masked_fill(x < 0, torch.finfo(torch.float32).min),
    "-10⁴": lambda x: x.masked_fill(x < 0, -1e4),
    "nan_to_num": lambda x: torch.nan_to_num(2 * x),
    "isnan": lambda x: torch.where(torch.isnan(x.sqrt()), torch.zeros_like(x), x.sqrt()),
    "isnan of a quotient": lambda x: torch.where(torch.isnan(x / x.abs()), torch.ones_like(x), x / x.abs()),
    "isinf": lambda x: torch.where(torch.isinf(x.masked_fill(x > 1, INFINITE)), torch.full_like(x, -1.0), x),
    "a logarithm of zeros": lambda x: torch.log(torch.relu(x)).clamp(min=-10),
    "a logarithm where it is one": lambda x: torch.where(x > 0, x.log(), torch.zeros_like(x)),
}


class Function(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.name](x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_file_yields_what_pytorch_does(name: str) -> None:
    compiled = bnncc.compile(Function(name), input_shapes=["1x6x3x5"])
    integers: Array = np.random.default_rng(0).integers(-3, 4, (1, 6, 3, 5)).astype(np.float32)
    for x in (normal(1, 6, 3, 5), integers):
        expected = compiled.as_stored(Function(name)(torch.from_numpy(x)).numpy())
        (found,) = compiled.run([compiled.as_stored(x)])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        result = verify(compiled, [[x]])
        assert result.passed, result.problems


GUARDED: dict[str, Callable[[Tensor], Tensor]] = {
    "nan_to_num": torch.nan_to_num,
    "isnan": lambda s: torch.where(torch.isnan(s), torch.zeros_like(s), s),
    "isinf": lambda s: torch.where(torch.isinf(-s.flip(1)), torch.full_like(s, 2.0), s),
    "isfinite": lambda s: torch.where(torch.isfinite(s), s, torch.zeros_like(s)),
}


@pytest.mark.parametrize("name", GUARDED)
def test_signs_need_no_guard_against_what_is_no_number(name: str) -> None:
    class Guarded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 4, 3, bias=False)
            self.conv.weight.data = torch.where(torch.from_numpy(normal(4, 8, 3, 3)) < 0, -1.0, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(GUARDED[name](torch.where(x >= 0, 1.0, -1.0)))
            return y

    network = Guarded()
    compiled = bnncc.compile(network, input_shapes=["1x8x5x6"])
    assert [layer.reason for layer in compiled.layers] == [None]
    x = normal(1, 8, 5, 6)
    (found,) = compiled.run([compiled.as_stored(x)])
    np.testing.assert_array_equal(found, compiled.as_stored(network(torch.from_numpy(x)).detach().numpy()))
