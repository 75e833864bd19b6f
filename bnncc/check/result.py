"""The figures of a check, from the rows that were measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from bnncc.check.measurements import MEASURED, NO_LABEL, NOT_MEASURED, REFERENCE, SKIPPED, TOP, FileRows, Measurements
from bnncc.check.statistics import LEVEL, Difference, Proportion, difference, proportion
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
    warnings: what a reader of the figures must know.  failures: bars that were missed, and what the verifications
    found.  pictures: pixels [H, W, C] of changed images, by row, as many as
    were asked for.
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
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    pictures: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def files(self) -> list[FileFigures]:
        """The figures of every file that was measured."""
        return [file for file in (self.compiled, self.delegate, self.baseline) if file is not None]

    @property
    def problems(self) -> list[str]:
        """What the verifications found, one sentence each; those of the delegate's say so."""
        found = [] if self.verification is None else list(self.verification.problems)
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
    sizes: dict[str, int],
    name_of: Callable[[int], str],
    skipped: Sequence[str],
    classes: tuple[str, ...] = (),
    class_count: int | None = None,
) -> CheckResult:
    """The figures of the rows measured so far (at least one).

    sizes: bytes of each file.  name_of: an image's name by its row.  class_count: columns of the first output, if it
    is logits.
    """
    used = np.flatnonzero(rows.state == MEASURED)
    labelled = bool(np.all(rows.labels[used] != NO_LABEL))
    reference = rows.files[REFERENCE]
    ranks = {name: _hits(file, rows.labels, used) if labelled else None for name, file in rows.files.items()}
    has_classes = class_count is not None

    def accuracy(name: str, top: int) -> Proportion | None:
        hits = ranks[name]
        if hits is None or class_count is None or (top == TOP and class_count <= TOP):
            return None
        return proportion(int(np.count_nonzero(hits[:, :top])), len(used))

    def figures(name: str) -> FileFigures:
        file = rows.files[name]
        same = file.classes[used, 0] == reference.classes[used, 0]
        ours, theirs = ranks[name], ranks[REFERENCE]
        paired = None
        if ours is not None and theirs is not None and has_classes:
            won, lost = ours[:, 0] & ~theirs[:, 0], theirs[:, 0] & ~ours[:, 0]
            paired = difference(int(won.sum()), int(lost.sum()), len(used))
        signal, noise = math.fsum(rows.signal[used]), math.fsum(file.noise[used])
        elements = int(rows.elements[used].sum())
        largest = float(file.error[used].max())
        scale = math.sqrt(signal / elements)
        return FileFigures(
            name,
            sizes[name],
            accuracy(name, 1),
            accuracy(name, TOP),
            proportion(int(same.sum()), len(used)) if has_classes else None,
            paired,
            largest,
            math.fsum(file.absolute[used]) / elements,
            largest / scale if scale else largest,
            _decibels(signal, noise),
            _rate(file, used),
        )

    ours = rows.files[COMPILED].classes[:, 0]
    theirs = reference.classes[:, 0]
    changed = [row for row in used if ours[row] != theirs[row]] if has_classes else []
    return CheckResult(
        facts,
        len(used),
        len(rows.state),
        tuple(skipped),
        not np.any(rows.state == NOT_MEASURED),
        ReferenceFigures(accuracy(REFERENCE, 1), accuracy(REFERENCE, TOP), _rate(reference, used)),
        figures(COMPILED),
        figures(DELEGATE) if DELEGATE in rows.files else None,
        figures(BASELINE) if BASELINE in rows.files else None,
        tuple(
            ChangedImage(
                int(row),
                name_of(int(row)),
                int(rows.labels[row]) if rows.labels[row] != NO_LABEL else None,
                int(theirs[row]),
                int(ours[row]),
            )
            for row in changed
        ),
        classes,
    )


def skipped_rows(rows: Measurements) -> list[int]:
    """The rows of images that were left out."""
    return [int(row) for row in np.flatnonzero(rows.state == SKIPPED)]


def _hits(file: FileRows, labels: npt.NDArray[np.int64], used: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """bool [used, TOP]: whether each of the likeliest classes is the label."""
    hits: npt.NDArray[np.bool_] = file.classes[used] == labels[used, np.newaxis]
    return hits


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf


def _rate(file: FileRows, used: npt.NDArray[np.intp]) -> float:
    seconds = math.fsum(file.seconds[used])
    return len(used) / seconds if seconds else math.inf


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
