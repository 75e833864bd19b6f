"""OR, AND, XNOR and selection of ±1 maps, written as arithmetic: as a pass and end to end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.recognize_logic import RecognizeLogic
from tests.passes.helpers import build, check_pass, operators, signs
from tests.passes.proof import operators_in_file, proven

X = "float[1, 6, 5, 7] x, float[1, 6, 5, 7] z"
MAPS = "a = bnncc.Sign (x)\nb = bnncc.Sign (z)\n"


@pytest.mark.parametrize(
    ("body", "signs_more"),
    [
        ("m = Mul (a, b)\ny = Conv <pads = [1, 1, 1, 1]> (m, w)", 1),
        ("m = Max (a, b)\ny = Conv (m, w)", 1),
        ("m = Add (a, b)\ny = Conv (m, w)", 0),
        ("m = Mul (a, x)\ny = Conv (m, w)", 0),
        ("m = Mul (a, b)\ny = Relu (m)", 0),
    ],
    ids=["XNOR", "OR", "three values", "a float", "no layer"],
)
def test_two_values_become_a_sign_where_a_layer_reads_them(body: str, signs_more: int) -> None:
    constants = {"w": signs(4, 6, 3, 3)} if "w)" in body else {}
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


@pytest.mark.parametrize("channels", [33, 64])
@pytest.mark.parametrize("function", LOGIC)
def test_logic_of_signs_is_bits_for_the_layer_behind(function: str, channels: int) -> None:
    compiled = proven(Logic(LOGIC[function], channels), 1, 3, 9, 8)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert operators_in_file(compiled)["LceBconv2d"] == operators_in_file(compiled)["CONV_2D"] == 1
