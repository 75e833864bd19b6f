"""The bounds hold for float32 against float64 in any order of the sums, and follow what the values let through."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

import bnncc
from bnncc.ir.evaluate import run, skeleton
from bnncc.verification import verify, verify_in
from bnncc.verification.error_bounds import UNIT, add_error_bounds
from bnncc.verification.tolerance import largest_error
from tests.fuzz.heads import check
from tests.needs import RUNTIMES

BODIES = {
    "convolutions": "a = Conv <pads = [1, 1, 1, 1]> (x, w)  b = Relu(a)  y = Conv <pads = [1, 1, 1, 1]> (b, w)",
    "means": "a = Mul(x, x)  b = AveragePool <kernel_shape = [3, 3]> (a)  y = GlobalAveragePool(b)",
    "functions": "a = Sigmoid(x)  b = Exp(a)  c = Tanh(b)  y = Sqrt(c)",
    "cancellation": "a = Add(x, v)  b = Sub(a, v)  y = Mul(b, v)",
    "quotients": "a = Abs(x)  b = Add(a, v)  y = Div(x, b)",
    "softmax": "a = Mul(x, v)  y = Softmax(a)",
    "moves": "a = Exp(x)  b = Transpose <perm = [0, 2, 3, 1]> (a)  c = Concat <axis = 1> (b, b)  y = Softplus(c)",
    "no rule": "a = Exp(x)  b = Reciprocal(a)  y = Mul(b, b)",
}


def with_bound(body: str) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """A graph of x [1, 8, 6, 6], w [8, 8, 3, 3] and v [1, 8, 1, 1]; its output's bound is its second output."""
    text = (
        '<ir_version: 10, opset_import: ["": 20]>'
        f"g (float[1, 8, 6, 6] x, float[8, 8, 3, 3] w, float[1, 8, 1, 1] v) => (float[] y) {{ {body} }}"
    )
    proto = onnx.parser.parse_model(text)
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    model = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))
    generator = np.random.default_rng(0)
    shapes = {"x": (1, 8, 6, 6), "w": (8, 8, 3, 3), "v": (1, 8, 1, 1)}
    feeds = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    feeds["v"] = np.abs(feeds["v"]) * 100
    return model, feeds


def in_float64(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    proto = ir.serde.serialize_model(model)
    for entry in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        entry.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    (exact,) = ReferenceEvaluator(proto).run(None, {name: array.astype(np.float64) for name, array in feeds.items()})
    return np.asarray(exact)


@pytest.mark.parametrize("name", BODIES)
def test_the_error_of_float32_is_within_its_bound_and_the_bound_within_reason(name: str) -> None:
    model, feeds = with_bound(BODIES[name])
    exact = in_float64(model, feeds)
    (output,) = model.graph.outputs
    (bound,) = add_error_bounds(model, [output], {}).values()
    value, allowed = run(skeleton(model, [output, bound]), feeds).values()
    error = np.abs(value - exact)
    assert np.all(error <= allowed)
    assert error.max() > 0
    assert np.max(allowed) <= {"no rule": 1e4, "softmax": 3e3}.get(name, 300) * np.max(error)


def test_what_a_clip_does_not_let_through_has_no_error() -> None:
    limits = "lo = Constant <value_float = -1.0> ()  hi = Constant <value_float = 1.0> ()"
    model, feeds = with_bound(f"a = Mul(x, v)  {limits}  y = Clip(a, lo, hi)")
    (output,) = model.graph.outputs
    (bound,) = add_error_bounds(model, [output], {}).values()
    value, allowed = run(skeleton(model, [output, bound]), feeds).values()
    inside = np.abs(feeds["x"] * feeds["v"]) < 1
    assert np.all(allowed[np.abs(feeds["x"] * feeds["v"]) > 1.001] == 0)
    assert np.all(allowed[inside] > 0)
    assert np.all(allowed <= 8 * UNIT * np.maximum(np.abs(value), 1))


@pytest.mark.parametrize("masked", [-np.inf, -1e9])
def test_what_a_mask_hides_has_no_rounding_and_no_other_element_has_its(masked: float) -> None:
    body = "a = Mul(x, v)  s = Abs(x)  c = Greater(s, w1)  b = Where(c, a, m)  d = Add(b, m2)  y = Softmax(d)"
    model, feeds = with_bound(
        f"w1 = Constant <value_float = 0.3> ()  m = Constant <value_float = {masked}> ()  "
        f"m2 = Constant <value_floats = [0.0, 0.0, 0.0, 0.0, 0.0, {masked}]> ()  {body}"
    )
    (output,) = model.graph.outputs
    (bound,) = add_error_bounds(model, [output], {}).values()
    value, allowed = run(skeleton(model, [output, bound]), feeds).values()
    assert np.isfinite(allowed).all()
    assert np.all(allowed[value > 0.01] > 0)
    assert allowed.max() < 1e-2


def test_infinity_is_the_largest_float_and_no_other() -> None:
    largest = np.finfo(np.float32).max
    wanted = np.array([np.inf, -np.inf, 1.0], np.float32)
    assert largest_error(np.array([largest, -largest, 1.0], np.float32), wanted, 1e-9) == 0
    assert largest_error(np.array([-largest, -largest, 1.0], np.float32), wanted, 1e-9) == np.inf
    assert largest_error(np.array([1e38, -largest, 1.0], np.float32), wanted, 1e-9) == np.inf


class Masked(nn.Module):
    """Attention of a binary layer to itself and what is in front."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.hidden = nn.Parameter(torch.randn(32, 32)), torch.ones(8, 8, dtype=torch.bool).triu(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = torch.where(x >= 0, 1.0, -1.0) @ torch.where(self.weight >= 0, 1.0, -1.0)
        chosen = (q @ q.mT / 8).masked_fill(self.hidden, -torch.inf).softmax(-1) @ x
        return chosen + (q @ q.mT / 8 + torch.full((8, 8), -torch.inf).triu(1)).softmax(-1) @ x


def test_attention_with_a_mask_of_infinity_is_proven() -> None:
    compiled = bnncc.compile(Masked(), input_shapes=["1x8x32"])
    x = np.random.default_rng(0).standard_normal((1, 8, 32), dtype=np.float32)
    assert [found.problems for found in verify_in(RUNTIMES, compiled, [[x]])] == [[] for _ in RUNTIMES]


def test_values_that_are_given_have_no_error_behind_them() -> None:
    model, _ = with_bound("a = Exp(x)  y = Neg(a)")
    given = {value: 0.0 for node in model.graph for value in node.outputs if value.name == "a"}
    assert list(add_error_bounds(model, model.graph.outputs, given)) == []


def test_a_mean_of_seldom_ones_is_rounded_as_that_of_the_halves_that_the_file_adds_up() -> None:
    """s of {0, 1} is ½ + b/2 in the file: where all are 0 a layer behind the mean adds up ½ and -½ all the same."""
    model, feeds = with_bound("a = Relu(x)  m = GlobalAveragePool(a)  k = GlobalAveragePool(w)  y = Conv(m, k)")
    (ones,) = (value for node in model.graph for value in node.outputs if value.name == "a")
    (output,) = model.graph.outputs
    (bound,) = add_error_bounds(model, [output], {ones: 0.0}, {ones: 1.0}).values()
    feeds["x"] = -np.abs(feeds["x"])
    value, allowed = run(skeleton(model, [output, bound]), feeds).values()
    assert not value.any()
    assert np.all(allowed > UNIT)


class SmallLogits(nn.Module):
    """Sums of 4,096 products through a batch norm of variance 1, of which a function lets little through."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.function = function
        self.first = nn.Linear(4096, 512, bias=False)
        self.norm = nn.BatchNorm1d(512)
        self.fc = nn.Linear(512, 2)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signs, weight = (torch.where(one >= 0, 1.0, -1.0) for one in (x, self.first.weight))
        return self.fc(self.function(self.norm(nn.functional.linear(signs, weight))))


@pytest.mark.parametrize("function", [nn.functional.hardtanh, torch.tanh, nn.functional.relu])
def test_rounding_that_cancellation_allows_reaches_a_linear_of_small_outputs(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    generator = np.random.default_rng(0)
    for seed in range(3):
        compiled = bnncc.compile(SmallLogits(function, seed), input_shapes=["1x4096"])
        inputs = [[generator.standard_normal((1, 4096), dtype=np.float32)] for _ in range(6)]
        assert verify(compiled, inputs).problems == []


class TinyNorms(nn.Module):
    """Norms of values around 1e-20, whose squares are no normal numbers: some interpreters flush them to 0."""

    def __init__(self, norm: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = norm
        self.conv = nn.Conv2d(32, 12, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signs, weight = (torch.where(one >= 0, 1.0, -1.0) for one in (x, self.conv.weight))
        sums = nn.functional.conv2d(signs, weight, padding=1)
        scale = torch.tensor([1e-20, 1e-21, 1e-19, 1e-15]).repeat(3)[:, None, None]
        return self.norm((sums * scale).reshape(1, 3, 4, 36))


NORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "norm": lambda x: torch.linalg.vector_norm(x, dim=3),
    "root of squares": lambda x: (x * x).sum(dim=3).sqrt(),
}


@pytest.mark.parametrize("norm", NORMS)
def test_the_norm_of_what_is_flushed_to_zero_is_right(norm: str) -> None:
    compiled = bnncc.compile(TinyNorms(NORMS[norm]).eval(), input_shapes=["1x32x6x6"])
    inputs = [[np.random.default_rng(0).standard_normal((1, 32, 6, 6), dtype=np.float32)]]
    for found in verify_in(RUNTIMES, compiled, inputs):
        assert found.problems == [], found.runtime.title


@pytest.mark.slow
def test_no_random_head_is_refused() -> None:
    assert check(30) == (30, [])
