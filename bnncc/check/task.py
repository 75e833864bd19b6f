"""What a process needs to measure images, and the measuring of some of them.

A task can be pickled: another process opens the network, the files and the data again, once, and keeps them.
"""

from __future__ import annotations

import functools
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bnncc.boundary import Boundary
from bnncc.check.measurements import MEASURED, NO_LABEL, REFERENCE, SKIPPED, TOP, Measurements, top_classes
from bnncc.data import BadImageError, DataSource, Preprocessing, stack
from bnncc.errors import InputError
from bnncc.frontend import InputSpec, NetworkSource, load_network, state_digest, trace_source
from bnncc.inference.classes import file_class_count
from bnncc.inference.graph_runner import OrtRunner
from bnncc.inference.runners import Runtime, running
from bnncc.ir.evaluate import Array
from bnncc.options import Options
from bnncc.targets.tflite.reader import TfliteFile

# From float32 arrays in NCHW, one for each input, to all outputs in PyTorch's order.
Run = Callable[[Sequence[Array]], list[Array]]

# A process opens what it needs once and then uses it for one chunk at a time: interpreters are not made for more.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class TaskFile:
    """A file to measure, and what runs it.

    name: for a message.  channels_last: of its 4-D inputs and outputs, where the inputs' shapes do not tell.
    boundary: what is between the inputs and outputs of the task and those of this file; None where they are the same.
    """

    name: str
    content: bytes
    runtime: Runtime
    channels_last: bool = True
    boundary: Boundary | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """One check.

    network: what to load, or a function that runs it.  weights_digest: of its weights.  files: by name.
    specs: the inputs of the file.  boundary: between them and the network's, where that is to be loaded, and those of
    a file that takes what the network takes.  key: tells this task from all others.
    """

    network: NetworkSource | Run
    weights_digest: str
    files: Mapping[str, TaskFile]
    specs: tuple[InputSpec, ...]
    data: DataSource
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: tuple[str, ...] = ()
    skip_bad_images: bool = False
    boundary: Boundary | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and other.key == self.key


class OpenedFile:
    """A .tflite file that takes and returns arrays in PyTorch's order (NCHW), whichever its own is."""

    def __init__(self, file: TaskFile, specs: Sequence[InputSpec]) -> None:
        """Raises InputError where the file's inputs are not the network's."""
        self._name = name = file.name
        self._boundary = file.boundary
        try:
            self._runner = file.runtime.load(file.content, fastest=True)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{name}: {file.runtime.title} does not take the file: {str(error).strip()}") from error
        shapes, wanted = self._runner.input_shapes, [spec.shape for spec in specs]
        layouts = [Options(channels_last=layout) for layout in (file.channels_last, not file.channels_last)]
        fitting = [layout for layout in layouts if [layout.as_nchw(shape) for shape in shapes] == wanted]
        if not fitting:
            inputs = ", ".join(f"{spec.name} of {spec.shape}" for spec in specs)
            raise InputError(f"{name} takes {', '.join(map(str, shapes))}, not the network's inputs: {inputs}")
        self._layout = fitting[0]

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """As the file has them."""
        return self._runner.output_shapes

    def run(self, arrays: Sequence[Array]) -> tuple[list[Array], float]:
        """(the outputs, the seconds that the interpreter took)."""
        if self._boundary is not None:
            arrays = self._boundary.network_inputs(arrays)
        fed = [self._layout.as_stored(array) for array in arrays]
        started = time.perf_counter()
        with running(self._name):
            outputs = self._runner.run(fed)
        seconds = time.perf_counter() - started
        if self._layout.channels_last:
            outputs = [array.transpose(0, 3, 1, 2) if array.ndim == 4 else array for array in outputs]
        return outputs if self._boundary is None else self._boundary.file_outputs(outputs), seconds


class OpenedTask:
    """A task's network, files and data, ready to run.

    class_count: how many classes the first output tells apart, if it does.
    """

    def __init__(self, task: Task) -> None:
        """Raises InputError where a file or the data do not fit the network, or its classes are not the data's."""
        self._network, self._boundary = task.network, task.boundary
        self.files = {name: OpenedFile(file, task.specs) for name, file in task.files.items()}
        first = next(iter(task.files.values()))
        self.class_count = count = file_class_count(TfliteFile(first.content))
        self.data = task.data.open(task.specs, task.preprocessing, task.classes)
        folders = self.data.class_folders
        if count is not None and folders and not task.classes and folders != count:
            raise InputError(
                f"--data: {folders} class folders, and the network has {count} classes: which folder is which class? "
                "Compile with --classes FILE, which names one class a line"
            )

    @functools.cached_property
    def reference(self) -> Run:
        """The network: loaded when it is first run, which where other processes measure is never."""
        if not isinstance(self._network, NetworkSource):
            return self._network
        run = open_network(self._network).run
        return run if self._boundary is None else self._boundary.around(run)


# A process works on one task at a time; the one before it is dropped.
@functools.lru_cache(maxsize=1)
def open_task(task: Task) -> OpenedTask:
    """Open a task, once in a process.  Raises as `OpenedTask` does."""
    return OpenedTask(task)


def measure(task: Task, begin: int, end: int) -> tuple[int, Measurements]:
    """(begin, the rows begin…end).  Raises InputError where an image or label cannot be used."""
    with _ONE_AT_A_TIME:
        opened = open_task(task)
        rows = Measurements.empty(end - begin, task.files)
        size = task.specs[0].shape[0]
        pending: list[tuple[int, list[Array]]] = []
        for row in range(begin, end):
            try:
                inputs, label = opened.data.sample(row)
            except BadImageError:
                if not task.skip_bad_images:
                    raise
                rows.state[row - begin] = SKIPPED
            else:
                rows.labels[row - begin] = _label(opened, row, label)
                pending.append((row - begin, inputs))
            if pending and (len(pending) == size or row + 1 == end):
                _measure_batch(opened, rows, pending, size)
                pending = []
        return begin, rows


@dataclass(frozen=True)
class OpenedNetwork:
    """A network that can be run.  weights_digest: as the metadata of a file that was compiled from it have it."""

    run: Run
    inputs: tuple[InputSpec, ...]
    weights_digest: str


def open_network(source: NetworkSource) -> OpenedNetwork:
    """The network in PyTorch; a .onnx file in ONNX Runtime.  Raises as `bnncc.frontend.trace_source` does."""
    if source.is_onnx_file:
        traced = trace_source(source)
        return OpenedNetwork(OrtRunner(traced.model).run, tuple(traced.inputs), traced.weights_digest)
    network, _ = load_network(source)
    network.complete_inputs()
    return OpenedNetwork(network.run, tuple(network.inputs), state_digest(network.module))


def _label(opened: OpenedTask, row: int, label: int | None) -> int:
    if label is None:
        return NO_LABEL
    count = opened.class_count
    if count is not None and not 0 <= label < count:
        raise InputError(
            f"--data: {opened.data.name(row)} has the label {label}, and the network has the classes 0 to {count - 1}"
        )
    return label


def _measure_batch(
    opened: OpenedTask, rows: Measurements, pending: Sequence[tuple[int, list[Array]]], size: int
) -> None:
    """Run one batch through everything; a batch that is not full is filled up, and only its images are kept."""
    arrays = stack([inputs for _, inputs in pending], size)
    index = [row for row, _ in pending]
    count = len(index)
    started = time.perf_counter()
    expected = opened.reference(arrays)
    seconds = {REFERENCE: time.perf_counter() - started}
    outputs = {REFERENCE: expected}
    for name, runner in opened.files.items():
        outputs[name], seconds[name] = runner.run(arrays)
    wanted = _by_image(expected, size)[:count]
    rows.signal[index] = np.square(wanted).sum(axis=1)
    rows.elements[index] = wanted.shape[1]
    rows.state[index] = MEASURED
    for name, file in rows.files.items():
        found = _by_image(outputs[name], size)[:count]
        if found.shape != wanted.shape:
            raise InputError(f"{name} yields {found.shape[1]} numbers an image, and the network {wanted.shape[1]}")
        difference = np.abs(found - wanted)
        finite = np.isfinite(difference).all(axis=1)
        file.error[index] = np.where(finite, difference.max(axis=1), np.inf)
        file.absolute[index] = np.where(finite, difference.sum(axis=1), np.inf)
        file.noise[index] = np.where(finite, np.square(difference).sum(axis=1), np.inf)
        file.seconds[index] = seconds[name] / size
        classes = top_classes(outputs[name][0])
        file.classes[index] = np.full(TOP, -1) if classes is None else classes[:count]


def _by_image(outputs: Sequence[Array], size: int) -> Array:
    """float64 [size, …]: all outputs of each image in one row."""
    return np.concatenate([array.reshape(size, -1).astype(np.float64) for array in outputs], axis=1)
