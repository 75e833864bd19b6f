"""Damaged .onnx files, and parameters that nothing can be right with: each an InputError that names place and cause."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from bnncc.cli import main
from bnncc.errors import InputError
from bnncc.frontend import InputSpec, trace, trace_module

Array = np.ndarray[Any, Any]


def weights() -> dict[str, Array]:
    generator = np.random.default_rng(0)
    normal = lambda *shape: generator.standard_normal(shape).astype(np.float32)  # noqa: E731
    return {
        "w": normal(4, 3, 3, 3),
        "scale": normal(4),
        "bias": normal(4),
        "mean": normal(4),
        "variance": np.abs(normal(4)) + 1,
        "slope": normal(4, 1, 1),
    }


def model(opset: int = 18, **changed: Array) -> ModelProto:
    """x ─ Conv ─ BatchNormalization ─ PRelu ─ y"""
    tensors = weights() | changed
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
            helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "variance"], ["n"], name="norm"),
            helper.make_node("PRelu", ["n", "slope"], ["y"], name="act"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def dimension(size: int) -> Callable[[ModelProto], None]:
    def change(proto: ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size

    return change


def cycle(proto: ModelProto) -> None:
    proto.graph.node[0].input[0] = "n"


def unsorted(proto: ModelProto) -> None:
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))


def short(proto: ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]


def odd(proto: ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-3]


def too_few_floats(proto: ModelProto) -> None:
    tensor = proto.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0, 2.0])


def negative_shape(proto: ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = -1


def huge_shape(proto: ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = 2**31


def unknown_type(proto: ModelProto) -> None:
    proto.graph.initializer[0].data_type = 77


def opset(version: int) -> Callable[[ModelProto], None]:
    def change(proto: ModelProto) -> None:
        proto.opset_import[0].version = version

    return change


def no_opset(proto: ModelProto) -> None:
    del proto.opset_import[:]


def ir_version(proto: ModelProto) -> None:
    proto.ir_version = 99


def undefined(proto: ModelProto) -> None:
    proto.graph.node[1].input[0] = "nowhere"


def no_such_output(proto: ModelProto) -> None:
    proto.graph.output[0].name = "z"


def no_outputs(proto: ModelProto) -> None:
    del proto.graph.output[:]


def unknown_domain(proto: ModelProto) -> None:
    proto.graph.node[2].domain = "my.operators"


def two_of_a_name(proto: ModelProto) -> None:
    proto.graph.node[1].output[0] = "c"
    proto.graph.node[2].input[0] = "c"


def sequence_input(proto: ModelProto) -> None:
    proto.graph.input[0].type.CopyFrom(
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [1]))
    )


def wrong_attribute(proto: ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("strides", "two"))


def wrong_channels(proto: ModelProto) -> None:
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 5, 3, 3), np.float32), "w"))


def too_large_kernel(proto: ModelProto) -> None:
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3, 9, 9), np.float32), "w"))


def empty_in_the_middle(proto: ModelProto) -> None:
    numbers = {"starts": [3], "ends": [3], "axes": [2]}
    proto.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in numbers.items())
    proto.graph.node.insert(0, helper.make_node("Slice", ["x", *numbers], ["s"], name="cut"))
    proto.graph.node[1].input[0] = "s"
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w"))


def training_norm(proto: ModelProto) -> None:
    proto.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))
    proto.graph.node[1].output.extend(["running_mean", "running_var"])


def training_dropout(as_node: bool) -> Callable[[ModelProto], None]:
    def change(proto: ModelProto) -> None:
        ratio, yes = np.array(0.5, np.float32), np.array(True)
        proto.graph.initializer.append(numpy_helper.from_array(ratio, "ratio"))
        if as_node:
            constant = helper.make_node("Constant", [], ["training"], value=numpy_helper.from_array(yes))
            proto.graph.node.append(constant)
        else:
            proto.graph.initializer.append(numpy_helper.from_array(yes, "training"))
        proto.graph.node.append(helper.make_node("Dropout", ["y", "ratio", "training"], ["d"], name="drop"))
        proto.graph.output[0].name = "d"

    return change


DAMAGE: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    "an input of 0 rows": (dimension(0), "the shape of input 'x' is 1x3x0x8 in the file: fix it with --input-shape"),
    "an input of -1 rows": (dimension(-1), "the shape of input 'x' is 1x3x-1x8 in the file: fix it with --input-shape"),
    "an input of 2^31 rows": (dimension(2**31), "the input 'x' has a dimension of 2147483648"),
    "an input of 2^40 rows": (dimension(2**40), "the input 'x' has a dimension of 1099511627776"),
    "a cycle": (cycle, "has a cycle: Conv 'conv' reads 'n', which depends on it"),
    "unsorted nodes": (
        unsorted,
        "not sorted: PRelu 'act' reads 'n', which BatchNormalization 'norm' computes only behind",
    ),
    "a short initializer": (short, r"initializer 'w' is of shape \[4, 3, 3, 3\], but holds 107 values, not 108"),
    "an initializer of odd size": (odd, "initializer 'w' is of shape"),
    "too few floats": (too_few_floats, r"initializer 'scale' is of shape \[4\], but holds 2 values, not 4"),
    "a negative shape": (negative_shape, r"initializer 'w' has the shape \[-1, 3, 3, 3\]"),
    "a huge shape": (huge_shape, r"initializer 'w' has the shape \[2147483648, 3, 3, 3\]"),
    "an unknown type": (unknown_type, r"initializer 'w' is of an unknown type \(77\)"),
    "opset 99": (opset(99), "uses opset 99; the installed onnx .* knows"),
    "opset 0": (opset(0), "uses opset 0; export it again"),
    "opset 2^62": (opset(2**62), "uses opset 4611686018427387904"),
    "no opset": (no_opset, "does not say which opset"),
    "a newer format": (ir_version, "uses version 99 of ONNX's format"),
    "an undefined value": (undefined, "BatchNormalization 'norm' reads 'nowhere', which nothing computes"),
    "an undefined output": (no_such_output, "nothing computes the output 'z'"),
    "a domain without a version": (
        unknown_domain,
        "my.operators.PRelu 'act' is of the domain 'my.operators', of which no",
    ),
    "no outputs": (no_outputs, "its graph has no outputs"),
    "two values of a name": (two_of_a_name, "two values are called 'c'; the second is of BatchNormalization 'norm'"),
    "a sequence as input": (sequence_input, "the input 'x' is no tensor"),
    "an attribute of another type": (wrong_attribute, "net.onnx"),
    "other channels": (wrong_channels, "net.onnx"),
    "a kernel larger than the map": (too_large_kernel, "net.onnx|gives no elements"),
    "an empty map": (empty_in_the_middle, r"Slice 'cut' gives no elements: its shape is \(1, 3, 0, 8\)"),
    "batch norm in training mode": (
        training_norm,
        r"exported in training mode: BatchNormalization 'norm' has training_mode = 1. Call net.eval\(\)",
    ),
    "dropout in training mode": (training_dropout(False), r"training mode: Dropout 'drop' .*net.eval\(\)"),
    "dropout in training mode by a node": (training_dropout(True), r"training mode: Dropout 'drop' .*net.eval\(\)"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_refused_with_place_and_cause(tmp_path: Path, kind: str) -> None:
    change, message = DAMAGE[kind]
    proto = model()
    change(proto)
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match=message):
        trace(str(tmp_path / "net.onnx"))


def test_a_dimension_that_the_file_leaves_open_can_be_given(tmp_path: Path) -> None:
    for size in (0, -1):
        proto = model()
        dimension(size)(proto)
        (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
        traced = trace(str(tmp_path / "net.onnx"), input_shapes=["1x3x9x8"])
        assert tuple(traced.model.graph.outputs[0].shape or ()) == (1, 4, 7, 6)


@pytest.mark.parametrize(("name", "shape"), [("y", [1, 4, 6, 7]), ("y", [9, 4, 6, 6]), ("c", [1, 4, 3, 6]), ("n", [7])])
def test_what_a_file_says_wrongly_of_inner_shapes_and_outputs_is_corrected(
    tmp_path: Path, name: str, shape: list[int]
) -> None:
    proto = model()
    wrong = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    if name == "y":
        proto.graph.output[0].CopyFrom(wrong)
    else:
        proto.graph.value_info.append(wrong)
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    traced = trace(str(tmp_path / "net.onnx"))
    shapes = {value.name: tuple(value.shape or ()) for node in traced.model.graph for value in node.outputs}
    assert {tuple(sizes) for sizes in shapes.values()} == {(1, 4, 6, 6)}
    assert any("the output 'y' is said to be" in warning for warning in traced.warnings) == (name == "y")


def test_the_command_line_ends_with_2_and_writes_nothing(tmp_path: Path) -> None:
    proto = model()
    cycle(proto)
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    done = CliRunner().invoke(main, ["compile", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "net.tflite")])
    assert done.exit_code == 2
    assert "has a cycle" in done.output
    assert not (tmp_path / "net.tflite").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no model", "cannot be read as an ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<html></html>", "web page"),
        (b"\x08\x08", "holds no graph"),
    ],
)
def test_what_is_no_onnx_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(InputError, match=message):
        trace(str(tmp_path / "net.onnx"))


def test_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        trace(str(tmp_path / "folder.onnx"))


def test_a_file_cut_anywhere_or_with_other_bytes_never_ends_in_another_error(tmp_path: Path) -> None:
    content = model().SerializeToString()
    generator = np.random.default_rng(0)
    path = tmp_path / "net.onnx"
    messages = []
    for index in range(150):
        if index % 3 == 0:
            changed = bytearray(content[: int(generator.integers(len(content)))])
        else:
            changed = bytearray(content)
            # The weights are most of the file: damage what is not.
            spots = [position for position in range(len(content)) if not 300 < position < 740]
            for position in generator.choice(spots, 3):
                changed[position] = int(generator.integers(256))
        path.write_bytes(bytes(changed))
        try:
            trace(str(path))
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all("net.onnx" in message or "'" in message for message in messages)


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    content = model().SerializeToString().replace(b"slope", b"sl\xffpe")
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"net\.onnx.*(UTF-8|utf-8|cannot be read)"):
        trace(str(tmp_path / "net.onnx"))


def external(path: Path) -> ModelProto:
    onnx.save(model(), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    return onnx.load(path, load_external_data=False)


def test_external_data_beside_the_file_are_read(tmp_path: Path) -> None:
    external(tmp_path / "net.onnx")
    traced = trace(str(tmp_path / "net.onnx"))
    (tmp_path / "whole.onnx").write_bytes(model().SerializeToString())
    assert traced.weights_digest == trace(str(tmp_path / "whole.onnx")).weights_digest


def test_missing_external_data_are_named(tmp_path: Path) -> None:
    external(tmp_path / "net.onnx")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(InputError, match=r"the data of initializer 'w' are in .*net\.bin, which is not there"):
        trace(str(tmp_path / "net.onnx"))


def test_external_data_that_are_cut_off_are_named(tmp_path: Path) -> None:
    external(tmp_path / "net.onnx")
    (tmp_path / "net.bin").write_bytes((tmp_path / "net.bin").read_bytes()[:100])
    with pytest.raises(InputError, match=r"initializer 'w' should be bytes 0 to 432 of .*net\.bin, which has 100"):
        trace(str(tmp_path / "net.onnx"))


@pytest.mark.parametrize("location", ["../net.bin", "/etc/hostname", ""])
def test_external_data_elsewhere_are_not_read(tmp_path: Path, location: str) -> None:
    proto = external(tmp_path / "net.onnx")
    proto.graph.initializer[0].external_data[0].value = location
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="which is not beside the model"):
        trace(str(tmp_path / "net.onnx"))


def test_a_weight_with_which_sums_overflow_is_named(tmp_path: Path) -> None:
    array = weights()["w"].copy()
    array.reshape(-1)[2] = -2.7e38
    (tmp_path / "net.onnx").write_bytes(model(w=array).SerializeToString())
    with pytest.raises(InputError, match=r"the parameter 'w' holds -2\.7e\+38, at \[.*the range of float32; Conv"):
        trace(str(tmp_path / "net.onnx"))


@pytest.mark.parametrize("name", ["w", "scale", "bias", "mean", "variance", "slope"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_are_named(tmp_path: Path, name: str, number: float) -> None:
    array = weights()[name].copy()
    array.reshape(-1)[2] = number
    (tmp_path / "net.onnx").write_bytes(model(**{name: array}).SerializeToString())
    what = "NaN" if np.isnan(number) else "an infinite value"
    with pytest.raises(InputError, match=rf"the parameter '{name}' holds {what}: 1 of \d+ values are not finite"):
        trace(str(tmp_path / "net.onnx"))


def test_a_negative_variance_is_named(tmp_path: Path) -> None:
    variance = np.array([1, 2, -0.5, 1], np.float32)
    (tmp_path / "net.onnx").write_bytes(model(variance=variance).SerializeToString())
    message = r"'variance' is a variance and holds negative values, the first -0.5 at \[2\]; BatchNormalization 'norm'"
    with pytest.raises(InputError, match=message):
        trace(str(tmp_path / "net.onnx"))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.ones(1))
        self.unused = nn.Parameter(torch.full((3,), torch.nan))
        self.register_buffer("mask", torch.full((6, 6), -torch.inf).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x)) * self.scale
        return torch.softmax(y + self.mask, -1)


@pytest.mark.parametrize("name", ["conv.weight", "conv.bias", "norm.weight", "norm.running_mean", "scale"])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_parameters_of_a_module_that_are_not_finite_are_named(name: str, number: float) -> None:
    network = Network()
    network.state_dict()[name].reshape(-1)[0] = number
    with pytest.raises(InputError, match=rf"the parameter '{re.escape(name)}' holds"):
        trace_module(network, [InputSpec("x", (1, 3, 8, 8))])


def test_a_negative_variance_of_a_module_is_named() -> None:
    network = Network()
    assert isinstance(network.norm.running_var, torch.Tensor)
    network.norm.running_var[1] = -1
    with pytest.raises(InputError, match=r"'norm.running_var' is a variance and holds negative values, the first -1"):
        trace_module(network, [InputSpec("x", (1, 3, 8, 8))])


def test_a_mask_of_minus_infinity_and_parameters_that_nothing_reads_are_no_trouble() -> None:
    traced = trace_module(Network(), [InputSpec("x", (1, 3, 8, 8))])
    assert traced.run_module is not None


def small(nodes: list[onnx.NodeProto], tensors: list[TensorProto], **more: Any) -> ModelProto:
    """x [1, 4] ─ nodes ─ y."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **more)


def doubling(depth: int) -> ModelProto:
    """Functions of two calls of the one before: 2^depth nodes."""
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    bodies = [[helper.make_node("Relu", ["a"], ["b"])]]
    for index in range(depth):
        calls = [("a", "c"), ("c", "b")]
        bodies.append([helper.make_node(f"F{index}", [a], [b], domain="own") for a, b in calls])
    functions = [
        helper.make_function("own", f"F{index}", ["a"], ["b"], nodes, imports) for index, nodes in enumerate(bodies)
    ]
    return small([helper.make_node(f"F{depth}", ["x"], ["y"], domain="own")], [], functions=functions)


def endless(constant: bool) -> ModelProto:
    """A Loop of 2^62 turns, over the input or over a constant."""
    inputs = [("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("a", TensorProto.FLOAT, [1, 4])]
    outputs = [("went", TensorProto.BOOL, []), ("b", TensorProto.FLOAT, [1, 4])]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["went"]), helper.make_node("Identity", ["a"], ["b"])],
        "body", [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
    )  # fmt: skip
    tensors = [
        helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("true", TensorProto.BOOL, [], [True]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1, 4], [0.0] * 4),
    ]
    loop = helper.make_node("Loop", ["turns", "true", "zero" if constant else "x"], ["z"], body=body)
    return small([loop, helper.make_node("Add", ["x", "z"], ["y"])], tensors)


def loaded(proto: ModelProto, folder: Path) -> None:
    (folder / "net.onnx").write_bytes(proto.SerializeToString())
    trace(str(folder / "net.onnx"))


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("ConstantOfShape", [("s", TensorProto.INT64, [10**6, 10**6])]),
        ("Expand", [("x", None, None), ("s", TensorProto.INT64, [10**9, 10**3, 4])]),
        ("Tile", [("x", None, None), ("s", TensorProto.INT64, [10**6, 10**6])]),
    ],
)
def test_a_value_larger_than_memory_is_refused_before_anything_runs(
    tmp_path: Path, operator: str, inputs: list[tuple[str, Any, Any]]
) -> None:
    tensors = [helper.make_tensor(name, kind, [len(v)], v) for name, kind, v in inputs if kind is not None]
    nodes = [
        helper.make_node(operator, [name for name, *_ in inputs], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["sum"]),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    with pytest.raises(InputError, match=rf"net\.onnx: {operator} 'large' gives .* GiB, and the limit is"):
        loaded(small(nodes, tensors), tmp_path)


@pytest.mark.parametrize("constant", [True, False])
def test_a_loop_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constant: bool) -> None:
    monkeypatch.setattr("bnncc.ir.evaluate.LONGEST_LOOP", 0.2)
    with pytest.raises(InputError, match=r"net\.onnx: .*a Loop of the graph does not end: it ran for 0\.2 s"):
        loaded(endless(constant), tmp_path)


def test_functions_that_stand_for_more_nodes_than_can_be_counted_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"net\.onnx: its functions call each other"):
        loaded(doubling(40), tmp_path)
    loaded(doubling(3), tmp_path)


@pytest.mark.parametrize("version", [13, 18])
def test_weights_behind_a_link_that_leads_out_of_the_folder_are_refused(tmp_path: Path, version: int) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "inside/weights").symlink_to(tmp_path / "secret")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights")
    proto = small([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])
    proto.opset_import[0].version = version
    with pytest.raises(InputError, match=r"net\.onnx: the data beside it cannot be read"):
        loaded(proto, tmp_path / "inside")
