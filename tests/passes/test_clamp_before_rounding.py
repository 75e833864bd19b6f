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
    "by two selections": "r = Floor (x)\nc = GreaterOrEqual (r, one)\nm = Where (c, one, r)\nd = Less (m, zero)\n"
    "y = Where (d, zero, m)",
}
KEPT = {
    "a bound between whole numbers": "r = Round (x)\ny = Max (r, half)",
    "a rounding that is read elsewhere": "r = Round (x)\nm = Max (r, zero)\ny = Add (m, r)",
    "a bound that is larger than the value": "r = Round (x)\ny = Max (r, many)",
    "a bound that is computed": "r = Round (x)\nb = Floor (x)\ny = Max (r, b)",
    "a selection of another number": "r = Round (x)\nc = Greater (r, one)\ny = Where (c, zero, r)",
    "a selection between whole numbers": "r = Round (x)\nc = Greater (r, half)\ny = Where (c, half, r)",
    "a selection beside another reader": "r = Round (x)\nc = Greater (r, one)\nm = Where (c, one, r)\ny = Add (m, r)",
}
CONSTANTS: dict[str, Array | float] = {"zero": 0.0, "one": 1.0, "half": 0.5, "many": np.ones((3, 4, 2, 5), np.float32)}


@pytest.mark.parametrize("name", [*MOVED, *KEPT])
def test_it_moves_where_that_changes_nothing(name: str) -> None:
    body = {**MOVED, **KEPT}[name]
    used = {key: value for key, value in CONSTANTS.items() if re.search(rf"\b{key}\b", body)}
    model = build(body, INPUT, **used)
    before = run_model(model, {"x": TIES})
    result = ClampBeforeRounding()(model)
    assert result.modified == (name in MOVED)
    np.testing.assert_array_equal(run_model(model, {"x": TIES})["y"], before["y"])
    last = list(model.graph)[-1].op_type
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
