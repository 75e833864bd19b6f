"""The check tells a wrong graph from a right one whose signs flipped by rounding."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import bnncc
from bnncc.errors import InputError, TraceMismatchError
from bnncc.frontend import InputSpec, trace_module
from bnncc.frontend.alignment import align
from bnncc.frontend.constant_signs import pin_constant_signs
from bnncc.frontend.copying import copy_of
from bnncc.frontend.flatten_outputs import FlattenOutputs
from bnncc.frontend.flips import differing, explained
from bnncc.frontend.recording import Operation, Recording, record
from bnncc.frontend.trace_check import check_trace
from bnncc.ir.evaluate import Array
from bnncc.ir.rounding import ROUNDING, relative_error
from bnncc.verification import verify

SHAPE = (1, 2, 6, 6)


class Net(nn.Module):
    """Two binary convolutions; the weights of the first are centred before the sign."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(2, 4, 3, bias=False)
        self.conv2 = nn.Conv2d(4, 3, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.bn.running_mean = torch.tensor([0.5, -1.5, 2.0, 3.0])

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv1.weight
        weight = torch.sign(weight - weight.mean())
        x = self.bn(nn.functional.conv2d(torch.sign(x), weight))
        return self.conv2(torch.sign(x + 0.25))


class Fixture:
    """A traced network, its inputs and its first recording, for calling the check directly."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()
        self.model = trace_module(network, [InputSpec("x", SHAPE)]).model
        self.inputs = [[np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32)] for seed in (5, 6)]

    def record(self, arrays: "list[Array]") -> Recording:
        return record(FlattenOutputs(copy_of(self.network), ["x"]), [torch.from_numpy(array) for array in arrays])

    def run(self, arrays: "list[Array]") -> list[Array]:
        return list(self.record(arrays).outputs.values())

    def check(self) -> list[str]:
        return check_trace(self.model, self.inputs, self.run, self.record, self.record(self.inputs[0]))  # type: ignore[arg-type]

    def node(self, name: str) -> ir.Node:
        return next(node for node in self.model.graph if node.name == name)

    def insert_behind(self, value: ir.Value, operator: str, *others: float) -> None:
        """value ─ operator(others) ─ what read value"""
        uses = list(value.uses())
        constants = [
            ir.val(f"{value.name}/constant", const_value=ir.tensor(np.float32(other), name=f"{value.name}/constant"))
            for other in others
        ]
        for constant in constants:
            self.model.graph.register_initializer(constant)
        node = ir.node(operator, [value, *constants])
        node.outputs[0].name = f"{value.name}/edited"
        node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
        producer = value.producer()
        assert producer is not None
        self.model.graph.insert_after(producer, node)
        for user, index in uses:
            user.replace_input_with(index, node.outputs[0])


def test_a_right_graph_passes_without_a_word() -> None:
    assert Fixture(Net()).check() == []


def test_a_lost_sign_is_named_with_its_source_line() -> None:
    fixture = Fixture(Net())
    sign = [node for node in fixture.model.graph if node.op_type == "Sign"][-1]
    assert sign.inputs[0] is not None
    sign.outputs[0].replace_all_uses_with(sign.inputs[0])
    fixture.model.graph.remove(sign, safe=True)
    with pytest.raises(TraceMismatchError) as caught:
        fixture.check()
    message = str(caught.value)
    assert "The first layer that differs: Conv 'conv2' (test_trace_check.py:" in message
    assert "Sign at test_trace_check.py:" in message
    assert "return self.conv2(torch.sign(x + 0.25))" in message


def test_a_wrong_constant_is_found_at_the_layer_it_belongs_to() -> None:
    fixture = Fixture(Net())
    fixture.insert_behind(fixture.node("bn/BatchNormalization").inputs[0], "Mul", 1.5)  # type: ignore[arg-type]
    with pytest.raises(TraceMismatchError, match=r"The first layer that differs: BatchNormalization 'bn' \(test_trace"):
        fixture.check()


def test_a_wrong_graph_is_found_where_only_later_inputs_show_it() -> None:
    class OneSided(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 100, x, -x)

    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -x

    far = np.full(SHAPE, 200, np.float32)
    fixture = Fixture(Flat())
    fixture.network = OneSided()
    assert fixture.check() == []
    fixture.inputs.append([far])
    with pytest.raises(TraceMismatchError, match="output 'output'"):
        fixture.check()


def test_signs_that_rounding_flips_are_a_warning_with_their_number() -> None:
    """The graph's sums are off by 3e-7 of their size, as another order of the additions would make them; the
    network's own sums are exact zeros in many places, of which each decides a sign."""

    class Cancels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 8, 3, bias=False)
            self.out = nn.Conv2d(8, 2, 1, bias=False)
            with torch.no_grad():
                self.conv.weight.copy_(self.conv.weight.sign() / 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.sign(self.conv(torch.sign(x)) + 1e-9))

    fixture = Fixture(Cancels())
    (convolution, _) = (node for node in fixture.model.graph if node.op_type == "Conv")
    fixture.insert_behind(convolution.outputs[0], "Add", -2e-7)
    warnings = fixture.check()
    assert len(warnings) == 2
    assert all("signs flipped by rounding" in warning for warning in warnings)
    assert not warnings[0].startswith("check input 0: 0 of")


class Spread(nn.Module):
    """Values far from 0, less their mean, over their standard deviation; then a Linear, and signs where asked for."""

    def __init__(self, kind: str, offset: float, signs: bool = False) -> None:
        super().__init__()
        self.kind, self.offset, self.signs = kind, offset, signs
        self.conv, self.linear = nn.Conv2d(2, 16, 3), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) + self.offset
        if self.kind == "layer norm":
            x = nn.functional.layer_norm(x, x.shape[1:])
        elif self.kind == "instance norm":
            x = nn.functional.instance_norm(x)
        elif self.kind == "mean of squares":
            mean = x.mean((2, 3), keepdim=True)
            x = (x - mean) / ((x * x).mean((2, 3), keepdim=True) - mean**2 + 1e-5).sqrt()
        else:
            x = (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)
        y: Tensor = self.linear(torch.sign(x).sum((2, 3)) if self.signs else x.amax((2, 3)))
        return y


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize(
    ("kind", "offset"),
    [("layer norm", 30000), ("instance norm", 1000), ("mean of squares", 30), ("deviation", 1000)],
)
def test_what_cancels_is_off_by_what_was_rounded_in_front(kind: str, offset: float, signs: bool) -> None:
    """Such a graph differs by up to 1 % of its largest value, a hundred times more than sums do, and is right."""
    torch.manual_seed(1)
    assert all("signs flipped by rounding" in warning for warning in Fixture(Spread(kind, offset, signs)).check())


@pytest.mark.parametrize("signs", [False, True])
def test_what_cancels_inside_a_batch_norm_is_off_by_its_own_roundings(signs: bool) -> None:
    class AtZero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3)
            self.norm.running_mean, self.norm.running_var = torch.tensor([0.7, -1.3]), torch.tensor([0.3, 2.1])
            self.norm.bias.data = torch.tensor([0.4, 0.9])

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x)
            y: Tensor = self.conv(torch.sign(x) if signs else x)
            return y

    torch.manual_seed(1)
    network = AtZero()
    deviation = torch.sqrt(network.norm.running_var.double() + network.norm.eps)
    zero = (network.norm.running_mean.double() - network.norm.bias.double() * deviation).detach().numpy()
    fixture = Fixture(network)
    near = [1 + np.random.default_rng(seed).integers(-2, 3, SHAPE) * 2.0**-24 for seed in (5, 6)]
    fixture.inputs = [[(zero.reshape(1, -1, 1, 1) * factor).astype(np.float32)] for factor in near]
    assert all("signs flipped by rounding" in warning for warning in fixture.check())
    if not signs:  # of which each, at its zero, may be either
        fixture.insert_behind(fixture.node("norm/BatchNormalization").outputs[0], "Add", 1e-4)
        with pytest.raises(TraceMismatchError):
            fixture.check()


@pytest.mark.parametrize("edit", [("Mul", 1.05), ("Add", 0.1)])
def test_what_cancels_hides_no_wrong_graph(edit: tuple[str, float]) -> None:
    torch.manual_seed(1)
    fixture = Fixture(Spread("instance norm", 1000))
    fixture.insert_behind(fixture.node("linear/Gemm").inputs[0], *edit)  # type: ignore[arg-type]
    with pytest.raises(TraceMismatchError, match=r"rounding explains 0\.00"):
        fixture.check()


def test_outputs_that_are_no_numbers_are_named() -> None:
    class Overflows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(x * 1e30 * 1e30)

    warnings = Fixture(Overflows()).check()
    assert "check input 0: 72 of the 72 values of output 'output' are NaN or infinite, in PyTorch itself" in warnings[0]


def test_a_shift_that_is_too_large_for_rounding_is_refused() -> None:
    fixture = Fixture(Net())
    fixture.insert_behind(fixture.node("bn/BatchNormalization").outputs[0], "Add", 1.0)
    with pytest.raises(TraceMismatchError, match="values differ, and not by rounding"):
        fixture.check()


def test_check_inputs_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="check input 0 has the shapes 1x2; the network takes x of 1x2x6x6"):
        trace_module(Net(), [InputSpec("x", SHAPE)], check_inputs=[[np.zeros((1, 2), np.float32)]])


def test_constant_signs_that_depend_on_rounding_take_the_values_of_pytorch() -> None:
    fixture = Fixture(Net())
    recording = fixture.record(fixture.inputs[0])
    pairs = align(recording.operations, fixture.model.graph).pairs
    assert pin_constant_signs(fixture.model, pairs) == {}
    (operation,) = (
        one for one, node in pairs if node.op_type == "Sign" and one.output.ndim == 4 and one.output.shape[2] == 3
    )
    # As if PyTorch had rounded the mean differently: one weight lies on the other side.
    operation.kept.flat[3] *= -1
    operation.inputs[0].flat[3] = -1e-9
    assert pin_constant_signs(fixture.model, pairs) == {id(operation): 1}
    (convolution, _) = (node for node in fixture.model.graph if node.op_type == "Conv")
    weight = convolution.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    assert weight.name == "Sign"
    np.testing.assert_array_equal(weight.const_value.numpy(), operation.output)
    assert "conv1.weight" not in fixture.model.graph.initializers


def test_constant_signs_that_rounding_does_not_explain_are_left_for_the_check() -> None:
    fixture = Fixture(Net())
    with torch.no_grad():
        fixture.network.conv1.weight *= -1  # type: ignore[operator, union-attr]
    with pytest.raises(
        TraceMismatchError, match=r"The first layer that differs: Sign .* 72 of 72 values differ|differ"
    ):
        fixture.check()


@pytest.mark.parametrize(
    ("kind", "inputs", "near"),
    [
        ("Sign", ([0.0, 1e-6, 0.1],), [True, True, False]),
        ("Less", ([0.5, 0.500001, 0.7], [0.5]), [True, True, False]),
        ("Round", ([0.5, 1.500001, 1.2],), [True, True, False]),
        ("Floor", ([1.0, 1.999999, 1.5],), [True, True, False]),
    ],
)
def test_a_flip_is_explained_near_the_threshold_only(
    kind: str, inputs: tuple[list[float], ...], near: list[bool]
) -> None:
    operands = tuple(np.array(one, np.float32) for one in inputs)
    operation = Operation(kind, np.zeros(3), np.dtype(np.float64), operands, None)
    assert explained(operation, np.ones(3)).tolist() == near


@pytest.mark.parametrize("kept", [False, True])
def test_a_choice_is_explained_between_equals_only(kept: bool) -> None:
    x = np.array([[1.0, 1.000001, 0.5], [2.0, 3.0, 3.0], [0.0, 0.0, 9.0]], np.float32)
    chosen, other = (np.array(indices).reshape((3, 1) if kept else (3,)) for indices in ([1, 1, 2], [0, 2, 0]))
    operation = Operation("ArgMax", chosen, np.dtype(np.int64), (x,), None, axis=1)
    assert explained(operation, other).reshape(-1).tolist() == [True, True, False]
    assert not explained(operation, np.full_like(chosen, 3)).any()


def segmented(kind: str, x: Tensor) -> "Tensor | tuple[Tensor, ...]":
    """What networks choose of sums that are often equal."""
    if kind == "argmax":
        return x.argmax(1)
    if kind == "argmin, as floats":
        return torch.argmin(x, 1, keepdim=True).float()
    if kind == "topk":
        return torch.topk(x.permute(0, 2, 3, 1), 3)
    if kind == "max":
        return tuple(x.max(1))
    return torch.softmax(x, 1).flatten(1).argmax()


class Segments(nn.Module):
    """A binary convolution of 5 classes, averaged, and the class of each pixel."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Conv2d(2, 32, 3, padding=1), nn.Conv2d(32, 5, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> "Tensor | tuple[Tensor, ...]":
        x = nn.functional.conv2d(torch.sign(self.first(x)), 0.37 * torch.sign(self.second.weight), padding=1)
        return segmented(self.kind, 0.1234 * nn.functional.avg_pool2d(x, 3, 1, 1))


@pytest.mark.parametrize("kind", ["argmax", "argmin, as floats", "topk", "max", "all"])
def test_a_choice_between_equals_is_a_jump(kind: str) -> None:
    """Averages of multiples of 0.37 are equal but for their rounding at every tenth pixel."""
    torch.manual_seed(0)
    network = Segments(kind).eval()
    compiled = bnncc.compile(network, input_shapes=[(1, 2, 48, 48)])
    result = verify(
        compiled, [[np.random.default_rng(seed).standard_normal((1, 2, 48, 48), np.float32)] for seed in (0, 1)]
    )
    assert result.passed, result.problems


def test_errors_are_relative_to_the_largest_magnitude_and_nan_is_no_agreement() -> None:
    reference = np.array([1.0, -4.0], np.float32)
    assert relative_error(np.array([1.0, -4.4], np.float32), reference) == pytest.approx(0.1)
    assert relative_error(np.array([np.nan, -4.0], np.float32), reference) == np.inf
    assert relative_error(np.array([np.nan, 1.0], np.float32), np.array([np.nan, 1.0], np.float32)) == 0
    assert relative_error(np.zeros(3, np.float32), reference) == np.inf
    assert relative_error(np.array([1e-9], np.float32), np.array([0.0], np.float32)) == np.inf
    assert not differing(np.array([np.nan]), np.array([np.nan])).any()
    assert ROUNDING < 1e-3
