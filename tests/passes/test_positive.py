"""Signs behind a division by a positive number that is computed at run time: as a pass and end to end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.recognize_steps import RecognizeSteps
from tests.passes.helpers import build, check_pass, operators
from tests.passes.proof import operators_in_file, proven

X = "float[2, 6, 5, 7] x"
MAXIMUM = "a = Abs (t)\nm = ReduceMax <keepdims = 0> (a)\n"
DIVIDED = {
    "DoReFa": f"t = Tanh (x)\n{MAXIMUM}d = Mul (m, two)\nu = Div (t, d)\nv = Add (u, half)\nr = Round (v)\n"
    "z = Mul (r, two)\ny = Sub (z, one)",
    "no tanh": f"t = Mul (x, two)\n{MAXIMUM}u = Div (t, m)\nv = Add (u, one)\nw = Mul (v, half)\nr = Round (w)\n"
    "z = Mul (r, two)\ny = Sub (z, one)",
    "deviation": "m = ReduceMean <keepdims = 0> (x)\nt = Sub (x, m)\ns = Mul (t, t)\n"
    "v = ReduceMean <keepdims = 0> (s)\nd = Sqrt (v)\nu = Div (t, d)\ng = Greater (u, zero)\ny = Cast <to = 1> (g)",
    "comparison": f"t = Mul (x, two)\n{MAXIMUM}u = Div (t, m)\ng = Greater (u, zero)\ny = Cast <to = 1> (g)",
}
CONSTANTS = {"two": 2.0, "half": 0.5, "one": 1.0, "zero": 0.0}


@pytest.mark.parametrize("spelling", DIVIDED)
def test_a_positive_divisor_goes(spelling: str) -> None:
    text = DIVIDED[spelling]
    constants = {name: value for name, value in CONSTANTS.items() if name in text.replace(")", " ").split()}
    found = operators(check_pass(build(text, X, **constants), RecognizeSteps()))
    assert found["bnncc.Sign"] == 1
    assert found["Div"] == found["ReduceMax"] == found["Tanh"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "m = ReduceMean <keepdims = 0> (x)\nu = Div (x, m)\ng = Greater (u, zero)\ny = Cast <to = 1> (g)",
        "a = Abs (x)\nm = ReduceMax <keepdims = 0> (a)\nu = Div (x, m)\ng = Greater (u, half)\ny = Cast <to = 1> (g)",
        "a = Abs (x)\nm = ReduceMean <keepdims = 0> (a)\nu = Div (x, m)\nv = Add (u, half)\ny = Round (v)",
        "a = Abs (x)\nm = ReduceMax <keepdims = 0> (a)\nd = Mul (m, tenth)\nu = Div (x, d)\nv = Add (u, half)\n"
        "y = Round (v)",
    ],
    ids=["either sign", "another threshold", "not bounded", "a wide bound"],
)
def test_what_is_no_sign_stays(text: str) -> None:
    constants = {"zero": 0.0, "half": 0.5, "tenth": 0.1}
    given = {name: value for name, value in constants.items() if name in text.replace(")", " ").split()}
    model = build(text, X, **given)
    RecognizeSteps()(model)
    assert operators(model)["Div"] == 1


def dorefa(x: Tensor) -> Tensor:
    t = torch.tanh(x)
    return torch.round(t / (2 * t.abs().max()) + 0.5) * 2 - 1


def by_the_mean(x: Tensor) -> Tensor:
    return torch.where(x / x.abs().mean((1, 2, 3), keepdim=True) >= 0, 1.0, -1.0)


def zero_one(x: Tensor) -> Tensor:
    t = x / x.abs().amax()
    return torch.round((t + 1) / 2)


class Quantized(nn.Module):
    """A stem, a binariser and a binary convolution with a batch norm."""

    def __init__(self, quantize: Callable[[Tensor], Tensor], **geometry: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.quantize, self.geometry = quantize, geometry
        self.stem, self.norm = nn.Conv2d(3, 34, 3), nn.BatchNorm2d(12)
        self.weight = nn.Parameter(torch.randn(12, 34 // geometry.get("groups", 1), 3, 3))
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.conv2d(self.quantize(self.stem(x)), torch.sign(self.weight), **self.geometry))


@pytest.mark.parametrize("quantize", [dorefa, by_the_mean, zero_one])
@pytest.mark.parametrize("geometry", [{"padding": 1}, {"stride": 2}])
def test_a_convolution_behind_such_a_sign_is_binary(
    quantize: Callable[[Tensor], Tensor], geometry: dict[str, int]
) -> None:
    found = operators_in_file(proven(Quantized(quantize, **geometry), 1, 3, 9, 8))
    assert found["LceBconv2d"] == found["LceQuantize"] == found["CONV_2D"] == 1
    assert found["TANH"] + found["DIV"] + found["ROUND"] + found["ABS"] == 0
