"""Affine operators behind what moves a layer's output go into the layer: as a pass and end to end."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from tests.passes.helpers import build, check_pass, normal, operators, signs
from tests.passes.proof import compared, operators_in_file, proven

ROWS, MAP = "float[6, 8] x", "float[2, 8, 3, 4] x"
LINEAR = "s = bnncc.Sign (x)\nm = MatMul (s, w)\n"
CONV = "s = bnncc.Sign (x)\nm = Conv (s, k)\n"
TOKENS, HEADS, FLAT = (f"t = Reshape (m, {shape})\n" for shape in ("tokens", "heads", "flat"))
CASES = {
    "a scale of tokens": (LINEAR, ROWS, f"{TOKENS}a = Mul (t, last)\ny = Sub (last, a)", True),
    "channels first": (LINEAR, ROWS, f"{TOKENS}u = Transpose <perm = [0, 2, 1]> (t)\ny = Add (u, first)", True),
    "heads": (LINEAR, ROWS, f"{HEADS}u = Transpose <perm = [1, 2, 0]> (t)\ny = Mul (u, per_head)", True),
    "a flat map": (CONV, MAP, f"{FLAT}y = Add (t, first)", True),
    "groups of channels": (CONV, MAP, "t = Reshape (m, grouped)\na = Mul (t, pair)\ny = Reshape (a, whole)", True),
    "one number a token": (LINEAR, ROWS, f"{TOKENS}y = Mul (t, per_token)", False),
    "one number a place": (CONV, MAP, f"{FLAT}y = Add (t, place)", False),
    "another reader": (LINEAR, ROWS, f"{TOKENS}a = Mul (t, last)\ny = Add (a, t)", False),
}
CONSTANTS = {
    "w": signs(8, 10),
    "k": signs(10, 8, 1, 1),
    "tokens": np.array([2, 3, 10]),
    "heads": np.array([6, 2, 5]),
    "flat": np.array([2, 10, 12]),
    "grouped": np.array([10, 2, 3, 4]),
    "whole": np.array([2, 10, 3, 4]),
    "last": normal(10),
    "first": normal(10, 1),
    "per_head": normal(2, 1, 1),
    "pair": normal(2, 1, 1),
    "per_token": normal(3, 1),
    "place": normal(12),
}


@pytest.mark.parametrize("name", CASES)
def test_one_number_a_channel_of_the_layer_goes_into_it(name: str) -> None:
    layer, given, behind, folds = CASES[name]
    body = layer + behind
    read = {key: array for key, array in CONSTANTS.items() if re.search(rf"\b{key}\b", body)}
    model = check_pass(build(body, given, **read), RecognizeBinaryConv())
    found = operators(model)
    assert found["bnncc.BinaryConv"] == 1
    assert (found.get("Mul", 0) + found.get("Add", 0) + found.get("Sub", 0) == 0) == folds


class Tokens(nn.Module):
    """Two Linears, with a batch norm of flattened tokens and a scale of features between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Parameter(torch.randn(64, 64)), nn.Parameter(torch.randn(33, 64))
        self.norm, self.scale = nn.BatchNorm1d(64), nn.Parameter(torch.linspace(-1, 2, 64))
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        y = F.linear(compared(x), torch.sign(self.first))
        y = self.norm(y.reshape(n * t, c)).reshape(n, t, c) * self.scale
        return F.linear(compared(y + 0.1), torch.sign(self.second))


def test_nothing_is_left_between_two_linears_of_tokens() -> None:
    found = operators_in_file(proven(Tokens(), 2, 16, 64))
    assert found["LceBconv2d"] == 2
    assert not found["MUL"] + found["ADD"] + found["SUB"]
