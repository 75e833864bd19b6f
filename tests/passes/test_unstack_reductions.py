"""Sums, products and maxima of maps that are stacked first: as a pass and end to end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.unstack_reductions import UnstackReductions
from tests.passes.helpers import build, check_pass, normal, operators
from tests.passes.proof import compared, operators_in_file, proven

X = "float[2, 6, 5, 7] x, float[2, 6, 5, 7] z"
STACK = "a = Unsqueeze (x, at)\nb = Unsqueeze (z, at)\nr = Relu (x)\nc = Unsqueeze (r, at)\n"


@pytest.mark.parametrize("axis", [0, 2, -1])
@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("keep", [0, 1])
def test_a_reduction_of_a_stack_is_a_chain(operator: str, axis: int, keep: int) -> None:
    body = f"{STACK}s = Concat <axis = {axis}> (a, b, c)\ny = {operator} <keepdims = {keep}> (s, at)"
    found = operators(check_pass(build(body, X, at=np.array([axis])), UnstackReductions()))
    assert found["Concat"] == found[operator] == 0
    assert sum(found[name] for name in ("Add", "Mul", "Max", "Min")) == 2 + (operator == "ReduceMean")


@pytest.mark.parametrize("shape", [(3, 1, 1, 1, 1), (3, 1, 6, 1, 1), (1, 1, 6, 1, 1), ()])
def test_scales_are_those_of_each_map(shape: tuple[int, ...]) -> None:
    body = f"{STACK}s = Concat <axis = 0> (a, b, c)\nm = Mul (s, w)\ny = ReduceSum <keepdims = 0> (m, at)"
    found = operators(check_pass(build(body, X, at=np.array([0]), w=normal(*shape)), UnstackReductions()))
    assert (found["Concat"], found["Mul"], found["Add"]) == (0, 3, 2)


@pytest.mark.parametrize(
    "body",
    [
        "s = Concat <axis = 1> (x, z)\ny = ReduceSum <keepdims = 1> (s, at)",
        f"{STACK}s = Concat <axis = 1> (a, b, c)\nt = Neg (s)\nm = ReduceSum <keepdims = 1> (s, at)\ny = Add (t, m)",
        f"{STACK}s = Concat <axis = 1> (a, b, c)\ny = ReduceSum <keepdims = 0> (s, both)",
    ],
    ids=["joined, not stacked", "read twice", "of two axes"],
)
def test_other_reductions_stay(body: str) -> None:
    constants = {name: np.array(axes) for name, axes in {"at": [1], "both": [1, 2]}.items() if name in body}
    check_pass(build(body, X, **constants), UnstackReductions(), modified=False)


class Stacked(nn.Module):
    """Layers of a product, a mean and a scaled sum of stacked signs, two of which have a sign of the third as a bit."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.share = nn.Parameter(torch.randn(3, 64, 64, 3, 3)), torch.tensor([0.75, 0.25])

    def forward(self, x: Tensor) -> Tensor:
        signs = [compared(x), compared(x - 0.25), compared(x + 1)]
        values = [
            torch.stack([signs[0], compared(x.flip(1))]).prod(0),
            torch.stack(signs).mean(0),
            (torch.stack(signs[:2], -1) * self.share).sum(-1),
        ]
        layers = [F.conv2d(value, compared(weight)) for value, weight in zip(values, self.weight, strict=True)]
        return torch.stack(layers, 1).sum(1)


def test_stacked_signs_are_bits() -> None:
    compiled = proven(Stacked(), 1, 64, 12, 12)
    assert [layer.reason for layer in compiled.layers] == [None] * 3
    found = operators_in_file(compiled)
    assert found["CONV_2D"] == found["CONCATENATION"] == found["SUM"] == found["MEAN"] == 0
