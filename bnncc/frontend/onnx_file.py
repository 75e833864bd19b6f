"""Read a .onnx file as the frontend's graph: opset 18 or newer, static input shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from bnncc.errors import InputError
from bnncc.frontend.command_line import INPUT_TYPES, GivenShape
from bnncc.frontend.export import OPSET, silence

# Older models define operators (Squeeze, Softmax, …) that ONNX's converter does not bring forward reliably.
LOWEST_OPSET = 13


def load_onnx(path: Path) -> ir.Model:
    """The model in `path`, external data included, converted to opset 18 where it is older.

    Raises:
        InputError: the file cannot be read, or its opset cannot be converted.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        model = ir.load(path)
    except Exception as error:
        raise InputError(f"{path} cannot be read as an ONNX model: {error}") from error
    version = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
    if version is None or version >= OPSET:
        return model
    if version < LOWEST_OPSET:
        raise InputError(
            f"{path} uses opset {version}; export it again with opset {OPSET} (bnncc reads {LOWEST_OPSET} up)"
        )
    try:
        with silence():
            return ir.from_proto(onnx.version_converter.convert_version(onnx.load(path), OPSET))
    except Exception as error:
        raise InputError(f"{path} uses opset {version} and cannot be converted to {OPSET}: {error}") from error


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
