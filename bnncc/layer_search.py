"""`--quantize auto`: which layers are to stay in float so that the accuracy drops by no more than a bound.

1. Of each layer: a file in which it alone is in int8, run beside the float32 file.  The drop is that of accuracy where
   the images have labels, else the share of images of another class.  The layer is the more sensitive the larger the
   least drop of its interval is; where the interval reaches 0, which may be chance, and among equals, the mean squared
   error of the outputs decides.
2. The layers in the order of their sensitivity: the first k stay in float.  Bisection finds a k with which the whole
   file's drop is within the bound, and with k − 1 it is not.  With k = 0 all layers are in int8; with all in float it
   is the float32 file, which has no drop.

Files are made of the float32 file, without compiling again, and run as `bnncc check` runs them.  Ranges are measured on
one part of the data, drops on the other.  What is compared with the bound is the drop that was seen; its interval says
how far the true one may be from it.  That the file is chosen on the images it is measured on makes the figure a little
too good; `--data` with other images gives the fair one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from bnncc.calibration import Batches, Calibration, Progress, integer_plan, is_in, measured_ranges
from bnncc.errors import InputError
from bnncc.inference.classes import file_class_count
from bnncc.inference.runners import FileRunner, first_runtime
from bnncc.ir.arrays import Array
from bnncc.model import CompiledModel
from bnncc.sensitivity import Drop, LayerSensitivity, Sensitivity
from bnncc.statistics import proportion
from bnncc.targets.tflite.integer_file import SHORT, as_integers, range_names
from bnncc.targets.tflite.integer_plan import Plan, weighted
from bnncc.targets.tflite.integers import FLOAT32, SHORTCUTS, Integers, Range
from bnncc.targets.tflite.modules import module_of, values_by_name
from bnncc.targets.tflite.reader import TfliteFile

# Inferences that the sensitivities of all layers may take: of many layers each is measured on fewer batches, but on so
# many at least.
MOST_RUNS, FEWEST_BATCHES = 20_000, 100
# So many files are in memory at once; for each further group the data are read again.
AT_ONCE = 8
# Why a layer stays in float.
FOR_BOUND = "costs too much"
NO_LABEL = -1

Classes = npt.NDArray[np.int64]


def find_layers(
    compiled: CompiledModel,
    calibration: Calibration,
    parts: tuple[Batches, Batches],
    progress: Progress | None = None,
    measuring: Progress | None = None,
) -> tuple[Integers | None, Sensitivity]:
    """(the integers of a file that is float32 yet, with the layers that are to stay in float; what was found).

    The integers are None where no layer can run in int8 within the bound.  parts: for ranges, and for measuring.
    progress, measuring: told of the ranges as `ranges_of` does, and how many inferences there were, of how many at
    most.  Raises InputError where the first output names no class, and as `ranges_of` does.
    """
    ranges = _Ranges(compiled, parts[0], calibration.method, progress)
    return _Search(compiled, calibration, parts[1], ranges, measuring or (lambda done, total: None)).find()


class _Search:
    def __init__(
        self, compiled: CompiledModel, calibration: Calibration, images: Batches, ranges: _Ranges, measuring: Progress
    ) -> None:
        assert compiled.options.integers is not None
        assert calibration.max_drop is not None
        self._compiled, self._ranges = compiled, ranges
        # Shortcuts are tried behind all layers.
        self._integers = replace(compiled.options.integers, shortcuts=FLOAT32)
        self._bound = calibration.max_drop
        self._shortcuts = (
            SHORTCUTS[SHORTCUTS.index(calibration.shortcuts) :] if calibration.shortcuts != FLOAT32 else ()
        )
        self._file = ranges.file
        values = values_by_name(compiled.graph.graph)
        self._modules = {operator.index: module_of(operator, values) for operator in weighted(self._file)}
        self._all = self._plan(())
        modules = dict.fromkeys(self._modules[index] for index in sorted(self._all.layers))
        # What lies in another layer stays in float with it.
        self._layers = [one for one in modules if not any(one != other and is_in(one, other) for other in modules)]
        self._beside = _BesideFloats(compiled, images, len(self._layers), measuring)

    def find(self) -> tuple[Integers | None, Sensitivity]:
        rows = sorted(self._alone(), key=_sensitivity, reverse=True)
        order = [row.module for row in rows]
        tried = self._bisect(order)
        kept = min(count for count, drop in tried.items() if drop is None or drop.value <= self._bound)
        all_int8, drop = tried[0], tried[kept]
        assert all_int8 is not None
        if drop is not None:
            drop = self._try_shortcuts(order[:kept], drop)
        floats = [replace(row, in_int8=False, reason=FOR_BOUND) for row in rows[:kept]]
        sensitivity = Sensitivity(
            self._bound,
            (*floats, *rows[kept:], *self._untried()),
            self._beside.accuracy,
            all_int8,
            drop,
            self._ranges.inputs,
            self._beside.runs,
        )
        return (None if drop is None else self._with_layers(order[:kept])), sensitivity

    def _alone(self) -> list[LayerSensitivity]:
        """Of each layer, what it loses where it alone is in int8."""
        plans = [self._plan([one for one in self._layers if one != layer]) for layer in self._layers]
        self._ranges.measure([self._all, *plans])
        tallies = self._beside.tallies([self._content(one) for one in plans], self._beside.batches_of_each)
        return [
            LayerSensitivity(layer, self._operators(layer), self._beside.drop(tally), tally.error, True)
            for layer, tally in zip(self._layers, tallies, strict=True)
        ]

    def _bisect(self, order: Sequence[str]) -> dict[int, Drop | None]:
        """The drop with the first k layers in float, for each k that was tried; None with all of them."""
        tried: dict[int, Drop | None] = {len(order): None}

        def is_within(kept: int) -> bool:
            found = self._plan(order[:kept])
            self._ranges.measure([found])
            (tally,) = self._beside.tallies([self._content(found)])
            drop = tried[kept] = self._beside.drop(tally)
            return drop.value <= self._bound

        if is_within(0):
            return tried
        low, high = 0, len(order)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if is_within(middle) else (middle, high)
        return tried

    def _try_shortcuts(self, kept: Sequence[str], drop: Drop) -> Drop:
        """Keep shortcuts in the first type in which the bound still holds; the drop as it then is."""
        layers = self._integers
        for kind in self._shortcuts:
            self._integers = replace(layers, shortcuts=kind)
            found = self._plan(kept)
            self._ranges.measure([found])
            (tally,) = self._beside.tallies([self._content(found)])
            with_shortcuts = self._beside.drop(tally)
            if with_shortcuts.value <= self._bound:
                return with_shortcuts
        self._integers = layers
        return drop

    def _plan(self, kept: Sequence[str]) -> Plan:
        integers = replace(self._integers, keep_float=(*self._integers.keep_float, *kept))
        return integer_plan(self._file, self._compiled.graph.graph, integers)

    def _content(self, found: Plan) -> bytes:
        return as_integers(self._file, found, self._ranges.known)

    def _with_layers(self, kept: Sequence[str]) -> Integers:
        ranges = {name: self._ranges.known[name] for name in range_names(self._plan(kept))}
        return replace(
            self._integers,
            keep_float=(*self._integers.keep_float, *kept),
            ranges=ranges,
            method=self._ranges.method,
            inputs=self._ranges.inputs,
        )

    def _operators(self, layer: str) -> tuple[str, ...]:
        inside = (index for index in sorted(self._all.layers) if is_in(self._modules[index], layer))
        return tuple(self._file.operators[index].name for index in inside)

    def _untried(self) -> Iterator[LayerSensitivity]:
        for index, reason in self._all.kept.items():
            yield LayerSensitivity(self._modules[index], (self._file.operators[index].name,), None, None, False, reason)


def _sensitivity(row: LayerSensitivity) -> tuple[float, float]:
    """What comes first is the larger."""
    assert row.drop is not None
    assert row.error is not None
    return max(row.drop.low, 0.0), row.error


class _Ranges:
    """The ranges of a float32 file's activations, measured when they are first needed.

    known: by the tensors' names.  inputs: on how many.
    """

    def __init__(self, compiled: CompiledModel, part: Batches, method: str, progress: Progress | None) -> None:
        self.file, self.method = TfliteFile(compiled.content), method
        self.known: dict[str, Range] = {}
        self.inputs = 0
        self._options, self._part, self._progress = compiled.options, part, progress

    def measure(self, plans: Sequence[Plan]) -> None:
        """Those of what is in int8 by one of the plans."""
        tensors = dict.fromkeys(tensor for found in plans for tensor in found.tensors if tensor.name not in self.known)
        shorts = (tensor for found in plans for tensor in found.shorts.values())
        whole = dict.fromkeys(tensor for tensor in shorts if tensor.name + SHORT not in self.known)
        if tensors or whole or not self.inputs:
            found, self.inputs = measured_ranges(
                self.file, list(tensors), list(whole), self._options, self._part, self.method, self._progress
            )
            self.known |= found


@dataclass
class _Tally:
    """One file beside the float32 file.

    lost, won: images on which only the latter is right, or only the file.  other: of another class.  squares: the sum
    of the squared errors of `values` numbers.
    """

    images: int = 0
    lost: int = 0
    won: int = 0
    other: int = 0
    squares: float = 0.0
    values: int = 0

    @property
    def error(self) -> float:
        """The mean squared error."""
        return self.squares / max(self.values, 1)

    def add(self, found: _Answer, expected: _Answer) -> None:
        """Count a batch."""
        right, was_right = found.is_right, expected.is_right
        self.images += len(expected.classes)
        self.lost += int(np.count_nonzero(was_right & ~right))
        self.won += int(np.count_nonzero(right & ~was_right))
        self.other += int(np.count_nonzero(found.classes != expected.classes))
        self.squares += float(np.square(found.numbers - expected.numbers).sum())
        self.values += expected.numbers.size


class _Answer:
    """A file's first output for the images of a batch, their classes, and whether these are those of the labels."""

    def __init__(self, output: Array, labels: Classes) -> None:
        self.numbers: npt.NDArray[np.float64] = output[: len(labels)].astype(np.float64)
        is_class = output.ndim == 1
        self.classes: Classes = (self.numbers if is_class else self.numbers.argmax(axis=1)).astype(np.int64)
        self.is_right: npt.NDArray[np.bool_] = self.classes == labels


class _BesideFloats:
    """Runs files on the measuring part of the data, beside the float32 file that they were made of.

    accuracy: that of the float32 file; None where the data have no labels.  runs: how many inferences there were.
    """

    def __init__(self, compiled: CompiledModel, images: Batches, layers: int, progress: Progress) -> None:
        count = file_class_count(TfliteFile(compiled.content))
        if count is None:
            raise InputError("--quantize auto: the first output names no class by which accuracy could be measured")
        self.runs, self._progress = 0, progress
        self._options, self._images = compiled.options, images
        self.batches_of_each = min(len(images), max(MOST_RUNS // layers, FEWEST_BATCHES))
        # With all in int8, and at each step of the bisection.
        self._total = len(images) * (2 + layers.bit_length()) + layers * self.batches_of_each
        self._labels: list[Classes] = []
        self._expected: list[_Answer] = []
        runner = first_runtime().load(compiled.content, fastest=True)
        for arrays, labels in images.labelled():
            self._labels.append(_as_classes(labels, count))
            self._expected.append(_Answer(self._run(runner, arrays), self._labels[-1]))
        if not self._labels:
            raise InputError("--calibrate: no image is left to measure on")
        found = np.concatenate(self._labels)
        right = int(sum(np.count_nonzero(one.is_right) for one in self._expected))
        self.accuracy = proportion(right, len(found)) if np.all(found != NO_LABEL) else None

    def tallies(self, contents: Sequence[bytes], batches: int | None = None) -> list[_Tally]:
        """What each file has to be compared by, on the first of the images, or on all."""
        found = []
        for begin in range(0, len(contents), AT_ONCE):
            runners = [first_runtime().load(content, fastest=True) for content in contents[begin : begin + AT_ONCE]]
            tallies = [_Tally() for _ in runners]
            known = zip(self._images, self._labels, self._expected, strict=True)
            for arrays, labels, expected in islice(known, batches):
                for runner, tally in zip(runners, tallies, strict=True):
                    tally.add(_Answer(self._run(runner, arrays), labels), expected)
            found += tallies
        return found

    def drop(self, tally: _Tally) -> Drop:
        """Of accuracy, or of agreement where there are no labels."""
        if self.accuracy is None:
            return Drop.of_agreement(tally.other, tally.images)
        return Drop.of_accuracy(tally.won, tally.lost, tally.images)

    def _run(self, runner: FileRunner, arrays: Sequence[Array]) -> Array:
        self.runs += 1
        self._progress(self.runs, max(self._total, self.runs))
        return runner.run([self._options.as_stored(array) for array in arrays])[0]


def _as_classes(labels: Sequence[int | None], count: int) -> Classes:
    """Labels of a batch, `NO_LABEL` where there is none.  Raises InputError for one that is no class."""
    for label in labels:
        if label is not None and not 0 <= label < count:
            raise InputError(f"--calibrate: a label is {label}, and the network has the classes 0 to {count - 1}")
    return np.array([NO_LABEL if label is None else label for label in labels], np.int64)
