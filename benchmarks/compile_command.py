"""CPU seconds of `bnncc compile`, from the process's start to the file, beside torch's own export as a command.

Both commands run in turns, each in a process of its own, on one thread; what counts is the processor's time, user's and
system's, of all their processes, the least of the rounds and the median.  torch's own export is a program that imports
torch, makes the network, and calls torch.export and torch.onnx.export as bnncc does.  `beyond` is what bnncc takes more
than that, of the leasts.  The split is of the round with the least: `start` is Python's own start, `other` what no
stage counts, as imports and the report.  Peak memory is the largest resident set of all rounds.

    python benchmarks/compile_command.py [--rounds 5] [NETWORK …]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = (
    "tests.networks:reactnet_a",
    "tests.networks:bireal_net_18",
    "examples/papers/repbnn.py:rep_adambnn_reactnet_a",
)
SHAPE = (1, 3, 224, 224)
STAGES = ("start", "load", "check", "export", "passes", "emit", "verify", "other")
MEGABYTE = 1e6
# Linux counts ru_maxrss in KiB.
KIB = 1024


def compile_here(network: str) -> None:
    """Run the command in this process, and print the seconds of its stages as JSON."""
    start = time.process_time()
    time.perf_counter = time.process_time  # what this process works, not what it waits for on a busy machine
    from bnncc import verification
    from bnncc.cli import main

    verify_in = verification.verify_in
    verified = 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal verified
        begin = time.process_time()
        result = verify_in(*arguments)
        verified += time.process_time() - begin
        return result

    verification.verify_in = timed
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        shape, output = "x".join(map(str, SHAPE)), str(Path(folder) / "net.tflite")
        main(["compile", network, "--input-shape", shape, "-o", output, "--json"], standalone_mode=False)
    seconds = json.loads(printed.getvalue())["seconds"]
    print(json.dumps({"start": start, **seconds, "verify": verified}))


def export_here(network: str) -> None:
    """torch's own export of the network that bnncc's frontend finds under this name."""
    import torch

    name, _, function = network.rpartition(":")
    sys.path.insert(0, str((ROOT / name).parent))
    module = importlib.import_module(Path(name).stem if name.endswith(".py") else name)
    torch.set_num_threads(1)
    inputs = (torch.randn(*SHAPE),)
    with torch.no_grad():
        program = torch.export.export(getattr(module, function)().eval(), inputs, strict=False)
        torch.onnx.export(program, inputs, dynamo=True, optimize=False, opset_version=18, verbose=False)


def measure(what: str, network: str) -> dict[str, float]:
    """Run this file as `what` in a process of its own: its seconds, and what it printed of its stages."""
    command = [sys.executable, __file__, what, network]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{ran.stderr}")
    stages: dict[str, float] = json.loads(ran.stdout.splitlines()[-1]) if what == "--compile" else {}
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # The largest of all children so far, of which the command's is.
    return {"total": total, "memory": after.ru_maxrss * KIB, **stages, "other": total - sum(stages.values())}


def main() -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=NETWORKS, help="for images of 224x224")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--export", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compile or arguments.export:
        (compile_here if arguments.compile else export_here)(arguments.networks[0])
        return
    columns = ("command", "median", "torch's export", "beyond", *STAGES, "peak memory")
    table = Table("network", *columns, title=f"CPU seconds, load {os.getloadavg()[0]:.1f}")
    for network in arguments.networks:
        rounds = [[measure(what, network) for what in ("--compile", "--export")] for _ in range(arguments.rounds)]
        commands, exports = ([one[place] for one in rounds] for place in range(2))
        least = min(commands, key=lambda one: one["total"])
        export = min(one["total"] for one in exports)
        seconds = [least["total"], statistics.median(one["total"] for one in commands), export, least["total"] - export]
        seconds += [least[stage] for stage in STAGES]
        peak = max(one["memory"] for one in commands)
        table.add_row(network.rpartition(":")[2], *(f"{one:.1f}" for one in seconds), f"{peak / MEGABYTE:,.0f} MB")
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
