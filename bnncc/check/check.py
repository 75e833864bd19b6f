"""A compiled file against its network on the user's data: `CompiledModel.check` and `bnncc check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bnncc._version import __version__
from bnncc.boundary import Boundary, with_specs
from bnncc.check.bars import check_bars, missed_bars
from bnncc.check.layers import check_layers, with_content
from bnncc.check.measurements import MEASURED, NOT_MEASURED, Measurements
from bnncc.check.options import CheckOptions
from bnncc.check.recompile import recompile
from bnncc.check.result import BASELINE, COMPILED, DELEGATE, CheckResult, FileFacts, summarize
from bnncc.check.run import run as run_task
from bnncc.check.same_file import Differences, compare_files
from bnncc.check.task import OpenedNetwork, OpenedTask, Run, Task, TaskFile, open_network, open_task
from bnncc.data import DataSource, Preprocessing
from bnncc.errors import InputError
from bnncc.frontend import InputSpec, NetworkSource
from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import Array
from bnncc.model import CompiledModel
from bnncc.options import FileMetadata
from bnncc.statistics import LEVEL
from bnncc.targets.tflite.digest import METADATA_NAME
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import Verification

# Told as the check goes on: (what is being done, how much of it is done, how much there is).
Progress = Callable[[str, int, int], None]


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
    network = compiled.traced.run_as_written or named
    if named is not None and options.measures_elsewhere:
        network = named
    if network is None:
        raise InputError("the network cannot be run again: trace it from a module or a file")
    metadata = FileMetadata.read(TfliteFile(compiled.content))
    subject = _Subject(
        path="",
        reference=named.name if named is not None else "a module",
        content=compiled.content,
        metadata=metadata,
        network=network,
        specs=tuple(compiled.traced.inputs),
        boundary=Boundary.of_file(TfliteFile(compiled.content), compiled.traced.inputs, compiled.options),
        digest=compiled.traced.weights_digest,
    )
    return _check(subject, data, options, progress, lambda batches: _Compiled(compiled))


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

    The network is loaded and compiled as it was for the file, whose bytes must be those.  Input shapes are the file's
    own where `network` names none.  `preprocessing` and `classes` are for a file whose metadata hold none.

    Raises InputError where the file is none of bnncc's or was compiled from other weights, or the data do not fit.
    """
    file, kept, network, opened = _open(path, network)
    options = options or CheckOptions()
    metadata = _with_preprocessing(kept, preprocessing, classes)
    boundary = Boundary.of_file(file, opened.inputs, metadata.options)
    subject = _Subject(
        path=str(path),
        reference=network.name,
        content=file.content,
        metadata=metadata,
        network=network if options.measures_elsewhere else boundary.around(opened.run),
        specs=with_specs(opened.inputs, metadata.options),
        boundary=boundary,
        digest=opened.weights_digest,
    )
    return _check(subject, data, options, progress, partial(_compile_again, file, kept, network, bool(options.layers)))


def verify_file(path: Path, network: NetworkSource) -> Differences:
    """Whether a file is the one that its network compiles to, as `check_file` finds it, without data.

    Raises InputError as `check_file` does, and where another version of bnncc made the file otherwise, or it has
    frozen branches, which only data lead to.
    """
    file, metadata, network, _ = _open(path, network)
    differences = compare_files(file.content, recompile(metadata, network, ()))
    if differences.problems and metadata.version != __version__:
        raise InputError(f"{path}: {_other_version(metadata, differences)}: compile it again")
    return differences


def _open(path: Path, network: NetworkSource) -> tuple[TfliteFile, FileMetadata, NetworkSource, OpenedNetwork]:
    """(the file, what it says of itself, the network with its input shapes, and opened).

    Raises InputError where the file is none of bnncc's, or of other weights.
    """
    file = TfliteFile.open(path)
    try:
        metadata = FileMetadata.read(file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    network = _with_shapes(network, file, metadata)
    opened = open_network(network)
    if opened.weights_digest != metadata.weights_sha256:
        raise InputError(
            f"{path} was compiled from other weights than {network.weights or network.source} holds (sha256 "
            f"{metadata.weights_sha256[:12]}… in its metadata, {opened.weights_digest[:12]}… here): compile it again, "
            "or name the checkpoint and the arguments that it was compiled from"
        )
    return file, metadata, network, opened


@dataclass(frozen=True)
class _Compiled:
    """model: the network compiled as the file was; None where that could not be.  differences: the file's from it."""

    model: CompiledModel | None
    differences: Differences | None = None
    warnings: tuple[str, ...] = ()


def _compile_again(
    file: TfliteFile, metadata: FileMetadata, network: NetworkSource, needed: bool, batches: Sequence[Sequence[Array]]
) -> _Compiled:
    """Raises InputError where `needed`, and these inputs lead to other frozen branches than the file's."""
    try:
        compiled = recompile(metadata, network, batches)
    except InputError as error:
        if needed:
            raise
        return _Compiled(None, None, (f"the file was not compared with what the network compiles to: {error}",))
    differences = compare_files(file.content, compiled)
    if differences.problems and metadata.version != __version__:
        return _Compiled(compiled, None, (_other_version(metadata, differences),))
    return _Compiled(compiled, differences)


def _other_version(metadata: FileMetadata, differences: Differences) -> str:
    return (
        f"bnncc {metadata.version} made the file, and bnncc {__version__} compiles the network otherwise "
        f"({differences.problems[0]})"
    )


@dataclass(frozen=True)
class _Subject:
    """The file to check, and the network to check it against; reference: what a report calls that."""

    path: str
    reference: str
    content: bytes
    metadata: FileMetadata
    network: Run | NetworkSource
    specs: tuple[InputSpec, ...]
    boundary: Boundary
    digest: str


def _check(
    subject: _Subject,
    data: Any,
    options: CheckOptions,
    progress: Progress | None,
    compile_again: Callable[[Sequence[Sequence[Array]]], _Compiled],
) -> CheckResult:
    """compile_again: the network compiled as the file was, given the first inputs."""
    task = Task(
        network=subject.network,
        weights_digest=subject.digest,
        files=_files(subject, options),
        specs=subject.specs,
        data=data if isinstance(data, DataSource) else DataSource(data),
        preprocessing=subject.metadata.options.preprocessing,
        classes=subject.metadata.options.classes,
        skip_bad_images=options.skip_bad_images,
        boundary=subject.boundary,
    )
    # What does not fit is told here, before the long part starts.
    opened = open_task(task)
    dataset = opened.data
    check_bars(options, opened)
    verifications: list[Verification] = []
    batches = dataset.batches(max(options.layers, 1), options.skip_bad_images)
    again = compile_again(batches)
    if options.layers and again.model is not None:
        model = with_content(again.model, subject.content, subject.metadata.version)
        verifications = check_layers(model, batches, options.runtimes, progress)
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
    result = replace(result, differences=again.differences, warnings=(*again.warnings, *result.warnings))
    shown = [image.row for image in result.changed[: options.pictures]]
    return replace(
        result,
        failures=(*missed_bars(result, options), *result.problems),
        pictures={row: picture for row in shown if (picture := dataset.picture(row)) is not None},
    )


def _files(subject: _Subject, options: CheckOptions) -> dict[str, TaskFile]:
    """What is measured beside the network, by the name that the figures have."""
    path = subject.path or "the compiled file"
    channels_last = subject.metadata.options.channels_last
    files = {
        name: TaskFile(path, subject.content, runtime, channels_last)
        for name, runtime in zip((COMPILED, DELEGATE), options.runtimes, strict=False)
    }
    if options.baseline is not None:
        baseline = _read_baseline(options.baseline, subject.digest, options.runtimes[0])
        files[BASELINE] = replace(baseline, boundary=subject.boundary)
    return files


def _read_baseline(path: Path, digest: str, runtime: Runtime) -> TaskFile:
    """The file.  Raises InputError where it is of other weights, as far as it says so."""
    file = TfliteFile.open(path)
    if METADATA_NAME not in file.metadata():
        return TaskFile(str(path), file.content, runtime)
    try:
        metadata = FileMetadata.read(file)
    except InputError as error:
        raise InputError(f"--baseline: {path}: {error}") from error
    if metadata.weights_sha256 != digest:
        raise InputError(f"--baseline: {path} was made from other weights: run bnncc baseline again")
    return TaskFile(str(path), file.content, runtime, metadata.options.channels_last)


def _result(
    subject: _Subject, task: Task, opened: OpenedTask, rows: Measurements, verifications: Sequence[Verification]
) -> CheckResult:
    metadata, dataset = subject.metadata, opened.data
    operators = Counter(operator.name for operator in TfliteFile(subject.content).operators)
    facts = FileFacts(
        path=subject.path,
        data=task.data.name,
        reference=subject.reference,
        target=metadata.target,
        version=metadata.version,
        bytes=len(subject.content),
        float_bytes=metadata.float_bytes,
        operators=dict(operators.most_common()),
    )
    result = summarize(
        rows,
        facts,
        {name: len(file.content) for name, file in task.files.items()},
        dataset.name,
        metadata.options.classes or dataset.classes,
        opened.class_count,
    )
    first, second = (*verifications, None, None)[:2]
    warnings = (*_chance(result, opened), *_zeros(first))
    return replace(result, verification=first, delegate_verification=second, warnings=warnings)


def _chance(result: CheckResult, opened: OpenedTask) -> list[str]:
    """That the network itself guesses: the file is not at fault, but what it is fed, or the labels are."""
    order, top1, count = opened.data.class_order, result.reference.top1, opened.class_count
    if top1 is None:
        return []
    order = f"{order[:1].upper()}{order[1:]}"
    if count is None or top1.low > 1 / count:
        return [order] if order else []
    found = f"{top1.value:.2%} of {top1.total:,} images ({LEVEL:.0%} interval {top1.low:.2%} to {top1.high:.2%})"
    return [
        f"the network itself is right on {found}, which is no more than chance, {1 / count:.2%} for {count} classes. "
        "Are the pixels as in training (--mean and --std, or --pixels; --resize and --crop), and the labels in the "
        f"order of its classes? {order}".rstrip()
    ]


def _zeros(verification: Verification | None) -> list[str]:
    """That signs read zeros."""
    if verification is None or not verification.zeros:
        return []
    most = max(verification.signs, key=lambda sign: sign.zeros / sign.signs)
    return [
        f"{verification.zeros:,} signs read an exact 0 (most at '{most.module}': {most.zeros / most.signs:.2%}), where "
        "PyTorch's sign is 0 and a bit says +1: the file computes something else there"
    ]


def _with_preprocessing(
    metadata: FileMetadata, preprocessing: Preprocessing | None, classes: tuple[str, ...]
) -> FileMetadata:
    """What is given beside the file, where the file has none of its own."""
    options = metadata.options
    none, kept = Preprocessing(), metadata.options.preprocessing
    given = preprocessing or none
    if kept == none:
        kept = given
    elif given.says_pixels and not kept.says_pixels and replace(given, mean=(), std=(), pixels="") in (none, kept):
        kept = replace(kept, mean=given.mean, std=given.std, pixels=given.pixels)
    elif given not in (none, kept):
        raise InputError(
            f"the file was compiled with the preprocessing {kept.as_json()}, which its metadata keep: leave --resize, "
            "--crop, --mean, --std and --pixels out, or compile it again"
        )
    if classes and options.classes not in ((), classes):
        raise InputError("the file was compiled with other --classes, which its metadata keep: leave them out")
    return replace(metadata, options=replace(options, preprocessing=kept, classes=options.classes or classes))


def _with_shapes(network: NetworkSource, file: TfliteFile, metadata: FileMetadata) -> NetworkSource:
    """The file's own input shapes, in PyTorch's order, where none are given."""
    if network.input_shapes:
        return network
    shapes = [metadata.options.as_nchw(tensor.shape) for tensor in file.inputs]
    return replace(network, input_shapes=tuple("x".join(map(str, shape)) for shape in shapes))
