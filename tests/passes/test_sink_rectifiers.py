"""ReLUs and clips in front of what moves, where a sign follows: as a pass and end to end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.sink_rectifiers import SinkRectifiers
from tests.passes.helpers import build, check_pass, normal
from tests.passes.proof import operators_in_file, proven

X = "float[2, 6, 5, 7] x"


@pytest.mark.parametrize(
    "body",
    [
        "r = Relu (x)\np = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (r)\ny = Sign (p)",
        "r = Clip (x, zero, one)\np = Flatten (r)\nq = Mul (p, s)\ny = Round (q)",
        "r = Relu (x)\np = MaxPool <kernel_shape = [2, 2]> (r)\nq = Transpose <perm = [0, 2, 3, 1]> (p)\ny = Sign (q)",
    ],
)
def test_a_rectifier_goes_behind_moves_down_to_the_step(body: str) -> None:
    constants = {name: value for name, value in {"zero": 0.0, "one": 1.0, "s": 1.0}.items() if f"{name})" in body}
    if "Clip" in body:
        constants["zero"] = 0.0
    model = check_pass(build(body, X, **constants), SinkRectifiers())
    order = [node.op_type for node in model.graph]
    assert order.index("Relu" if "Relu" in body else "Clip") == len(order) - (3 if "Mul" in body else 2)


@pytest.mark.parametrize(
    "body",
    [
        "r = Relu (x)\np = MaxPool <kernel_shape = [2, 2]> (r)\ny = Conv (p, w)",
        "r = Relu (x)\np = AveragePool <kernel_shape = [2, 2]> (r)\ny = Sign (p)",
        "r = Abs (x)\np = MaxPool <kernel_shape = [2, 2]> (r)\ny = Sign (p)",
        "r = Relu (x)\np = MaxPool <kernel_shape = [2, 2]> (r)\nq = MaxPool <kernel_shape = [2, 2]> (r)\n"
        "s = Sub (p, q)\ny = Sign (s)",
    ],
    ids=["no step", "no maximum", "not monotone", "read twice"],
)
def test_other_rectifiers_stay(body: str) -> None:
    constants = {"w": normal(3, 6, 1, 1)} if "w)" in body else {}
    check_pass(build(body, X, **constants), SinkRectifiers(), modified=False)


class Pooled(nn.Module):
    """A stem, what makes bits of it, a binary convolution and a batch norm."""

    def __init__(self, bits: Callable[[Tensor], Tensor], channels: int = 40) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bits, self.stem, self.norm = bits, nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(9)
        self.weight = nn.Parameter(torch.randn(9, channels, 3, 3))
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.conv2d(self.bits(self.stem(x)), torch.sign(self.weight), padding=1))


@pytest.mark.parametrize(
    "bits",
    [
        lambda x: torch.sign(F.max_pool2d(F.relu(x), 3, 2, 1)),
        lambda x: torch.sign(F.max_pool2d(F.relu6(x), 2)),
        lambda x: torch.sign(F.max_pool2d(x.clamp(0, 1), 3, 1, 1).transpose(2, 3)),
        lambda x: (F.max_pool2d(F.relu(x), 2) > 0.25).float(),
    ],
    ids=["ReLU", "ReLU6", "clip and transpose", "another threshold"],
)
def test_signs_of_pooled_rectified_values_are_bits(bits: Callable[[Tensor], Tensor]) -> None:
    compiled = proven(Pooled(bits), 1, 3, 11, 8)
    found = operators_in_file(compiled)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert found["LceBconv2d"] == found["CONV_2D"] == 1
    assert found["SIGN"] == found["RELU"] == 0
    assert np.sum([found["MAX_POOL_2D"], found["LceBMaxPool2d"]]) == 1
