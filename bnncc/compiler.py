"""The whole way: a traced network through the passes to a .tflite file, with what became of each binary layer."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
from torch import nn

from bnncc import ops
from bnncc._version import __version__
from bnncc.errors import InputError
from bnncc.evaluate import Array
from bnncc.frontend import TracedModel, input_specs, trace, trace_module
from bnncc.layers import BinaryLayer, binary_layers
from bnncc.pass_runner import PassRunner
from bnncc.passes import PIPELINE
from bnncc.passes.binary_weights import ZeroWeights
from bnncc.passes.configure import configured
from bnncc.passes.legalize import Padding, legalization
from bnncc.passes.merge_replication import ReplicationMode
from bnncc.passes.step import Step
from bnncc.runners import LceRunner
from bnncc.targets import Target, find_target
from bnncc.targets.tflite import WeightsPrecision, emit

DEFAULT_TARGET = "raspberry-pi-4"
# The name of the metadata buffer in the file, which holds JSON.
METADATA_NAME = "bnncc"


@dataclass(frozen=True)
class Options:
    """How to compile.

    padding: how zero padding that LCE cannot express is handled.  channels_last: NHWC inputs and outputs in the file.
    dump_dir: write the model after each pass there.  verify_passes: check each pass on random inputs.
    disabled_passes: names of passes to leave out; the file is as exact without them, only larger or slower, or says
    which layers stay in float.
    replication: how copies of a convolution's output are computed; the target's cost model chooses where it is AUTO.
    zero_weights: what becomes of a layer of ±α some of whose weights are exactly 0.
    weights_precision: in which type the file holds the weights of float layers; binary layers stay as they are.
    """

    padding: Padding = Padding.AUTO
    channels_last: bool = True
    dump_dir: Path | None = None
    verify_passes: bool = False
    disabled_passes: tuple[str, ...] = ()
    replication: ReplicationMode = ReplicationMode.AUTO
    zero_weights: ZeroWeights = ZeroWeights.FLOAT
    weights_precision: WeightsPrecision = WeightsPrecision.FLOAT32


@dataclass
class CompiledModel:
    """A compiled network.

    content: the bytes of the .tflite file.  graph: the ONNX model that was lowered (NCHW).  traced: the network
    before the passes.  layers: every binary layer of the source.  seconds: of "load", "export", "check", "passes" and
    "emit"; pass_seconds: of each pass.
    """

    content: bytes
    graph: ir.Model
    traced: TracedModel
    target: Target
    layers: list[BinaryLayer]
    options: Options
    seconds: dict[str, float] = field(default_factory=dict)
    pass_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def float_weight_bytes(self) -> int:
        """The size of the network's parameters in float32: what the traced graph holds before any pass."""
        floats = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
        tensors = (value.const_value for value in self.traced.model.graph.initializers.values())
        return sum(tensor.size * 4 for tensor in tensors if tensor is not None and tensor.dtype in floats)

    def as_stored(self, array: Array) -> Array:
        """A graph input or output in PyTorch's order (NCHW), laid out as the file has it."""
        if self.options.channels_last and array.ndim == 4:
            array = array.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(array)

    def save(self, path: Path | str) -> None:
        """Write the file: whole or not at all.  Raises InputError where that fails."""
        write_atomically(Path(path), self.content)

    def run(self, inputs: Sequence[Array], threads: int = 1) -> list[Array]:
        """Run the file in LCE's interpreter on arrays in the file's own layout (NHWC unless compiled otherwise)."""
        return LceRunner(self.content, threads).run(inputs)


def compile(
    source: str | nn.Module,
    *,
    target: str = DEFAULT_TARGET,
    weights: Path | str | None = None,
    arguments: Mapping[str, object] | None = None,
    input_shapes: Sequence[str | Sequence[int]] = (),
    allow_partial_weights: bool = False,
    check_inputs: Sequence[Sequence[Array]] = (),
    options: Options = Options(),
) -> CompiledModel:
    """Compile a network.

    source: "path/to/file.py:callable", "package.module:callable", a .onnx file, or an nn.Module.
    weights: a checkpoint for the network that the callable makes (not with a Module or a .onnx file).
    arguments: keyword arguments of the callable.
    input_shapes: one for each input, "1x3x224x224", "name=1x3x224x224" or a sequence of ints; NCHW, batch included.
    check_inputs: arrays on which, besides random ones, the trace is compared with PyTorch.
    Raises BnnccError, or one of its subclasses, with a message for the user.
    """
    device = find_target(target)
    shapes = [shape if isinstance(shape, str) else "x".join(map(str, shape)) for shape in input_shapes]
    if isinstance(source, nn.Module):
        if weights is not None or arguments:
            raise InputError("weights and arguments go with a callable; load them into the module instead")
        traced = trace_module(source, input_specs(source, shapes), check_inputs=check_inputs)
    else:
        traced = trace(
            source,
            weights=None if weights is None else Path(weights),
            arguments=arguments or {},
            input_shapes=shapes,
            allow_partial_weights=allow_partial_weights,
            check_inputs=check_inputs,
        )
    return compile_traced(traced, device, options)


def compile_traced(traced: TracedModel, target: Target, options: Options) -> CompiledModel:
    """Run the passes on a copy of the traced graph and emit the file."""
    start = time.perf_counter()
    model = traced.model.clone()
    ops.register(model)
    runner = PassRunner(options.dump_dir, options.verify_passes)
    steps = configured(
        PIPELINE,
        target.cost,
        grouped_bconv=target.grouped_bconv,
        replication=options.replication,
        zero_weights=options.zero_weights,
    )
    runner.run(model, _enabled(steps, options))
    runner.run(model, legalization(model, options.padding))
    layers = binary_layers(model.graph)
    passed = time.perf_counter()
    content = emit(
        model,
        channels_last=options.channels_last,
        precision=options.weights_precision,
        metadata=_metadata(traced, target, options),
    )
    seconds = {**traced.seconds, "passes": passed - start, "emit": time.perf_counter() - passed}
    return CompiledModel(content, model, traced, target, layers, options, seconds, runner.seconds)


def _enabled(steps: Sequence[Step], options: Options) -> list[Step]:
    """The steps that the options leave in.  Raises InputError for a name that is no pass."""
    names = [step.name for step in steps]
    for name in options.disabled_passes:
        if name not in names:
            raise InputError(f"--disable-pass: there is no pass '{name}'; the passes are {', '.join(names)}")
    return [step for step in steps if step.name not in options.disabled_passes]


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path` and rename, so that a failure leaves neither a partial file nor a damaged old one."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes the file private; give it the permissions of the older file, or those that open would.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise InputError(f"{path} cannot be written: {error.strerror}; nothing was left there") from error


def check_writable(path: Path) -> None:
    """Raise InputError now where `path` cannot be written later, so that nobody waits for a compilation in vain."""
    if path.is_dir():
        raise InputError(f"{path} is a directory; name a file")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no directory {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: no permission to write in {path.parent}")


def _metadata(traced: TracedModel, target: Target, options: Options) -> dict[str, bytes]:
    content = {
        "bnncc": __version__,
        "input_layout": "NHWC" if options.channels_last else "NCHW",
        "target": target.name,
        "weights_precision": options.weights_precision.value,
        "weights_sha256": traced.weights_digest,
    }
    return {METADATA_NAME: json.dumps(content, sort_keys=True).encode()}
