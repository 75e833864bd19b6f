"""What an inference does and takes on boards: counted under emulation, and predicted from the file alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch

import bnncc
from benchmarks.calibration import figures
from benchmarks.watched import Watcher
from bnncc.latency import Latency, predict
from bnncc.targets import Target, find_target
from bnncc.targets.costs import Range
from bnncc.targets.tflite.reader import TfliteFile
from tests import networks
from tests.targets.runtime.named_networks import SIZES, compiled

BOARDS = tuple(find_target(name) for name in ("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5"))
BETWEEN = -1  # what runs between operators
# What others have published of LCE's own kernels, one thread: larq/compute-engine, README.md ("Performance"), for a
# Raspberry Pi 4 B at 1.5 GHz.
PUBLISHED = {("quicknet", "raspberry-pi-4"): "45.0"}

KIND_HEAD = (
    "operators", "instructions", "share", "predicted", "cycles", "DRAM", "predicted", "ms by counts", "ms predicted",
)  # fmt: skip
SUM_HEAD = (
    "network", "board", "instructions", "predicted", "DRAM", "predicted", "ms by counts", "ms predicted",
    "LCE's kernels, published",
)  # fmt: skip
NAMES = (*SIZES, "quicknet")


def content(name: str) -> bytes:
    """The file of a network of the tests or of examples/papers, at its paper's size."""
    if name in SIZES:
        return bytes(compiled(name, SIZES[name]).content)
    torch.manual_seed(0)
    return bytes(bnncc.compile(getattr(networks, name)(), input_shapes=[(1, 3, 224, 224)]).content)


class Inference:
    """One inference of a file on a board."""

    def __init__(self, watcher: Watcher, content: bytes, target: Target) -> None:
        file = TfliteFile(content)
        core = target.core_type
        self.target = target
        self.names = {operator.index: operator.name for operator in file.operators}
        self.watched = watcher.watch(content, core.name, core.caches)
        self.figures = figures(self.watched, core.name)
        self.predicted: Latency = predict(file, target)

    def instructions(self, index: int) -> float:
        """Counted."""
        return self.figures[index].instructions if index in self.figures else 0

    def dram_bytes(self, index: int) -> int:
        """Counted."""
        return self.watched[index].dram_bytes if index in self.watched else 0

    def seconds(self, index: int) -> Range:
        """By what was counted, as `predict` does by its estimates."""
        if index not in self.figures:
            return Range(0, 0)
        cycles, moved, rates = self.figures[index].cycles, self.dram_bytes(index), self.target.bandwidth
        return Range(
            max(cycles.least / self.target.hertz, moved / rates.most),
            cycles.most / self.target.hertz + moved / rates.least,
        )

    def rows(self) -> list[list[str]]:
        """One of each kind of operator, the one with most instructions first."""
        kinds: dict[str, list[int]] = defaultdict(list)
        for index, name in self.names.items():
            kinds[name].append(index)
        total = sum(map(self.instructions, [*self.names, BETWEEN]))
        order = sorted(kinds, key=lambda name: -sum(map(self.instructions, kinds[name])))
        rows = [self._row(f"{len(kinds[name])} {name}", kinds[name], total) for name in order]
        return [*rows, self._row("between them", [BETWEEN], total), self._row("all", [*self.names, BETWEEN], total)]

    def _row(self, title: str, indices: list[int], total: float) -> list[str]:
        predicted = [self.predicted.operators[index] for index in indices if index >= 0]
        instructions = sum(map(self.instructions, indices))
        cycles = _sum(lambda index: self.figures[index].cycles, [index for index in indices if index in self.figures])
        return [
            title, f"{instructions / 1e6:.2f} M", f"{instructions / total:.0%}",
            f"{sum(operator.instructions for operator in predicted) / 1e6:.2f} M", f"{_shown(cycles, 1e6, 1)} M",
            f"{sum(map(self.dram_bytes, indices)) / 1e6:.2f} MB",
            f"{_shown(sum((operator.dram_bytes for operator in predicted), Range(0, 0)), 1e6, 1)} MB",
            _shown(_sum(self.seconds, indices), 1e-3, 2),
            _shown(sum((operator.seconds for operator in predicted), Range(0, 0)), 1e-3, 2),
        ]  # fmt: skip

    def sums(self, name: str) -> list[str]:
        """Its row of the last table."""
        indices = [*self.names, BETWEEN]
        return [
            name, self.target.title, f"{sum(map(self.instructions, indices)) / 1e6:.0f} M",
            f"{self.predicted.instructions / 1e6:.0f} M", f"{sum(map(self.dram_bytes, indices)) / 1e6:.0f} MB",
            f"{_shown(self.predicted.dram_bytes, 1e6, 0)} MB", _shown(_sum(self.seconds, indices), 1e-3, 0),
            _shown(self.predicted.seconds, 1e-3, 0), PUBLISHED.get((name, self.target.name), ""),
        ]  # fmt: skip


def _sum(figure: Callable[[int], Range], indices: list[int]) -> Range:
    return sum((figure(index) for index in indices), Range(0, 0))


def _shown(figures: Range, unit: float, digits: int) -> str:
    return f"{figures.least / unit:.{digits}f}–{figures.most / unit:.{digits}f}"


def read(names: list[str], paths: list[Path]) -> dict[str, bytes]:
    """The files of networks, and other files, by their names."""
    return {name: content(name) for name in names} | {path.stem: path.read_bytes() for path in paths}
