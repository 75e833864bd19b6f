import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.merge_duplicates import MergeDuplicates
from tests.passes.helpers import build, check_pass, normal, operators, signs
from tests.passes.proof import operators_in_file, proven

X = "float[2, 3, 5, 4] x"


class BinaryConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(torch.where(x >= 0, 1.0, -1.0), torch.where(self.weight >= 0, 1.0, -1.0), padding=1)


class Branches(nn.Module):
    """Binary convolutions of one map, with the given weights."""

    def __init__(self, channels: int, *weights: Tensor) -> None:
        super().__init__()
        self.branches = nn.ModuleList(BinaryConv(channels, channels, 3, bias=False) for _ in weights)
        for branch, weight in zip(self.branches, weights, strict=True):
            branch.weight.data = weight

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (branch(x) for branch in self.branches)
        for index, other in enumerate(others):
            first = first * (index + 1) - other.relu()
        return first


def test_equal_nodes_on_equal_constants_become_one() -> None:
    body = "p = Clip (x, a, b)\nq = Clip (x, c, d)\ny = Mul (p, q)"
    model = check_pass(build(body, X, a=-1.0, b=1.0, c=-1.0, d=1.0), MergeDuplicates())
    assert operators(model) == {"Clip": 1, "Mul": 1}


def test_whole_equal_subgraphs_become_one() -> None:
    half = "{0}a = Less (x, c{0})\n{0}b = Cast <to = 1> ({0}a)\n{0}c = Mul ({0}b, x)\n"
    model = build(half.format("p") + half.format("q") + "y = Sub (pc, qc)", X, cp=0.5, cq=0.5)
    assert operators(check_pass(model, MergeDuplicates())) == {"Less": 1, "Cast": 1, "Mul": 1, "Sub": 1}


def test_what_differs_in_an_attribute_a_constant_or_the_order_stays() -> None:
    body = """
    a = Elu <alpha = 0.5> (x)
    b = Elu <alpha = 0.25> (x)
    c = Sub (a, b)
    d = Sub (b, a)
    e = Mul (c, v)
    f = Mul (d, w)
    y = Add (e, f)"""
    model = build(body, X, v=normal(3, 1, 1, seed=1), w=normal(3, 1, 1, seed=2))
    check_pass(model, MergeDuplicates(), modified=False)


def test_constants_of_equal_bytes_and_other_type_or_shape_stay_apart() -> None:
    body = "a = Mul (x, v)\nb = Add (a, w)\nc = Cast <to = 1> (i)\ny = Add (b, c)"
    zeros = np.zeros((3, 1, 1), np.float32)
    model = build(body, X, v=zeros, w=zeros.reshape(1, 3, 1, 1), i=np.zeros((3, 1, 1), np.int32))
    check_pass(model, MergeDuplicates(), modified=False)


def test_two_outputs_of_one_value_keep_their_names() -> None:
    model = build("y = Relu (x)\nz = Relu (x)", X, "y, z")
    before = [value.name for value in model.graph.outputs]
    MergeDuplicates()(model)
    assert [value.name for value in model.graph.outputs] == before


def test_a_constant_output_is_left_alone_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    model = build("y = Add (x, b)", X, b=normal(5, 4))
    constant = model.graph.initializers["b"]
    model.graph.outputs.append(constant)
    MergeDuplicates()(model)
    assert model.graph.outputs[1] is constant
    assert caplog.records == []


def test_binary_layers_of_equal_weights_become_one_where_they_read_the_same() -> None:
    layer = "bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1], pad_value = {pad}>"
    body = "\n".join(
        f"{name} = {layer.format(pad=pad)} ({signs_of}, {weight}, m, b)"
        for name, signs_of, weight, pad in [
            ("p", "s", "w", 0.0), ("equal", "s", "same", 0.0), ("other", "s", "turned", 0.0),
            ("elsewhere", "t", "same", 0.0), ("padded", "s", "same", 1.0),
        ]
    )  # fmt: skip
    w = signs(32, 64, 3, 3)
    constants = {"w": w, "same": w.copy(), "turned": -w, "m": normal(32), "b": normal(32)}
    text = f"s = bnncc.Sign (x)\nt = bnncc.Sign (z)\n{body}\ny = Sum (p, equal, other, elsewhere, padded)"
    model = check_pass(build(text, "float[1, 64, 4, 4] x, float[1, 64, 4, 4] z", **constants), MergeDuplicates())
    assert operators(model) == {"bnncc.Sign": 2, "bnncc.BinaryConv": 4, "Sum": 1}


@pytest.mark.parametrize("channels", [16, 64], ids=["small weights", "large weights"])
def test_the_report_names_a_layer_that_another_computes(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, other = (torch.randn(channels, channels, 3, 3, generator=generator) for _ in range(2))
    network = Branches(channels, weight, weight.clone(), other)
    compiled = proven(network, 1, channels, 9, 9)
    assert [layer.module for layer in compiled.layers] == ["branches.0", "branches.1", "branches.2"]
    assert all(layer.reason is None for layer in compiled.layers)
    assert operators_in_file(compiled)["LceBconv2d"] == 2
