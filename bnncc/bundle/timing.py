"""How long a file takes on this machine, as a whole and operator by operator.

Neither interpreter offers its profiler to Python.  What an operator takes is therefore measured on a file that holds
just this operator (`TfliteFile.variant`), in both interpreters alike.  In the whole network the delegate runs LCE's
operators and their neighbours in one go over memory, so that their sum there is less.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bnncc.bundle.model import Model
from bnncc.errors import InputError
from bnncc.evaluate import Array
from bnncc.runners import LceRunner
from bnncc.runtime import LitertRunner, kernels
from bnncc.targets.tflite.reader import Operator
from bnncc.targets.tflite.writer import Tensor

LITERT, LCE = "litert", "lce"
# Runs of one operator: the first warms up.
OPERATOR_RUNS = 6


@dataclass(frozen=True)
class Timing:
    """Seconds of each run, in the order in which they were run."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and the 90th percentile."""
        low, high = np.percentile(self.seconds, (10, 90))
        return float(low), float(high)


@dataclass(frozen=True)
class OperatorTiming:
    """The median seconds of one operator by itself, by interpreter; none where one does not take it alone."""

    operator: Operator
    medians: Mapping[str, float]


def open_litert(model: Model, threads: int, kernel: str = "auto") -> LitertRunner:
    """The file in LiteRT with the delegate.  Raises InputError where one of them does not take it."""
    if kernel != "auto" and kernel not in kernels():
        raise InputError(f"--kernel: this processor has {', '.join(kernels())}, not {kernel!r}")
    try:
        return LitertRunner(model.content, threads, kernel=kernel)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{model.path}: LiteRT does not take it: {str(error).strip()}") from error


def open_lce(model: Model, threads: int) -> LceRunner | None:
    """The file in LCE's interpreter at its best setting; None where it is not on this machine, or refuses the file."""
    try:
        return LceRunner(model.content, threads, fastest=True)
    except (ImportError, RuntimeError):
        return None


def random_arrays(tensors: tuple[Tensor, ...]) -> list[Array]:
    """Reproducible values: any bits in packed words, normal floats."""
    generator = np.random.default_rng(0)
    arrays: list[Array] = []
    for tensor in tensors:
        if tensor.dtype == "float32":
            arrays.append(generator.standard_normal(tensor.shape).astype(np.float32))
        elif tensor.dtype == "int32":
            arrays.append(generator.integers(-(2**31), 2**31, tensor.shape).astype(np.int32))
        else:
            arrays.append(np.zeros(tensor.shape, tensor.dtype))
    return arrays


def take_turns(runs: Mapping[str, Callable[[], object]], warm_up: int, count: int) -> dict[str, Timing]:
    """Time every function `count` times, in turns, so that whatever else the machine does meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warm_up + count):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def time_operators(model: Model, threads: int, kernel: str, *, lce: bool) -> list[OperatorTiming]:
    """Every operator by itself, in order."""
    return [_time_operator(model, operator, threads, kernel, lce) for operator in model.file.operators]


def _time_operator(model: Model, operator: Operator, threads: int, kernel: str, lce: bool) -> OperatorTiming:
    file = model.file
    fed = [tensor for tensor in operator.inputs if tensor is not None and file.data(tensor) is None]
    inputs = tuple({tensor.index: tensor for tensor in fed}.values())
    content = file.variant(inputs, operator.outputs)
    arrays = random_arrays(inputs)
    runs: dict[str, Callable[[], object]] = {}
    for name, wanted in ((LITERT, True), (LCE, lce)):
        if not wanted:
            continue
        try:
            runner = (
                LitertRunner(content, threads, kernel=kernel)
                if name == LITERT
                else LceRunner(content, threads, fastest=True)
            )
            runner.run(arrays)
        except (RuntimeError, ValueError):
            continue  # alone it is not what this interpreter takes, as an operator whose shapes another one computes
        runs[name] = lambda runner=runner: runner.run(arrays)  # type: ignore[misc]
    timings = take_turns(runs, 1, OPERATOR_RUNS - 1)
    return OperatorTiming(operator, {name: timing.median for name, timing in timings.items()})


def processor() -> str:
    """The processor's name as Linux tells it, and how many of its threads this process may use."""
    name = "unknown processor"
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            name = next((line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {len(os.sched_getaffinity(0))} threads"
