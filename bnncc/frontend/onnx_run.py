"""Run a .onnx file's graph once: does it run at all, and does it still compute what the file computes?"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from bnncc.errors import InputError, first_line
from bnncc.frontend.channels_first import TO_CHANNELS_FIRST, TO_CHANNELS_LAST
from bnncc.frontend.export import OPSET
from bnncc.frontend.onnx_file import OnnxFile
from bnncc.ir.evaluate import Array, random_inputs, run, skeleton, weights_of
from bnncc.ir.graph import describe, shape_of
from bnncc.system.memory import require_memory

# ONNX's converter keeps operators but for their spelling: outputs differ by rounding, relative to the largest value.
_TOLERANCE = 1e-3
_SEED = 0
_FAILING_NODE = re.compile(r'while running (?P<running>\w+) node|In Node, \("[^"]*", (?P<invalid>\w+),')
# What ONNX Runtime says where it gets no memory.
_OUT_OF_MEMORY = "bad_alloc"
_WINDOWED = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "BatchNormalization", "Resize"}


def refuse_empty_values(model: ir.Model, path: Path) -> None:
    """Raise InputError where an input, or a map that a window moves over, has no elements.

    Elsewhere they are of use: a state that begins empty, a shape of no axes.
    """
    for value in model.graph.inputs:
        if 0 in (shape_of(value) or ()):
            raise InputError(f"{path}: the input {value.name!r} has no elements: its shape is {shape_of(value)}")
    for node in model.graph:
        if node.op_type not in _WINDOWED:
            continue
        for part in (*node.inputs[:1], node.outputs[0]):
            producer = part.producer() if part is not None else None
            if part is not None and producer is not None and 0 in (shape_of(part) or ()):
                raise InputError(f"{path}: {describe(producer)} gives no elements: its shape is {shape_of(part)}")


def check_against_file(
    model: ir.Model, file: OnnxFile, turned_inputs: Collection[str], turned_outputs: Collection[str], path: Path
) -> None:
    """Run the graph, and the file's own where its opset was converted, on one random input.

    Args:
        turned_inputs, turned_outputs: names of those that are NHWC in the file and NCHW in `model`.

    Raises:
        InputError: the graph does not run, or the conversion changed what it computes.
    """
    names = [value.name or "" for value in model.graph.inputs]
    feeds: dict[str, Array] = dict(zip(names, random_inputs(model, _SEED), strict=True))
    try:
        outputs = run(skeleton(model), {**weights_of(model), **feeds})
    except InputError:  # a Loop without an end
        raise
    except Exception as error:
        if _OUT_OF_MEMORY in str(error):
            raise InputError(f"{path} takes more memory than there is: {first_line(error)}") from error
        if _may_be_well(error, model):
            return
        raise InputError(f"{path} does not run in ONNX Runtime: {first_line(error)}") from error
    for value in model.graph.outputs:
        found = outputs[value.name or ""].shape
        if shape_of(value) is not None and shape_of(value) != found:
            raise InputError(f"{path} says that its output {value.name!r} is {shape_of(value)}, and it is {found}")
    if file.original is None:
        return
    given = {
        name: np.ascontiguousarray(array.transpose(TO_CHANNELS_LAST)) if name in turned_inputs else array
        for name, array in feeds.items()
    }
    try:
        expected = run(file.original, given)
    except Exception:  # ONNX Runtime does not run everything that old.
        return
    for name, array in outputs.items():
        wanted = expected.get(name)
        if wanted is None:
            continue
        if name in turned_outputs:
            wanted = wanted.transpose(TO_CHANNELS_FIRST)
        scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
        if array.shape != wanted.shape or not np.allclose(array, wanted, atol=_TOLERANCE * scale, equal_nan=True):
            raise InputError(
                f"{path}: converted to a newer opset, the model computes another {name!r} than before; export it again "
                "with opset 18"
            )


def refuse_large_values(model: ir.Model, path: Path) -> None:
    """Raise InputError where a value does not fit into memory, before anything runs."""
    for node in model.graph:
        for value in node.outputs:
            shape = shape_of(value)
            if shape is not None and value.dtype is not None:
                size = math.prod(shape) * value.dtype.bitwidth // 8
                require_memory(size, f"{path}: {describe(node)} gives {'x'.join(map(str, shape))} numbers, which")


def _may_be_well(error: Exception, model: ir.Model) -> bool:
    """Whether the graph may be right although ONNX Runtime does not run it.

    It lacks an operator, or the newer form of one, which passes may yet decompose; or an input is a scalar or of
    integers, as depths, ratios and indices are, of which random ones need not be valid.
    """
    if any(shape_of(value) == () or value.dtype != ir.DataType.FLOAT for value in model.graph.inputs):
        return True
    text = str(error)
    named = _FAILING_NODE.search(text)
    if named is not None:
        version = model.opset_imports.get("", OPSET)
        try:
            schema: Any = onnx.defs.get_schema(named["running"] or named["invalid"], version)
        except onnx.defs.SchemaError:
            return False
        return bool(schema.has_function or schema.has_context_dependent_function)
    return type(error).__name__ in ("NotImplemented", "Fail")
