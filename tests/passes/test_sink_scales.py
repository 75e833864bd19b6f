"""Scales go up into the weights, through sums, pools, gates and what is positively homogeneous."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.sink_scales import SinkScales
from tests.passes.helpers import Array, array_of, build, check_pass, draw, normal, operators, run_all, run_model, signs
from tests.passes.proof import operators_in_file, proven

CONV = "<strides = [1, 1], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1], pad_value = 0.0>"


def network(between: str, *, scale: Array | None = None, **constants: Array) -> ir.Model:
    """Two binary convolutions u and v of the same signs, `between`, which makes r, and a Mul of r."""
    return build(
        f"""
        s = bnncc.Sign (x)
        u = bnncc.BinaryConv {CONV} (s, w, m, b)
        v = bnncc.BinaryConv {CONV} (s, w2, m2, b2)
        {between}
        y = Mul (r, scale)
        """,
        "float[2, 5, 6, 4] x",
        w=signs(6, 5, 3, 3, seed=1),
        w2=signs(6, 5, 3, 3, seed=2),
        **{name: normal(6, seed=seed) for seed, name in enumerate(("m", "b", "m2", "b2"))},
        scale=normal(6, 1, 1, seed=9) if scale is None else scale,
        **constants,
    )


@pytest.mark.parametrize(
    "between",
    [
        "r = Add (u, v)",
        "r = Sub (v, u)",
        "q = Add (u, v)\nt = Conv (x, k)\nr = Add (q, t)",
        "p = AveragePool <kernel_shape = [2, 2]> (u)\nq = AveragePool <kernel_shape = [2, 2]> (v)\nr = Add (p, q)",
        "q = Add (u, v)\nr = GlobalAveragePool (q)",
    ],
    ids=["sum", "difference", "with a float convolution", "pools", "mean"],
)
def test_a_scale_behind_what_is_linear_goes_into_every_convolution(between: str) -> None:
    constants = {"k": normal(6, 5, 1, 1)} if "k)" in between else {}
    model = network(between, **constants)
    before = operators(model)
    check_pass(model, SinkScales())
    assert operators(model) == {**before, "Mul": 0} or operators(model) == {
        k: n for k, n in before.items() if k != "Mul"
    }


def test_behind_a_concatenation_each_part_takes_its_own() -> None:
    model = network("r = Concat <axis = 1> (u, v)", scale=normal(12, 1, 1))
    assert "Mul" not in operators(check_pass(model, SinkScales()))


@pytest.mark.parametrize(
    "between",
    [
        "q = Add (u, v)\nr = Relu (q)",
        "q = Add (u, v)\nr = MaxPool <kernel_shape = [2, 2]> (q)",
        "q = Add (u, v)\nr = PRelu (q, slope)",
    ],
)
def test_what_is_homogeneous_for_positive_factors_hands_positive_scales_on_and_no_others(between: str) -> None:
    constants = {"slope": normal(6, 1, 1)} if "slope" in between else {}
    positive = network(between, scale=np.abs(normal(6, 1, 1)) + 0.1, **constants)
    assert "Mul" not in operators(check_pass(positive, SinkScales()))
    check_pass(network(between, **constants), SinkScales(), modified=False)


def test_of_a_product_one_factor_takes_the_scale() -> None:
    model = network("r = Mul (u, v)")
    assert operators(check_pass(model, SinkScales()))["Mul"] == 1


def test_a_gate_is_scaled_instead_of_the_map() -> None:
    model = network("a = GlobalAveragePool (v)\ng = Sigmoid (a)\nq = Mul (u, g)\nz = Neg (u)\nr = Add (q, z)")
    check_pass(model, SinkScales(), modified=False)  # the sum has another part
    model = network("a = GlobalAveragePool (u)\ng = Sigmoid (a)\nr = Mul (u, g)")
    check_pass(model, SinkScales())
    sizes = sorted(array.size for name, array in run_all(model, draw(model)).items() if _is_product(model, name))
    assert sizes == [2 * 6, 2 * 6 * 6 * 4]


def _is_product(model: ir.Model, name: str) -> bool:
    return any(node.op_type == "Mul" and node.outputs[0].name == name for node in model.graph)


@pytest.mark.parametrize(
    "between",
    ["r = Add (u, x6)", "q = Add (u, v)\nr = Exp (q)", "q = Add (u, v)\nr = Add (q, u)", "r = Add (u, u)"],
    ids=["a residual", "no such operator", "read twice", "the same twice"],
)
def test_elsewhere_the_scale_stays(between: str) -> None:
    between = between.replace("r = Add (u, x6)", "x6 = Concat <axis = 1> (x, x1)\nr = Add (u, x6)")
    constants = {"x1": normal(2, 1, 6, 4)} if "x1" in between else {}
    check_pass(network(between, **constants), SinkScales(), modified=False)


def test_with_powers_of_two_the_outputs_are_equal() -> None:
    scale = np.exp2(np.random.default_rng(1).integers(-3, 4, (6, 1, 1))).astype(np.float32)
    model = network("r = Add (u, v)", scale=scale)
    for name in ("m", "b", "m2", "b2"):
        value = model.graph.initializers[name]
        value.const_value = ir.tensor(np.round(array_of(value) * 8) / np.float32(4), name=name)
    before = model.clone()
    assert SinkScales()(model).modified
    feeds = draw(before)
    np.testing.assert_array_equal(run_model(model, feeds)["y"], run_model(before, feeds)["y"])


class NormOfSum(nn.Module):
    """A batch norm, γ of both signs, behind the sum of a 3x3 and a 1x1 binary convolution; a clip behind it."""

    def __init__(self, channels: int = 40) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.wide = nn.Parameter(torch.randn(channels, channels, 3, 3))
        self.point = nn.Parameter(torch.randn(channels, channels, 1, 1))
        self.norm, self.head = nn.BatchNorm2d(channels), nn.Linear(channels, 7)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        nn.init.uniform_(self.norm.running_var, 50, 400)
        nn.init.normal_(self.norm.running_mean, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        s = torch.where(self.stem(x) >= 0, 1.0, -1.0)
        y = F.conv2d(s, torch.sign(self.wide), padding=1) + F.conv2d(s, torch.sign(self.point))
        return self.head(self.norm(y).clamp(-1, 1).mean((2, 3)))


def test_a_batch_norm_behind_a_sum_is_in_both_convolutions_and_the_clip_in_the_sum() -> None:
    compiled = proven(NormOfSum(), 1, 3, 9, 7)
    wanted = {"CONV_2D": 1, "LceQuantize": 1, "LceBconv2d": 2, "ADD": 1, "MEAN": 1, "FULLY_CONNECTED": 1}
    assert operators_in_file(compiled) == wanted
