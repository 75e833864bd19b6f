"""Bitwise operators are arithmetic that is exact in two's complement, in every width and with every mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnncc
from bnncc.passes.decompose import Decompose
from tests.passes.helpers import build, check_pass, normal, operators
from tests.passes.proof import equals_pytorch

MASKS = [0, 1, 2, 0b0110_1011, 0b0111_1111, -1, -2, -128]
JOINING: dict[str, Callable[[Tensor, Tensor | int], Tensor]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}


class Net(nn.Module):
    """Integers of a type, and a function of two maps of them."""

    def __init__(self, dtype: torch.dtype, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.dtype, self.function = dtype, function

    def forward(self, x: Tensor) -> Tensor:
        low = 0 if self.dtype == torch.uint8 else -120
        a, b = ((factor * x).clamp(low, 120).to(self.dtype) for factor in (50, -90))
        return self.function(a, b).float()


def assert_is_pytorchs(dtype: torch.dtype, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    network = Net(dtype, function)
    compiled = bnncc.compile(network, input_shapes=["1x3x5x4"])
    assert equals_pytorch(compiled, network, normal(1, 3, 5, 4))


@pytest.mark.parametrize("operator", JOINING)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.uint8, torch.int64])
def test_masks(dtype: torch.dtype, operator: str) -> None:
    masks = [mask & 0xFF if dtype == torch.uint8 else mask for mask in MASKS]
    join = JOINING[operator]
    assert_is_pytorchs(dtype, lambda a, b: torch.stack([join(a, mask).float() for mask in masks]))


@pytest.mark.parametrize("operator", JOINING)
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_two_computed_operands_of_eight_bits(dtype: torch.dtype, operator: str) -> None:
    assert_is_pytorchs(dtype, JOINING[operator])


@pytest.mark.parametrize("operator", JOINING)
def test_numbers_that_are_0_or_1_are_joined_as_booleans(operator: str) -> None:
    assert_is_pytorchs(torch.int32, lambda a, b: JOINING[operator]((a > 0).int(), JOINING[operator]((b > 9).int(), 1)))
    op_type = f"Bitwise{operator.title()}"
    body = f"a = Cast <to = 6> (x)\nb = Cast <to = 6> (z)\nc = {op_type} (a, b)\ny = Cast <to = 1> (c)"
    model = check_pass(build(body, "bool[2, 3] x, bool[2, 3] z"), Decompose())
    assert operators(model) == {operator.title(): 1, "Cast": 2}


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.uint8])
def test_inversion(dtype: torch.dtype) -> None:
    assert_is_pytorchs(dtype, lambda a, b: ~a)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_a_shift_of_unsigned_numbers(direction: str) -> None:
    body = f'a = Cast <to = 2> (x)\nb = BitShift <direction = "{direction}"> (a, amounts)\ny = Cast <to = 1> (b)'
    model = build(body, "float[2, 3] x", amounts=np.array([0, 3, 7], np.uint8))
    check_pass(model, Decompose())
    assert "BitShift" not in operators(model)


def test_two_computed_operands_of_thirty_two_bits_are_refused_with_the_reason() -> None:
    with pytest.raises(bnncc.UnsupportedOperatorsError, match="both operands are computed numbers of 32 bits"):
        bnncc.compile(Net(torch.int32, JOINING["and"]), input_shapes=["1x3x5x4"])


def test_the_lowest_bit_is_what_a_division_by_2_leaves() -> None:
    body = "a = Cast <to = 6> (x)\nb = BitwiseAnd (a, one)\ny = Cast <to = 1> (b)"
    model = check_pass(build(body, "float[2, 3] x", one=np.int32(1)), Decompose())
    assert operators(model) == {"Cast": 2, "Mod": 1}
