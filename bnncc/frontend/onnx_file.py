"""Read a .onnx file as the frontend's graph: opset 18 or newer, static input shapes, standard operators in float32."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from bnncc.errors import InputError, first_line
from bnncc.frontend.checkpoint_file import mistaken_for
from bnncc.frontend.command_line import GivenShape
from bnncc.frontend.export import OPSET, silence
from bnncc.frontend.onnx_structure import check_structure, describe
from bnncc.frontend.qonnx import decompose_qonnx
from bnncc.frontend.single_precision import to_float32
from bnncc.ir.input_spec import INPUT_TYPES
from bnncc.system.files import read_whole

# What ONNX's version converter reads.
LOWEST_OPSET = 9
# The IR versions that opset 18 and ONNX Runtime know: older files keep weights among the inputs, newer ones add types.
IR_VERSIONS = (8, 10)
# From this opset on, Resize has modes; before, and as Upsample, it had one.
_RESIZE_OPSET = 11
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass
class OnnxFile:
    """A .onnx file as it was read.

    model: in opset 18 or newer.  original: the file itself where its opset was older.  notes: what the user should
    know, one sentence each.
    """

    model: ir.Model
    original: onnx.ModelProto | None = None
    notes: list[str] = field(default_factory=list)


def load_onnx(path: Path) -> OnnxFile:
    """The model in `path`, external data included, converted to opset 18 where it is older.

    Raises:
        InputError: the file cannot be read, is damaged, was exported in training mode, or has an
            opset that cannot be converted.
    """
    proto = _parse(path)
    check_structure(proto, path)
    version = _opset(proto, path)
    _refuse_training_mode(proto.graph, path)
    original = None
    if version < OPSET:
        try:
            original = onnx.load(path)
            with silence():
                proto = onnx.version_converter.convert_version(original, OPSET)
        except Exception as error:
            if original is None:
                raise InputError(f"{path}: the data beside it cannot be read: {first_line(error)}") from error
            cause = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise InputError(
                f"{path} uses opset {version} and cannot be converted to {OPSET}: {cause}. "
                f"Export it again with opset {OPSET}"
            ) from error
        if version < _RESIZE_OPSET:
            _keep_resizing(proto)
    try:
        model = ir.from_proto(proto)
    except Exception as error:
        raise InputError(f"{path} cannot be read as an ONNX model: {error}") from error
    ir.external_data.set_base_dir(model.graph, path.parent)
    try:
        ir.external_data.load_to_model(model)
    except Exception as error:
        raise InputError(f"{path}: the data beside it cannot be read: {first_line(error)}") from error
    lowest, highest = IR_VERSIONS
    model.ir_version = min(max(lowest, model.ir_version), highest)
    return OnnxFile(model, original)


def standardize(file: OnnxFile, path: Path) -> None:
    """Decompose QONNX's operators and bring the graph to float32, in place.  Constants are initializers by now."""
    decompose_qonnx(file.model)
    word = to_float32(file.model)
    if word is not None:
        file.notes.append(f"{path}: {word}")


def _parse(path: Path) -> onnx.ModelProto:
    content = read_whole(path)
    mistaken = mistaken_for(content)
    if mistaken is not None:
        raise InputError(f"{path} is {mistaken}")
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as an ONNX model ({str(error).strip() or type(error).__name__}): "
            "it is truncated or damaged, or no ONNX file"
        ) from error


def _opset(proto: onnx.ModelProto, path: Path) -> int:
    """The version of the standard operators."""
    newest = onnx.defs.onnx_opset_version()
    if proto.ir_version > onnx.IR_VERSION:
        raise InputError(
            f"{path} uses version {proto.ir_version} of ONNX's format; the installed onnx {onnx.__version__} knows "
            f"{onnx.IR_VERSION}"
        )
    version: int | None = next(
        (entry.version for entry in proto.opset_import if entry.domain in _DEFAULT_DOMAINS), None
    )
    if version is None:
        raise InputError(f"{path} does not say which opset it uses: export it again with opset {OPSET}")
    if version < LOWEST_OPSET:
        raise InputError(
            f"{path} uses opset {version}; export it again with opset {OPSET} (bnncc reads {LOWEST_OPSET} up)"
        )
    if version > newest:
        raise InputError(
            f"{path} uses opset {version}; the installed onnx {onnx.__version__} knows {newest}. Export it again with "
            f"opset {OPSET}, or install a newer onnx"
        )
    return version


def _refuse_training_mode(graph: onnx.GraphProto, path: Path) -> None:
    """Batch statistics and random dropout are no inference."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    for node in _all_nodes(graph):
        if node.domain not in _DEFAULT_DOMAINS:
            continue
        cause = None
        if node.op_type == "BatchNormalization":
            if any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute):
                cause = "has training_mode = 1"
            elif sum(1 for name in node.output if name) > 1:
                cause = "also returns batch statistics"
        elif node.op_type == "Dropout" and len(node.input) > 2:
            training = constants.get(node.input[2])
            if training is not None and np.any(numpy_helper.to_array(training)):
                cause = "has training_mode = true"
        if cause is not None:
            raise InputError(
                f"{path} was exported in training mode: {describe(node)} {cause}. Call net.eval() and export again, "
                "with training=torch.onnx.TrainingMode.EVAL where that is given"
            )


def _keep_resizing(proto: onnx.ModelProto) -> None:
    """Say how Upsample and Resize took their samples before opset 11: the converter leaves the newer default there."""
    modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for node in _all_nodes(proto.graph):
        if node.op_type == "Resize" and node.domain in _DEFAULT_DOMAINS:
            given = {attribute.name for attribute in node.attribute}
            node.attribute.extend(
                onnx.helper.make_attribute(name, mode) for name, mode in modes.items() if name not in given
            )


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for subgraph in itertools.chain([attribute.g] if attribute.HasField("g") else [], attribute.graphs):
                yield from _all_nodes(subgraph)


def set_input_shapes(model: ir.Model, shapes: Mapping[str, GivenShape]) -> None:
    """Give the graph inputs static shapes, and forget inner shapes that depended on dynamic ones.

    Args:
        shapes: by input name; an input with a static shape in the file needs none.

    Raises:
        InputError: an input stays dynamic, has another rank or another static size or type.
    """
    for value in model.graph.inputs:
        declared = None if value.shape is None else list(value.shape)
        told = shapes.get(value.name or "")
        given = None if told is None else told.shape
        dtype = "float32" if value.dtype is None else _type_name(value.dtype)
        if dtype not in INPUT_TYPES:
            raise InputError(f"the input {value.name!r} is of type {dtype}; an input may be {', '.join(INPUT_TYPES)}")
        if told is not None and told.dtype not in (None, dtype):
            raise InputError(f"the input {value.name!r} is of type {dtype} in the file, not {told.dtype}")
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        if given is not None:
            fits = declared is None or (
                len(declared) == len(given)
                and all(not isinstance(size, int) or size == own for size, own in zip(declared, given, strict=True))
            )
            if not fits:
                raise InputError(f"the input {value.name!r} is {_text(declared or [])} in the file, not {_text(given)}")
            value.shape = ir.Shape(given)
        elif declared is None or any(not isinstance(size, int) for size in declared):
            shape = _text(declared) if declared is not None else "not given"
            raise InputError(
                f"the shape of input {value.name!r} is {shape} in the file: fix it with --input-shape, "
                f"for example --input-shape {value.name}=1x3x224x224"
            )


def _type_name(dtype: ir.DataType) -> str:
    try:
        return str(dtype.numpy().name)
    except TypeError:  # a type that NumPy lacks
        return dtype.name.lower()


def _text(shape: list[object] | tuple[int, ...] | list[int | ir.SymbolicDim]) -> str:
    return "x".join(str(size) for size in shape)
