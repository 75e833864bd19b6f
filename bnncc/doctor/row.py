"""One thing that was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# A compiler's row: what a wheel holds for its own machine, and for no device.
PREBUILT = "the wheel's delegate"


class State(Enum):
    """OK: it works.  MISSING: it is not there.  WRONG: it is there and does not work, or is not supported."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"


@dataclass(frozen=True)
class Row:
    """group: of the report.  text: what was found.  advice: what to do where it is not OK; "" where there is nothing
    to do."""

    group: str
    name: str
    state: State
    text: str
    advice: str = ""

    @property
    def is_ok(self) -> bool:
        """True where it works."""
        return self.state is State.OK
