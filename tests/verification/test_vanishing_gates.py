"""Gates that are positive, and 0 in float32: a sign of what they scale is not the sign of the product."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from torch import Tensor, nn

import bnncc
from bnncc.ir.evaluate import run
from bnncc.verification import Verification, verify
from tests.passes.helpers import normal

SHAPE = (1, 32, 6, 6)


class Gated(nn.Module):
    """sign(conv(x) · σ(logit)) in front of a binary convolution, where half of the channels have this logit."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Conv2d(32, 32, 3, padding=1)
        self.binary = nn.Conv2d(32, 16, 3)
        self.logits = nn.Parameter(torch.cat([torch.full((16,), logit), torch.linspace(-2, 2, 16)]))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.logits + x.mean((2, 3)))[..., None, None]
        signs = torch.where(self.first(x) * gate >= 0, 1.0, -1.0)
        return nn.functional.conv2d(signs, torch.sign(self.binary.weight))


def _verified(logit: float) -> Verification:
    compiled = bnncc.compile(Gated(logit).eval(), input_shapes=[SHAPE])
    assert [layer.reason for layer in compiled.layers if layer.reason is None] == [None]
    return verify(compiled, [[normal(*SHAPE)]])


def test_a_small_gate_keeps_the_sign() -> None:
    found = _verified(-60)
    assert found.passed, found.problems
    assert not any(sign.vanished for sign in found.signs)


def test_a_gate_that_underflows_is_told() -> None:
    found = _verified(-150)
    assert found.vanishing_problems == len(found.problems) == 1
    assert "underflows" in found.problems[0]
    assert 0 < sum(sign.vanished for sign in found.signs) <= 16 * 36


def test_a_sigmoid_is_no_zero_where_float32_has_it() -> None:
    """ONNX Runtime's own is 0 below -17.3."""
    x = np.linspace(-80, 80, 321, dtype=np.float32)
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [321]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Sigmoid", ["x"], ["y"])], "gate", info[:1], info[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    y = run(model, {"x": x})["y"]
    expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.abs(y / expected - 1).max() < 1e-6
