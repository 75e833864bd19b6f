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
from tests.passes.helpers import Array, build, check_pass, node_of, normal, operators, signs
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


@pytest.mark.parametrize("pool", ["GlobalAveragePool (q)", "AveragePool <kernel_shape = [6, 5]> (q)"])
@pytest.mark.parametrize("linear", ["MatMul (rows, u)", "Gemm <transB = 1> (rows, v, b)"])
def test_what_is_rows_in_front_of_a_linear_is_averaged_early_too(pool: str, linear: str) -> None:
    body = f"p = Mul (y, k)\nq = Add (p, h)\nm = {pool}\nrows = Reshape (m, shape)\nz = {linear}"
    model = build(body, X, "z", shape=np.array([2, 4]), **{name: CONSTANTS[name] for name in ("k", "h", "u", "v", "b")})
    assert operators(check_pass(model, AverageEarly())) == {"GlobalAveragePool": 1, "Reshape": 1, "Gemm": 1}


def test_a_padded_or_smaller_pool_is_no_mean_of_the_map() -> None:
    for pool in ("<kernel_shape = [6, 4]>", "<kernel_shape = [6, 5], pads = [1, 1, 1, 1]>"):
        check_pass(graph(f"p = Mul (y, k)\nz = AveragePool {pool} (p)"), AverageEarly(), modified=False)


@pytest.mark.parametrize("norm", ["p = Mul (y, k)\nq = Add (p, h)", "q = Add (y, h)"], ids=["scale and shift", "shift"])
def test_a_norm_that_signs_read_too_is_no_reason_to_average_maps_of_it(norm: str) -> None:
    body = f"{norm}\nm = GlobalAveragePool (q)\nc = Conv (m, w)\ns = bnncc.Sign (q)"
    layer = "bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1], pad_value = 0.0>"
    used = {name: CONSTANTS[name] for name in ("k", "h", "w") if name != "k" or "k)" in body}
    constants = {**used, "f": signs(3, 4, 3, 3), "m1": normal(3), "b1": normal(3)}
    model = build(f"{body}\nt = {layer} (s, f, m1, b1)\nz = Mul (t, c)", X, "z", **constants)
    changed = "Mul" in norm
    model = check_pass(model, AverageEarly(), modified=changed)
    pooled = node_of(model, "GlobalAveragePool").inputs[0]
    assert pooled is not None
    assert (pooled.name == "y") is changed


def test_the_weights_of_a_large_linear_are_not_repeated_for_a_small_map() -> None:
    other = "o = GlobalAveragePool (y)\nn = Neg (o)"
    body = f"{other}\ns = Add (y, r)\nm = GlobalAveragePool (s)\nrows = Reshape (m, shape)\nz = MatMul (rows, big)"
    model = build(body, X, "z, n", shape=np.array([2, 4]), big=normal(4, 99))
    model = check_pass(model, AverageEarly())
    assert operators(model)["Concat"] == 0
    assert on_maps(model) == 0


def test_nothing_of_a_mixture_is_computed_on_maps_in_the_file() -> None:
    compiled = proven(Mixture(), 1, 3, 9, 7)
    file = TfliteFile(compiled.content)
    assert len(file.operators) <= 13
    on_map = [operator.name for operator in file.operators if operator.outputs[0].shape[1:3] == (9, 7)]
    assert sorted(on_map) == ["CONV_2D", "LceBconv2d", "LceQuantize"]
