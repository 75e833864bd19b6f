"""What a pass may ask about the target: how long something takes.  `Target.cost` answers; passes know no target."""

from __future__ import annotations

from typing import Protocol

FLOAT_BYTES = 4
# Bits in a packed word.
WORD = 32
# What a float move costs for every element that it yields: it reads one and writes one, and the sign reads that again.
FLOAT_MOVE_COST = 3


class CostModel(Protocol):
    """Estimates seconds on one core."""

    def __call__(
        self, *, binary_macs: float = 0, float_macs: float = 0, moved_bytes: float = 0, operators: int = 0
    ) -> float:
        """binary_macs, float_macs: multiply-accumulates.  moved_bytes: read and written.  operators: how many calls."""
        ...
