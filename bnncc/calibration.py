"""`--calibrate`: between which numbers the activations lie that are to be int8, measured on the user's data.

The float32 file runs by itself, as it would on the device, on inputs spread evenly over the data.

    min-max      the lowest and the highest number that was seen
    percentile   without the `TAIL` of the numbers that lie lowest, and highest
    mse          the bounds whose int8 is nearest to what was seen: the mean square of rounding and clipping is least

`mse` is the default: of Fashion-MNIST's network half as many signs flip with it as with min-max.

The latter two run the file twice: a histogram needs its bounds first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.data import BadImageError, Dataset, DataSource, Preprocessing, stack
from bnncc.errors import InputError
from bnncc.inference.runners import first_runtime
from bnncc.ir.arrays import Array
from bnncc.ir.input_spec import InputSpec
from bnncc.model import CompiledModel
from bnncc.options import Options
from bnncc.passes.balance_channels import convolutions, exponents_of
from bnncc.targets.tflite.integer_file import SHORT
from bnncc.targets.tflite.integer_plan import Plan, plan, weighted
from bnncc.targets.tflite.integers import (
    FLOAT32,
    SHORTCUTS,
    Integers,
    Range,
    dequantized,
    parameters,
    quantized,
)
from bnncc.targets.tflite.modules import module_of, values_by_name
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import Tensor

MIN_MAX = "min-max"
METHODS = ("mse", MIN_MAX, "percentile")
# So many inputs are run at most, and fewer than these tell little of the ranges.
MOST_INPUTS, FEWEST_INPUTS = 500, 100
# With `--quantize auto` the drop of accuracy is measured on so many others at most.
MOST_MEASURED = 2000
DEFAULT_DROP = "0.5%"
# Of all numbers of an activation, those on one side that `percentile` leaves out.
TAIL = 5e-5
BINS = 2048
# How far `mse` draws the bounds in: these shares of them are tried.
SHARES = np.linspace(0.3, 1.0, 36)
# Decibels of rounding for which one more product of a map is computed: half a bit.
WORTH = 3.0

# Told as it goes on: (how much is done, how much there is).
Progress = Callable[[int, int], None]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """What `--quantize int8` is given.

    data: as `DataSource` takes it.  keep_float: module paths of layers that stay in float.  method: one of METHODS.
    max_drop: a share of the images, with `--quantize auto`: so many layers stay in float that the accuracy drops by no
    more; None where only those of `keep_float` do.  shortcuts: of binary layers, in which of SHORTCUTS they are kept;
    with `max_drop` where it allows that.
    """

    data: Any
    keep_float: tuple[str, ...] = ()
    method: str = METHODS[0]
    skip_bad_images: bool = False
    max_drop: float | None = None
    shortcuts: str = FLOAT32

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"--calibration: {self.method!r} is none of {', '.join(METHODS)}")
        if self.shortcuts not in SHORTCUTS:
            raise InputError(f"--shortcuts: {self.shortcuts!r} is none of {', '.join(SHORTCUTS)}")

    @property
    def source(self) -> DataSource:
        """The data."""
        return self.data if isinstance(self.data, DataSource) else DataSource(self.data)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of what is read."""
        return self.source.files

    def check_exists(self) -> None:
        """Raise InputError now for data that are not there."""
        with _naming_the_option():
            self.source.check_exists()

    def inputs(self, specs: Sequence[InputSpec], preprocessing: Preprocessing) -> Batches:
        """Those that are run, each read when it is asked for.  Raises InputError where the data do not fit."""
        with _naming_the_option():
            dataset = self._open(specs, preprocessing)
            count = min(len(dataset), MOST_INPUTS * specs[0].shape[0])
            rows = np.linspace(0, len(dataset) - 1, count).round().astype(int)
            return Batches(dataset, rows.tolist(), self.skip_bad_images)

    def examples(self, specs: Sequence[InputSpec], preprocessing: Preprocessing, count: int) -> list[list[Array]]:
        """So many inputs, or as many as there are, spread evenly over the data: what a file is proven on.

        Raises InputError where the data do not fit.
        """
        with _naming_the_option():
            dataset = self._open(specs, preprocessing)
            taken = min(len(dataset), count * specs[0].shape[0])
            rows = np.linspace(0, len(dataset) - 1, taken).round().astype(int)
            return list(Batches(dataset, rows.tolist(), self.skip_bad_images))

    def parts(
        self, specs: Sequence[InputSpec], preprocessing: Preprocessing, classes: Sequence[str]
    ) -> tuple[Batches, Batches]:
        """(those for ranges, those for measuring), drawn by chance, the same each time: half of the data are for
        ranges, but no more than `inputs` has.

        classes: their names, by label.  Raises InputError where the data do not fit, or there are fewer than two.
        """
        with _naming_the_option():
            dataset = self._open(specs, preprocessing, classes)
            if len(dataset) < 2:
                raise InputError("--data: one part is for ranges and another to measure on; there is one image")
            rows = np.random.default_rng(0).permutation(len(dataset)).tolist()
            count = min(len(rows) // 2, MOST_INPUTS * specs[0].shape[0])
            parts = rows[:count], rows[count : count + MOST_MEASURED]
            first, second = (Batches(dataset, part, self.skip_bad_images) for part in parts)
            return first, second

    def _open(self, specs: Sequence[InputSpec], preprocessing: Preprocessing, classes: Sequence[str] = ()) -> Dataset:
        """The data, of which there is one that can be read."""
        dataset = self.source.open(specs, preprocessing, classes)
        dataset.batches(1, self.skip_bad_images)
        return dataset


def accuracy_drop(given: str | float) -> float:
    """The share that `--max-accuracy-drop` means: "0.5%", or 0.5 points.  Raises InputError where it means none."""
    try:
        points = Decimal(str(given).strip().removesuffix("%"))
    except InvalidOperation:
        points = Decimal("nan")
    if not points.is_finite() or not 0 <= points < 100:
        raise InputError(f"--max-accuracy-drop: {given!r} is no number of points from 0 to 100: 0.5%, or 0.5")
    return float(points / 100)  # the float nearest to it, as a share of images is


@contextlib.contextmanager
def _naming_the_option() -> Iterator[None]:
    """What is wrong with these data is wrong with --calibrate."""
    try:
        yield
    except InputError as error:
        raise type(error)(str(error).replace("--data", "--calibrate", 1)) from error


class Inputs(Protocol):
    """What is run: one array [N, …] for each input of the network, as often as they are gone through."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Array]]: ...


class Batches:
    """`Inputs` that are samples of data, in batches of the network's own size."""

    def __init__(self, dataset: Dataset, rows: Sequence[int], skip_bad: bool) -> None:
        self._dataset = dataset
        self._size = dataset.specs[0].shape[0]
        self._skip_bad = skip_bad
        self._rows = rows

    def __len__(self) -> int:
        return -(-len(self._rows) // self._size)

    def __iter__(self) -> Iterator[list[Array]]:
        return (arrays for arrays, _ in self.labelled())

    def labelled(self) -> Iterator[tuple[list[Array], list[int | None]]]:
        """(the arrays, the label of each sample): the last batch has fewer labels than arrays have rows."""
        samples: list[list[Array]] = []
        labels: list[int | None] = []
        for row in self._rows:
            try:
                with _naming_the_option():
                    arrays, label = self._dataset.sample(row)
            except BadImageError:
                if not self._skip_bad:
                    raise
                continue
            samples.append(arrays)
            labels.append(label)
            if len(samples) == self._size:
                yield stack(samples, self._size), labels
                samples, labels = [], []
        if samples:
            yield stack(samples, self._size), labels


def integer_plan(file: TfliteFile, graph: ir.Graph, integers: Integers) -> Plan:
    """What of a float32 file, lowered from `graph`, runs in int8.

    Raises InputError, with the layers that there are, where one of `integers.keep_float` is none, and where nothing is
    left.
    """
    keep_float = integers.keep_float
    values = values_by_name(graph)
    modules = {operator.index: module_of(operator, values) for operator in weighted(file)}
    named = [{index for index, module in modules.items() if is_in(module, name)} for name in keep_float]
    known = ", ".join(dict.fromkeys(modules.values())) or "none"
    for name, found in zip(keep_float, named, strict=True):
        if not found:
            raise InputError(f"--keep-float: there is no float layer '{name}'; there are {known}")
    result = plan(file, set().union(*named), shortcuts=integers.shortcuts)
    if not result.layers:
        reasons = "; ".join(f"'{modules[index]}': {reason}" for index, reason in result.kept.items())
        raise InputError(f"--quantize int8: no layer can run in int8: {reasons or 'there is no float layer'}")
    return result


def is_in(module: str, name: str) -> bool:
    """True for a layer and for what lies in it: layer4 has layer4.0.downsample."""
    return module == name or module.startswith(f"{name}.")


def passes_over(method: str) -> int:
    """How often `ranges_of` runs all inputs."""
    return 1 if method == MIN_MAX else 2


def ranges_of(compiled: CompiledModel, inputs: Inputs, method: str, progress: Progress | None = None) -> Integers:
    """The integers of a file that is float32 yet, with the ranges of the activations that are to be int8.

    progress: told (how many inputs have been run, how many there are), of each pass over them anew behind the last.
    Raises InputError where an activation is no finite number.
    """
    assert compiled.options.integers is not None
    file = TfliteFile(compiled.content)
    found = integer_plan(file, compiled.graph.graph, compiled.options.integers)
    whole = list(found.shorts.values())
    ranges, count = measured_ranges(file, found.tensors, whole, compiled.options, inputs, method, progress)
    return replace(compiled.options.integers, ranges=ranges, method=method, inputs=count)


def measured_ranges(
    file: TfliteFile,
    tensors: Sequence[Tensor],
    whole: Sequence[Tensor],
    options: Options,
    inputs: Inputs,
    method: str,
    progress: Progress | None = None,
) -> tuple[dict[str, Range], int]:
    """(the range of each of a float32 file's tensors, by its name; on how many inputs).  As `ranges_of`.

    whole: those whose ranges are from the lowest to the highest number, by any method, for int16.
    """
    run = _Run(file, list(dict.fromkeys([*tensors, *whole])), options)
    lows, highs, count = _extremes(run, inputs, progress)
    seen = bounds = [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]
    if method != MIN_MAX:
        edges = [np.linspace(low, high if high > low else low + 1, BINS + 1) for low, high in bounds]
        counts = [np.zeros(BINS, np.int64) for _ in edges]
        for index, arrays in enumerate(inputs):
            for total, array, own in zip(counts, run(arrays), edges, strict=True):
                total += np.histogram(array, own)[0]
            if progress is not None:
                progress(len(inputs) + index + 1, len(inputs))
        bounds = [narrowed(method, *one) for one in zip(counts, edges, strict=True)]
    found = {tensor.name: bounds[run.tensors.index(tensor)] for tensor in tensors}
    return found | {tensor.name + SHORT: seen[run.tensors.index(tensor)] for tensor in whole}, count


def channel_exponents(
    compiled: CompiledModel, inputs: Inputs, progress: Progress | None = None
) -> dict[str, tuple[int, ...]]:
    """For `balance-channels`: of each convolution that is to run in int8 and whose result is read as floats, where
    balanced channels make the rounding of their one scale smaller by `WORTH` decibels.
    """
    assert compiled.options.integers is not None
    file = TfliteFile(compiled.content)
    found = integer_plan(file, compiled.graph.graph, compiled.options.integers)
    layers = {file.operators[index].outputs[0].name for index in found.layers}
    ends = {}
    for node, end in convolutions(compiled.graph.graph):
        names = {value.name for value in (node.outputs[0], end)} | {
            use.node.outputs[0].name for use in node.outputs[0].uses()
        }
        tensor = file.by_name.get(end.name or "")
        if names & layers and tensor is not None and not _feeds_integers(file, found, tensor):
            ends[node.outputs[0].name or ""] = tensor
    run = _Run(file, list(dict.fromkeys(ends.values())), compiled.options)
    lows, highs, _ = _extremes(run, inputs, progress, by_channel=True)
    largest = {
        tensor: np.maximum(np.abs(low), np.abs(high))
        for tensor, low, high in zip(run.tensors, lows, highs, strict=True)
    }
    found_exponents = {}
    for name, tensor in ends.items():
        exponents = exponents_of(largest[tensor])
        if _gain(largest[tensor], exponents) >= WORTH:
            found_exponents[name] = tuple(exponents)
    return found_exponents


def _gain(largest: npt.NDArray[np.float64], exponents: Sequence[int]) -> float:
    """Decibels by which rounding becomes smaller against each channel's own size, which is what signs read."""
    known = largest > 0
    noise = np.square(1 / largest[known])
    return (
        float(10 * np.log10(noise.sum() / (noise * np.exp2(2.0 * np.array(exponents)[known])).sum()))
        if known.any()
        else 0.0
    )


def _feeds_integers(file: TfliteFile, found: Plan, tensor: Tensor) -> bool:
    """True where an operator in int8 reads a tensor."""
    return any(tensor in file.operators[index].inputs for index in found.operators)


def _extremes(
    run: _Run, inputs: Inputs, progress: Progress | None, by_channel: bool = False
) -> tuple[list[Any], list[Any], int]:
    """(the lowest, the highest number of each tensor, or of each of its channels; on how many inputs).

    Raises InputError where one is not finite.
    """
    lows, highs = ([sign * np.inf for _ in run.tensors] for sign in (1, -1))
    count = 0
    for arrays in inputs:
        for index, array in enumerate(run(arrays)):
            axes = tuple(range(array.ndim - 1)) if by_channel else None
            lows[index] = np.minimum(lows[index], array.min(axis=axes))
            highs[index] = np.maximum(highs[index], array.max(axis=axes))
        count += 1
        if progress is not None:
            progress(count, len(inputs))
    for tensor, low, high in zip(run.tensors, lows, highs, strict=True):
        if not np.all(np.isfinite(low)) or not np.all(np.isfinite(high)):
            raise InputError(f"--calibrate: '{tensor.name}' is not finite on these data")
    return lows, highs, count


class _Run:
    """A file that yields some of its tensors."""

    def __init__(self, file: TfliteFile, tensors: Sequence[Tensor], options: Options) -> None:
        self.tensors = list(tensors)
        self._given = {tensor.index: place for place, tensor in enumerate(file.inputs)}
        self._computed = [tensor for tensor in tensors if tensor.index not in self._given]
        self._options = options
        content = file.variant(file.inputs, self._computed)
        self._runner = first_runtime().load(content, fastest=True) if self._computed else None

    def __call__(self, arrays: Sequence[Array]) -> Iterator[Array]:
        fed = [self._options.as_stored(array) for array in arrays]
        results = iter(self._runner.run(fed) if self._runner is not None else ())
        for tensor in self.tensors:
            place = self._given.get(tensor.index)
            yield next(results) if place is None else fed[place]


def narrowed(method: str, counts: Counts, edges: npt.NDArray[np.float64]) -> Range:
    """The range of numbers of which so many lie between edges, by one of METHODS."""
    if method == MIN_MAX:
        return float(edges[0]), float(edges[-1])
    return (_percentile if method == "percentile" else _least_error)(counts, edges)


def _percentile(counts: Counts, edges: npt.NDArray[np.float64]) -> Range:
    below = np.cumsum(counts) / counts.sum()
    first, last = int(np.searchsorted(below, TAIL)), int(np.searchsorted(below, 1 - TAIL))
    return float(edges[first]), float(edges[min(last, BINS - 1) + 1])


def _least_error(counts: Counts, edges: npt.NDArray[np.float64]) -> Range:
    low, high = float(edges[0]), float(edges[-1])
    middles = (edges[:-1] + edges[1:]) / 2

    def error(share: float) -> float:
        scale = parameters(share * low, share * high)
        return float(np.sum(counts * np.square(dequantized(quantized(middles, scale), scale) - middles)))

    best = min(SHARES[::-1], key=error)
    return float(best * low), float(best * high)
