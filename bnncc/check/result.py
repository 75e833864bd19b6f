"""The figures of a check, from the rows that were measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from bnncc.check.measurements import MEASURED, NO_LABEL, NOT_MEASURED, REFERENCE, SKIPPED, TOP, Measurements
from bnncc.check.same_file import Differences
from bnncc.statistics import LEVEL, Difference, Proportion, difference, proportion
from bnncc.verification import Verification

COMPILED = "compiled"
DELEGATE = "delegate"
BASELINE = "baseline"


@dataclass(frozen=True)
class ReferenceFigures:
    """The network itself.  top1, top5: None without labels (top5 also with 5 classes or fewer).

    images_per_second: of one process, on one thread; the time of its runs only, without reading images.
    """

    top1: Proportion | None
    top5: Proportion | None
    images_per_second: float


@dataclass(frozen=True)
class FileFigures:
    """A file beside the network.

    bytes: of the file.  agreement: images of which both name the same class; None where the first output is no row of
    logits.  difference: of the two top-1 accuracies.  largest_error, mean_error: of |file − reference| over all
    outputs; relative_error: the largest divided by the reference's root mean square.  snr: signal-to-noise ratio in
    dB, infinite where all outputs are equal, negatively so where one is no finite number.
    """

    name: str
    bytes: int
    top1: Proportion | None
    top5: Proportion | None
    agreement: Proportion | None
    difference: Difference | None
    largest_error: float
    mean_error: float
    relative_error: float
    snr: float
    images_per_second: float


@dataclass(frozen=True)
class ChangedImage:
    """An image that the compiled file puts into another class.  label: None where it is not known."""

    row: int
    name: str
    label: int | None
    reference: int
    compiled: int


@dataclass(frozen=True)
class FileFacts:
    """What the report says of the compiled file without running it.

    data, reference: what it was checked on and against, as the user named them.  float_bytes: the network's parameters
    in float32.
    """

    path: str
    data: str
    reference: str
    target: str
    version: str
    bytes: int
    float_bytes: int
    operators: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckResult:
    """Everything that a check found.

    images: measured; total: of the data; skipped: names of bad images.  complete: False where the run was interrupted.
    delegate: the compiled file once more, in LiteRT with bnncc's delegate, where `compiled` is of LCE's interpreter.
    changed: in the data's order.  classes: names by label, where they are known.
    verification, delegate_verification: of `--layers`, in the runtimes of `compiled` and `delegate`.
    differences: from what the network compiles to; None where that is not known, or the file has just been compiled.
    warnings: what a reader of the figures must know.  failures: bars that were missed, and what the verifications
    found.  pictures: pixels [H, W, C] of changed images, by row, as many as were asked for.
    """

    facts: FileFacts
    images: int
    total: int
    skipped: tuple[str, ...]
    complete: bool
    reference: ReferenceFigures
    compiled: FileFigures
    delegate: FileFigures | None
    baseline: FileFigures | None
    changed: tuple[ChangedImage, ...]
    classes: tuple[str, ...] = ()
    verification: Verification | None = None
    delegate_verification: Verification | None = None
    differences: Differences | None = None
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    pictures: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def files(self) -> list[FileFigures]:
        """The figures of every file that was measured."""
        return [file for file in (self.compiled, self.delegate, self.baseline) if file is not None]

    @property
    def problems(self) -> list[str]:
        """What makes the file another than the network's, and what the verifications found, one sentence each; those
        of the delegate's say so.
        """
        found = [] if self.differences is None else list(self.differences.problems)
        found += [] if self.verification is None else self.verification.problems
        if self.delegate_verification is not None:
            title = self.delegate_verification.runtime.title
            found += [f"in {title}: {problem}" for problem in self.delegate_verification.problems]
        return found

    @property
    def accuracy_drop(self) -> float | None:
        """How much lower the file's top-1 accuracy is than the reference's, from 0 to 1; None without labels."""
        return None if self.compiled.difference is None else -self.compiled.difference.value

    def class_name(self, label: int | None) -> str:
        """The class's name, else its number; "" for None."""
        if label is None:
            return ""
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON: numbers as in the attributes, an infinite one as null; proportions with their value;
        no pictures.
        """
        entry = _plain(replace(self, pictures={}))
        assert isinstance(entry, dict)
        del entry["pictures"]
        return {"level": LEVEL, **entry}


def summarize(
    rows: Measurements,
    facts: FileFacts,
    sizes: Mapping[str, int],
    name_of: Callable[[int], str],
    classes: tuple[str, ...] = (),
    class_count: int | None = None,
) -> CheckResult:
    """The figures of the rows measured so far (at least one).

    sizes: bytes of each file.  name_of: an image's name by its row.  class_count: columns of the first output, if it
    is logits.
    """
    summary = _Summary(rows, class_count)
    files = {name: summary.file(name, sizes[name]) for name in rows.files if name != REFERENCE}
    return CheckResult(
        facts=facts,
        images=len(summary.used),
        total=len(rows.state),
        skipped=tuple(name_of(int(row)) for row in np.flatnonzero(rows.state == SKIPPED)),
        complete=not np.any(rows.state == NOT_MEASURED),
        reference=summary.reference(),
        compiled=files[COMPILED],
        delegate=files.get(DELEGATE),
        baseline=files.get(BASELINE),
        changed=tuple(summary.changed(name_of)),
        classes=classes,
    )


class _Summary:
    """The figures of the measured rows; `used` are their numbers."""

    def __init__(self, rows: Measurements, class_count: int | None) -> None:
        self.used = np.flatnonzero(rows.state == MEASURED)
        self._rows, self._class_count = rows, class_count
        self._labelled = bool(np.all(rows.labels[self.used] != NO_LABEL))

    def reference(self) -> ReferenceFigures:
        return ReferenceFigures(self._accuracy(REFERENCE, 1), self._accuracy(REFERENCE, TOP), self._rate(REFERENCE))

    def file(self, name: str, size: int) -> FileFigures:
        file = self._rows.files[name]
        signal, noise = math.fsum(self._rows.signal[self.used]), math.fsum(file.noise[self.used])
        elements = int(self._rows.elements[self.used].sum())
        largest = float(file.error[self.used].max())
        scale = math.sqrt(signal / elements)
        return FileFigures(
            name=name,
            bytes=size,
            top1=self._accuracy(name, 1),
            top5=self._accuracy(name, TOP),
            agreement=self._agreement(name),
            difference=self._difference(name),
            largest_error=largest,
            mean_error=math.fsum(file.absolute[self.used]) / elements,
            relative_error=largest / scale if scale else largest,
            snr=_decibels(signal, noise),
            images_per_second=self._rate(name),
        )

    def changed(self, name_of: Callable[[int], str]) -> Iterator[ChangedImage]:
        if self._class_count is None:
            return
        arrays = (self.used, self._rows.labels[self.used], self._classes(REFERENCE), self._classes(COMPILED))
        for row, label, reference, compiled in zip(*(array.tolist() for array in arrays), strict=True):
            if reference != compiled:
                yield ChangedImage(row, name_of(row), None if label == NO_LABEL else label, reference, compiled)

    def _classes(self, name: str) -> npt.NDArray[np.int32]:
        """int32 [used]: the likeliest class."""
        classes: npt.NDArray[np.int32] = self._rows.files[name].classes[self.used, 0]
        return classes

    def _hits(self, name: str) -> npt.NDArray[np.bool_]:
        """bool [used, TOP]: whether each of the likeliest classes is the label."""
        hits: npt.NDArray[np.bool_] = (
            self._rows.files[name].classes[self.used] == self._rows.labels[self.used, np.newaxis]
        )
        return hits

    def _accuracy(self, name: str, top: int) -> Proportion | None:
        if not self._labelled or self._class_count is None or (top == TOP and self._class_count <= TOP):
            return None
        if top > 1 and np.all(self._rows.files[name].classes[self.used, 1:] < 0):  # a file that yields the class alone
            return None
        return proportion(int(np.count_nonzero(self._hits(name)[:, :top])), len(self.used))

    def _agreement(self, name: str) -> Proportion | None:
        if self._class_count is None:
            return None
        return proportion(int(np.sum(self._classes(name) == self._classes(REFERENCE))), len(self.used))

    def _difference(self, name: str) -> Difference | None:
        if not self._labelled or self._class_count is None:
            return None
        ours, theirs = self._hits(name)[:, 0], self._hits(REFERENCE)[:, 0]
        return difference(int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours)), len(self.used))

    def _rate(self, name: str) -> float:
        seconds = math.fsum(self._rows.files[name].seconds[self.used])
        return len(self.used) / seconds if seconds else math.inf


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf


def _plain(value: object) -> object:
    """Only what JSON has."""
    if isinstance(value, Proportion | Difference):
        return {"value": value.value, **asdict(value)}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
