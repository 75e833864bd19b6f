from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnncc
from bnncc.errors import InputError
from bnncc.frontend import trace


def write(
    path: Path,
    shape: list[int | str | None],
    opset: int = 18,
    operator: str = "Relu",
    external: bool = False,
    element: int = TensorProto.FLOAT,
) -> str:
    """x ─ Conv ─ hidden ─ operator ─ y"""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["hidden"], name="same"),
            helper.make_node(operator, ["hidden"], ["y"], name="same"),
        ],
        "g",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path, save_as_external_data=external, location="w.bin", size_threshold=0)
    return str(path)


@pytest.mark.parametrize("external", [False, True])
def test_a_static_file_needs_nothing_else(tmp_path: Path, external: bool) -> None:
    traced = trace(write(tmp_path / "net.onnx", [1, 3, 8, 8], external=external))
    assert traced.exporter == "ONNX file"
    assert traced.run_module is None
    assert [(spec.name, spec.shape) for spec in traced.inputs] == [("x", (1, 3, 8, 8))]
    values = {value.name: tuple(value.shape or ()) for node in traced.model.graph for value in node.outputs}
    assert values == {"hidden": (1, 4, 6, 6), "y": (1, 4, 6, 6)}
    assert [node.name for node in traced.model.graph] == ["same", "same_1"]
    assert len(traced.weights_digest) == 64


def test_a_file_may_be_given_as_a_path(tmp_path: Path) -> None:
    name = write(tmp_path / "net.onnx", [1, 3, 8, 8])
    assert bnncc.compile(Path(name)).content == bnncc.compile(name).content


def test_a_dynamic_file_needs_an_input_shape(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", ["batch", 3, "height", None])
    with pytest.raises(InputError, match=r"'x' is batchx3xheightx.*--input-shape x=1x3x224x224"):
        trace(path)
    traced = trace(path, input_shapes=["1x3x9x9"])
    assert tuple(traced.model.graph.outputs[0].shape or ()) == (1, 4, 7, 7)


@pytest.mark.parametrize("shape", ["1x4x8x8", "1x3x8"])
def test_a_shape_that_contradicts_the_file_is_refused(tmp_path: Path, shape: str) -> None:
    with pytest.raises(InputError, match="in the file, not"):
        trace(write(tmp_path / "net.onnx", [1, 3, 8, 8]), input_shapes=[shape])


def test_an_older_opset_is_converted(tmp_path: Path) -> None:
    traced = trace(write(tmp_path / "net.onnx", [1, 3, 8, 8], opset=13))
    assert traced.model.opset_imports[""] == 18
    assert {value.name for node in traced.model.graph for value in node.outputs} == {"hidden", "y"}


@pytest.mark.parametrize("opset", [7, 8])
def test_a_much_older_opset_is_refused(tmp_path: Path, opset: int) -> None:
    with pytest.raises(InputError, match=rf"uses opset {opset}; export it again with opset 18 \(bnncc reads 9 up\)"):
        trace(write(tmp_path / "net.onnx", [1, 3, 8, 8], opset=opset))


def test_an_operator_that_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)the shape of .*NoSuchOperator.* is not known"):
        trace(write(tmp_path / "net.onnx", [1, 3, 8, 8], operator="NoSuchOperator"))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("no model")
    with pytest.raises(InputError, match="cannot be read as an ONNX model"):
        trace(str(tmp_path / "net.onnx"))


def test_weights_and_arguments_are_refused_beside_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", [1, 3, 8, 8])
    with pytest.raises(InputError, match="has its weights inside"):
        trace(path, arguments={"depth": 18})
