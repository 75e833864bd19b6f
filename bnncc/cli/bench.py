"""`bnncc bench`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnncc.cli.options import FILE
from bnncc.cli.reporting import json_file_option, quiet_option, reporter
from bnncc.cli.terminal import output
from bnncc.system.names import shown

if TYPE_CHECKING:
    from bnncc.inference.runners import Runtime
    from bnncc.inference.timing import OperatorTiming, Timing

# More tell nothing more, and a number with too many zeros would run for days.
WARM_UP, RUNS = click.IntRange(0, 100_000), click.IntRange(1, 100_000)
COLUMNS = {"litert": "delegate, ms", "lce": "LCE, ms"}
TITLES = {"litert": "LiteRT with the delegate", "lce": "LCE's interpreter at its best"}


@click.command("bench")
@click.argument("path", metavar="FILE.tflite", type=FILE)
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads of the interpreter.")
@click.option("--warm-up", type=WARM_UP, default=5, show_default=True, help="Runs before those that count.")
@click.option("--runs", "count", type=RUNS, default=50, show_default=True, help="Runs that count.")
@click.option("--kernel", default="auto", show_default=True, metavar="NAME", help="A kernel of the delegate.")
@json_file_option
@quiet_option
def bench_command(path: Path, threads: int, warm_up: int, count: int, kernel: str, json_file: Path | None) -> None:
    """Measure how long FILE.tflite takes on this machine, on random inputs.

    Runs in LiteRT with bnncc's delegate, and in turns with it in LCE's interpreter where that is installed (indirect
    kernel and XNNPACK).  The times include copying inputs and outputs.  Also measures every operator by itself; in the
    whole file the delegate runs neighbours in one go, so that their sum there is less.
    """
    from rich.table import Table

    from bnncc.inference import Model, open_lce, open_litert
    from bnncc.inference.runners import Runtime, running
    from bnncc.inference.timing import processor, random_images, take_turns, time_operators
    from bnncc.system.files import check_writable, keep_apart, write_atomically

    if json_file is not None:
        check_writable(json_file)
        keep_apart({"--json": json_file}, (path,))
    model = Model.read(path)
    arrays = random_images(model)
    runners = {Runtime.LITERT: open_litert(model, threads, kernel)}
    lce = open_lce(model, threads)
    if lce is not None:
        runners[Runtime.LCE] = lce
    with running(path):
        timings = take_turns({name: partial(runner.run, arrays) for name, runner in runners.items()}, warm_up, count)
        operators = time_operators(model, runners, threads, kernel)
    _print_operators(operators, list(runners))
    console = output()
    console.print(
        f"{path} on {processor()}: {count} runs of {threads} {'thread' if threads == 1 else 'threads'}", markup=False
    )
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for runtime, timing in timings.items():
        low, high = timing.spread
        spread = f"(10 % to 90 %: {low * 1e3:.3f} to {high * 1e3:.3f})"
        table.add_row(TITLES[runtime.value], f"{timing.median * 1e3:.3f} ms", spread)
    console.print(table)
    figures = {
        "file": str(path),
        "processor": processor(),
        "threads": threads,
        "warm_up": warm_up,
        "kernel": kernel,
        "interpreters": {runtime.value: _figures(timing) for runtime, timing in timings.items()},
        "operators": [_operator_figures(entry) for entry in operators],
    }
    reporter().document = figures
    if json_file is not None:
        write_atomically(json_file, (json.dumps(figures, indent=2) + "\n").encode())
        console.print(f"wrote {json_file}", markup=False)


def _figures(timing: Timing) -> dict[str, Any]:
    low, high = timing.spread
    return {"median_seconds": timing.median, "p10_seconds": low, "p90_seconds": high, "seconds": list(timing.seconds)}


def _operator_figures(entry: OperatorTiming) -> dict[str, Any]:
    medians = {runtime.value: seconds for runtime, seconds in entry.medians.items()}
    return {"index": entry.operator.index, "name": entry.operator.name, "median_seconds": medians}


def _print_operators(operators: Sequence[OperatorTiming], runtimes: Sequence[Runtime]) -> None:
    """One operator a line, by itself; a column for each runtime."""
    from bnncc.report import print_table, table_of

    table = table_of(("", "operator, by itself", "output"), [COLUMNS[runtime.value] for runtime in runtimes])
    for entry in operators:
        figures = [f"{entry.medians[name] * 1e3:.3f}" if name in entry.medians else "–" for name in runtimes]
        shape = "x".join(map(str, entry.operator.outputs[0].shape))
        table.add_row(str(entry.operator.index), shown(entry.operator.name), shape, *figures)
    console = output()
    print_table(console, table)
    console.print()
