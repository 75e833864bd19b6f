"""Latency of whole networks, as an earlier revision compiles and runs them and as this tree does, in turns.

Each side compiles the same PyTorch modules (this tree's, with honest random parameters) with its own compiler and runs
them in LiteRT with its own delegate, in a process of its own; the processes take turns, run by run.  `--kernel avx2`
measures what a processor without AVX-512 would do.  Files that LCE's
own converter wrote (`make bench-lce` leaves them in build/lce) are run by both delegates as they are.  In brackets:
this tree's share of the earlier revision's time, of the least times and of the medians.  `bnncc_run` is this tree's
interpreter beside this tree's delegate; it always takes the fastest kernel.

    python benchmarks/against.py REVISION [--network NAME] [--runs N] [--threads N ...] [--kernel NAME]
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


def import_bnncc_of(tree: Path) -> None:
    """Take bnncc from `tree`, and whatever else is imported from this tree."""
    sys.path.insert(0, str(tree))
    import bnncc

    assert Path(bnncc.__file__).is_relative_to(tree)
    sys.path[0] = str(ROOT)


def serve(file: Path, runner: str, threads: int, kernel: str) -> None:
    """Time a run of a file for every line of standard input."""
    run = _runner(runner, file.read_bytes(), threads, kernel)
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


def _runner(name: str, content: bytes, threads: int, kernel: str) -> Callable[[], Any]:
    """One inference of a file, on noise."""
    import numpy as np

    from bnncc.runtime import LitertRunner

    if name == "delegate":
        runner: Any = LitertRunner(content, threads, kernel=kernel)
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
    kernel: str

    def start(self, file: Path) -> subprocess.Popen[str]:
        """A process that runs a file whenever it is told to."""
        arguments = ["--serve", file, "--runner", self.runner, "--threads", self.threads, "--kernel", self.kernel]
        return _start(self.tree, *arguments, stdin=subprocess.PIPE)


def _start(tree: Path, *arguments: object, stdin: int | None = None) -> subprocess.Popen[str]:
    """This program in a process of its own, with the bnncc of `tree`."""
    command = [sys.executable, __file__, "--tree", *map(str, (tree, *arguments))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, env=environment, text=True)


def compile_with(tree: Path, network: str, folder: Path) -> Path:
    """The network's file as the bnncc of `tree` writes it; a file in `folder`."""
    file = folder / f"{network}.tflite"
    if _start(tree, "--compile", network, "--output", file).wait():
        raise SystemExit(f"{network}: one side cannot compile it, see above")
    return file


def seconds_in_turns(files: list[Path], sides: list[Side], runs: int) -> list[list[float]]:
    """Seconds of `runs` runs of each side with its file, behind one that is not counted."""
    processes = [side.start(file) for side, file in zip(sides, files, strict=True)]
    seconds: list[list[float]] = [[] for _ in sides]
    try:
        for process in processes:
            _answer(process)
        for _ in range(runs + 1):
            for process, found in zip(processes, seconds, strict=True):
                assert process.stdin is not None
                print(file=process.stdin, flush=True)
                found.append(float(_answer(process)))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [found[1:] for found in seconds]


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit("a side ended, see above")
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


def rows(network: str, earlier: Path, threads: list[int], runs: int, kernel: str) -> list[list[str]]:
    """A row of the table for each number of threads."""
    found = []
    with tempfile.TemporaryDirectory() as before_folder, tempfile.TemporaryDirectory() as now_folder:
        old = compile_with(earlier, network, Path(before_folder))
        new = compile_with(ROOT, network, Path(now_folder))
        for count in threads:
            sides = [
                Side(earlier, "delegate", count, kernel),
                Side(ROOT, "delegate", count, kernel),
                Side(ROOT, "interpreter", count, kernel),
            ]
            before, now, interpreter = seconds_in_turns([old, new, new], sides, runs)
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
    parser.add_argument("--kernel", default="auto", help="the delegates' kernel: auto (the fastest), avx512, avx2, …")
    # What this program asks of itself, in a process for each side.
    parser.add_argument("--tree", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--compile", metavar="NETWORK", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--runner", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tree:
        import_bnncc_of(arguments.tree)
    if arguments.compile:
        arguments.output.write_bytes(_content(arguments.compile))
        return
    if arguments.serve:
        serve(arguments.serve, arguments.runner, arguments.threads[0], arguments.kernel)
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
            for row in rows(name, Path(folder), arguments.threads, arguments.runs, arguments.kernel):
                table.add_row(*row)
                print(*row, sep="  ", flush=True)
    Console(width=None if sys.stdout.isatty() else 150).print(table)


if __name__ == "__main__":
    main()
