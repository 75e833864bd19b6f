"""A value that is rounded and clamped to whole numbers is clamped first, and is the same to the bit."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.passes.clamp_before_rounding import ClampBeforeRounding
from tests.passes.helpers import Array, build, normal, run_model
from tests.passes.proof import proven

# Ties of every kind, and what lies beside them.
TIES: Array = np.arange(-20, 20, dtype=np.float32).reshape(1, 4, 2, 5) / 4
INPUT = "float[1, 4, 2, 5] x"
MOVED = {
    "at both ends": "r = Round (x)\nm = Max (r, zero)\ny = Min (m, one)",
    "by a Clip": "r = Floor (x)\ny = Clip (r, zero, one)",
    "from above alone": "r = Ceil (x)\ny = Min (one, r)",
    "by a ReLU": "r = Round (x)\ny = Relu (r)",
    "by a selection": "r = Round (x)\nc = Greater (r, one)\ny = Where (c, one, r)",
    "behind a zero point": "r = Round (x)\na = Add (r, one)\ny = Clip (a, zero, one)",
    "behind a zero point, at both ends": "r = Round (x)\na = Add (one, r)\nm = Max (a, zero)\ny = Min (one, m)",
    "behind a difference": "r = Floor (x)\na = Sub (r, one)\ny = Min (zero, a)",
    "by a ReLU behind a zero point": "r = Ceil (x)\na = Add (r, one)\ny = Relu (a)",
    "by two selections": "r = Floor (x)\nc = GreaterOrEqual (r, one)\nm = Where (c, one, r)\nd = Less (m, zero)\n"
    "y = Where (d, zero, m)",
}
KEPT = {
    "a bound between whole numbers": "r = Round (x)\ny = Max (r, half)",
    "a rounding that is read elsewhere": "r = Round (x)\nm = Max (r, zero)\ny = Add (m, r)",
    "a bound that is larger than the value": "r = Round (x)\ny = Max (r, many)",
    "a bound that is computed": "r = Round (x)\nb = Floor (x)\ny = Max (r, b)",
    "a zero point between whole numbers": "r = Round (x)\na = Add (r, half)\ny = Relu (a)",
    "a zero point that is larger than the value": "r = Round (x)\na = Add (r, many)\ny = Relu (a)",
    "a rounding taken from a number": "r = Round (x)\na = Sub (one, r)\ny = Relu (a)",
    "a sum that is read elsewhere": "r = Round (x)\na = Add (r, one)\nm = Max (a, zero)\ny = Add (m, a)",
    "a zero point too large to add up without rounding": "r = Round (x)\na = Add (r, vast)\ny = Relu (a)",
    "a selection of another number": "r = Round (x)\nc = Greater (r, one)\ny = Where (c, zero, r)",
    "a selection between whole numbers": "r = Round (x)\nc = Greater (r, half)\ny = Where (c, half, r)",
    "a selection beside another reader": "r = Round (x)\nc = Greater (r, one)\nm = Where (c, one, r)\ny = Add (m, r)",
}
CONSTANTS: dict[str, Array | float] = {
    "zero": 0.0, "one": 1.0, "half": 0.5, "vast": 2.0**23, "many": np.ones((3, 4, 2, 5), np.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", [*MOVED, *KEPT])
def test_it_moves_where_that_changes_nothing(name: str) -> None:
    body = {**MOVED, **KEPT}[name]
    used = {key: value for key, value in CONSTANTS.items() if re.search(rf"\b{key}\b", body)}
    model = build(body, INPUT, **used)
    before = run_model(model, {"x": TIES})
    result = ClampBeforeRounding()(model)
    assert result.modified == (name in MOVED)
    np.testing.assert_array_equal(run_model(model, {"x": TIES})["y"], before["y"])
    last = next(node.op_type for node in reversed(list(model.graph)) if node.op_type != "Add")
    assert (last in ("Round", "Floor", "Ceil")) == (name in MOVED)


class LearntStep(nn.Module):
    """Linears of ±1 by what a learnt step rounds first and clamps to 0 … `top` then."""

    def __init__(self, top: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(32, 64)
        self.step = nn.Parameter(torch.tensor(0.3))
        self.move = nn.Parameter(0.1 * torch.randn(64))
        self.weight = nn.Parameter(torch.randn(48, 64))
        self.top = top

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)) + self.move
        step = torch.where(self.step > 1e-5, self.step, torch.tensor(1e-5))
        levels = (x / step).round()
        levels = (levels - x / step).detach() + x / step
        return F.linear(levels.clamp(0, self.top) * step, torch.sign(self.weight - self.weight.mean()))


def test_a_learnt_step_of_one_bit_is_a_sign() -> None:
    assert [layer.reason for layer in proven(LearntStep(1), 1, 8, 32).layers] == [None]


class FakeQuantized(nn.Module):
    """Linears of ±1 by what PyTorch's own quantiser makes of one bit."""

    def __init__(self, low: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.weight, self.low = nn.Linear(32, 64), nn.Parameter(torch.randn(48, 64)), low

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(self.first(x), 0.5, self.low, self.low, self.low + 1)
        return F.linear(x, torch.sign(self.weight - self.weight.mean()))


@pytest.mark.parametrize("low", [0, -3])
def test_a_quantiser_of_one_bit_is_a_sign_with_any_zero_point(low: int) -> None:
    assert [layer.reason for layer in proven(FakeQuantized(low), 1, 8, 32).layers] == [None]


def test_a_learnt_step_of_two_bits_has_four_levels() -> None:
    (layer,) = proven(LearntStep(3), 1, 8, 32).layers
    assert layer.reason is None or "takes 4 values" in layer.reason


def test_a_layer_of_one_bit_is_pytorchs() -> None:
    network = LearntStep(1).eval()
    compiled = bnncc.compile(network, input_shapes=["4x32"])
    x = normal(4, 32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(compiled.run([x])[0], expected, rtol=1e-5, atol=1e-4)
