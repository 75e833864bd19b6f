"""chunk, split and their kin compile, in whatever form the exporter writes them; so do casts to another's type."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.errors import ExportError
from bnncc.frontend.normalize import normalize_file
from bnncc.frontend.sequences import expand_sequences
from bnncc.frontend.shapes import complete_shapes
from bnncc.ir.evaluate import run, skeleton, weights_of
from tests.frontend.proven import assert_single_output

SHAPE = (1, 6, 4, 5)


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "chunk": lambda x: x.chunk(2, 1)[0] * torch.sigmoid(x.chunk(2, 1)[1]),
    "chunk that is itself the output": lambda x: x.chunk(2, 1)[1],
    "uneven chunk": lambda x: x.chunk(4, 3)[2] + 1,
    "chunk of a chunk": lambda x: x.chunk(3, 1)[1].chunk(2, 2)[1].split([1, 4], 3)[1] * 2,
    "negative axis": lambda x: x.chunk(2, -3)[1].tanh(),
    "split into sizes": lambda x: x.split([1, 2, 3], 1)[2] + x.split([1, 2, 3], 1)[2].flip(1),
    "split by a step": lambda x: torch.cat(x.split(2, 1)[::-1], 1),
    "tensor_split": lambda x: torch.tensor_split(x, 4, 1)[1] - 1,
    "unbind": lambda x: x.unbind(2)[3] * x.unbind(2)[0],
    "iteration": lambda x: torch.stack([part * 2 for part in x[0]]),
    "relu6": F.relu6,
    "masked_fill": lambda x: x.masked_fill(x > 0.5, -1),
    "standard deviation": lambda x: x / x.std((1, 2, 3), keepdim=True),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_compiles_to_the_same_values(name: str) -> None:
    assert_single_output(Apply(FUNCTIONS[name]), SHAPE)


def test_channels_last_weights_and_transposed_ones_compile() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(6, 3, 3), nn.Conv2d(3, 4, (2, 3), groups=1))
    network[1].weight = nn.Parameter(torch.randn(2, 3, 3, 4).permute(3, 2, 0, 1))
    assert_single_output(network.to(memory_format=torch.channels_last), SHAPE)


def sequence_model(*nodes: onnx.NodeProto, **constants: np.ndarray) -> ir.Model:  # type: ignore[type-arg]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))


N = helper.make_node
ONE, TWO = np.array(1, np.int64), np.array(-2, np.int64)
MODELS = {
    "squeezed": [N("SplitToSequence", ["x"], ["s"], axis=1, keepdims=0), N("SequenceAt", ["s", "one"], ["y"])],
    "joined": [N("SplitToSequence", ["x"], ["s"], axis=0), N("ConcatFromSequence", ["s"], ["y"], axis=1)],
    "stacked": [N("SplitToSequence", ["x"], ["s"], axis=0), N("ConcatFromSequence", ["s"], ["y"], axis=0, new_axis=1)],
    "inserted": [
        N("SequenceEmpty", [], ["a"]),
        N("SequenceInsert", ["a", "x"], ["b"]),
        N("Neg", ["x"], ["n"]),
        N("SequenceInsert", ["b", "n"], ["c"]),
        N("Abs", ["x"], ["p"]),
        N("SequenceInsert", ["c", "p", "one"], ["d"]),
        N("ConcatFromSequence", ["d"], ["y"], axis=1),
    ],
    "erased": [
        N("Exp", ["x"], ["e"]),
        N("SequenceConstruct", ["x", "e", "x"], ["a"]),
        N("SequenceErase", ["a", "two"], ["b"]),
        N("SequenceAt", ["b", "two"], ["y"]),
    ],
    "counted": [
        N("SplitToSequence", ["x"], ["s"], axis=1),
        N("SequenceLength", ["s"], ["n"]),
        N("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        N("Mul", ["x", "f"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", MODELS)
def test_every_sequence_operator_is_taken_apart_exactly(name: str) -> None:
    model = sequence_model(*MODELS[name], one=ONE, two=TWO)
    x = np.random.default_rng(0).standard_normal((6, 4), dtype=np.float32)
    expected = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(["y"], {"x": x})[0]
    normalize_file(model)
    expand_sequences(model)
    complete_shapes(model)
    assert not any("Sequence" in node.op_type for node in model.graph)
    np.testing.assert_array_equal(run(skeleton(model), {**weights_of(model), "x": x})["y"], expected)


def test_a_position_that_depends_on_the_input_is_refused() -> None:
    model = sequence_model(
        N("SplitToSequence", ["x"], ["s"], axis=1),
        N("ReduceMax", ["x"], ["m"], keepdims=0),
        N("Cast", ["m"], ["i"], to=TensorProto.INT64),
        N("SequenceAt", ["s", "i"], ["y"]),
    )
    normalize_file(model)
    with pytest.raises(ExportError, match="SequenceAt 'y': a length or position depends on the network's inputs"):
        expand_sequences(model)
