import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from tests.passes.convolutions import Geometry
from tests.passes.helpers import build, draw, normal, run_model, signs
from tests.windows import windows


def test_sign_is_plus_one_from_zero_on() -> None:
    model = build("y = bnncc.Sign (x)", "float[7] x")
    x = np.array([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, -3], np.float32)
    np.testing.assert_array_equal(run_model(model, {"x": x})["y"], [1, 1, 1, -1, 1, -1, -1])


@settings(max_examples=60)
@given(
    axes=st.tuples(*[windows(sizes=(1, 7), kernels=(1, 4), dilations=(1, 2), pads=(0, 3))] * 2),
    group=st.sampled_from([1, 2]),
    pad_value=st.sampled_from([0.0, 1.0]),
)
def test_binary_conv_is_torchs_convolution_of_the_padded_signs(
    axes: tuple[Window, Window],
    group: int,
    pad_value: float,
) -> None:
    geometry = Geometry.of(*axes)
    strides, dilations, pads = geometry.strides, geometry.dilations, geometry.pads
    top, left, bottom, right = pads
    x, weight, multiplier, bias = (
        signs(2, 4, *geometry.size, seed=1),
        signs(6, 4 // group, *geometry.kernel),
        normal(6),
        normal(6, seed=1),
    )
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 18}, name="g")
    values = {}
    for name, array in (("w", weight), ("m", multiplier), ("b", bias)):
        values[name] = ir.val(name, const_value=ir.tensor(array, name=name))
        graph.register_initializer(values[name])
    given_input = ir.val("x", shape=ir.Shape(x.shape), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(given_input)
    attributes = ops.ConvGeometry(strides, dilations, pads, group)
    node = ops.binary_conv(given_input, values["w"], values["m"], values["b"], attributes, pad_value=pad_value)
    node.outputs[0].name = "y"
    graph.append(node)
    graph.outputs.append(node.outputs[0])
    model = ir.Model(graph, ir_version=10)
    ops.register(model)
    padded = torch.nn.functional.pad(torch.from_numpy(x), (left, right, top, bottom), value=pad_value)
    sums = torch.nn.functional.conv2d(padded, torch.from_numpy(weight), None, strides, 0, dilations, group)
    expected = sums * torch.from_numpy(multiplier)[:, None, None] + torch.from_numpy(bias)[:, None, None]
    result = run_model(model, {"x": x})["y"]
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-6, atol=1e-6)


def test_binary_conv_takes_over_name_shape_and_type() -> None:
    model = build("y = Conv (x, w)", "float[1, 2, 5, 5] x", w=signs(3, 2, 3, 3), m=normal(3))
    conv = next(iter(model.graph))
    (x, weight), m = conv.inputs, model.graph.initializers["m"]
    assert x is not None
    assert weight is not None
    node = ops.binary_conv(x, weight, m, m, ops.ConvGeometry(), output=conv.outputs[0])
    assert ops.is_binary_conv(node)
    assert not ops.is_binary_conv(conv)
    assert not ops.is_sign(node)
    result = node.outputs[0]
    assert (result.name, tuple(result.shape or ()), result.dtype) == ("y", (1, 3, 3, 3), ir.DataType.FLOAT)


@settings(max_examples=80)
@given(
    st.one_of(
        # ONNX Runtime rejects SAME with a dilation; whatever the kernel, SAME pads enough for it.
        st.tuples(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]), *[windows(kernels=(1, 5), dilations=(1, 1))] * 2),
        st.tuples(st.just("VALID"), *[windows(kernels=(1, 5), dilations=(1, 2), pads=(0, 0))] * 2),
    )
)
def test_auto_pad_is_resolved_as_onnx_runtime_does(case: tuple[str, Window, Window]) -> None:
    auto_pad, *axes = case
    drawn = Geometry.of(*axes)
    size, kernel, strides, dilations = drawn.size, drawn.kernel, drawn.strides, drawn.dilations
    common = f"strides = {list(strides)}, dilations = {list(dilations)}"
    weight = normal(2, 3, *kernel)
    model = build(
        f'y = Conv <auto_pad = "{auto_pad}", {common}> (x, w)', f"float[1, 3, {size[0]}, {size[1]}] x", w=weight
    )
    geometry = ops.ConvGeometry.of(next(iter(model.graph)), kernel, size)
    explicit = build(
        f"y = Conv <pads = {list(geometry.pads)}, {common}> (x, w)", f"float[1, 3, {size[0]}, {size[1]}] x", w=weight
    )
    feeds = draw(model)
    np.testing.assert_allclose(run_model(explicit, feeds)["y"], run_model(model, feeds)["y"], rtol=1e-5, atol=1e-5)


def test_geometry_defaults_and_attributes_go_there_and_back() -> None:
    attributes = "<strides = [2, 3], dilations = [1, 2], pads = [0, 1, 2, 3], group = 2>"
    model = build(
        f"y = Conv {attributes} (x, w)\nz = Conv (x, v)",
        "float[1, 2, 9, 9] x",
        w=normal(2, 1, 3, 3),
        v=normal(1, 2, 3, 3),
    )
    first, second = model.graph
    geometry = ops.ConvGeometry.of(first, (3, 3), (9, 9))
    assert geometry == ops.ConvGeometry((2, 3), (1, 2), (0, 1, 2, 3), 2)
    for name in ("strides", "dilations", "pads"):
        assert geometry.attributes()[name] == tuple(first.attributes[name].as_ints())
    assert geometry.attributes()["group"] == 2
    assert ops.ConvGeometry.of(second, (3, 3), (9, 9)) == ops.ConvGeometry()
    height, width = geometry.windows((3, 3), (9, 9))
    assert (height.size, height.kernel, height.stride, height.dilation, height.begin, height.end) == (9, 3, 2, 1, 0, 2)
    assert (width.size, width.kernel, width.stride, width.dilation, width.begin, width.end) == (9, 3, 3, 2, 1, 3)


@pytest.mark.parametrize("opset", [18, 20, 21])
def test_registering_twice_adds_nothing_and_the_model_checks(opset: int) -> None:
    model = build("y = bnncc.Sign (x)", "float[2] x", opset=opset)
    before = list(model.functions)
    ops.register(model)
    assert list(model.functions) == before
    assert {"Sign", "BinaryConv"} <= {identifier[1] for identifier in before}
    onnx.checker.check_model(ir.serde.serialize_model(model))


def test_no_function_pads_by_a_constant_of_integers_as_it_stands() -> None:
    """ONNX Runtime 1.23, the last for Python 3.10, takes such a Constant for a tensor without axes."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 20})
    model = ir.Model(graph, ir_version=10)
    ops.register(model)
    pads = [node for function in model.functions.values() for node in function if node.op_type == "Pad"]
    assert len(pads) == 2
    for node in pads:
        amounts = node.inputs[1]
        assert amounts is not None
        producer = amounts.producer()
        assert producer is not None
        assert producer.op_type != "Constant"
