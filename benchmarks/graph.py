"""How tight the compiled graphs are, and each pass's own share.

For every network: operators; elementwise float operators, and the bytes they read and write, both beside the least
that `minimum.py` counts on the graph; bytes that pass between layers packed and as floats; file size; latency of one
image in LCE's interpreter on this machine with its default kernel and at its best (indirect kernel and XNNPACK), the
median of several runs.  Then the same compiled with one pass left out, as the difference to the whole.

Latencies of one table are measured side by side; they say nothing about an ARM board.

    python benchmarks/graph.py [--network NAME] [--runs N] [--no-passes]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from minimum import minimum  # noqa: E402

from bnncc.compiler import compile_traced  # noqa: E402
from bnncc.errors import BnnccError  # noqa: E402
from bnncc.frontend import trace  # noqa: E402
from bnncc.inference.runners import LceRunner  # noqa: E402
from bnncc.model import CompiledModel  # noqa: E402
from bnncc.options import Options  # noqa: E402
from bnncc.passes import PIPELINE  # noqa: E402
from bnncc.targets import find_target  # noqa: E402
from bnncc.targets.tflite.reader import TfliteFile  # noqa: E402

NETWORKS = {
    "reactnet_a": "1x3x224x224",
    "bireal_net_18": "1x3x224x224",
    "rep_reactnet_a": "1x3x224x224",
    "vgg_small": "1x3x32x32",
}
TARGET = "raspberry-pi-4"
ELEMENTWISE = {
    "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "PRELU", "LEAKY_RELU", "RELU", "RELU6", "RELU_N1_TO_1", "NEG",
    "ABS", "SELECT_V2", "LOGISTIC", "TANH",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Figures:
    """One compiled file.  Bytes are per inference; latencies in milliseconds."""

    operators: int
    elementwise: int
    elementwise_bytes: int
    packed_bytes: int
    float_bytes: int
    file: int
    default: float
    best: float


def measure(compiled: CompiledModel, runs: int) -> Figures:
    """Count and time one file."""
    file = TfliteFile(compiled.content)
    elementwise = sum(operator.name in ELEMENTWISE for operator in file.operators)
    sizes = sizes_of(file)
    between = [tensor for operator in file.operators for tensor in operator.outputs]
    packed = sum(sizes[tensor.index] for tensor in between if tensor.dtype == "int32")
    floats = sum(sizes[tensor.index] for tensor in between if tensor.dtype == "float32")
    latencies = [latency(compiled.content, fastest, runs) for fastest in (False, True)]
    moved = elementwise_bytes(file)
    return Figures(len(file.operators), elementwise, moved, packed, floats, len(compiled.content), *latencies)


def sizes_of(file: TfliteFile) -> dict[int, int]:
    """Bytes of each tensor, by its index."""
    return {tensor.index: int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize for tensor in file.tensors}


def elementwise_bytes(file: TfliteFile) -> int:
    """What the elementwise float operators of a file read and write."""
    sizes = sizes_of(file)
    elementwise = [operator for operator in file.operators if operator.name in ELEMENTWISE]
    return sum(
        sizes[tensor.index] for operator in elementwise for tensor in (*operator.inputs, *operator.outputs) if tensor
    )


def latency(content: bytes, fastest: bool, runs: int) -> float:
    """The median of `runs` runs on one thread, in milliseconds, after one that is not counted."""
    runner = LceRunner(content, 1, fastest=fastest)
    inputs = [np.random.default_rng(0).standard_normal(shape, dtype=np.float32) for shape in runner.input_shapes]
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        runner.run(inputs)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]) * 1000


def row(name: str, found: Figures, layers: str, least: tuple[int, int]) -> list[str]:
    """A row of the table of networks."""
    operators, moved = least
    return [
        name, layers, f"{found.operators} ({operators})", str(found.elementwise),
        f"{megabytes(found.elementwise_bytes)} ({megabytes(moved)})",
        megabytes(found.packed_bytes), megabytes(found.float_bytes), megabytes(found.file),
        f"{found.default:.1f} ms", f"{found.best:.1f} ms",
    ]  # fmt: skip


def difference(name: str, whole: Figures, without: Figures) -> list[str]:
    """A row of the table of passes: how much more there is without the pass."""
    return [
        name,
        f"{without.operators - whole.operators:+d}",
        f"{without.elementwise - whole.elementwise:+d}",
        megabytes(without.elementwise_bytes - whole.elementwise_bytes, sign=True),
        megabytes(without.packed_bytes - whole.packed_bytes, sign=True),
        megabytes(without.float_bytes - whole.float_bytes, sign=True),
        megabytes(without.file - whole.file, sign=True),
        f"{without.best / whole.best:.2f}x",
    ]


def megabytes(count: int, *, sign: bool = False) -> str:
    """1,234,567 as 1.23 MB."""
    return f"{count / 1e6:{'+' if sign else ''}.2f} MB"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="only this one; repeat for several")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each file")
    parser.add_argument("--no-passes", action="store_true", help="leave out the share of each pass")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    networks = Table(
        "network", "binary layers", "operators (least)", "elementwise", "their bytes (least)", "packed", "floats",
        "file", "default", "best",
    )  # fmt: skip
    tables = []
    for name in arguments.network or list(NETWORKS):
        traced = trace(f"tests.networks:{name}", input_shapes=[NETWORKS[name]])
        compiled = compile_traced(traced, find_target(TARGET), Options())
        whole = measure(compiled, arguments.runs)
        binary = sum(layer.reason is None for layer in compiled.layers)
        networks.add_row(*row(name, whole, f"{binary} of {len(compiled.layers)}", minimum(traced)))
        if arguments.no_passes:
            continue
        table = Table(
            "without", "operators", "elementwise", "their bytes", "packed", "floats", "file", "time, best",
            title=f"{name}: each pass's share",
        )  # fmt: skip
        for step in PIPELINE:
            try:
                without = compile_traced(traced, find_target(TARGET), Options(disabled_passes=(step.name,)))
                table.add_row(*difference(step.name, whole, measure(without, arguments.runs)))
            except BnnccError as error:
                table.add_row(step.name, f"does not compile: {str(error).splitlines()[0]}")
        tables.append(table)
    console.print(networks)
    for table in tables:
        console.print(table)


if __name__ == "__main__":
    main()
