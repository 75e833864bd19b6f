"""From a traced network to a float .tflite file that is proven to be that network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from ai_edge_litert import schema_py_generated as schema

from bnncc._version import __version__
from bnncc.baseline.check import Check, check, load, stored
from bnncc.baseline.graph import float_graph
from bnncc.baseline.process import check_installed, convert
from bnncc.errors import VerificationError
from bnncc.frontend import TracedModel
from bnncc.inference.classes import same_classes
from bnncc.inference.graph_runner import OrtRunner
from bnncc.ir.evaluate import Array, random_inputs
from bnncc.ir.rounding import relative_error
from bnncc.options import FileMetadata, Options
from bnncc.system.files import write_atomically
from bnncc.targets.tflite.digest import DIGEST_NAME, METADATA_NAME, PLACEHOLDER
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import Tensor, pack, unpack

# The file is checked on so many random inputs where none are given.
RANDOM_INPUTS = 2
# What the metadata call the device.
TARGET = "float baseline"


@dataclass(frozen=True)
class Baseline:
    """The float file of a network.

    content: the bytes of the .tflite file; 4-D inputs and outputs are NHWC, all else is as in PyTorch.
    inputs: how many it was checked on.  check: what was found with everything behind a sign reading the reference's
    values.  free_error: the largest error of the outputs as the file runs by itself, relative to their largest
    magnitude, against PyTorch (ONNX Runtime for a .onnx file); flipped signs spread there.
    agreeing: inputs of which both name the same classes (None where the first output is no row of logits).
    """

    content: bytes
    inputs: int
    check: Check
    free_error: float
    agreeing: int | None

    def save(self, path: Path | str) -> None:
        """Write the file: whole or not at all.  Raises InputError where that fails."""
        write_atomically(Path(path), self.content)


def make_baseline(
    traced: TracedModel, inputs: Sequence[Sequence[Array]] = (), options: Options | None = None
) -> Baseline:
    """Convert the network with onnx2tf and prove the result.

    inputs: on which it is proven, one float32 array for each graph input, NCHW; random ones by default.
    options: preprocessing and class names for the file's metadata; nothing else of them applies.
    Raises InputError where the extra `baseline` is not installed, ConversionError where onnx2tf fails, and
    VerificationError where its file computes something else.
    """
    check_installed()
    inputs = inputs or [random_inputs(traced.model, seed) for seed in range(RANDOM_INPUTS)]
    model = float_graph(traced)
    for number, value in enumerate(model.graph.inputs):
        value.name = _input_name(number)
    content = convert(model)
    try:
        content = _with_metadata(_in_order(content, model, inputs[0]), traced, options or Options())
        found = check(content, model, inputs)
    except VerificationError as error:
        raise VerificationError(f"the file that onnx2tf made is not the network: {error}") from error
    return Baseline(content, len(inputs), found, *_run_freely(content, traced, inputs))


def _in_order(content: bytes, model: ir.Model, arrays: Sequence[Array]) -> bytes:
    """The file with its inputs and outputs in the graph's order, which TensorFlow does not keep.

    Inputs are told by their names, outputs by their values.
    """
    file = TfliteFile(content)
    names = {tensor.name.removeprefix("serving_default_").split(":")[0]: tensor for tensor in file.inputs}
    inputs = [names.get(_input_name(number)) for number in range(len(model.graph.inputs))]
    shapes = [None if tensor is None else tensor.shape for tensor in inputs]
    wanted = [stored(array).shape for array in arrays]
    if shapes != wanted:
        raise VerificationError(f"its inputs are of shape {shapes}, not {wanted}")
    ordered = [tensor for tensor in inputs if tensor is not None]
    found = load(file.variant(ordered, file.outputs)).run([stored(array) for array in arrays])
    expected = [stored(array) for array in OrtRunner(model).run(arrays)]
    results = dict(zip(file.outputs, found, strict=True))
    return file.variant(ordered, [_nearest(results, array) for array in expected])


def _nearest(results: Mapping[Tensor, Array], reference: Array) -> Tensor:
    distances = {
        tensor: float(np.mean(np.abs(array.astype(np.float64) - reference)))
        for tensor, array in results.items()
        if array.shape == reference.shape
    }
    if not distances:
        raise VerificationError(f"none of its outputs is of shape {reference.shape}")
    return min(distances, key=lambda tensor: distances[tensor])


def _input_name(number: int) -> str:
    return f"bnncc_input_{number}"


def _with_metadata(content: bytes, traced: TracedModel, options: Options) -> bytes:
    """The file with the metadata that a binary file has, and its digest."""
    kept = Options(preprocessing=options.preprocessing, classes=options.classes)
    note = FileMetadata(__version__, TARGET, traced.weights_digest, traced.float32_bytes, kept)
    model = unpack(content)
    for name, data in {METADATA_NAME: note.as_bytes(), DIGEST_NAME: PLACEHOLDER}.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(data, np.uint8)
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers, model.metadata = [*model.buffers, buffer], [*(model.metadata or []), entry]
    return pack(model)


def _run_freely(content: bytes, traced: TracedModel, inputs: Sequence[Sequence[Array]]) -> tuple[float, int | None]:
    """Baseline's free_error and agreeing."""
    runner, reference = load(content), traced.run_module or OrtRunner(traced.model).run
    error = 0.0
    same: list[bool | None] = []
    for arrays in inputs:
        expected = [stored(array) for array in reference(list(arrays))]
        found = runner.run([stored(array) for array in arrays])
        error = max(error, *map(relative_error, found, expected))
        same.append(same_classes(found[0], expected[0]))
    return error, None if None in same else sum(map(bool, same))
