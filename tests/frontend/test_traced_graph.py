"""What the traced graph looks like: names, shapes, metadata, outputs, exporters."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.errors import ExportError, InputError
from bnncc.frontend import InputSpec, TracedModel, source_of, trace_module
from bnncc.frontend.normalize import all_nodes
from bnncc.frontend.source import module_of
from tests.networks import ReActNet
from tests.networks.full_size import compiled, shares

IMAGE = [InputSpec("x", (1, 2, 6, 6))]


class Binarize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sign(x)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.binarize = Binarize()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.binarize(x))


class Twice(nn.Module):
    """One layer called twice, inside a container."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Layer())

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        return self.layers(x) + 1


class ChecksInput(Twice):
    """torch.export cannot guard on a value of the input; tracing leaves the check out."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        if x.isinf().any():
            raise ValueError("infinite")
        return super().forward(x) / self.temperature


def check_invariants(traced: TracedModel) -> None:
    """What every pass may rely on."""
    graph = traced.model.graph
    assert graph.opset_imports[""] >= 18
    assert not traced.model.functions
    values = [*graph.inputs, *graph.initializers.values(), *(v for node in all_nodes(graph) for v in node.outputs)]
    assert len({value.name for value in values}) == len(values)
    nodes = list(all_nodes(graph))
    assert len({node.name for node in nodes}) == len(nodes)
    for value in values:
        assert value.name
        assert value.shape is not None, value.name
        assert value.shape.is_static(), value.name
        assert value.dtype is not None, value.name
    assert [(value.name, tuple(value.shape or ())) for value in graph.inputs] == [
        (spec.name, spec.shape) for spec in traced.inputs
    ]
    for node in nodes:
        assert {key for key in node.metadata_props if not key.startswith("bnncc.")} == set()
    assert set(traced.seconds) == {"load", "export", "check"}


def run_in_onnx_runtime(model: ir.Model, *inputs: Any) -> list[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {entry.name: array for entry, array in zip(session.get_inputs(), inputs, strict=True)})


def names(traced: TracedModel) -> list[str | None]:
    return [value.name for value in traced.model.graph.outputs]


@pytest.mark.parametrize(("network", "exporter"), [(Twice(), "torch.export"), (ChecksInput(), "TorchScript")])
def test_values_and_nodes_are_named_after_the_modules_of_the_user(network: nn.Module, exporter: str) -> None:
    traced = trace_module(network, IMAGE)
    assert traced.exporter == exporter
    check_invariants(traced)
    graph = traced.model.graph
    assert [node.name for node in graph if node.op_type == "Conv"] == ["layers.0.conv/Conv", "layers.0.conv/Conv_1"]
    assert [node.outputs[0].name for node in graph if node.op_type == "Sign"] == [
        "layers.0.binarize/Sign",
        "layers.0.binarize/Sign_1",
    ]
    assert {module_of(node) for node in graph if node.op_type == "Conv"} == {"layers.0.conv"}
    assert "layers.0.conv.weight" in graph.initializers
    assert names(traced) == ["output"]


@pytest.mark.parametrize("network", [Twice(), ChecksInput()])
def test_nodes_know_the_users_own_source_line(network: nn.Module) -> None:
    traced = trace_module(network, IMAGE)
    for node in traced.model.graph:
        expected = {"Sign": "return torch.sign(x)", "Conv": "return self.conv(self.binarize(x))"}.get(node.op_type)
        if expected is not None:
            location = source_of(node)
            assert location is not None
            assert location.text == expected
            assert location.function == "forward"
            with open(location.file) as file:
                assert file.readlines()[location.line - 1].strip() == expected
            assert str(location) == f"test_traced_graph.py:{location.line} in forward: {expected}"


def test_a_network_without_code_of_its_own_has_no_source_lines() -> None:
    traced = trace_module(nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()), IMAGE)
    assert [node.name for node in traced.model.graph] == ["0/Conv", "1/Relu"]
    assert [source_of(node) for node in traced.model.graph] == [None, None]


def test_a_fallback_to_the_other_exporter_is_reported_with_its_reason() -> None:
    (warning,) = trace_module(ChecksInput(), IMAGE).warnings
    assert "TorchScript exporter was used" in warning
    assert "if x.isinf().any():" in warning
    assert warning.count("\n") < 8


def test_a_network_that_neither_exporter_takes_is_an_error_with_the_cause_and_the_line() -> None:
    class Unknown(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eigvals(x[0, 0] + 1.0).real * (2.0 if float(x.mean()) > 1e9 else 1.0)

    with pytest.raises(ExportError) as caught:
        trace_module(Unknown(), IMAGE)
    message = str(caught.value)
    assert "torch.export: " in message
    assert "TorchScript: " in message
    assert "in forward: return torch.linalg.eigvals" in message
    assert len(message.splitlines()) < 16


class Returns(nn.Module):
    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x + 1, x * 2)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda a, b: (a, None), ["output"]),
        (lambda a, b: (a, None, [b, (a,)]), ["output_0", "output_1", "output_2"]),
        (lambda a, b: {"logits": a, "aux": None, "features": [a, b]}, ["logits", "features_0", "features_1"]),
        (lambda a, b: [a, 3, "text", b], ["output_0", "output_1"]),
    ],
)
def test_only_tensors_are_outputs(make: Any, expected: list[str]) -> None:
    traced = trace_module(Returns(make), IMAGE)
    check_invariants(traced)
    assert names(traced) == expected
    x = np.random.default_rng(1).standard_normal((1, 2, 6, 6), dtype=np.float32)
    assert traced.run_module is not None
    for ours, reference in zip(run_in_onnx_runtime(traced.model, x), traced.run_module([x]), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-6)


def test_an_input_or_parameter_may_be_an_output() -> None:
    class Passes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, self.scale

    traced = trace_module(Passes(), IMAGE)
    check_invariants(traced)
    assert names(traced) == ["output_0", "output_1"]


def test_a_network_without_tensor_outputs_is_refused() -> None:
    with pytest.raises(InputError, match="forward returns no tensor"):
        trace_module(Returns(lambda a, b: None), IMAGE)


def test_several_inputs_keep_their_names_and_order() -> None:
    class Two(nn.Module):
        def forward(self, image: Tensor, mask: Tensor, unused: Tensor) -> Tensor:
            return image.sign() * mask

    inputs = [InputSpec("image", (1, 1, 4, 4)), InputSpec("mask", (4,)), InputSpec("unused", (2,))]
    traced = trace_module(Two(), inputs)
    check_invariants(traced)
    (outputs,) = run_in_onnx_runtime(
        traced.model, -np.ones((1, 1, 4, 4), "f"), np.arange(4, dtype="f"), np.ones(2, "f")
    )
    np.testing.assert_array_equal(outputs[0, 0, 0], [0, -1, -2, -3])


def test_forward_may_count_and_remember() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))
            self.last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = x.sign()
            return F.relu(self.last)

    network = Remembers()
    traced = trace_module(network, IMAGE)
    check_invariants(traced)
    assert names(traced) == ["output"]
    assert network.last is None
    assert float(network.calls) == 0


def test_the_network_runs_in_eval_mode_and_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.9)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    traced = trace_module(network, IMAGE)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    x = np.ones((1, 2, 6, 6), np.float32)
    assert traced.run_module is not None
    np.testing.assert_array_equal(traced.run_module([x])[0], traced.run_module([x])[0])


def test_a_tensor_that_the_constructor_computed_does_not_stand_in_the_way() -> None:
    class Computes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 1, 1))
            self.scale = self.weight.abs() * 2  # not a leaf: copy.deepcopy refuses it

        def forward(self, x: Tensor) -> Tensor:
            return x.sign() * self.scale

    check_invariants(trace_module(Computes(), IMAGE))


def test_a_state_that_is_no_array_does_not_stand_in_the_way() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("pattern", torch.eye(3).to_sparse())

        def get_extra_state(self) -> dict[str, str]:
            return {"version": "1"}

        def set_extra_state(self, state: dict[str, str]) -> None: ...

        def forward(self, x: Tensor) -> Tensor:
            return x.sign()

    check_invariants(trace_module(Keeps(), IMAGE))


def test_shapes_are_static_where_the_exporter_leaves_them_open() -> None:
    check_invariants(trace_module(ReActNet(((8, 1), (16, 2)), stem=8, classes=10), [InputSpec("x", (1, 3, 32, 32))]))


@pytest.mark.slow
@shares("reactnet_a")
def test_reactnet_a_is_traced_and_agrees_with_pytorch() -> None:
    traced = compiled("reactnet_a").traced
    check_invariants(traced)
    graph = traced.model.graph
    assert traced.exporter == "torch.export"
    convolutions = [node for node in graph if node.op_type == "Conv"]
    assert len(convolutions) == 32
    assert "blocks.3.conv3x3/Conv" in {node.name for node in convolutions}
    assert {str(source_of(node)).split(":")[0] for node in graph if node.op_type == "Sign"} == {"binarize.py"}
