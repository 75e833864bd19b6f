"""Time and peak memory of compiling the full-size networks of the tests, stage by stage.

Each network is compiled in a process of its own, on one thread; seconds are the processor's.  `bnncc` is what the
compiler itself takes: everything but torch's own import and export, the comparison of the trace with PyTorch (`check`)
and the verification.  `of export` is that as a share of torch's export, which says the same on any machine: compare it
between versions.  Peak memory is the process's largest resident set, PyTorch included.

    python benchmarks/compile_time.py [--verify]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ("reactnet_a", "bireal_net_18")
INPUT_SHAPE = "1x3x224x224"
MEGABYTE = 1e6


def measure(network: str, verifies: bool) -> dict[str, float]:
    """Compile one network in this process; seconds of each stage, bytes of file and of peak memory."""
    time.perf_counter = time.process_time  # what this process works, not what it waits for on a busy machine

    import numpy as np

    import bnncc

    compiled = bnncc.compile(f"tests.networks:{network}", input_shapes=[INPUT_SHAPE])
    found = {**compiled.seconds, "file": float(len(compiled.content)), "float": float(compiled.float_weight_bytes)}
    if verifies:
        image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
        if not bnncc.verify(compiled, [[image]]).passed:
            raise SystemExit(f"{network}: verification failed")
    # Linux counts ru_maxrss in KiB.
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return found


def main() -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verify", action="store_true", help="verify as well, and count its memory")
    parser.add_argument("--network", choices=NETWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.network:
        print(json.dumps(measure(arguments.network, arguments.verify)))
        return
    stages = ("load", "export", "check", "passes", "emit")
    table = Table("network", *stages, "bnncc", "of export", "peak memory", "file")
    for network in NETWORKS:
        command = [sys.executable, __file__, "--network", network, *(["--verify"] if arguments.verify else [])]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        output = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        own = sum(found[stage] for stage in ("load", "passes", "emit"))
        table.add_row(
            network,
            *(f"{seconds:.2f} s" for seconds in (*(found[stage] for stage in stages), own)),
            f"{own / found['export']:.2f}x",
            f"{found['memory'] / MEGABYTE:,.0f} MB",
            f"{found['file'] / MEGABYTE:.2f} MB ({found['float'] / found['file']:.1f}x smaller)",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
