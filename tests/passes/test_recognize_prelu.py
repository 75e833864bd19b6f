import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnncc.ir.pass_runner import PassRunner
from bnncc.passes import PIPELINE
from bnncc.passes.recognize_prelu import RecognizePRelu
from bnncc.verification.passes import first_difference
from tests.passes.helpers import Array, array_of, build, check_pass, export, node_of, normal, operators, run_model

X = "float[2, 4, 3, 3] x"


def vector(*numbers: float) -> Array:
    return np.array(numbers, np.float32).reshape(-1, 1, 1)


CONSTANTS = {
    "zero": 0.0, "one": 1.0, "minus": -1.0, "half": 0.5, "quarter": 0.25, "two": 2.0,
    "k": vector(0.5, 1.5, -0.7, 2), "c": vector(0.1, -0.2, 0.3, 1.1), "shift": vector(0.3, -0.4, 0.5, -1.2),
    "offset": vector(1, 2, -3, 0.5), "plus": vector(0.2, 0.3, 1.5, 2),
}  # fmt: skip


def recognized(body: str, *, modified: bool = True, inputs: str = X, **constants: Array | float) -> ir.Model:
    model = build(body, inputs, **{**CONSTANTS, **constants})
    before = model.clone()
    check_pass(model, RecognizePRelu(), modified=modified)
    assert first_difference(before, model) is None
    return model


FORMS = {
    "max and min, a slope each": ("p = Max (x, zero)\nq = Min (x, zero)\na = Mul (p, k)\nb = Mul (q, c)\n"
    "y = Add (a, b)",
                                  {"PRelu": 1, "Mul": 1}),
    "two relus": ("p = Relu (x)\nn = Neg (x)\nq = Relu (n)\na = Mul (q, c)\ny = Sub (p, a)", {"PRelu": 1}),
    "relu and a part": ("p = Relu (x)\na = Mul (x, quarter)\nb = Mul (p, half)\n"
    "y = Add (a, b)", {"PRelu": 1, "Mul": 1}),
    "|x| and x": ("a = Abs (x)\nb = Mul (a, c)\nd = Mul (x, k)\ny = Add (b, d)", {"PRelu": 1, "Mul": 1}),
    "larger of two lines": ("a = Mul (x, two)\nb = Mul (x, half)\ny = Max (a, b)", {"PRelu": 1, "Mul": 1}),
    "where": ("m = Greater (x, zero)\na = Mul (x, c)\ny = Where (m, x, a)", {"PRelu": 1}),
    "masks": ("m = GreaterOrEqual (x, zero)\nn = Not (m)\nf = Cast <to = 1> (m)\ng = Cast <to = 1> (n)\n"
    "a = Mul (x, f)\n"
              "b = Mul (x, g)\nd = Mul (b, c)\ny = Add (a, d)", {"PRelu": 1}),
    "shifted kink": ("a = Add (x, shift)\np = Relu (a)\nq = Min (a, zero)\nb = Mul (q, c)\nd = Add (p, b)\n"
    "y = Add (d, offset)",
                     {"Add": 2, "PRelu": 1}),
    "kink of two lines": ("n = Neg (x)\nm = Neg (n)\na = Mul (m, two)\nb = Add (m, one)\ny = Max (a, b)",
                          {"Add": 2, "PRelu": 1, "Mul": 1}),
    "magnitude": ("p = Relu (x)\nn = Neg (x)\nq = Relu (n)\ny = Add (p, q)", {"PRelu": 1}),
    "x times its sign": ("s = bnncc.Sign (x)\ny = Mul (x, s)", {"PRelu": 1}),
    "balanced": ("a = Mul (x, plus)\nb = Abs (a)\nd = Add (a, b)\ne = Mul (d, half)\nf = Sub (a, b)\ng = Mul (f, c)\n"
                 "y = Add (e, g)", {"PRelu": 1, "Mul": 1}),
    "scaled relu back to its scale": ("a = Mul (x, two)\np = Relu (a)\ny = Mul (p, half)", {"Relu": 1}),
    "relu twice": ("p = Relu (x)\ny = Relu (p)", {"Relu": 1}),
    "prelu of prelu": ("p = PRelu (x, plus)\ny = PRelu (p, plus)", {"PRelu": 1}),
    "leaky relu of prelu": ("p = LeakyRelu (x)\ny = PRelu (p, c)", {"PRelu": 1}),
    "no kink": ("p = Relu (x)\nn = Neg (x)\nq = Relu (n)\na = Sub (p, q)\ny = Mul (a, k)", {"Mul": 1}),
    "nothing at all": ("a = Neg (x)\nu = Neg (a)\np = Relu (u)\nq = Relu (a)\nd = Sub (p, q)\n"
    "y = Tanh (d)", {"Tanh": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_function_of_two_slopes_is_a_prelu(name: str) -> None:
    body, expected = FORMS[name]
    assert operators(recognized(body)) == expected


def test_a_slope_of_zero_above_is_mirrored() -> None:
    body = "m = Less (x, zero)\nf = Cast <to = 1> (m)\na = Mul (x, f)\nn = Neg (a)\nb = Mul (n, plus)\ny = Neg (b)"
    assert operators(recognized(body)) == {"Mul": 2, "Relu": 1}


def test_slopes_of_zero_above_and_below_in_different_channels() -> None:
    above, below = vector(1, 0, 2, -1), vector(0, 3, -1, 0)
    body = "p = Relu (x)\nq = Min (x, zero)\na = Mul (p, above)\nb = Mul (q, below)\ny = Add (a, b)"
    assert operators(recognized(body, above=above, below=below)) == {"Mul": 2, "PRelu": 1}


def test_the_magnitude_is_exact() -> None:
    model = recognized("p = Relu (x)\nn = Neg (x)\nq = Relu (n)\ny = Add (p, q)")
    x = normal(2, 4, 3, 3)
    np.testing.assert_array_equal(run_model(model, {"x": x})["y"], np.abs(x))


def test_a_scale_goes_into_the_convolution_in_front() -> None:
    body = "x2 = Conv (x, w)\np = Max (x2, zero)\nq = Min (x2, zero)\na = Mul (p, plus)\nb = Mul (q, c)\ny = Add (a, b)"
    model = recognized(body, w=normal(4, 4, 1, 1))
    assert [node.op_type for node in model.graph] == ["Conv", "Mul", "PRelu"]
    np.testing.assert_allclose(
        array_of(node_of(model, "PRelu").inputs[1]), CONSTANTS["c"] / CONSTANTS["plus"], rtol=1e-6
    )


ALONE = {
    "relu": "y = Relu (x)",
    "clip": "y = Clip (x, minus, one)",
    "leaky relu": "y = LeakyRelu (x)",
    "prelu": "y = PRelu (x, c)",
    "abs": "y = Abs (x)",
    "shift, prelu, shift": "a = Add (x, shift)\np = PRelu (a, c)\ny = Add (p, offset)",
    "scaled relu": "p = Relu (x)\ny = Mul (p, k)",
    "larger of two lines": "a = Mul (x, two)\nb = Add (x, one)\ny = Max (a, b)",
    "affine": "a = Mul (x, k)\nb = Add (a, shift)\ny = Sub (b, offset)",
    "min(x, 0) in two operators, not three": "m = Less (x, zero)\ny = Where (m, x, zero)",
    "two kinks": "a = Add (x, shift)\nb = Relu (x)\nd = Relu (a)\ny = Add (b, d)",
    "a jump": "m = Greater (x, one)\na = Mul (x, c)\ny = Where (m, x, a)",
    "hard swish": "a = HardSigmoid (x)\ny = Mul (a, x)",
    "elu": "a = Elu (x)\ny = Relu (a)",
    "two values": "p = Max (x, zero)\nq = Min (z, zero)\ny = Add (p, q)",
}


@pytest.mark.parametrize("name", ALONE)
def test_other_functions_stay(name: str) -> None:
    inputs = X + (", float[2, 4, 3, 3] z" if "z," in ALONE[name] else "")
    recognized(ALONE[name], inputs=inputs, modified=False)


def test_a_part_that_something_else_reads_is_no_gain() -> None:
    body = "p = Relu (x)\nq = Min (x, zero)\nb = Mul (q, k)\na = Add (p, b)\nd = Mul (p, b)\ny = Mul (a, d)"
    recognized(body, modified=False)


@given(
    st.lists(st.tuples(*[st.integers(-8, 8)] * 4), min_size=4, max_size=4),
    st.booleans(),
)
@settings(max_examples=60)
def test_any_kink_anywhere_in_each_channel(channels: list[tuple[int, int, int, int]], folds: bool) -> None:
    position, value, below, above = (vector(*(channel[index] / 4 for channel in channels)) for index in range(4))
    front = "u = Conv (x, w)" if folds else "u = Tanh (x)"
    body = (
        f"{front}\nd = Sub (u, t)\nm = Less (d, zero)\na = Mul (d, s1)\nb = Mul (d, s2)\n"
        "e = Where (m, a, b)\nf = Add (e, v)\ng = Mul (f, one)\ny = Add (g, zero)"
    )
    constants = {**CONSTANTS, "t": position, "v": value, "s1": below, "s2": above, "w": normal(4, 4, 1, 1)}
    model = build(body, X, **constants)
    flat = np.any((below == 0) & (above == 0))
    check_pass(model, RecognizePRelu(), modified=not flat)
    if not flat:
        assert sum(operators(model).values()) <= 6


class FPReLU(nn.Module):
    """FTBNN: learnt slopes on both sides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.rand(1, channels, 1, 1) + 0.5)
        self.c = nn.Parameter(torch.randn(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        positive = torch.where(x >= 0, torch.ones_like(x), torch.zeros_like(x))
        return x * positive * self.k + x * (1 - positive) * self.c


class Balanced(nn.Module):
    """A shift, both rectifiers, and a shift behind."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(1, channels, 1, 1))
        self.slope = nn.Parameter(torch.rand(1, channels, 1, 1))
        self.offset = nn.Parameter(torch.randn(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x - self.shift.expand_as(x)
        return torch.relu(x) - self.slope * torch.relu(-x) + self.offset


@pytest.mark.parametrize("kind", [FPReLU, Balanced])
def test_learnt_activations_of_pytorch(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = kind(4)
    model = export(module, 2, 4, 5, 5)
    PassRunner(compare=first_difference).run(model, PIPELINE)
    assert operators(model)["PRelu"] == 1
    assert sum(operators(model).values()) <= 3
    x = normal(2, 4, 5, 5)
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(run_model(model, {"image": x})["logits"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("falls", [False, True])
def test_where_a_function_rests_it_stays_to_the_bit(falls: bool) -> None:
    """A sign of it tells an exact 0 from what rounding makes of one: 1e-16 is +1."""
    count = 400
    below = normal(1, count, 1, 1, seed=1)
    model = recognized(
        "u = Conv (x, w)\nt = Mul (u, factor)\nq = BatchNormalization (t, gamma, beta, mean, variance)\n"
        "r = Relu (q)\ns = Add (r, below)\ny = Relu (s)",
        inputs="float[1, 1, 2, 2] x",
        w=np.ones((count, 1, 1, 1), np.float32),
        factor=np.abs(normal(1, count, 1, 1)) + np.float32(0.1),
        gamma=(np.abs(normal(count, seed=2)) + np.float32(0.1)) * (-1 if falls else 1),
        beta=normal(count, seed=3),
        mean=normal(count, seed=4),
        variance=np.abs(normal(count, seed=5)) + np.float32(0.1),
        below=below,
    )
    assert operators(model) == {"Conv": 1, "Mul": 1, "Add": 2, "Relu": 1}
    far = np.full((1, 1, 2, 2), 1000 if falls else -1000, np.float32)
    found = run_model(model, {"x": far})["y"]
    np.testing.assert_array_equal(found, np.broadcast_to(np.maximum(below, 0), found.shape))
