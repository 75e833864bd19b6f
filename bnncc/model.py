"""A compiled network as data: what `bnncc.compile` returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from bnncc.frontend import TracedModel
from bnncc.inference.runners import Runtime, first_runtime
from bnncc.ir.evaluate import Array
from bnncc.ir.layers import BinaryLayer
from bnncc.options import Options
from bnncc.sensitivity import Sensitivity
from bnncc.system.files import write_atomically
from bnncc.targets import Target

if TYPE_CHECKING:
    from bnncc.baseline import Baseline
    from bnncc.check import CheckResult


@dataclass
class CompiledModel:
    """A compiled network.

    content: the bytes of the .tflite file.  graph: the ONNX model that was lowered (NCHW).  traced: the network before
    the passes, with the inputs and outputs of the file; network: with its own.  layers: every binary layer of the
    source.  seconds: of "load", "export", "check", "passes" and "emit"; pass_seconds: of each pass.  sensitivity: what
    `--quantize auto` found.
    """

    content: bytes
    graph: ir.Model
    traced: TracedModel
    target: Target
    layers: list[BinaryLayer]
    options: Options
    seconds: dict[str, float] = field(default_factory=dict)
    pass_seconds: dict[str, float] = field(default_factory=dict)
    network: TracedModel | None = None
    sensitivity: Sensitivity | None = None

    @property
    def float_weight_bytes(self) -> int:
        """The size of the network's parameters in float32."""
        return self.traced.float32_bytes

    def as_stored(self, array: Array) -> Array:
        """A graph input or output in PyTorch's order (NCHW), laid out as the file has it."""
        return self.options.as_stored(array)

    def save(self, path: Path | str) -> None:
        """Write the file: whole or not at all.  Raises InputError where that fails."""
        write_atomically(Path(path), self.content)

    def run(self, inputs: Sequence[Array], threads: int = 1) -> list[Array]:
        """Run the file in LCE's interpreter, or in LiteRT with the delegate where that is not installed.

        inputs: in the file's own layout (NHWC unless compiled otherwise).
        """
        return first_runtime().load(self.content, threads=threads).run(inputs)

    # What follows is for users; it lies in packages that import this one, and is theirs.

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
        runtimes: tuple[Runtime, ...] | None = None,
        pictures: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> CheckResult:
        """Accuracy of the network and of the file, and their agreement, on the user's data.

        data: a .npz file, a folder of pictures, a video, "file.py:callable", a torch Dataset, or arrays; see
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
            runtimes=runtimes or (first_runtime(),),
            pictures=pictures,
        )
        return check_compiled(self, data, options, progress)

    def baseline(self, inputs: Sequence[Sequence[Array]] = ()) -> Baseline:
        """The float .tflite file of the same network, made by onnx2tf and TensorFlow (the extra `baseline`).

        inputs: on which it is proven, one float32 array for each graph input, NCHW; random ones by default.  Raises as
        `bnncc.baseline.make_baseline` does.
        """
        from bnncc.baseline import make_baseline

        return make_baseline(self.network or self.traced, inputs, self.options)
