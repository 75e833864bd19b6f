"""OR, AND, XNOR and selection of ±1 maps and booleans, also written as arithmetic: as a pass and end to end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.recognize_logic import RecognizeLogic
from tests.passes.helpers import build, check_pass, normal, operators, signs
from tests.passes.proof import operators_in_file, proven

X = "float[1, 6, 5, 7] x, float[1, 6, 5, 7] z"
MAPS = "a = bnncc.Sign (x)\nb = bnncc.Sign (z)\n"


@pytest.mark.parametrize(
    ("body", "signs_more"),
    [
        ("m = Mul (a, b)\ny = Conv <pads = [1, 1, 1, 1]> (m, w)", 1),
        ("m = Max (a, b)\ny = Conv (m, w)", 1),
        ("c = Less (x, z)\nd = Equal (x, z)\ne = Or (c, d)\nm = Cast <to = 1> (e)\ny = Conv (m, w)", 1),
        ("c = Less (x, z)\nd = Equal (x, z)\ne = Or (c, d)\nm = Cast <to = 1> (e)\ny = Conv (m, f)", 0),
        ("m = Mul (a, b)\nc = Concat <axis = 1> (m, a)\ny = Conv (c, v)", 1),
        ("m = Mul (a, b)\nn = Max (a, b)\nc = Concat <axis = 1> (m, n)\ny = Conv (c, v)", 1),
        ("m = Mul (a, b)\nc = Concat <axis = 1> (m, x)\ny = Conv (c, v)", 0),
        ("m = Add (a, b)\ny = Conv (m, w)", 0),
        ("m = Mul (a, x)\ny = Conv (m, w)", 0),
        ("m = Mul (a, b)\ny = Relu (m)", 0),
    ],
    ids=[
        "XNOR",
        "OR",
        "booleans",
        "booleans for float weights",
        "joined with signs",
        "joined with logic",
        "joined with floats",
        "three values",
        "a float",
        "no layer",
    ],
)
def test_two_values_become_a_sign_where_a_layer_reads_them(body: str, signs_more: int) -> None:
    weights = {"w": signs(4, 6, 3, 3), "v": signs(4, 12, 3, 3), "f": normal(4, 6, 3, 3)}
    constants = {name: array for name, array in weights.items() if f"{name})" in body}
    model = check_pass(build(MAPS + body, X, **constants), RecognizeLogic(), modified=bool(signs_more))
    assert operators(model)["bnncc.Sign"] <= 2 + signs_more
    assert sum(node.op_type == "Sign" for node in model.graph) == 2 + signs_more


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


LOGIC: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "OR then XNOR": lambda a, b, c: torch.clamp(a + b + 1, -1, 1) * c,
    "AND as {0, 1}": lambda a, b, c: (1 + a) * (1 + b) / 4,
    "selection": lambda a, b, c: a * (1 + c) / 2 + b * (1 - c) / 2,
    "equality": lambda a, b, c: torch.abs(a + b) - 1,
}


class Logic(nn.Module):
    """Three sign maps of a stem, a function of them, a binary convolution and a batch norm."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor], channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.stem, self.norm = function, nn.Conv2d(3, channels, 3), nn.BatchNorm2d(9)
        self.weight = nn.Parameter(torch.randn(9, channels, 3, 3))
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        mixed = self.function(sign(x), sign(x.roll(1, 1) - 0.1), sign(0.2 - x.roll(2, 1)))
        return self.norm(F.conv2d(mixed, torch.sign(self.weight), padding=1))


BOOLEANS: dict[str, Callable[[Tensor], Tensor]] = {
    "AND": lambda x: ((x > 0) & (x.flip(1) > 0.2)).float(),
    "OR as ±1": lambda x: torch.where((x > 0) | (x.flip(2) > 0.2), 1.0, -1.0),
    "XOR": lambda x: ((x > 0) ^ (x.roll(1, 1) > 0)).float() * 3 - 1,
    "inside": lambda x: ((x > -0.5) & (x < 0.5)).float() * 2 - 1,
    "any": lambda x: (x > 0.5).any(1, keepdim=True).expand_as(x).float(),
    "the largest": lambda x: (x == x.amax(1, keepdim=True)).float(),
    "a sign where finite": lambda x: torch.where(torch.isinf(x), 1.0, sign(x)),
    "the smallest of a window": lambda x: -F.max_pool2d(-sign(x), 2),
    "the largest of a window, adaptively": lambda x: F.adaptive_max_pool2d(sign(x), (4, 3)),
    "the largest of a column": lambda x: sign(x).amax(2, keepdim=True),
    "a bit of an integer": lambda x: ((4 * x).to(torch.int32) >> 2 & 1).float(),
    "XNOR beside an operand": lambda x: torch.cat([-sign(x[:, 16:32]) * sign(x[:, :16]), sign(x[:, 16:])], 1),
    "which of two": lambda x: torch.stack([-x, x.flip(1)], -1).argmax(-1).float() * 2 - 1,
}


class Masked(nn.Module):
    """A function of a stem that takes two values, a binary convolution and a batch norm."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.stem, self.norm = function, nn.Conv2d(3, 33, 3), nn.BatchNorm2d(9)
        self.weight = nn.Parameter(torch.randn(9, 33, 3, 3))
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.conv2d(self.function(self.stem(x)), torch.sign(self.weight), padding=1))


@pytest.mark.parametrize("function", BOOLEANS)
def test_booleans_are_bits_for_the_layer_behind(function: str) -> None:
    network = Masked(BOOLEANS[function])
    compiled = proven(network, 1, 3, 9, 8)
    assert [layer.reason for layer in compiled.layers] == [None]
    x = torch.randn(1, 3, 9, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = compiled.as_stored(network(x).numpy())
    np.testing.assert_allclose(compiled.run([compiled.as_stored(x.numpy())])[0], wanted, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("channels", [33, 64])
@pytest.mark.parametrize("function", LOGIC)
def test_logic_of_signs_is_bits_for_the_layer_behind(function: str, channels: int) -> None:
    compiled = proven(Logic(LOGIC[function], channels), 1, 3, 9, 8)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert operators_in_file(compiled)["LceBconv2d"] == operators_in_file(compiled)["CONV_2D"] == 1
