"""How the time of compiling grows with the number of blocks: what is linear takes the same time a block.

Networks of 25, 50, 100 and 200 residual blocks (shift, sign, binary convolution, batch norm, PReLU; 32 channels of 8x8)
are traced and compiled in one process, on one thread; milliseconds a block are the processor's, the least of several
runs.  Passes that take less than `SMALLEST` a block are left out; the last row is all of them.

    python benchmarks/growth.py
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bnncc.compiler import compile_traced  # noqa: E402
from bnncc.frontend import input_specs, trace_module  # noqa: E402
from bnncc.options import Options  # noqa: E402
from bnncc.targets import find_target  # noqa: E402
from tests.networks import randomize  # noqa: E402
from tests.networks.binarize import ClippedSign, ScaledBinaryConv2d  # noqa: E402

BLOCKS = (25, 50, 100, 200)
CHANNELS = 32
RUNS = 3
SMALLEST = 0.1  # milliseconds a block, in the largest network


class Block(nn.Module):
    """A shift, a sign, a binary convolution and a batch norm beside a shortcut, then a PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(CHANNELS, 1, 1))
        self.conv = ScaledBinaryConv2d(CHANNELS, CHANNELS, 3, 1, 1)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.act = nn.PReLU(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(ClippedSign.apply(x + self.shift))) + x)


def network(blocks: int) -> nn.Module:
    """With honest random parameters."""
    torch.manual_seed(0)
    body = [Block() for _ in range(blocks)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10)]
    return randomize(nn.Sequential(nn.Conv2d(3, CHANNELS, 3), *body, *head)).eval()


def measure(blocks: int) -> dict[str, float]:
    """Milliseconds a block of each pass and of the emission."""
    module = network(blocks)
    traced = trace_module(module, input_specs(module, ["1x3x10x10"], []), check_inputs=[], freeze_branches=False)
    gc.collect()
    gc.freeze()  # a collection goes through all that PyTorch has loaded, at any time
    runs = []
    for _ in range(RUNS):
        compiled = compile_traced(traced, find_target("raspberry-pi-4"), Options())
        runs.append({**compiled.pass_seconds, "emission": compiled.seconds["emit"]})
    return {name: 1e3 * min(run[name] for run in runs) / blocks for name in runs[0]}


def main() -> None:
    """Print a row for each pass."""
    time.perf_counter = time.process_time
    found = {blocks: measure(blocks) for blocks in BLOCKS}
    table = Table("ms a block", *(f"{blocks} blocks" for blocks in BLOCKS), "200 / 25")
    names = [name for name in found[BLOCKS[-1]] if found[BLOCKS[-1]][name] >= SMALLEST]
    for name in [*names, "all"]:
        row = [sum(each.values()) if name == "all" else each.get(name, 0.0) for each in found.values()]
        table.add_row(name, *(f"{number:.2f}" for number in row), f"{row[-1] / row[0]:.2f}x" if row[0] else "")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
