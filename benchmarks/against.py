"""Latency of whole networks, as an earlier revision compiles and runs them and as this tree does, in turns.

Each side compiles the same PyTorch modules (this tree's, with honest random parameters) with its own compiler and runs
them in LiteRT with its own delegate, in a process of its own; the processes take turns, run by run.  Files that LCE's
own converter wrote (`make bench-lce` leaves them in build/lce) are run by both delegates as they are.  In brackets:
this tree's share of the earlier revision's time, of the least times and of the medians.  `bnncc_run` is this tree's
interpreter beside this tree's delegate.

    python benchmarks/against.py REVISION [--network NAME] [--runs N] [--threads N ...]
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LCE_FILES = ROOT / "build" / "lce"
# The module of each network's factory; None: a file of LCE's own converter.
NETWORKS: dict[str, str | None] = {
    "reactnet_a": "tests.networks",
    "bireal_net_18": "tests.networks",
    "rep_adambnn_reactnet_a": "repbnn",
    "sdbnn_resnet18": "sdbnn",
    "ftbnn_resnet18": "ftbnn",
    "rbnet_resnet18": "rbnet",
    "BinaryDenseNet28": None,
    "MeliusNet22": None,
}
SIZE = 224


def serve(tree: Path, network: str, runner: str, threads: int) -> None:
    """Compile the network with the bnncc of `tree`, then time a run for every line of standard input."""
    sys.path.insert(0, str(tree))
    import bnncc

    assert Path(bnncc.__file__).is_relative_to(tree)
    sys.path[0] = str(ROOT)  # whatever else is imported is this tree's
    run = _runner(runner, _content(network), threads)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


def _content(network: str) -> bytes:
    import bnncc

    if NETWORKS[network] is None:
        return (LCE_FILES / f"{network}.tflite").read_bytes()
    import torch

    from tests.networks.honest import honest

    sys.path.append(str(ROOT / "examples" / "papers"))
    torch.manual_seed(0)
    module = getattr(importlib.import_module(str(NETWORKS[network])), network)()
    content: bytes = bnncc.compile(honest(module, SIZE), input_shapes=[(1, 3, SIZE, SIZE)]).content
    return content


def _runner(name: str, content: bytes, threads: int) -> Callable[[], Any]:
    """One inference of a file, on noise."""
    import numpy as np

    from bnncc.runtime import LitertRunner

    if name == "delegate":
        runner: Any = LitertRunner(content, threads)
    else:
        from tests.targets.interpreter.native import InterpreterRunner

        runner = InterpreterRunner(content, threads)
    generator = np.random.default_rng(0)
    runner.set_inputs([generator.standard_normal(shape, np.float32) for shape in runner.input_shapes])
    invoke: Callable[[], Any] = runner.invoke
    return invoke


@dataclass(frozen=True)
class Side:
    """One of those that take turns: the bnncc of `tree`, in its delegate or its interpreter, with so many threads."""

    tree: Path
    runner: str
    threads: int

    def start(self, network: str) -> subprocess.Popen[str]:
        """A process that runs the network whenever it is told to."""
        arguments = ["--serve", network, "--tree", str(self.tree), "--runner", self.runner]
        arguments += ["--threads", str(self.threads)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=pipe, stdout=pipe, env=environment, text=True
        )


def seconds_in_turns(network: str, sides: list[Side], runs: int) -> list[list[float]]:
    """Seconds of `runs` runs of each side, behind one that is not counted."""
    processes = [side.start(network) for side in sides]
    seconds: list[list[float]] = [[] for _ in sides]
    try:
        for process in processes:
            _answer(process, network)
        for _ in range(runs + 1):
            for process, found in zip(processes, seconds, strict=True):
                assert process.stdin is not None
                print(file=process.stdin, flush=True)
                found.append(float(_answer(process, network)))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [found[1:] for found in seconds]


def _answer(process: subprocess.Popen[str], network: str) -> str:
    assert process.stdout is not None
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit(f"{network}: a side ended, see above")
    return answer


def check_out(revision: str, folder: Path) -> None:
    """Put the files of a revision into a folder."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def cell(own: list[float], other: list[float]) -> str:
    """The least and the median of `own`, in milliseconds, and their shares of the other's."""
    least, median = min(own), statistics.median(own)
    shares = f"{least / min(other):.2f} / {median / statistics.median(other):.2f}"
    return f"{1e3 * least:.2f} / {1e3 * median:.2f} ({shares})"


def rows(network: str, earlier: Path, threads: list[int], runs: int) -> list[list[str]]:
    """A row of the table for each number of threads."""
    found = []
    for count in threads:
        sides = [Side(earlier, "delegate", count), Side(ROOT, "delegate", count), Side(ROOT, "interpreter", count)]
        before, now, interpreter = seconds_in_turns(network, sides, runs)
        least = f"{1e3 * min(before):.2f} / {1e3 * statistics.median(before):.2f}"
        found.append([network, str(count), least, cell(now, before), cell(interpreter, now)])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?", help="the earlier revision, as git names it")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only this one; repeat for several")
    parser.add_argument("--runs", type=int, default=40, help="timed runs of each side")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--serve", metavar="NETWORK", help=argparse.SUPPRESS)
    parser.add_argument("--tree", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--runner", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.tree, arguments.serve, arguments.runner, arguments.threads[0])
        return
    if arguments.revision is None:
        parser.error("name the earlier revision")
    names = arguments.network or [
        name for name, module in NETWORKS.items() if module is not None or (LCE_FILES / f"{name}.tflite").exists()
    ]
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "network", "threads", f"{arguments.revision}", "this tree (share)", "bnncc_run (share of this tree's)",
        title="Least / median milliseconds, LiteRT with the delegate",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        check_out(arguments.revision, Path(folder))
        for name in names:
            for row in rows(name, Path(folder), arguments.threads, arguments.runs):
                table.add_row(*row)
                print(*row, sep="  ", flush=True)
    Console(width=None if sys.stdout.isatty() else 150).print(table)


if __name__ == "__main__":
    main()
