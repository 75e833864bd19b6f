"""A compiled file against its network on the user's data: `CompiledModel.check` and `bnncc check`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bnncc.check.layers import check_layers, recompile
from bnncc.check.measurements import MEASURED, NOT_MEASURED, Measurements
from bnncc.check.result import BASELINE, COMPILED, DELEGATE, CheckResult, FileFacts, skipped_rows, summarize
from bnncc.check.run import run as run_task
from bnncc.check.task import OpenedTask, Run, Task, TaskFile, open_task
from bnncc.compiler import CompiledModel
from bnncc.data import BadImageError, Dataset, DataSource, Preprocessing
from bnncc.errors import InputError
from bnncc.frontend import InputSpec, NetworkSource, load_network, state_digest, trace
from bnncc.options import METADATA_NAME, FileMetadata
from bnncc.runners import OrtRunner, Runtime
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import Verification

# Told as the check goes on: (what is being done, how much of it is done, how much there is).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CheckOptions:
    """How to check.

    layers: so many batches go through the check of every layer; 0 for none.  jobs: processes on this machine, each on
    one thread.  dask: address of a scheduler whose workers are used instead.  resume: a file that keeps an interrupted
    run.  baseline: a float .tflite file of the same network to put beside the compiled one.
    skip_bad_images: leave out what cannot be decoded or holds NaN, and count it.  runtimes: what runs the
    files; a second one runs the compiled file once more.  min_agreement, max_accuracy_drop: shares
    from 0 to 1 that the compiled file must keep to, or the result has failures.  pictures: of so many images that
    changed their class the pixels are kept, to be shown.
    """

    layers: int = 0
    jobs: int = 1
    dask: str | None = None
    resume: Path | None = None
    baseline: Path | None = None
    skip_bad_images: bool = False
    runtimes: tuple[Runtime, ...] = (Runtime.LCE,)
    min_agreement: float | None = None
    max_accuracy_drop: float | None = None
    pictures: int = 0


def check_compiled(
    compiled: CompiledModel,
    data: Any,
    options: CheckOptions | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Check what has just been compiled.

    data: as `DataSource` takes it.  Raises InputError where the data, or the baseline, do not fit the network.
    """
    options = options or CheckOptions()
    named = compiled.traced.source
    network = _for_processes(compiled.traced.run_module or named, named, options)
    if network is None:
        raise InputError("the network cannot be run again: trace it from a module or a file")
    metadata = FileMetadata.read(TfliteFile(compiled.content))
    subject = _Subject(
        "",
        named.name if named is not None else "a module",
        compiled.content,
        metadata,
        network,
        tuple(compiled.traced.inputs),
        compiled.traced.weights_digest,
    )
    return _check(subject, data, options, progress, lambda: compiled)


def check_file(
    path: Path,
    network: NetworkSource,
    data: Any,
    options: CheckOptions | None = None,
    progress: Progress | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    classes: tuple[str, ...] = (),
) -> CheckResult:
    """Check a file against the network that it was compiled from.

    The network is loaded as it was for compiling, but only traced and compiled again where `options.layers` asks for
    its layers.  Input shapes are the file's own where `network` names none.  `preprocessing` and `classes` are for a
    file whose metadata hold none.

    Raises InputError where the file is none of bnncc's or was compiled from other weights, or the data do not fit.
    """
    file = TfliteFile.open(path)
    content = file.content
    options = options or CheckOptions()
    try:
        metadata = FileMetadata.read(file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    metadata = _with_preprocessing(metadata, preprocessing, classes)
    network = _with_shapes(network, file, metadata)
    run: Run
    if network.is_onnx_file:
        traced = trace(network.source, input_shapes=network.input_shapes)
        specs, digest, run = traced.inputs, traced.weights_digest, OrtRunner(traced.model).run
    else:
        loaded, _ = load_network(network)
        specs, digest, run = loaded.inputs, state_digest(loaded.module), loaded.run
    if digest != metadata.weights_sha256:
        raise InputError(
            f"{path} was compiled from other weights than {network.weights or network.source} holds (sha256 "
            f"{metadata.weights_sha256[:12]}… in its metadata, {digest[:12]}… here): compile it again, or name the "
            "checkpoint and the arguments that it was compiled from"
        )
    reference = _for_processes(run, network, options)
    subject = _Subject(str(path), network.name, content, metadata, reference, tuple(specs), digest)
    return _check(subject, data, options, progress, lambda: recompile(content, metadata, network))


def _for_processes(network: Any, named: NetworkSource | None, options: CheckOptions) -> Any:
    """The open network where this process measures; its name where others do, which can load it but not take it."""
    return named if named is not None and (options.jobs != 1 or options.dask is not None) else network


def read_tflite(path: Path) -> bytes:
    """The bytes of a file.  Raises InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class _Subject:
    """The file to check, and the network to check it against; reference: what a report calls that."""

    path: str
    reference: str
    content: bytes
    metadata: FileMetadata
    network: Any
    specs: tuple[InputSpec, ...]
    digest: str


def _check(
    subject: _Subject,
    data: Any,
    options: CheckOptions,
    progress: Progress | None,
    compiled: Callable[[], CompiledModel],
) -> CheckResult:
    settings = subject.metadata.options
    task = Task(
        subject.network,
        subject.digest,
        _files(subject, options),
        subject.specs,
        data if isinstance(data, DataSource) else DataSource(data),
        settings.preprocessing,
        settings.classes,
        options.skip_bad_images,
    )
    # What does not fit is told here, before the long part starts.
    opened = open_task(task)
    dataset = opened.data
    _check_bars(options, opened)
    verifications: list[Verification] = []
    if options.layers:
        batches, network = dataset.batches(options.layers, options.skip_bad_images), compiled()
        verifications = [check_layers(network, batches, runtime, progress) for runtime in options.runtimes]
    rows = run_task(
        task,
        dataset,
        jobs=options.jobs,
        dask=options.dask,
        resume=options.resume,
        progress=None if progress is None else lambda done, total: progress("images", done, total),
    )
    if not np.any(rows.state == MEASURED):
        if np.any(rows.state == NOT_MEASURED):
            raise KeyboardInterrupt
        raise InputError(f"--data: none of the {len(dataset):,} images can be used")
    result = _result(subject, task, opened, rows, verifications)
    result = replace(result, failures=(*_missed_bars(result, options), *result.problems))
    shown = [image.row for image in result.changed[: options.pictures]]
    pictures = {row: picture for row in shown if (picture := dataset.picture(row)) is not None}
    return replace(result, pictures=pictures)


def _check_bars(options: CheckOptions, opened: OpenedTask) -> None:
    """Raise InputError now where a bar could never be missed."""
    for option, bar in (("min_agreement", options.min_agreement), ("max_accuracy_drop", options.max_accuracy_drop)):
        if bar is not None and opened.class_count is None:
            name = option.replace("_", "-")
            raise InputError(f"--{name}: the network's first output is no row of logits")
    if options.max_accuracy_drop is not None and _first_label(opened.data) is None:
        raise InputError("--max-accuracy-drop: the data have no labels")


def _first_label(dataset: Dataset) -> int | None:
    """The label of the first image that can be read."""
    for row in range(len(dataset)):
        with contextlib.suppress(BadImageError):
            return dataset.read(row).label
    return None


def _missed_bars(result: CheckResult, options: CheckOptions) -> list[str]:
    """What falls short of `min_agreement` and `max_accuracy_drop`."""
    missed = []
    least, most, agreement, drop = (
        options.min_agreement,
        options.max_accuracy_drop,
        result.compiled.agreement,
        result.accuracy_drop,
    )
    if least is not None and (agreement is None or agreement.value < least):
        kept = 0.0 if agreement is None else agreement.value
        missed.append(f"{100 * kept:g} % of the images keep their class, less than {100 * least:g} %")
    if most is not None and (drop is None or drop > most):
        missed.append(
            "not every image has a label: there is no accuracy"
            if drop is None
            else f"the accuracy drops by {100 * drop:g} points, more than {100 * most:g}"
        )
    return missed


def _files(subject: _Subject, options: CheckOptions) -> dict[str, TaskFile]:
    """What is measured beside the network, by the name that the figures have."""
    path = subject.path or "the compiled file"
    names = (COMPILED, DELEGATE)
    files = {
        name: TaskFile(path, subject.content, runtime) for name, runtime in zip(names, options.runtimes, strict=False)
    }
    if options.baseline is not None:
        content = _read_baseline(options.baseline, subject.digest)
        files[BASELINE] = TaskFile(str(options.baseline), content, options.runtimes[0])
    return files


def _read_baseline(path: Path, digest: str) -> bytes:
    """The file.  Raises InputError where it is of other weights, as far as it says so."""
    content = read_tflite(path)
    try:
        file = TfliteFile(content)
        found = FileMetadata.read(file).weights_sha256 if METADATA_NAME in file.metadata() else digest
    except InputError as error:
        raise InputError(f"--baseline: {path}: {error}") from error
    if found != digest:
        raise InputError(f"--baseline: {path} was made from other weights: run bnncc baseline again")
    return content


def _result(
    subject: _Subject, task: Task, opened: OpenedTask, rows: Measurements, verifications: Sequence[Verification]
) -> CheckResult:
    metadata, dataset = subject.metadata, opened.data
    operators = Counter(operator.name for operator in TfliteFile(subject.content).operators)
    facts = FileFacts(
        subject.path,
        task.data.name,
        subject.reference,
        metadata.target,
        metadata.version,
        len(subject.content),
        metadata.float_bytes,
        dict(operators.most_common()),
    )
    skipped = skipped_rows(rows)
    result = summarize(
        rows,
        facts,
        {name: len(file.content) for name, file in task.files.items()},
        dataset.name,
        tuple(dataset.name(row) for row in skipped),
        metadata.options.classes or dataset.classes,
        opened.class_count,
    )
    first, second = (*verifications, None, None)[:2]
    return replace(result, verification=first, delegate_verification=second, warnings=tuple(_warnings(first)))


def _warnings(verification: Verification | None) -> list[str]:
    """What a reader of the figures must know."""
    if verification is None:
        return []
    zeros = sum(sign.zeros for sign in verification.signs)
    if not zeros:
        return []
    most = max(verification.signs, key=lambda sign: sign.zeros / sign.signs)
    return [
        f"{zeros:,} signs read an exact 0 (most at '{most.module}': {most.zeros / most.signs:.2%}), where PyTorch's "
        "sign is 0 and a bit says +1: the file computes something else there"
    ]


def _with_preprocessing(
    metadata: FileMetadata, preprocessing: Preprocessing | None, classes: tuple[str, ...]
) -> FileMetadata:
    """What is given beside the file, where the file has none of its own."""
    options = metadata.options
    none = Preprocessing()
    given = preprocessing or none
    if given != none and options.preprocessing not in (none, given):
        raise InputError(
            f"the file was compiled with the preprocessing {options.preprocessing.as_json()}, which its metadata keep: "
            "leave --resize, --crop, --mean and --std out, or compile it again"
        )
    if classes and options.classes not in ((), classes):
        raise InputError("the file was compiled with other --classes, which its metadata keep: leave them out")
    kept = given if options.preprocessing == none else options.preprocessing
    return replace(metadata, options=replace(options, preprocessing=kept, classes=options.classes or classes))


def _with_shapes(network: NetworkSource, file: TfliteFile, metadata: FileMetadata) -> NetworkSource:
    """The file's own input shapes, in PyTorch's order, where none are given."""
    if network.input_shapes:
        return network
    channels_last = metadata.options.channels_last
    shapes = []
    for tensor in file.inputs:
        shape = tensor.shape
        shape = tuple(shape[axis] for axis in (0, 3, 1, 2)) if channels_last and len(shape) == 4 else shape
        shapes.append("x".join(map(str, shape)))
    return replace(network, input_shapes=tuple(shapes))
