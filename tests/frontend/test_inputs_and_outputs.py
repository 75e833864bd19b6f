"""Networks take and return what they like: each file is proven and computes what the module computes."""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.errors import InputError
from bnncc.frontend import input_specs, trace_module
from bnncc.frontend.input_types import wants_integers
from bnncc.ir.evaluate import random_inputs
from tests.frontend.proven import assert_close, file_outputs, proven

IMAGE, BIAS = torch.Size((1, 3, 6, 5)), torch.Size((1, 4, 1, 1))


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


class Net(nn.Module):
    """A binary convolution, a table of 11 rows, a Linear; `forward` is given."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3, padding=1)
        self.table, self.linear = nn.Embedding(11, 8), nn.Linear(8, 3)
        self.forward = types.MethodType(forward, self)

    def features(self, x: Tensor) -> Tensor:
        return F.conv2d(sign(self.first(x)), sign(self.second.weight), padding=1)

    def tokens(self, ids: Tensor) -> Tensor:
        return F.linear(sign(self.table(ids)), sign(self.linear.weight))


# Inputs: name → (forward, shapes, how the test calls it from flat tensors)
Form = tuple[Callable[..., Any], list[str], Callable[..., Any]]


def by_position(network: nn.Module, *tensors: Tensor) -> Any:
    return network(*tensors)


INPUTS: dict[str, Form] = {
    "keyword-only": (lambda s, *, x: s.features(x), ["x=1x3x6x5"], lambda n, x: n(x=x)),
    "*args": (lambda s, *xs: s.features(xs[0]) + xs[1], ["1x3x6x5", "1x4x1x1"], by_position),
    "x, *args": (lambda s, x, *r: s.features(x) + sum(r), ["1x3x6x5", "1x4x1x1", "1x1x6x5"], by_position),
    "**kwargs": (lambda s, **k: s.features(k["pixels"]), ["pixels=1x3x6x5"], lambda n, x: n(pixels=x)),
    "x, **kwargs": (
        lambda s, x, **k: s.features(x) + k.get("bias", 0),
        ["1x3x6x5", "bias=1x4x1x1"],
        lambda n, x, b: n(x, bias=b),
    ),
    "optional left out": (
        lambda s, x, mask=None, bias=None, scale=2.0: s.features(x) * scale + bias,
        ["1x3x6x5", "bias=1x4x1x1"],
        lambda n, x, b: n(x, bias=b),
    ),
    "positional only with a gap": (
        lambda s, x, y=None, z=None, /: s.features(x) + z,
        ["1x3x6x5", "z=1x4x1x1"],
        lambda n, x, z: n(x, None, z),
    ),
    "given in another order": (
        lambda s, x, bias: s.features(x) + bias,
        ["bias=1x4x1x1", "x=1x3x6x5"],
        by_position,
    ),
    "dict": (
        lambda s, batch: s.features(batch["image"]) + batch["bias"],
        ["batch.image=1x3x6x5", "batch.bias=1x4x1x1"],
        lambda n, x, b: n({"image": x, "bias": b}),
    ),
    "list in a dict": (
        lambda s, batch, gain: s.features(batch["maps"][0]) * gain + batch["maps"][1],
        ["batch.maps.0=1x3x6x5", "batch.maps.1=1x4x1x1", "gain=1x1x6x5"],
        lambda n, x, b, g: n({"maps": [x, b]}, g),
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_of_every_form(name: str) -> None:
    forward, shapes, call = INPUTS[name]
    network = Net(forward)
    compiled = proven(network, shapes)
    generator = torch.Generator().manual_seed(3)
    tensors = [torch.randn(spec.shape, generator=generator) for spec in compiled.traced.inputs]
    (found,) = file_outputs(compiled, tensors).values()
    with torch.no_grad():
        assert_close(found, call(network.eval(), *tensors))


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Result:
    logits: Any
    hidden: Any = None


@dataclass(slots=True)
class Slotted:
    logits: Any
    _private: int = 0


class ModelOutput(OrderedDict[str, Any]):
    """As Hugging Face's: a mapping whose items are attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Plain:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


# Outputs: name → (what forward makes of its features, the names and how the test finds each in the result)
OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], dict[str, Callable[[Any], Tensor]]]] = {
    "dict": (lambda y: {"a": y, "b": None, "c": y * 2}, {"a": lambda r: r["a"], "c": lambda r: r["c"]}),
    "named tuple": (lambda y: Pair(y, [y + 1]), {"left": lambda r: r.left, "right": lambda r: r.right[0]}),
    "dataclass": (lambda y: Result(y), {"logits": lambda r: r.logits}),
    "nested dataclass": (
        lambda y: Result(y, Pair(y - 1, {"deep": y * 3})),
        {
            "logits": lambda r: r.logits,
            "hidden_left": lambda r: r.hidden.left,
            "hidden_right_deep": lambda r: r.hidden.right["deep"],
        },
    ),
    "slots": (lambda y: Slotted(y), {"logits": lambda r: r.logits}),
    "model output": (
        lambda y: ModelOutput(logits=y, states=(y + 1, y + 2)),
        {"logits": lambda r: r.logits, "states_0": lambda r: r.states[0], "states_1": lambda r: r.states[1]},
    ),
    "plain object": (lambda y: Plain(scores=y, note="text"), {"scores": lambda r: r.scores}),
    "detections": (
        lambda y: [{"boxes": y, "n": 1}, {"boxes": y * 2}],
        {"boxes_0": lambda r: r[0]["boxes"], "boxes_1": lambda r: r[1]["boxes"]},
    ),
    "nested lists": (
        lambda y: (y, [None, (y + 1,)], 3.0),
        {"output_0": lambda r: r[0], "output_1": lambda r: r[1][1][0]},
    ),
    "the same tensor twice": (lambda y: (y, y), {"output_0": lambda r: r[0], "output_1": lambda r: r[1]}),
    "clashing names": (
        lambda y: {"a": [y, y + 1], "a_0": y + 2},
        {"a_0": lambda r: r["a"][0], "a_1": lambda r: r["a"][1], "a_0_0": lambda r: r["a_0"]},
    ),
    "the name of an input": (lambda y: {"x": y, "y": y + 1}, {"x_0": lambda r: r["x"], "y": lambda r: r["y"]}),
    "integers": (lambda y: (y, y.argmax(1)), {"output_0": lambda r: r[0], "output_1": lambda r: r[1]}),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_of_every_form(name: str) -> None:
    make, expected = OUTPUTS[name]
    network = Net(lambda s, x: make(s.features(x)))
    compiled = proven(network, ["1x3x6x5"])
    x = torch.randn(IMAGE, generator=torch.Generator().manual_seed(4))
    found = file_outputs(compiled, [x])
    with torch.no_grad():
        result = network.eval()(x)
    assert list(found) == list(expected)
    for key, of in expected.items():
        assert_close(found[key], of(result))


@pytest.mark.parametrize("make", [lambda s, x: (s.features(x), x), lambda s, x: x, lambda s, x: {"in": x, "again": x}])
def test_an_input_may_be_returned_as_it_is(make: Callable[..., Any]) -> None:
    network = Net(make)
    compiled = proven(network, ["1x3x6x5"])
    x = torch.randn(IMAGE, generator=torch.Generator().manual_seed(4))
    found = file_outputs(compiled, [x])
    np.testing.assert_array_equal(list(found.values())[-1], x.numpy())


def test_a_constant_may_be_returned_however_large() -> None:
    table = torch.arange(130.0).reshape(10, 13)
    network = Net(lambda s, x: (s.features(x), table @ table.t(), table))
    compiled = proven(network, ["1x3x6x5"])
    _, product, found = file_outputs(compiled, [torch.randn(IMAGE)]).values()
    np.testing.assert_array_equal(found, table.numpy())
    np.testing.assert_array_equal(product, (table @ table.t()).numpy())


@pytest.mark.parametrize("make", [lambda y: y.mean(), lambda y: y > 0, lambda y: {"n": (y > 0).sum()}])
def test_scalars_and_truth_values_are_outputs(make: Callable[[Tensor], Any]) -> None:
    network = Net(lambda s, x: make(s.features(x)))
    compiled = bnncc.compile(network, input_shapes=["1x3x6x5"])
    x = torch.randn(IMAGE, generator=torch.Generator().manual_seed(4))
    (found,) = file_outputs(compiled, [x]).values()
    with torch.no_grad():
        result = network.eval()(x)
    assert_close(found, result["n"] if isinstance(result, dict) else result)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda y: None, "forward returns no tensor"),
        (lambda y: "logits", "forward returns no tensor"),
        (lambda y: torch.fft.fft(y), "output is complex: return torch.view_as_real"),
        (lambda y: {"a": y.to_sparse()}, r"a is sparse: return its to_dense\(\)"),
    ],
)
def test_what_no_file_can_return_is_refused(make: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bnncc.compile(Net(lambda s, x: make(s.features(x))), input_shapes=["1x3x6x5"])


# Integers: name → (forward, shapes, types)
INTEGERS: dict[str, tuple[Callable[..., Any], list[str], list[str]]] = {
    "int64": (lambda s, ids: s.tokens(ids), ["1x7:int64"], ["int64"]),
    "int32": (lambda s, ids: s.tokens(ids), ["ids=1x7:int32"], ["int32"]),
    "found by trying": (lambda s, ids: s.tokens(ids), ["1x7"], ["int64"]),
    "one of two found": (lambda s, x, ids: s.tokens(ids) * x, ["1x1x3", "1x7"], ["float32", "int64"]),
    "mask": (lambda s, x, m: s.features(x).masked_fill(m, -2.0), ["1x3x6x5", "m=1x1x6x5:bool"], ["float32", "bool"]),
    "mask found": (lambda s, x, m: torch.where(m, s.features(x), 0.5), ["1x3x6x5", "1x1x6x5"], ["float32", "bool"]),
    "pixels": (lambda s, x: s.features(x.float() / 255 - 0.5), ["1x3x6x5:uint8"], ["uint8"]),
    "signed bytes": (lambda s, x: s.features(x / 100), ["1x3x6x5:int8"], ["int8"]),
    "cast first": (lambda s, ids: s.tokens(ids.long().reshape(7, 1)), ["1x7:int32"], ["int32"]),
    "one_hot": (lambda s, ids: F.one_hot(ids.view(7), 11).float() @ s.table.weight, ["1x7"], ["int64"]),
    "index_select": (lambda s, ids: s.table.weight.index_select(0, ids) * 2, ["7:int64"], ["int64"]),
    "index into a map": (
        lambda s, x, ids: s.features(x).index_select(3, ids),
        ["1x3x6x5", "4:int64"],
        ["float32", "int64"],
    ),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_inputs(name: str) -> None:
    forward, shapes, dtypes = INTEGERS[name]
    network = Net(forward)
    compiled = proven(network, shapes)
    assert [spec.dtype for spec in compiled.traced.inputs] == dtypes
    inputs = random_inputs(compiled.traced.model, 11)
    assert [array.dtype.name for array in inputs] == dtypes
    (found,) = file_outputs(compiled, inputs).values()
    with torch.no_grad():
        assert_close(found, network.eval()(*map(torch.from_numpy, inputs)))


def test_what_is_found_is_reported_with_the_option_that_says_it() -> None:
    traced = bnncc.compile(Net(lambda s, ids: s.tokens(ids)), input_shapes=["1x7"]).traced
    (warning,) = traced.warnings
    assert "ids is taken as int64" in warning
    assert "--input-shape ids=1x7:int64" in warning
    assert traced.inputs[0].range == (0, 11)


@pytest.mark.parametrize("annotation", [torch.LongTensor, "torch.LongTensor", "LongTensor | None"])
def test_an_annotation_says_the_type(annotation: Any) -> None:
    def forward(self: Net, ids: Tensor) -> Any:
        return self.tokens(ids)

    forward.__annotations__["ids"] = annotation
    (spec,) = input_specs(Net(forward), ["1x7"])
    assert spec.dtype == "int64"
    assert trace_module(Net(forward), [spec]).warnings == []


def test_random_values_reach_every_row_and_no_further() -> None:
    shape = ["1x500:int64"]
    traced = bnncc.compile(Net(lambda s, ids: s.tokens(ids)), input_shapes=shape).traced
    assert set(random_inputs(traced.model, 0)[0].ravel()) == set(range(11))
    given = bnncc.compile(Net(lambda s, ids: s.tokens(ids)), input_shapes=shape, input_ranges={"ids": (2, 6)}).traced
    assert set(random_inputs(given.model, 0)[0].ravel()) == set(range(2, 6))


def test_an_argument_of_another_type_is_no_complaint_about_the_input() -> None:
    x = torch.ones(1, 1, 2, 2)
    with pytest.raises(TypeError, match="must be tuple of ints") as caught:
        torch.conv_transpose2d(x, x, None, 2, 0, 0, 1, True)  # type: ignore[call-overload]
    assert not wants_integers(caught.value)


def test_a_range_of_floats_is_kept_as_well() -> None:
    network = Net(lambda s, x: s.features(x.log()))
    traced = bnncc.compile(network, input_shapes=["1x3x6x5"], input_ranges={"x": (0.5, 4)}).traced
    values = random_inputs(traced.model, 0)[0]
    assert 0.5 <= values.min() < 1.5 < 3 < values.max() < 4


def test_integers_without_a_range_are_reported() -> None:
    (warning,) = bnncc.compile(Net(lambda s, n: n.float() * 2), input_shapes=["1x3:int64"]).traced.warnings
    assert "the random values of n are 0 and 1" in warning
    assert "--input-range n=0:100" in warning


@pytest.mark.parametrize(
    ("forward", "shapes", "ranges", "message", "advises_shape"),
    [
        (lambda s, x: s.features(x), ["1x4x6x5"], {}, "expected input.* to have 3 channels", True),
        (lambda s, x: s.linear(x), ["1x9"], {}, "mat1 and mat2 shapes", True),
        (lambda s, x: s.features(x) + torch.zeros(7), ["1x3x6x5"], {}, "must match the size of tensor", True),
        (lambda s, x: s.missing(x), ["1x3x6x5"], {}, "no attribute 'missing'", False),
        (lambda s, x: {}["size"], ["1x3x6x5"], {}, "KeyError: 'size'", False),
        (lambda s, x: np.load("/nowhere/shape.npy"), ["1x3x6x5"], {}, "No such file", False),
        (lambda s, ids: s.tokens(ids), ["1x7:int64"], {"ids": (0, 40)}, "--input-range ids=0:100", False),
        (lambda s, ids: s.tokens(ids.float()), ["1x7:int64"], {}, "wants integers", False),
    ],
)
def test_a_failing_forward_is_explained_by_its_kind(
    forward: Callable[..., Any], shapes: list[str], ranges: dict[str, Any], message: str, advises_shape: bool
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        bnncc.compile(Net(forward), input_shapes=shapes, input_ranges=ranges)
    assert ("Check the input shape" in str(caught.value)) == advises_shape


@pytest.mark.parametrize(
    ("shapes", "ranges", "message"),
    [
        (["1x7:float16"], {}, "an input cannot be float16; the types are float32, int64"),
        (["ids=1x7:int64"], {"idx": (0, 3)}, "no such input of forward, which takes ids"),
        (["ids=1x7:int64"], {"ids": (3, 3)}, "cannot read the input range"),
        (["ids=1x7:uint8"], {"ids": (0, 300)}, "these are no values of uint8"),
        (["ids=1x7:int64"], {"ids": (0, 2.5)}, "these are no values of int64"),
        (["ids.0=1x7", "ids=1x7"], {}, "'ids' is no input of forward, which takes ids.0"),
        (["1x7", "mask=1x7"], {}, "'mask' is no input of forward"),
    ],
)
def test_what_cannot_be_an_input_is_refused(shapes: list[str], ranges: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bnncc.compile(Net(lambda s, ids: s.tokens(ids)), input_shapes=shapes, input_ranges=ranges)


def test_a_parameter_that_is_no_tensor_is_named() -> None:
    def forward(self: Net, x: Tensor, mode: str) -> Any:
        return self.features(x)

    with pytest.raises(InputError, match="needs a value for mode, which is no tensor: give it a default"):
        bnncc.compile(Net(forward), input_shapes=["1x3x6x5"])


class Conditional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.cond(x.sum() > 0, torch.sign, torch.neg, (x,))
        return result


def test_a_higher_order_operator_is_named_with_its_line() -> None:
    with pytest.raises(bnncc.InputError) as caught:
        bnncc.compile(Conditional(), input_shapes=["1x3x4x4"])
    message = str(caught.value)
    assert message.startswith("forward calls torch's higher-order operator `cond`")
    assert "test_inputs_and_outputs.py" in message
    assert " object at 0x" not in message
