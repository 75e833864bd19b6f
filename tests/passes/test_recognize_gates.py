"""A comparison's 0 or 1 selects: as a pass and end to end."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.recognize_gates import RecognizeGates
from tests.passes.helpers import Array, build, check_pass, node_of, normal, operators
from tests.passes.proof import operators_in_file, proven

X = "float[2, 4, 5, 3] x, float[2, 4, 5, 3] a, float[2, 4, 5, 3] b"
GATE = "c = Greater (x, t)\ng = Cast <to = 1> (c)\n"


def gated(body: str, outputs: str = "y", **constants: Array | float) -> ir.Model:
    names = {"one": 1.0, "half": 0.5, **constants}
    used = {name: value for name, value in names.items() if f" {name})" in body or f"({name}," in body}
    return build(body, X, outputs, t=normal(4, 1, 1, seed=8), **used)


@pytest.mark.parametrize(
    "body",
    [
        GATE + "p = Mul (g, b)\nn = Sub (one, g)\nq = Mul (n, a)\ny = Add (p, q)",
        GATE + "n = Sub (one, g)\nq = Mul (a, n)\np = Mul (b, g)\ny = Add (q, p)",
        GATE + "d = Sub (b, a)\np = Mul (g, d)\ny = Add (a, p)",
        GATE + "y = Mul (b, g)",
        GATE + "n = Sub (one, g)\nr = Mul (n, b)\nk = Relu (a)\ny = Add (r, k)",
    ],
    ids=["mixture", "turned round", "interpolation", "mask", "mask of one term"],
)
def test_products_with_zero_and_one_are_a_selection(body: str) -> None:
    model = check_pass(gated(body), RecognizeGates())
    found = operators(model)
    assert found["Where"] == 1
    assert found["Greater"] == 1
    assert not {"Mul", "Sub", "Cast"} & set(found)


@pytest.mark.parametrize(
    "body",
    [
        GATE + "p = Mul (g, b)\nn = Sub (half, g)\nq = Mul (n, a)\nz = Sigmoid (q)\ny = Mul (z, a)\n",
        "s = Sign (b)\n" + GATE + "y = Mul (g, s)",
        GATE + "c2 = Less (a, t)\nh = Cast <to = 1> (c2)\ny = Mul (g, h)",
        "g = Sigmoid (x)\np = Mul (g, b)\nn = Sub (one, g)\nq = Mul (n, a)\ny = Add (p, q)",
    ],
    ids=["half", "a sign", "two masks", "no comparison"],
)
def test_other_products_stay(body: str) -> None:
    if "half" in body:
        body = body.replace("p = Mul (g, b)\n", "")
    check_pass(gated(body), RecognizeGates(), modified=False)


@pytest.mark.parametrize("compare", ["Greater", "Less", "GreaterOrEqual", "LessOrEqual"])
@pytest.mark.parametrize("factor", [0.75, -1.5])
def test_affines_and_sigmoids_in_front_go_into_the_bound(compare: str, factor: float) -> None:
    body = (
        f"k = Mul (x, factor)\nh = Sub (k, t)\ne = Sigmoid (h)\nc = {compare} (e, level)\n"
        "g = Cast <to = 1> (c)\nn = Sub (one, g)\np = Mul (g, b)\nq = Mul (n, a)\ny = Add (p, q)"
    )
    model = check_pass(gated(body, factor=np.float32(factor), level=np.float32(0.3)), RecognizeGates())
    assert {**operators(model)} == {node_of(model, "Where").op_type: 1, _comparison(model): 1}


def test_a_value_that_is_read_elsewhere_stays_the_operand() -> None:
    body = (
        "k = Mul (x, half)\nh = Sub (k, t)\nc = Greater (h, t)\ng = Cast <to = 1> (c)\nn = Sub (one, g)\n"
        "p = Mul (g, k)\nq = Mul (n, a)\ny = Add (p, q)"
    )
    model = check_pass(gated(body), RecognizeGates())
    assert node_of(model, "Greater").inputs[0] is node_of(model, "Mul").outputs[0]


def _comparison(model: ir.Model) -> str:
    (name,) = {node.op_type for node in model.graph} - {"Where"}
    return name


class Gated(nn.Module):
    """FracBNN's order: where the first convolution's result is large, a second one refines it."""

    def __init__(self, form: str, channels: int = 40) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.stem, self.head = form, nn.Conv2d(3, channels, 3, padding=1), nn.Linear(channels, 7)
        self.first = nn.Parameter(torch.randn(channels, channels, 3, 3))
        self.second = nn.Parameter(torch.randn(channels, channels, 3, 3))
        self.threshold = nn.Parameter(torch.randn(1, channels, 1, 1) * 9)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        s, t = torch.where(x >= 0, 1.0, -1.0), torch.where(x.abs() >= 0.5, 1.0, -1.0)
        coarse = F.conv2d(s, torch.sign(self.first), padding=1) * 2 / 3
        fine = F.conv2d(t, torch.sign(self.second), padding=1) / 3
        gate = (torch.sigmoid((coarse - self.threshold) * 5) > 0.5).float()
        if self.form == "mixture":
            y = gate * fine + (1 - gate) * coarse
        elif self.form == "interpolation":
            y = coarse + gate * (fine - coarse)
        else:
            y = coarse + gate * fine
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("form", ["mixture", "interpolation", "sum"])
def test_a_gate_is_a_comparison_and_a_selection_in_the_file(form: str) -> None:
    compiled = proven(Gated(form), 1, 3, 9, 7)
    found = operators_in_file(compiled)
    assert found["LceBconv2d"] == 2
    assert found["GREATER"] == 1
    assert found["SELECT_V2"] == 1
    assert found["ADD"] <= (1 if form == "sum" else 0) + 1  # |x| in front of the second sign takes one
    assert not {"LceDequantize", "MUL", "SUB", "LOGISTIC", "CAST"} & set(found)
