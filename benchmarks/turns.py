"""Time files side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bnncc.inference.runners import FileRunner
from bnncc.ir.evaluate import Array


def seconds_in_turns(runners: Sequence[FileRunner], image: Array, runs: int) -> list[list[float]]:
    """Seconds of each of `runs` runs of each file.  They take turns, so that another load on the machine meets all.

    The first turn is not counted.
    """
    seconds: list[list[float]] = [[] for _ in runners]
    for _ in range(runs + 1):
        for runner, entries in zip(runners, seconds, strict=True):
            start = time.perf_counter()
            runner.run([image])
            entries.append(time.perf_counter() - start)
    return [entries[1:] for entries in seconds]
