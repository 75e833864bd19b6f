"""The whole way: a traced network through the passes to a .tflite file, with what became of each binary layer."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from torch import nn

from bnncc import ops
from bnncc._version import __version__
from bnncc.errors import InputError
from bnncc.evaluate import Array
from bnncc.frontend import TracedModel, input_specs, trace, trace_module
from bnncc.layers import BinaryLayer, binary_layers
from bnncc.memory import release_unused
from bnncc.options import METADATA_NAME, FileMetadata, Options
from bnncc.pass_runner import PassRunner
from bnncc.passes import PIPELINE
from bnncc.passes.balance_rows import BalanceRows
from bnncc.passes.configure import configured
from bnncc.passes.legalize import legalization
from bnncc.passes.step import Step
from bnncc.runners import LceRunner, Runtime
from bnncc.targets import Target, find_target
from bnncc.targets.tflite import WeightsPrecision, emit
from bnncc.targets.tflite.precision import SMALLEST_ROUNDED

if TYPE_CHECKING:
    from bnncc.baseline import Baseline
    from bnncc.check import CheckResult

DEFAULT_TARGET = "raspberry-pi-4"


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
        """The size of the network's parameters in float32."""
        return self.traced.float32_bytes

    def as_stored(self, array: Array) -> Array:
        """A graph input or output in PyTorch's order (NCHW), laid out as the file has it."""
        return self.options.as_stored(array)

    def check(
        self,
        data: Any,
        *,
        layers: int = 0,
        jobs: int = 1,
        dask: str | None = None,
        resume: Path | str | None = None,
        baseline: Path | str | None = None,
        skip_bad_images: bool = False,
        runtimes: tuple[Runtime, ...] = (Runtime.LCE,),
        pictures: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> CheckResult:
        """Accuracy of the network and of the file, and their agreement, on the user's data.

        data: a .npz file, a folder of pictures, "file.py:callable", a torch Dataset, or arrays; see
        `bnncc.data.DataSource`.  The other arguments are those of `bnncc.check.CheckOptions`; `progress` is told (what
        is being done, how much is done, how much there is).  Raises InputError where the data do not fit.
        """
        from bnncc.check import CheckOptions, check_compiled

        options = CheckOptions(
            layers=layers,
            jobs=jobs,
            dask=dask,
            resume=None if resume is None else Path(resume),
            baseline=None if baseline is None else Path(baseline),
            skip_bad_images=skip_bad_images,
            runtimes=runtimes,
            pictures=pictures,
        )
        return check_compiled(self, data, options, progress)

    def baseline(self, inputs: Sequence[Sequence[Array]] = ()) -> Baseline:
        """The float .tflite file of the same network, made by onnx2tf and TensorFlow (the extra `baseline`).

        inputs: on which it is proven, one float32 array for each graph input, NCHW; random ones by default.  Raises as
        `bnncc.baseline.make_baseline` does.
        """
        from bnncc.baseline import make_baseline

        return make_baseline(self.traced, inputs, self.options)

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
    options: Options | None = None,
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
    return compile_traced(traced, device, options or Options())


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
    if options.weights_precision is WeightsPrecision.INT8:
        balance = Step("balance-rows", lambda: BalanceRows(SMALLEST_ROUNDED), "bring the rows of Linears to one size")
        runner.run(model, [balance])
    layers = binary_layers(model.graph)
    passed = time.perf_counter()
    content = emit(
        model,
        channels_last=options.channels_last,
        precision=options.weights_precision,
        metadata=_metadata(traced, target, options),
    )
    seconds = {**traced.seconds, "passes": passed - start, "emit": time.perf_counter() - passed}
    release_unused(traced.float32_bytes)
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
    entry = FileMetadata(__version__, target.name, traced.weights_digest, traced.float32_bytes, options)
    return {METADATA_NAME: entry.as_bytes()}
