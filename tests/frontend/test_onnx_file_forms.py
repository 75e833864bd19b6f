"""Forms in which .onnx files come: each is traced to a graph that computes what the file computes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import bnncc
from bnncc.frontend import TracedModel, trace
from bnncc.ir.evaluate import random_inputs, run, skeleton, weights_of

Array = np.ndarray[Any, Any]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def info(name: str, shape: Sequence[int | str | None] | None, element: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def make(
    nodes: Sequence[NodeProto],
    tensors: dict[str, Array],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    opset: int = 18,
    ir_version: int = 8,
    domains: Sequence[str] = (),
) -> ModelProto:
    graph = helper.make_graph(
        list(nodes), "g", list(inputs), list(outputs), [numpy_helper.from_array(a, name) for name, a in tensors.items()]
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def traced(folder: Path, model: ModelProto, **options: Any) -> TracedModel:
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return trace(str(folder / "net.onnx"), **options)


def compute(found: TracedModel, *inputs: Array) -> list[Array]:
    names = [spec.name for spec in found.inputs]
    return list(
        run(skeleton(found.model), {**weights_of(found.model), **dict(zip(names, inputs, strict=True))}).values()
    )


def expect(model: ModelProto, *inputs: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=False))))


# Opsets 9 to 17 -------------------------------------------------------------------------------------------------------


def old(opset: int) -> ModelProto:
    """Operators whose form changed between opset 9 and 18: attributes that became inputs, and Upsample."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "variance"], ["n"]),
    ]
    tensors = {
        "w": normal(0, 4, 3, 3, 3),
        "scale": normal(1, 4),
        "bias": normal(2, 4),
        "mean": normal(3, 4),
        "variance": np.abs(normal(4, 4)) + 0.5,
        "matrix": normal(5, 4, 5),
    }
    if opset < 11:
        nodes.append(helper.make_node("Clip", ["n"], ["k"], min=-1.0, max=1.0))
        nodes.append(helper.make_node("Pad", ["k"], ["p"], pads=[0, 0, 1, 0, 0, 0, 0, 1]))
    else:
        tensors |= {"low": np.float32(-1), "high": np.float32(1), "pads": np.array([0, 0, 1, 0, 0, 0, 0, 1])}
        nodes.append(helper.make_node("Clip", ["n", "low", "high"], ["k"]))
        nodes.append(helper.make_node("Pad", ["k", "pads"], ["p"]))
    if opset < 13:
        nodes.append(helper.make_node("ReduceMean", ["p"], ["m"], axes=[2, 3], keepdims=1))
        nodes.append(helper.make_node("Squeeze", ["m"], ["s"], axes=[2, 3]))
    else:
        tensors["axes"] = np.array([2, 3])
        nodes.append(helper.make_node("ReduceMean", ["p"], ["m"], axes=[2, 3], keepdims=1))
        nodes.append(helper.make_node("Squeeze", ["m", "axes"], ["s"]))
    nodes += [helper.make_node("MatMul", ["s", "matrix"], ["q"]), helper.make_node("Softmax", ["q"], ["y"], axis=1)]
    return make(nodes, tensors, [info("x", [2, 3, 6, 6])], [info("y", [2, 5])], opset, ir_version=4)


@pytest.mark.parametrize("opset", range(9, 18))
def test_an_older_opset_computes_the_same(tmp_path: Path, opset: int) -> None:
    x = normal(9, 2, 3, 6, 6)
    found = traced(tmp_path, old(opset))
    assert found.model.opset_imports[""] == 18
    np.testing.assert_allclose(compute(found, x)[0], expect(old(opset), x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("operator", "opset"), [("Upsample", 9), ("Resize", 10)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_of_an_older_opset_takes_its_samples_where_it_did(
    tmp_path: Path, operator: str, opset: int, mode: str
) -> None:
    node = helper.make_node(operator, ["x", "s"], ["y"], mode=mode)
    model = make(
        [node], {"s": np.array([1, 1, 2, 3], np.float32)}, [info("x", [1, 2, 5, 4])], [info("y", None)], opset, 4
    )
    x = normal(0, 1, 2, 5, 4)
    np.testing.assert_allclose(compute(traced(tmp_path, model), x)[0], expect(model, x)[0], rtol=1e-5, atol=1e-6)


def test_what_opset_9_computes_of_shapes_does_not_depend_on_the_input(tmp_path: Path) -> None:
    """The scales by which a map takes the size of another, and `arange`, which is where a row of ones is not 0."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["x"], ["large_shape"]),
        helper.make_node("Shape", ["small"], ["small_shape"]),
        helper.make_node("Cast", ["large_shape"], ["large_size"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["small_shape"], ["small_size"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["large_size", "small_size"], ["scales"]),
        helper.make_node("Upsample", ["small", "scales"], ["again"], mode="nearest"),
        helper.make_node("Slice", ["small_shape"], ["width"], axes=[0], starts=[3], ends=[4]),
        helper.make_node("ConstantOfShape", ["width"], ["ones"], value=numpy_helper.from_array(np.ones(1, np.int64))),
        helper.make_node("NonZero", ["ones"], ["places"]),
        helper.make_node("Cast", ["places"], ["columns"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["small", "columns"], ["numbered"]),
    ]
    outputs = [info("again", [1, 2, 6, 4]), info("numbered", [1, 2, 3, 2])]
    model = make(nodes, {}, [info("x", [1, 2, 6, 4])], outputs, 9, 4)
    x = normal(0, 1, 2, 6, 4)
    for found, expected in zip(compute(traced(tmp_path, model), x), expect(model, x), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_weights_may_be_inputs_constants_or_of_an_old_format(tmp_path: Path) -> None:
    x, w = normal(0, 1, 3, 6, 6), normal(1, 4, 3, 3, 3)
    nodes = [
        helper.make_node("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        helper.make_node("Conv", ["x", "w", "b"], [""]),
        helper.make_node("Relu", [""], ["y"]),
    ]
    for node in nodes[1:2]:
        node.output[0] = "c"
    nodes[2].input[0] = "c"
    model = make(nodes, {"w": w}, [info("x", [1, 3, 6, 6]), info("w", [4, 3, 3, 3])], [info("y", None)], 13, 3)
    found = traced(tmp_path, model)
    assert [spec.name for spec in found.inputs] == ["x"]
    assert found.float32_bytes == 4 * (w.size + 4)
    np.testing.assert_allclose(compute(found, x)[0], expect(model, x)[0], rtol=1e-6, atol=1e-6)


def test_nodes_need_no_names_and_may_share_one(tmp_path: Path) -> None:
    for names in (("", "", ""), ("n", "n", "n")):
        nodes = [
            helper.make_node(operator, [source], [result], name=name)
            for operator, source, result, name in zip(("Relu", "Neg", "Relu"), "xab", "aby", names, strict=True)
        ]
        found = traced(tmp_path, make(nodes, {}, [info("x", [2, 2])], [info("y", [2, 2])]))
        assert len({node.name for node in found.model.graph}) == 3


def test_a_dynamic_batch_takes_the_shape_given(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    model = make(nodes, {"w": normal(1, 4, 3, 3, 3)}, [info("x", ["N", 3, 6, 6])], [info("y", ["N", 4, 4, 4])])
    found = traced(tmp_path, model, input_shapes=["2x3x6x6"])
    assert [spec.shape for spec in found.inputs] == [(2, 3, 6, 6)]
    x = normal(0, 2, 3, 6, 6)
    np.testing.assert_allclose(compute(found, x)[0], expect(model, x)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("element", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_half_and_double_become_float_with_a_word(tmp_path: Path, element: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(element)
    weight, bias = normal(1, 4, 3, 3, 3).astype(dtype), normal(2, 4).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2, dtype))),
        helper.make_node("Mul", ["c", "two"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=element),
    ]
    model = make(
        nodes,
        {"w": weight, "b": bias},
        [info("x", [1, 3, 6, 6], element)],
        [info("y", [1, 4, 4, 4], element)],
    )
    found = traced(tmp_path, model)
    (warning,) = found.warnings
    assert f"its parameters are of type {'FLOAT16' if element == TensorProto.FLOAT16 else 'DOUBLE'}" in warning
    x = normal(0, 1, 3, 6, 6)
    expected = make(
        [*nodes[:1], helper.make_node("Add", ["c", "c"], ["y"])],
        {"w": weight.astype(np.float32), "b": bias.astype(np.float32)},
        [info("x", [1, 3, 6, 6])],
        [info("y", None)],
    )
    np.testing.assert_allclose(compute(found, x)[0], expect(expected, x)[0], rtol=1e-5, atol=1e-5)


def branch(operator: str, name: str) -> onnx.GraphProto:
    inner = [helper.make_node(operator, ["x"], [f"{name}_in"]), helper.make_node("Identity", [f"{name}_in"], [name])]
    return helper.make_graph(inner, name, [], [info(name, None)])


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_with_a_constant_condition_is_taken(tmp_path: Path, taken: bool) -> None:
    nodes = [
        helper.make_node("If", ["c"], ["h"], then_branch=branch("Relu", "t"), else_branch=branch("Neg", "e")),
        helper.make_node("Abs", ["h"], ["y"]),
    ]
    model = make(nodes, {"c": np.array(taken)}, [info("x", [2, 3])], [info("y", [2, 3])])
    found = traced(tmp_path, model)
    assert "If" not in {node.op_type for node in found.model.graph}
    x = normal(0, 2, 3)
    np.testing.assert_array_equal(compute(found, x)[0], np.abs(np.maximum(x, 0) if taken else x))


@pytest.mark.parametrize("size", [1, 3])
def test_a_branch_that_a_shape_decides_is_taken(tmp_path: Path, size: int) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["count"]),
        helper.make_node("Equal", ["count", "one"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("Relu", "t"), else_branch=branch("Neg", "e")),
    ]
    model = make(nodes, {"one": np.array(1)}, [info("x", [2, None])], [info("y", None)])
    found = traced(tmp_path, model, input_shapes=[f"2x{size}"])
    assert "If" not in {node.op_type for node in found.model.graph}
    x = normal(0, 2, size)
    np.testing.assert_array_equal(compute(found, x)[0], np.maximum(x, 0) if size == 1 else -x)


# QONNX ----------------------------------------------------------------------------------------------------------------


def quant(x: Array, scale: Any, zero: Any, bits: float, *, signed: int, narrow: int, mode: str) -> Array:
    """In float64, from the operator's definition."""
    y = x.astype(np.float64) / scale + zero
    if bits == 1 and signed:
        y = np.where(y >= 0, 1.0, -1.0)
    else:
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        rounding: dict[str, Callable[[Array], Array]] = {
            "ROUND": np.round,
            "FLOOR": np.floor,
            "CEIL": np.ceil,
            "UP": lambda v: np.sign(v) * np.ceil(np.abs(v)),
            "DOWN": np.trunc,
            "HALF_UP": lambda v: np.sign(v) * np.floor(np.abs(v) + 0.5),
            "HALF_DOWN": lambda v: np.sign(v) * np.ceil(np.abs(v) - 0.5),
        }
        y = rounding[mode](np.clip(y, low, high))
    return (y - zero) * scale


def quarters(seed: int, *shape: int) -> Array:
    """Multiples of ¼, ties included: every step of a quantiser with scales that are powers of two is exact."""
    return np.random.default_rng(seed).integers(-40, 40, shape).astype(np.float32) / 4


@pytest.mark.parametrize("mode", ["ROUND", "FLOOR", "CEIL", "UP", "DOWN", "HALF_UP", "HALF_DOWN"])
@pytest.mark.parametrize(
    ("bits", "signed", "narrow"), [(1, 1, 0), (1, 0, 0), (2, 1, 1), (2, 0, 0), (4, 1, 0), (8, 0, 1)]
)
@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas"])
def test_quant_is_its_definition(tmp_path: Path, mode: str, bits: int, signed: int, narrow: int, domain: str) -> None:
    scale, zero = np.array([0.5, 1, 2], np.float32).reshape(1, 3, 1, 1), np.float32(1)
    node = helper.make_node(
        "Quant", ["x", "s", "z", "b"], ["y"], domain=domain, signed=signed, narrow=narrow, rounding_mode=mode
    )
    tensors = {"s": scale, "z": zero, "b": np.float32(bits)}
    model = make([node], tensors, [info("x", [2, 3, 5, 5])], [info("y", [2, 3, 5, 5])], domains=[domain])
    x = quarters(0, 2, 3, 5, 5)
    expected = quant(x, scale, zero, bits, signed=signed, narrow=narrow, mode=mode)
    np.testing.assert_array_equal(compute(traced(tmp_path, model), x)[0], expected)


def test_bipolar_quant_is_the_sign_times_the_scale(tmp_path: Path) -> None:
    for scale in (np.float32(1), np.float32(0.25), np.array([[2.0], [-1.0]], np.float32)):
        node = helper.make_node("BipolarQuant", ["x", "s"], ["y"], domain="qonnx.custom_op.general")
        model = make(
            [node], {"s": scale}, [info("x", [2, 9])], [info("y", [2, 9])], domains=["qonnx.custom_op.general"]
        )
        x = quarters(0, 2, 9)
        x[0, 0] = 0
        np.testing.assert_array_equal(compute(traced(tmp_path, model), x)[0], np.where(x >= 0, 1, -1) * scale)


@pytest.mark.parametrize("inputs", [5, 7])
@pytest.mark.parametrize("mode", ["FLOOR", "ROUND"])
def test_trunc_is_its_definition(tmp_path: Path, inputs: int, mode: str) -> None:
    x = quarters(0, 2, 9) * 16
    tensors = {"s": np.float32(0.25), "z": np.float32(0), "i": np.float32(8)}
    names = ["s", "z", "i", "o"] if inputs == 5 else ["s", "z", "i", "t", "u", "o"]
    tensors |= {"o": np.float32(5), "t": np.float32(2), "u": np.float32(0)}
    node = helper.make_node("Trunc", ["x", *names], ["y"], domain="qonnx.custom_op.general", rounding_mode=mode)
    model = make(
        [node],
        {name: tensors[name] for name in names},
        [info("x", [2, 9])],
        [info("y", [2, 9])],
        domains=["qonnx.custom_op.general"],
    )
    rounded = {"FLOOR": np.floor, "ROUND": np.round}[mode]
    whole = np.round(x / 0.25) / 8
    expected = rounded(whole) * 0.25 if inputs == 5 else rounded(np.clip(whole, -16, 15)) * 2
    np.testing.assert_array_equal(compute(traced(tmp_path, model), x)[0], expected)


def binary_network(quantiser: str) -> ModelProto:
    """Three binary convolutions and batch norms, as Brevitas exports them."""
    domain = "qonnx.custom_op.general"
    nodes, tensors = [], {"one": np.float32(1), "zero": np.float32(0), "bits": np.float32(1)}

    def binarize(source: str, result: str, scale: str) -> None:
        if quantiser == "BipolarQuant":
            nodes.append(helper.make_node("BipolarQuant", [source, scale], [result], domain=domain))
        else:
            inputs = [source, scale, "zero", "bits"]
            nodes.append(helper.make_node("Quant", inputs, [result], domain=domain, signed=1, narrow=1))

    channels, value = [3, 32, 64, 32], "x"
    for index in range(3):
        tensors |= {
            f"w{index}": normal(index, channels[index + 1], channels[index], 3, 3),
            f"s{index}": np.float32(0.1 + index),
            f"gamma{index}": normal(10 + index, channels[index + 1]),
            f"beta{index}": normal(20 + index, channels[index + 1]),
            f"mean{index}": normal(30 + index, channels[index + 1]),
            f"var{index}": np.abs(normal(40 + index, channels[index + 1])) + 0.5,
        }
        binarize(f"w{index}", f"wb{index}", f"s{index}")
        binarize(value, f"a{index}", "one")
        nodes.append(helper.make_node("Conv", [f"a{index}", f"wb{index}"], [f"c{index}"], strides=[1, 1]))
        names = [f"{name}{index}" for name in ("c", "gamma", "beta", "mean", "var")]
        nodes.append(helper.make_node("BatchNormalization", names, [f"n{index}"]))
        value = f"n{index}"
    return make(nodes, tensors, [info("x", [1, 3, 12, 12])], [info(value, None)], 16, domains=[domain])


class Bipolar(OpRun):
    op_domain = "qonnx.custom_op.general"

    def _run(self, x: Array, scale: Array) -> tuple[Array]:
        return (np.where(x >= 0, np.float32(1), np.float32(-1)) * scale,)


Bipolar.__name__ = "BipolarQuant"


@pytest.mark.parametrize("quantiser", ["BipolarQuant", "Quant"])
def test_the_binary_layers_of_a_qonnx_network_are_binary(tmp_path: Path, quantiser: str) -> None:
    (tmp_path / "net.onnx").write_bytes(binary_network(quantiser).SerializeToString())
    compiled = bnncc.compile(str(tmp_path / "net.onnx"))
    assert [layer.reason for layer in compiled.layers] == [None, None, None]
    assert bnncc.verify(compiled, [random_inputs(compiled.traced.model, 5)]).problems == []
    x = normal(99, 1, 3, 12, 12)
    reference = ReferenceEvaluator(binary_network("BipolarQuant"), new_ops=[Bipolar]).run(None, {"x": x})[0]
    np.testing.assert_allclose(compute(compiled.traced, x)[0], reference, rtol=1e-4, atol=1e-4)


def test_another_operator_of_qonnx_is_named(tmp_path: Path) -> None:
    node = helper.make_node("MultiThreshold", ["x", "s"], ["y"], name="mt", domain="qonnx.custom_op.general")
    model = make(
        [node], {"s": np.ones((1, 1), np.float32)}, [info("x", [1, 1])], [info("y", None)], domains=[node.domain]
    )
    with pytest.raises(bnncc.InputError, match=r"MultiThreshold 'mt' with 2 inputs is no operator that bnncc reads"):
        traced(tmp_path, model)
