import numpy as np
import onnx_ir as ir
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema

from bnncc.errors import UnsupportedOperatorsError
from bnncc.ir.graph import MODULE_KEY, SOURCE_KEY
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.layout import CHANNELS_LAST, PLAIN, ordered, reshaped_order
from bnncc.targets.tflite.writer import BUFFER_ALIGNMENT, unpack
from tests.targets.tflite.compare import assert_same, export, node_model, normal, operators

X = "float[1, 3, 8, 8] x"
# Where a Buffer's table holds the offset of its data.
DATA_FIELD = 4


class Network(torch.nn.Module):
    """The float parts of a Bi-Real-Net: stem, shortcut with pooling, concatenation, RPReLU, head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 7, 2, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.pool = torch.nn.MaxPool2d(3, 2, 1)
        self.shift = torch.nn.Parameter(torch.randn(1, 16, 1, 1))
        self.activation = torch.nn.PReLU(16)
        self.down = torch.nn.Sequential(torch.nn.AvgPool2d(2, 2), torch.nn.Conv2d(16, 32, 1, bias=False))
        self.head = torch.nn.Linear(32, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.stem(x))))
        x = torch.cat([x, x], 1) + self.shift.expand_as(torch.cat([x, x], 1))
        x = self.down(self.activation(x))
        return self.head(torch.nn.functional.adaptive_avg_pool2d(x, 1).view(x.size(0), -1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return export(Network(), (1, 3, 32, 32))


def test_a_network_runs_without_a_transpose(network):
    assert operators(assert_same(network))["TRANSPOSE"] == 0


def test_emission_is_deterministic(network):
    assert emit(network) == emit(network)


def test_constants_are_aligned(network):
    model = schema.Model.GetRootAs(emit(network, metadata={"note": b"odd"}), 0)
    tables = [model.Buffers(index)._tab for index in range(model.BuffersLength())]
    offsets = [table.Vector(table.Offset(DATA_FIELD)) for table in tables if table.Offset(DATA_FIELD)]
    assert len(offsets) > 10
    assert all(offset % BUFFER_ALIGNMENT == 0 for offset in offsets)


def test_every_float_constant_is_float32(network):
    model = node_model("y = Mul(x, c)", "double[2, 3] x", constants={"c": normal(3).astype(np.float64)})
    for each in (network, model):
        types = {tensor.type for tensor in unpack(emit(each)).subgraphs[0].tensors}
        assert types <= {0, 2}  # float32, int32


def test_inputs_and_outputs_can_stay_nchw():
    model = node_model("y = Conv(x, w)", X, constants={"w": normal(4, 3, 3, 3)})
    assert operators(emit(model, channels_last=False)) == {"TRANSPOSE": 2, "CONV_2D": 1}


def test_an_output_may_be_an_input_or_another_output():
    assert_same(node_model("y = Identity(x)", X))
    assert_same(node_model("y = Relu(x) z = Identity(y)", X, outputs="y z"))


def test_what_cannot_be_lowered_is_listed_node_by_node():
    body = "a = Hardmax(x) b = Relu(a) c = NonZero(b) d = Conv(x, w) y = Add(b, d)"
    model = node_model(body, f"{X}, float[3, 3, 1, 1] w")
    for index, node in enumerate(model.graph):
        node.metadata_props[MODULE_KEY] = f"blocks.{index}"
        node.metadata_props[SOURCE_KEY] = f"net.py:{index + 10} in forward: line {index}"
    with pytest.raises(UnsupportedOperatorsError) as caught:
        emit(model)
    assert caught.value.problems == [
        "Hardmax 'blocks.0' (net.py:10 in forward: line 0): no lowering",
        "NonZero 'blocks.2' (net.py:12 in forward: line 2): no lowering",
        "Conv 'blocks.3' (net.py:13 in forward: line 3): the weight is not a constant",
    ]


def test_a_value_without_a_static_shape_is_named():
    model = node_model("y = Relu(x)", X)
    model.graph.outputs[0].shape = ir.Shape(["n", 3, 8, 8])
    with pytest.raises(UnsupportedOperatorsError, match="y has no static shape"):
        emit(model)


def test_a_layout_goes_by_its_name_where_only_axes_of_size_one_move():
    assert ordered((0, 2, 3, 1)) == CHANNELS_LAST
    assert ordered((0, 1, 2, 3)) == PLAIN
    assert ordered((0, 1, 2, 3), (2, 5, 1, 1)) == CHANNELS_LAST
    assert ordered((0, 3, 1, 2), (2, 5, 4, 3)).order == (0, 3, 1, 2)


def test_a_reshape_keeps_the_order_of_whole_groups():
    assert reshaped_order((0, 2, 3, 1), (2, 6, 4, 9), (2, 2, 3, 4, 9)) == (0, 3, 4, 1, 2)
    assert reshaped_order((0, 2, 3, 1), (2, 6, 4, 9), (2, 6, 36)) == (0, 2, 1)
    assert reshaped_order((0, 2, 3, 1), (2, 6, 4, 9), (2, 24, 9)) is None
