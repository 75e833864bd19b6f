"""How long a file takes on this machine, as a whole and operator by operator.

Neither interpreter offers its profiler to Python.  What an operator takes is therefore measured on a file that holds
just this operator (`TfliteFile.variant`), in both interpreters alike.  In the whole network the delegate runs LCE's
operators and their neighbours in one go over memory, so that their sum there is less.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from bnncc.inference.interpreters import load
from bnncc.inference.model import Model
from bnncc.inference.runners import Runtime
from bnncc.ir.arrays import Array, random_array
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor

Name = TypeVar("Name")

# Runs of one operator that count, behind one that warms up.
OPERATOR_RUNS = 5


@dataclass(frozen=True)
class Timing:
    """Seconds of each run, in the order in which they were run."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of all runs."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and the 90th percentile."""
        low, high = np.percentile(self.seconds, (10, 90))
        return float(low), float(high)


@dataclass(frozen=True)
class OperatorTiming:
    """The median seconds of one operator by itself, in each runtime that takes it alone."""

    operator: Operator
    medians: Mapping[Runtime, float]


def random_images(model: Model) -> list[Array]:
    """Reproducible values for the file's inputs; of integers such as an index into any table may be."""
    generator = np.random.default_rng(0)
    tensors = model.file.inputs
    return [random_array(generator, tensor.shape, np.dtype(tensor.dtype), None) for tensor in tensors]


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


def take_turns(runs: Mapping[Name, Callable[[], object]], warm_up: int, count: int) -> dict[Name, Timing]:
    """Time every function `count` times, in turns, so that whatever else the machine does meets all alike.

    warm_up: runs of each before those that count.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in runs}
    for turn in range(warm_up + count):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def time_operators(model: Model, runtimes: Iterable[Runtime], threads: int, kernel: str) -> list[OperatorTiming]:
    """Every operator by itself, in order, on random inputs."""
    wanted = tuple(runtimes)
    return [_time_operator(model.file, operator, wanted, threads, kernel) for operator in model.file.operators]


def _time_operator(
    file: TfliteFile, operator: Operator, runtimes: Sequence[Runtime], threads: int, kernel: str
) -> OperatorTiming:
    inputs = tuple({tensor.index: tensor for tensor in file.activations(operator)}.values())
    content = file.variant(inputs, operator.outputs)
    arrays = random_arrays(inputs)
    runs: dict[Runtime, Callable[[], object]] = {}
    for runtime in runtimes:
        try:
            run = partial(load(runtime, content, threads, kernel).run, arrays)
            run()
        except (RuntimeError, ValueError):
            continue  # alone it is not what this runtime takes, as an operator whose shapes another one computes
        runs[runtime] = run
    timings = take_turns(runs, 1, OPERATOR_RUNS)
    return OperatorTiming(operator, {runtime: timing.median for runtime, timing in timings.items()})


def processor() -> str:
    """The processor's name as Linux tells it, and how many of its threads this process may use."""
    name = "unknown processor"
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            name = next((line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {len(os.sched_getaffinity(0))} threads"
