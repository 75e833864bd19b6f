"""Graphs that keep their maps channels last come out as those in NCHW do, and compute the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import bnncc
from bnncc.frontend import TracedModel, trace
from bnncc.ir.evaluate import random_inputs, run, skeleton, weights_of

Array = np.ndarray[Any, Any]
LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class Builder:
    """A network in NCHW, or the same with its maps in NHWC: a Transpose on each side of what ONNX has in NCHW only."""

    def __init__(self, channels_last: bool) -> None:
        self.channels_last = channels_last
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, Array] = {}
        self.generator = np.random.default_rng(0)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        result = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [result], **attributes))
        return result

    def tensor(self, array: Any) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = np.asarray(array)
        return name

    def normal(self, *shape: int) -> Array:
        return self.generator.standard_normal(shape).astype(np.float32)

    def channel(self, array: Array) -> str:
        """One value a channel, as it broadcasts against a map."""
        return self.tensor(array if self.channels_last else array.reshape(-1, 1, 1))

    def axis(self, axis: int) -> int:
        """An axis of NCHW."""
        return LAST.index(axis) if self.channels_last else axis

    def axes(self, *axes: int) -> str:
        return self.tensor(np.array([self.axis(axis) for axis in axes]))

    def spatial(self, operator: str, x: str, *others: str, **attributes: Any) -> str:
        """What ONNX has in NCHW only."""
        if not self.channels_last:
            return self.add(operator, x, *others, **attributes)
        inner = self.add(operator, self.add("Transpose", x, perm=FIRST), *others, **attributes)
        return self.add("Transpose", inner, perm=LAST)

    def conv(self, x: str, inputs: int, outputs: int, size: int = 3, **attributes: Any) -> str:
        return self.spatial("Conv", x, self.tensor(self.normal(outputs, inputs, size, size)), **attributes)

    def norm(self, x: str, channels: int) -> str:
        values = [self.normal(channels) for _ in range(3)] + [np.abs(self.normal(channels)) + 0.5]
        return self.spatial("BatchNormalization", x, *map(self.tensor, values))

    def binary(self, x: str, inputs: int, outputs: int, **attributes: Any) -> str:
        zero, one, minus = (self.tensor(np.float32(number)) for number in (0, 1, -1))
        s = self.add("Where", self.add("GreaterOrEqual", x, zero), one, minus)
        w = self.tensor(np.where(self.normal(outputs, inputs, 3, 3) >= 0, np.float32(1), np.float32(-1)))
        return self.norm(self.spatial("Conv", s, w, **attributes), outputs)

    def features(self, x: str, shape: tuple[int, int, int]) -> tuple[str, Callable[[Array], Array]]:
        """Flattened maps [N, …] of `shape` (C, H, W), and what orders rows that are given in the order C, H, W."""
        return self.add("Reshape", x, self.tensor(np.array([2, -1]))), self.order(shape)

    def order(self, shape: tuple[int, int, int]) -> Callable[[Array], Array]:
        order = np.arange(int(np.prod(shape))).reshape(shape)
        order = (order.transpose(1, 2, 0) if self.channels_last else order).reshape(-1)
        return lambda rows: rows[order]

    def pixel(self, operator: str, x: str, inputs: int, outputs: int, *others: str) -> str:
        """What ONNX has in NCHW only, of maps of one pixel: tf2onnx writes Reshapes there."""
        if not self.channels_last:
            return self.add(operator, x, *others)
        inner = self.add(operator, self.add("Reshape", x, self.tensor(np.array([2, inputs, 1, 1]))), *others)
        return self.add("Reshape", inner, self.tensor(np.array([2, 1, 1, outputs])))

    def binary_pixel(self, x: str, inputs: int, outputs: int, order: Callable[[Array], Array]) -> str:
        """A binary convolution of one pixel; `order` is that of its input channels."""
        zero, one, minus = (self.tensor(np.float32(number)) for number in (0, 1, -1))
        s = self.add("Where", self.add("GreaterOrEqual", x, zero), one, minus)
        w = np.where(order(self.normal(inputs, outputs)).T >= 0, np.float32(1), np.float32(-1))
        y = self.pixel("Conv", s, inputs, outputs, self.tensor(np.ascontiguousarray(w)[..., None, None]))
        values = [self.normal(outputs) for _ in range(3)] + [np.abs(self.normal(outputs)) + 0.5]
        return self.pixel("BatchNormalization", y, outputs, outputs, *map(self.tensor, values))

    def model(self, y: str, shape: tuple[int, ...], as_map: bool) -> ModelProto:
        given = [shape[axis] for axis in LAST] if self.channels_last else list(shape)
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, [None] * (4 if as_map else 2))],
            [numpy_helper.from_array(array, name) for name, array in self.tensors.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def residual(b: Builder) -> tuple[str, bool]:
    y = b.add("Mul", b.add("Sub", "x", b.channel(b.normal(3))), b.channel(b.normal(3)))
    y = b.add("Add", b.conv(y, 3, 32, pads=[1] * 4), b.channel(b.normal(32)))
    y = b.add("Add", b.binary(y, 32, 32, pads=[1] * 4), y)
    y = b.add("PRelu", y, b.channel(b.normal(32)))
    y = b.binary(y, 32, 64, pads=[1] * 4, strides=[2, 2])
    y = b.spatial("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = b.add("ReduceMean", y, b.axes(2, 3), keepdims=0)
    return b.add("Gemm", y, b.tensor(b.normal(64, 5)), b.tensor(b.normal(5))), False


def joined(b: Builder) -> tuple[str, bool]:
    y = b.conv("x", 3, 16, pads=[1] * 4)
    z = b.add("Concat", b.add("Relu", y), b.add("Sigmoid", y), axis=b.axis(1))
    z = b.binary(z, 32, 32, pads=[1] * 4)
    pads = np.zeros((2, 4), np.int64)
    pads[0, b.axis(2)] = pads[1, b.axis(3)] = 1
    z = b.add("Pad", z, b.tensor(pads.reshape(-1)))
    z = b.add("Slice", z, b.tensor(np.array([1])), b.tensor(np.array([9])), b.axes(2))
    return b.add("Softmax", b.conv(z, 32, 6), axis=b.axis(1)), True


def gated(b: Builder) -> tuple[str, bool]:
    y = b.binary(b.conv("x", 3, 32, pads=[1] * 4), 32, 32, pads=[1] * 4)
    gate = b.add("ReduceMean", y, b.axes(2, 3), keepdims=1)
    gate = b.add("Sigmoid", b.conv(gate, 32, 32, 1))
    return b.add("Clip", b.add("Mul", y, gate), b.tensor(np.float32(-2)), b.tensor(np.float32(2))), True


def flattened(b: Builder) -> tuple[str, bool]:
    y = b.binary(b.conv("x", 3, 32, strides=[2, 2]), 32, 8)
    rows, order = b.features(y, (8, 3, 5))
    rows = b.add("Add", rows, b.tensor(order(b.normal(120))))
    return b.add("MatMul", b.add("Relu", rows), b.tensor(order(b.normal(120, 7)))), False


def excited(b: Builder) -> tuple[str, bool]:
    """Squeeze and excitation as Keras has it: a row of channels becomes a map of one pixel; a Squeeze at the end."""
    y = b.binary(b.conv("x", 3, 32, pads=[1] * 4), 32, 32, pads=[1] * 4)
    row = b.add("ReduceMean", y, b.axes(2, 3), keepdims=0)
    shape = [2, 1, 1, 32] if b.channels_last else [2, 32, 1, 1]
    gate = b.conv(b.add("Reshape", row, b.tensor(np.array(shape))), 32, 32, 1)
    y = b.binary(b.add("Mul", y, b.add("HardSigmoid", gate)), 32, 16)
    y = b.add("Squeeze", b.spatial("GlobalAveragePool", y), b.axes(2, 3))
    return b.add("MatMul", y, b.tensor(b.normal(16, 5))), False


def rescaled(b: Builder) -> tuple[str, bool]:
    """Gates by a Linear, and a PReLU as Keras spells it behind them."""
    y = b.conv("x", 3, 32, pads=[1] * 4)
    row = b.add("ReduceMean", y, b.axes(2, 3), keepdims=0)
    row = b.add("Sigmoid", b.add("MatMul", row, b.tensor(b.normal(32, 32))))
    gate = b.add("Reshape", row, b.tensor(np.array([2, 1, 1, 32] if b.channels_last else [2, 32, 1, 1])))
    y = b.add("Mul", b.binary(y, 32, 32, pads=[1] * 4), gate)
    below = b.add("Mul", b.add("Relu", b.add("Neg", y)), b.channel(-np.abs(b.normal(32))))
    y = b.binary(b.add("Add", b.add("Relu", y), below), 32, 16)
    return b.add("ReduceMean", y, b.axes(2, 3), keepdims=0), False


def pooled(b: Builder) -> tuple[str, bool]:
    y = b.spatial("GlobalMaxPool", b.binary(b.conv("x", 3, 32), 32, 16))
    return b.add("Softmax", b.add("Reshape", y, b.tensor(np.array([2, 16]))), axis=1), False


def one_pixel(b: Builder) -> tuple[str, bool]:
    """A map becomes one pixel of features, and convolutions are the Linears."""
    y = b.binary(b.conv("x", 3, 32, strides=[2, 2]), 32, 8)
    order = b.order((8, 3, 5))
    y = b.add("Reshape", y, b.tensor(np.array([2, 1, 1, 120] if b.channels_last else [2, 120, 1, 1])))
    values = order(b.normal(120))
    y = b.add("Add", y, b.tensor(values if b.channels_last else values.reshape(-1, 1, 1)))
    y = b.binary_pixel(y, 120, 40, order)
    y = b.binary_pixel(y, 40, 16, lambda rows: rows)
    return b.add("Reshape", y, b.tensor(np.array([2, 16]))), False


def shuffled(b: Builder) -> tuple[str, bool]:
    """Channels in another order, by Reshapes and by a Gather, and the class of each pixel."""
    y = b.conv("x", 3, 32, pads=[1] * 4)
    size = [12, 16]
    for groups in (2, 4):
        apart, last = [groups, 32 // groups], b.channels_last
        z = b.add("Reshape", y, b.tensor(np.array([2, *size, *apart] if last else [2, *apart, *size])))
        z = b.add("Transpose", z, perm=[0, 1, 2, 4, 3] if last else [0, 2, 1, 3, 4])
        z = b.add("Reshape", z, b.tensor(np.array([2, *size, 32] if last else [2, 32, *size])))
        y = b.add("Add", b.binary(z, 32, 32, pads=[1] * 4), y)
    y = b.add("Gather", y, b.tensor(b.generator.permutation(32)), axis=b.axis(1))
    y = b.conv(b.binary(y, 32, 16), 16, 6, 1)
    classes = b.add("ArgMax", y, axis=b.axis(1) - 4, keepdims=1)
    return b.add("Add", y, b.add("Cast", classes, to=TensorProto.FLOAT)), True


def classes(b: Builder) -> tuple[str, bool]:
    y = b.conv(b.binary(b.conv("x", 3, 32), 32, 16), 16, 6, 1)
    y = b.add("Cast", b.add("ArgMax", y, axis=b.axis(1), keepdims=0), to=TensorProto.FLOAT)
    return b.add("Reshape", y, b.tensor(np.array([2, 96]))), False


NETWORKS: dict[str, Callable[[Builder], tuple[str, bool]]] = {
    "residual": residual,
    "joined": joined,
    "gated": gated,
    "flattened": flattened,
    "excited": excited,
    "rescaled": rescaled,
    "pooled": pooled,
    "one pixel": one_pixel,
    "shuffled": shuffled,
    "classes": classes,
}
SHAPE = (2, 3, 12, 16)


def built(name: str, channels_last: bool) -> ModelProto:
    builder = Builder(channels_last)
    y, as_map = NETWORKS[name](builder)
    return builder.model(y, SHAPE, as_map)


def expect(model: ModelProto, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def compute(found: TracedModel, x: Array) -> Array:
    return next(iter(run(skeleton(found.model), {**weights_of(found.model), "x": x}).values()))


def write(folder: Path, model: ModelProto) -> str:
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return str(folder / "net.onnx")


@pytest.mark.parametrize("name", NETWORKS)
def test_no_transpose_is_left_and_the_graph_computes_the_same(tmp_path: Path, name: str) -> None:
    model = built(name, True)
    found = trace(write(tmp_path, model))
    assert not any(node.op_type == "Transpose" and len(node.outputs[0].shape or ()) == 4 for node in found.model.graph)
    assert [spec.shape for spec in found.inputs] == [SHAPE]
    assert "its input 'x' is NHWC there" in found.warnings[0]
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    expected = expect(model, np.ascontiguousarray(x.transpose(LAST)))
    result = compute(found, x)
    if result.ndim == 4:
        result = result.transpose(LAST)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_is_as_small_as_that_of_the_network_in_nchw(tmp_path: Path, name: str) -> None:
    files, layers = [], []
    for channels_last in (False, True):
        compiled = bnncc.compile(write(tmp_path, built(name, channels_last)))
        assert bnncc.verify(compiled, [random_inputs(compiled.traced.model, 5)]).problems == []
        files.append(len(compiled.content))
        layers.append([layer.reason for layer in compiled.layers])
    assert layers[0] == layers[1]
    assert set(layers[0]) == {None}
    assert files[1] <= files[0] * 1.02 + 200


def test_one_transpose_behind_the_input_is_enough_to_find_the_layout(tmp_path: Path) -> None:
    model = built("residual", False)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [SHAPE[axis] for axis in LAST]))
    for node in model.graph.node:
        for index, value in enumerate(node.input):
            if value == "x":
                node.input[index] = "x_nchw"
    model.graph.node.insert(0, helper.make_node("Transpose", ["x"], ["x_nchw"], perm=FIRST))
    found = trace(write(tmp_path, model))
    assert "Transpose" not in {node.op_type for node in found.model.graph}
    assert [spec.shape for spec in found.inputs] == [SHAPE]


def test_a_transpose_that_has_no_partner_stays(tmp_path: Path) -> None:
    builder = Builder(False)
    y = builder.add("Transpose", builder.conv("x", 3, 8), perm=[0, 1, 3, 2])
    model = builder.model(builder.conv(y, 8, 4), SHAPE, True)
    found = trace(write(tmp_path, model))
    assert [node.op_type for node in found.model.graph].count("Transpose") == 1
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    np.testing.assert_allclose(compute(found, x), expect(model, x), rtol=1e-5, atol=1e-5)


def test_a_map_that_is_read_in_both_layouts_computes_the_same(tmp_path: Path) -> None:
    """A reduction over channels as the last axis of a reshaped map: its Transpose cannot move further."""
    builder = Builder(True)
    y = builder.add("Relu", builder.conv("x", 3, 8))
    rows = builder.add("Reshape", y, builder.tensor(np.array([2, 140, 8])))
    gate = builder.add("ReduceMax", rows, builder.tensor(np.array([1, 2])), keepdims=0)
    gate = builder.add("Reshape", gate, builder.tensor(np.array([2, 1, 1, 1])))
    model = builder.model(builder.conv(builder.add("Mul", y, gate), 8, 4), SHAPE, True)
    found = trace(write(tmp_path, model))
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    inputs = x.transpose(LAST)
    turned = found.inputs[0].shape == SHAPE
    result = compute(found, x if turned else np.ascontiguousarray(inputs))
    expected = expect(model, np.ascontiguousarray(inputs))
    if result.shape != expected.shape:
        result = result.transpose(LAST)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
