"""Means over maps are taken before the arithmetic: as a pass and end to end."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.average_early import AverageEarly
from bnncc.targets.tflite.reader import TfliteFile
from tests.passes.helpers import Array, build, check_pass, normal, operators
from tests.passes.proof import proven

X = "float[2, 4, 6, 5] y, float[2, 4, 6, 5] r, float[2, 4, 1, 1] g"
CONSTANTS: dict[str, Array] = {
    **{"k": normal(4, 1, 1, seed=1), "n": normal(4, 1, 1, seed=2), "h": normal(4, 1, 1, seed=3)},
    **{"w": normal(3, 4, 1, 1), "b": normal(3), "w3": normal(3, 4, 3, 3), "axes": np.array([2, 3])},
    **{"u": normal(4, 3), "v": normal(3, 4)},
}
MIXTURE = "p = Mul (y, k)\nq = Mul (r, n)\ns = Add (p, q)\nm = GlobalAveragePool (s)\n"


def graph(body: str, outputs: str = "z") -> ir.Model:
    used = {name: array for name, array in CONSTANTS.items() if f" {name}," in body or f" {name})" in body}
    return build(body, X, outputs, **used)


def on_maps(model: ir.Model) -> int:
    """Operators, means aside, whose result is a map."""
    shapes = [(node.op_type, node.outputs[0].shape) for node in model.graph]
    return sum(shape is not None and tuple(shape.numpy()[2:]) == (6, 5) for _, shape in shapes)


@pytest.mark.parametrize(
    "body",
    [
        MIXTURE + "z = Conv (m, w)",
        MIXTURE + "z = Conv (m, w, b)",
        "p = Mul (y, k)\nq = Add (p, h)\ns = Sub (q, r)\nm = ReduceMean (s, axes)\nz = Conv (m, w, b)",
        "p = Mul (y, k)\nq = Sub (p, h)\nm = GlobalAveragePool (q)\nz = Conv (m, w)",
    ],
    ids=["mixture", "bias", "shift and difference", "one value"],
)
def test_a_pointwise_convolution_reads_the_means_side_by_side(body: str) -> None:
    before = graph(body)
    model = check_pass(before.clone(), AverageEarly())
    assert on_maps(model) == 0
    assert sum(operators(model).values()) <= sum(operators(before).values())
    assert set(operators(model)) <= {"GlobalAveragePool", "Concat", "Conv"}


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", ["", ", b"])
def test_of_one_value_a_linear_takes_the_constants(transposed: int, bias: str) -> None:
    weights = "v" if transposed else "u"
    body = (
        "p = Mul (y, k)\nq = Add (p, h)\nm = ReduceMean <keepdims = 0> (q, axes)\n"
        f"z = Gemm <transB = {transposed}> (m, {weights}{bias})"
    )
    model = check_pass(graph(body), AverageEarly())
    assert operators(model) == {"GlobalAveragePool": 1, "Reshape": 1, "Gemm": 1}


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("p = Mul (y, g)\nm = GlobalAveragePool (p)\nz = Relu (m)", "z"),
        ("p = Mul (y, g)\nq = Add (p, r)\nz = GlobalAveragePool (q)\na = GlobalAveragePool (y)\nu = Neg (a)", "z, u"),
        ("p = Mul (y, k)\nz = GlobalAveragePool (p)", "z"),
        (MIXTURE + "c = Conv (m, w)\nt = Mul (r, g)\nv = Add (t, y)\nz = ReduceMean <keepdims = 0> (v, axes)", "z, c"),
    ],
    ids=["gate", "two means of one value", "output", "rows"],
)
def test_gates_and_sums_are_of_means(body: str, outputs: str) -> None:
    before = graph(body, outputs)
    model = check_pass(before.clone(), AverageEarly())
    assert on_maps(model) == 0
    assert sum(operators(model).values()) <= sum(operators(before).values())


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("s = Add (y, r)\nm = GlobalAveragePool (s)\nz = Relu (m)", "z"),
        (MIXTURE + "c = Relu (s)\nz = Conv (m, w)", "z, c"),
        ("s = Relu (y)\nm = GlobalAveragePool (s)\nz = Conv (m, w)", "z"),
        ("p = Mul (y, r)\nm = GlobalAveragePool (p)\nz = Relu (m)", "z"),
        ("s = Add (y, r)\nm = GlobalMaxPool (s)\nz = Conv (m, w)", "z"),
        (MIXTURE + "t = Round (m)\nz = Conv (t, w)", "z"),
    ],
    ids=["an operator more", "the sum is read elsewhere", "not linear", "two maps", "a maximum", "rounded"],
)
def test_other_means_stay(body: str, outputs: str) -> None:
    check_pass(graph(body, outputs), AverageEarly(), modified=False)


class Mixture(nn.Module):
    """A gate from the mean of a mixture, a constant behind it, and the mean of what it lets through."""

    def __init__(self, channels: int = 40) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.fc = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3))
        self.norm, self.head = nn.BatchNorm2d(channels), nn.Linear(channels, 7)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        nn.init.uniform_(self.norm.running_var, 50, 400)
        self.mix = nn.Parameter(torch.rand(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.randn(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        r = self.stem(x)
        y = self.norm(F.conv2d(torch.where(r >= 0, 1.0, -1.0), torch.sign(self.weight), padding=1))
        gate = torch.sigmoid(self.fc(F.adaptive_avg_pool2d(self.mix * y + (1 - self.mix) * r, 1)))
        return self.head((y * gate * self.scale + r).mean((2, 3)))


def test_nothing_of_a_mixture_is_computed_on_maps_in_the_file() -> None:
    compiled = proven(Mixture(), 1, 3, 9, 7)
    file = TfliteFile(compiled.content)
    assert len(file.operators) <= 13
    on_map = [operator.name for operator in file.operators if operator.outputs[0].shape[1:3] == (9, 7)]
    assert sorted(on_map) == ["CONV_2D", "LceBconv2d", "LceQuantize"]
