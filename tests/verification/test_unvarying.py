"""What no input changes is computed once: the same bits, and nothing else of the graph is touched."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from bnncc.ir.evaluate import run, skeleton, weights_of
from bnncc.ir.graph import shape_of
from bnncc.verification import unvarying
from bnncc.verification.unvarying import fold_unvarying

GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
g (float[1, 64, 6, 6] x) => (float[1, 64, 6, 6] y, float[64, 64, 3, 3] signs) <float[64, 64, 3, 3] w, int64[3] axes> {
    size = Abs(w)
    scale = ReduceMean (size, axes)
    signs = Sign(w)
    first = Mul(scale, signs)
    a = Conv <pads = [1, 1, 1, 1]> (x, first)
    half = Constant <value_float = 0.5> ()
    second = Mul(first, half)
    norm = ReduceL2(second)
    b = Conv <pads = [1, 1, 1, 1]> (a, second)
    c = Div(b, norm)
    y = Conv <pads = [1, 1, 1, 1]> (c, size)
}
"""


def graph_of_computed_weights() -> ir.Model:
    proto = onnx.parser.parse_model(GRAPH)
    generator = np.random.default_rng(0)
    del proto.graph.initializer[:]
    weight = generator.standard_normal((64, 64, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2, 3]), "axes"))
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))


def outputs_of(model: ir.Model) -> dict[str, np.ndarray]:
    x = np.random.default_rng(1).standard_normal(shape_of(model.graph.inputs[0]) or (), np.float32)
    return run(skeleton(model, list(model.graph.outputs)), {**weights_of(model), "x": x})


@pytest.mark.parametrize("elements", [1, unvarying.ELEMENTS])
def test_computed_weights_become_constants_of_the_same_bits(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unvarying, "ELEMENTS", elements)
    model = graph_of_computed_weights()
    before = outputs_of(model)
    fold_unvarying(model)
    after = outputs_of(model)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


def test_what_the_weights_are_computed_from_runs_no_more_and_one_operator_on_a_constant_still_does() -> None:
    model = graph_of_computed_weights()
    fold_unvarying(model)
    proto = skeleton(model, [model.graph.outputs[0]])
    assert [node.op_type for node in proto.graph.node] == ["Abs", "Conv", "Conv", "Div", "Conv"]


def test_a_constant_that_is_an_output_stays_computed() -> None:
    model = graph_of_computed_weights()
    fold_unvarying(model)
    producer = model.graph.outputs[1].producer()
    assert producer is not None
    assert producer.op_type == "Sign"


SPREAD = """
<ir_version: 10, opset_import: ["": 20]>
g (float[1, 64, 16, 16] x) => (float[1, 64, 16, 16] y) <float[64] shift, int64[4] size = {1, 64, 1, 1}> {
    doubled = Add(shift, shift)
    column = Reshape(doubled, size)
    shape = Shape(x)
    map = Expand(column, shape)
    distance = Abs(map)
    y = Add(x, distance)
}
"""


def test_a_vector_that_is_spread_over_a_map_is_held_as_a_vector() -> None:
    proto = onnx.parser.parse_model(SPREAD)
    shift = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(shift, "shift"))
    proto.graph.node[2].CopyFrom(onnx.helper.make_node("Constant", [], ["shape"], value_ints=[1, 64, 16, 16]))
    model = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))
    before = outputs_of(model)["y"]
    fold_unvarying(model)
    np.testing.assert_array_equal(outputs_of(model)["y"], before)
    sizes = [value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None]
    assert max(sizes) == 64
    assert "Reshape" not in [node.op_type for node in skeleton(model, list(model.graph.outputs)).graph.node]
