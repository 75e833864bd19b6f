"""Runs all forms in one runtime; where the process ends on a form, that is the form's outcome, and another goes on."""

from __future__ import annotations

import os
import pickle
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnncc.ir.evaluate import Array

# A form takes milliseconds, under emulation a second; one on which a process lives longer hangs.
SECONDS_A_FORM = 60.0
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Outcome:
    """Of one form in one runtime: its outputs for each kind of values (None: that run was refused), or why there are
    none.
    """

    outputs: Sequence[Sequence[Array] | None] = ()
    refused: str = ""
    died: str = ""


def run_batch(
    command: Sequence[str],
    forms: Path,
    count: int,
    environment: dict[str, str] | None = None,
    seconds: float = SECONDS_A_FORM,
) -> list[Outcome]:
    """`command` is served.py's up to FORMS; `forms` the pickle with `count` forms, each of which may take `seconds`.

    RuntimeError where it does not start.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        before = len(outcomes)
        _serve([*command, str(forms), str(before)], outcomes, environment, seconds)
        if len(outcomes) == before:
            raise RuntimeError(f"{' '.join(command)} does not start")
    return outcomes


def _serve(command: Sequence[str], outcomes: list[Outcome], environment: dict[str, str] | None, seconds: float) -> None:
    """One process, until it ends; appends an outcome for each form that it began."""
    environment = {**(environment or os.environ), "PYTHONDONTWRITEBYTECODE": "1"}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as process,
    ):
        watch = _Watch(process, seconds)
        try:
            begun = _read(process.stdout, outcomes, watch)
        finally:
            watch.stop()
            process.kill()
        status = process.wait()
        if begun:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip()[-SHOWN_CHARACTERS:]
            how = "hangs" if watch.expired else f"ends with status {status}"
            outcomes.append(Outcome(died=f"{how}: {last}"))
        elif len(outcomes) == 0:
            errors.seek(0)
            raise RuntimeError(errors.read().decode(errors="replace")[-2000:])


def _read(stream: Any, outcomes: list[Outcome], watch: _Watch) -> bool:
    """True where the process ended in the middle of a form."""
    begun = False
    while True:
        try:
            verb, *rest = pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):
            return begun
        watch.reset()
        if verb == "begin":
            begun = True
        elif verb == "end":
            return False
        else:
            begun = False
            outcomes.append(Outcome(refused=rest[1]) if verb == "refused" else Outcome(outputs=rest[1]))


class _Watch:
    """Kills a process that says nothing for so many seconds."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._process, self._seconds = process, seconds
        self.expired = False
        self._timer: threading.Timer | None = None
        self.reset()

    def reset(self) -> None:
        self.stop()
        self._timer = threading.Timer(self._seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self.expired = True
        self._process.kill()
