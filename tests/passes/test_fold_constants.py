import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bnncc.passes.fold_constants import FoldConstants
from tests.passes.helpers import array_of, build, check_pass, draw, node_of, normal, operators, run_model
from tests.passes.proof import proven


def test_a_weight_expression_larger_than_any_limit_becomes_a_weight() -> None:
    weight = normal(64, 32, 3, 3)
    body = """
    a = Abs (w)
    m = ReduceMean (a, axes)
    s = Sign (w)
    v = Mul (s, m)
    y = Conv <pads = [1, 1, 1, 1]> (x, v)"""
    model = build(body, "float[1, 32, 5, 7] x", w=weight, axes=np.array([1, 2, 3]))
    check_pass(model, FoldConstants())
    assert operators(model) == {"Conv": 1}
    folded = node_of(model, "Conv").inputs[1]
    assert folded is not None
    assert folded.name == "v"
    expected = np.sign(weight) * np.abs(weight).mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(array_of(folded), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("Shape (t)", [2, 3, 5, 4]),
        ("Shape <start = 1, end = 3> (t)", [3, 5]),
        ("Shape <start = -2> (t)", [5, 4]),
        ("Shape <end = -3> (t)", [2]),
        ("Size (t)", 120),
    ],
)
def test_the_shape_of_a_computed_value_is_a_constant(operator: str, expected: object) -> None:
    body = f"t = Tanh (x)\nn = {operator}\nf = Cast <to = 1> (n)\ng = ReduceSum (f)\ny = Mul (t, g)"
    model = build(body, "float[2, 3, 5, 4] x")
    check_pass(model, FoldConstants())
    assert operators(model) == {"Tanh": 1, "Mul": 1}
    assert float(array_of(node_of(model, "Mul").inputs[1]).sum()) == np.sum(expected)


def test_what_has_no_elements_is_a_constant() -> None:
    model = build("t = Tanh (x)\ne = Slice (t, a, a)\ny = Concat <axis = 0> (x, e)", "float[2, 3] x", a=np.array([1]))
    check_pass(model, FoldConstants())
    assert operators(model) == {"Concat": 1}


def test_constants_that_are_outputs_keep_their_names() -> None:
    model = build("y = Relu (x)\nz = Exp (c)\nn = Shape (x)", "float[2, 3] x", "y, z, n", c=normal(4))
    before = run_model(model, draw(model))
    FoldConstants()(model)
    after = run_model(model, draw(model))
    assert list(after) == ["y", "z", "n"]
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


def test_nodes_without_inputs_fold_but_random_ones_do_not() -> None:
    body = "c = Constant <value_floats = [1.0, 2.0, 3.0]> ()\ne = Neg (c)\ny = Add (x, e)"
    assert operators(check_pass(build(body, "float[2, 3] x"), FoldConstants())) == {"Add": 1}
    noise = build("r = RandomNormal <shape = [2, 3], seed = 1.0> ()\ny = Add (x, r)", "float[2, 3] x")
    assert not FoldConstants()(noise).modified


def test_several_outputs_of_one_node_fold_together() -> None:
    body = "a, b = Split <axis = 0, num_outputs = 2> (w)\np = Mul (x, a)\ny = Add (p, b)"
    assert operators(check_pass(build(body, "float[1, 3] x", w=normal(2, 3)), FoldConstants())) == {"Mul": 1, "Add": 1}


def test_a_constant_used_inside_and_outside_the_folded_part_is_one_initializer() -> None:
    body = "a = Exp (w)\nb = Neg (a)\np = Mul (x, a)\ny = Add (p, b)"
    model = check_pass(build(body, "float[2, 3] x", w=normal(3)), FoldConstants())
    assert operators(model) == {"Mul": 1, "Add": 1}


def test_nothing_changes_in_a_graph_without_constants() -> None:
    check_pass(build("a = Relu (x)\ny = Add (a, x)", "float[2, 3] x"), FoldConstants(), modified=False)


@pytest.mark.parametrize(
    ("node", "kept"),
    [
        ("And (c, no)", 0),
        ("And (no, c)", 0),
        ("Or (c, yes)", 0),
        ("And (c, yes)", 1),
        ("Or (no, c)", 1),
        ("Xor (c, no)", 1),
    ],
)
def test_what_one_operand_decides_is_constant(node: str, kept: int) -> None:
    model = build(
        f"c = Greater (x, zero)\nd = {node}\ny = Where (d, x, zero)",
        "float[2, 3] x",
        zero=0.0,
        no=np.zeros((1, 3), bool),
        yes=np.array(True),
    )
    assert operators(check_pass(model, FoldConstants(), modified=not kept)).get(node.split()[0], 0) == kept


@pytest.mark.parametrize("condition", [True, False])
def test_a_choice_that_a_constant_makes_is_what_it_chooses(condition: bool) -> None:
    chosen = np.full((3, 1), condition)
    model = build("a = Tanh (x)\nb = Relu (x)\nm = Where (c, a, b)\ny = Neg (m)", "float[2, 3, 4] x", c=chosen)
    assert operators(check_pass(model, FoldConstants())).get("Where", 0) == 0
    chosen[0] = not condition
    model = build("a = Tanh (x)\nb = Relu (x)\nm = Where (c, a, b)\ny = Neg (m)", "float[2, 3, 4] x", c=chosen)
    check_pass(model, FoldConstants(), modified=False)


def test_what_zeros_multiply_is_zeros() -> None:
    body = "a = Tanh (x)\nb = Mul (a, zeros)\nc = Add (b, one)\nd = ReduceSum (c)\ny = Mul (x, d)"
    model = check_pass(build(body, "float[2, 3] x", zeros=np.zeros(1, np.float32), one=1.0), FoldConstants())
    assert operators(model)["Mul"] == 1
    twice = "a = Tanh (x)\nb = Exp (a)\nz = Sub (one, one)\nc = Mul (a, z)\nd = Sub (c, z)\ny = Mul (b, d)"
    assert not operators(check_pass(build(twice, "float[2, 3] x", one=1.0), FoldConstants())).get("Mul")
    some = np.array([0, 1, 0], np.float32)
    check_pass(build("y = Mul (x, some)", "float[2, 3] x", some=some), FoldConstants(), modified=False)


class FirstExpert(nn.Module):
    """Filters of experts, chosen by a gate that is switched off by a product with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.filters, self.gate = nn.Parameter(torch.randn(3, 32 * 32 * 9)), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.gate(x.mean((2, 3)))
        gate = gate * torch.zeros_like(gate)
        gate[:, 0] = gate[:, 0] + torch.ones_like(gate[:, 0])
        filters = (gate @ self.filters).view(32, 32, 3, 3)
        return F.conv2d(torch.sign(x), torch.sign(filters), padding=1)


def test_a_gate_that_zeros_switch_off_chooses_no_weights() -> None:
    torch.manual_seed(0)
    assert [layer.reason for layer in proven(FirstExpert(), 1, 32, 6, 6).layers] == [None]
