"""What weights are reduced to is computed once: the same bits under the same names, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from bnncc.frontend import constant_reductions
from bnncc.frontend.constant_reductions import fold_reductions
from bnncc.ir.evaluate import run, skeleton, weights_of

GRAPH = """
<ir_version: 10, opset_import: ["": 18]>
g (float[1, 64, 6, 6] x) => (float[1, 64, 6, 6] y, float[64, 64, 1, 1] largest)
<float[64, 64, 3, 3] w, float[8] small, int64[1] three = {3}, int64[1] two = {2}, int64[1] one = {1}> {
    size = Abs(w)
    rows = ReduceMean (size, three)
    columns = ReduceMean (rows, two)
    scale = ReduceMean (columns, one)
    signs = Sign(w)
    weight = Mul(scale, signs)
    a = Conv <pads = [1, 1, 1, 1]> (x, weight)
    of_input = ReduceMean (a, three)
    of_few = ReduceSum (small)
    noise = RandomUniformLike (w)
    of_noise = ReduceSum (noise)
    b = Add(a, of_input)
    c = Add(b, of_few)
    zero = Sub(of_noise, of_noise)
    y = Add(c, zero)
    widest = ReduceMax (size, three)
    largest = ReduceMax (widest, two)
}
"""


def graph() -> ir.Model:
    proto = onnx.parser.parse_model(GRAPH)
    generator = np.random.default_rng(0)
    for name, shape in (("w", (64, 64, 3, 3)), ("small", (8,))):
        array = generator.standard_normal(shape).astype(np.float32)
        (entry,) = [one for one in proto.graph.initializer if one.name == name] or [proto.graph.initializer.add()]
        entry.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))


def outputs_of(model: ir.Model) -> dict[str, np.ndarray]:
    x = np.random.default_rng(1).standard_normal((1, 64, 6, 6), np.float32)
    return run(skeleton(model), {**weights_of(model), "x": x})


@pytest.mark.parametrize("together", [1, constant_reductions.TOGETHER])
def test_reductions_of_weights_become_constants_of_the_same_bits(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constant_reductions, "TOGETHER", together)
    model = graph()
    before = outputs_of(model)
    fold_reductions(model)
    after = outputs_of(model)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


def test_the_last_of_a_chain_keeps_its_name_and_what_only_led_to_it_is_gone() -> None:
    model = graph()
    fold_reductions(model)
    makers = {value.name: node.op_type for node in model.graph for value in node.outputs}
    assert makers["scale"] == "Constant"
    assert not {"rows", "columns"} & makers.keys()
    assert makers["signs"] == "Sign"
    assert "w" in model.graph.initializers


def test_what_an_input_reaches_random_numbers_and_few_elements_are_left() -> None:
    model = graph()
    fold_reductions(model)
    makers = {value.name: node.op_type for node in model.graph for value in node.outputs}
    left = {"of_input": "ReduceMean", "of_noise": "ReduceSum", "of_few": "ReduceSum", "widest": "ReduceMax"}
    assert left.items() <= makers.items()
    # A ninth of the weights is not much less than the weights.
    assert makers["largest"] == "ReduceMax"


def test_a_second_time_changes_nothing() -> None:
    model = graph()
    fold_reductions(model)
    nodes = list(model.graph)
    fold_reductions(model)
    assert list(model.graph) == nodes
