"""Convolutions of the parts of a map, side by side, become one in groups."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from bnncc.ir.left_in_float import Reason, leave_in_float
from bnncc.passes.join_groups import JoinGroups
from tests.passes.helpers import Array, build, check_pass, node_of, normal, operators
from tests.passes.proof import operators_in_file, proven

X = "float[2, 6, 5, 8] x"
SPLIT = "a, b, c = Split <axis = 1, num_outputs = 3> (x)"
SLICES = "a = Slice (x, zero, two, one)\nb = Slice (x, two, four, one)\nc = Slice (x, four, end, one)"
GEOMETRY = "pads = [1, 0, 1, 1], strides = [2, 1]"
CONVS = "\n".join(
    f"{y} = Conv <{GEOMETRY}> ({operands})" for y, operands in (("u", "a, w, k"), ("v", "b, m"), ("t", "c, n, l"))
)
JOIN = "y = Concat <axis = 1> (u, v, t)"
CONSTANTS: dict[str, Array] = {
    **{"w": normal(4, 2, 3, 2), "m": normal(4, 2, 3, 2, seed=1), "n": normal(4, 2, 3, 2, seed=2)},
    **{"k": normal(4, seed=3), "l": normal(4, seed=4), "h": normal(4, 1, 3, 2, seed=5)},
    **{name: np.array([number]) for name, number in (("zero", 0), ("one", 1), ("two", 2), ("three", 3))},
    **{"four": np.array([4]), "end": np.array([9]), "sizes": np.array([2, 1, 3])},
}


def graph(*lines: str, outputs: str = "y") -> ir.Model:
    body = "\n".join(lines)
    used = {name: array for name, array in CONSTANTS.items() if f" {name}," in body or f" {name})" in body}
    return build(body, X, outputs, **used)


@pytest.mark.parametrize("parts", [SPLIT, SLICES])
def test_they_are_one_convolution_in_groups(parts: str) -> None:
    model = check_pass(graph(parts, CONVS, JOIN), JoinGroups())
    conv = node_of(model, "Conv")
    assert operators(model)["Concat"] == 0
    assert conv.attributes["group"].as_int() == 3
    assert conv.inputs[0] is model.graph.inputs[0]


def test_groups_of_groups() -> None:
    convs = CONVS.replace("pads", "group = 2, pads").replace(" m", " h").replace(" w", " h").replace(" n", " h")
    model = check_pass(graph(SPLIT, convs, JOIN), JoinGroups())
    assert node_of(model, "Conv").attributes["group"].as_int() == 6


OTHERS = {
    "another order": (SPLIT, CONVS, "y = Concat <axis = 1> (v, u, t)"),
    "another axis": (SPLIT, CONVS, "y = Concat <axis = 2> (u, v, t)"),
    "not all": (SPLIT, CONVS, "y = Concat <axis = 1> (u, v)\nz = Relu (t)"),
    "one read elsewhere": (SPLIT, CONVS, JOIN, "z = Relu (t)"),
    "other windows": (SPLIT, CONVS.replace(f"{GEOMETRY}> (b", "pads = [1, 1, 1, 0], strides = [2, 1]> (b"), JOIN),
    "overlapping parts": (SLICES.replace("(x, two, four", "(x, one, three"), CONVS, JOIN),
    "something between": (SPLIT, CONVS, "s = Relu (u)\ny = Concat <axis = 1> (s, v, t)"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_convolution_in_groups_stays(name: str) -> None:
    lines = OTHERS[name]
    outputs = "y, z" if "z = " in lines[-1] else "y"
    check_pass(graph(*lines, outputs=outputs), JoinGroups(), modified=False)


def test_layers_of_which_the_report_says_why_they_stay_in_float_stay_apart() -> None:
    model = graph(SPLIT, CONVS, JOIN)
    leave_in_float(next(node for node in model.graph if node.op_type == "Conv"), Reason("of-a-test", "it is one"))
    check_pass(model, JoinGroups(), modified=False)


class GroupedStem(nn.Module):
    """A convolution in groups as it was written before frameworks had them, with its batch norm, and a binary layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.parts = nn.ModuleList(nn.Conv2d(4, 8, 3, padding=1, stride=2, bias=False) for _ in range(3))
        self.norm = nn.BatchNorm2d(24)
        self.weight = nn.Parameter(torch.randn(40, 24, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.stem(x).relu().chunk(3, dim=1)
        y = self.norm(torch.cat([conv(part) for conv, part in zip(self.parts, parts, strict=True)], dim=1))
        return nn.functional.conv2d(y.relu().sub(0.3).sign(), self.weight.sign(), padding=1).mean((2, 3))


def test_in_a_network_nothing_is_split_and_nothing_joined() -> None:
    torch.manual_seed(0)
    module = GroupedStem()
    module.norm.running_mean = torch.randn(24)
    module.norm.running_var = torch.rand(24) + 0.5
    nn.init.normal_(module.norm.weight)
    compiled = proven(module, 1, 3, 9, 9)
    assert operators_in_file(compiled) == {"CONV_2D": 2, "LceQuantize": 1, "LceBconv2d": 1, "MEAN": 1}
