"""Signals at every stage of a command: what was there stays whole, what was begun goes, what was measured is kept."""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.torture.forked import Place, bnncc, run_forked
from tests.torture.rows import Found, Trial, judge
from tests.torture.subjects import Subjects

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
INTERRUPTED = 130
# Where a compilation is when it is hit: "module:attribute", the call that is the one.
STAGES: dict[str, tuple[str, int]] = {
    "importing the network": ("bnncc.frontend.network:load_module", 0),
    "loading the weights": ("bnncc.frontend.network:load_weights", 0),
    "tracing": ("bnncc.frontend.trace:export", 0),
    "checking the trace": ("bnncc.frontend.trace:check_trace", 0),
    **{f"pass {count}": ("bnncc.ir.pass_runner:PassRunner._dump", count) for count in (0, 1, 8, 16, 24, 32, 40)},
    "emission": ("bnncc.compiler:emit", 0),
    "verification": ("bnncc.verification:verify_in", 0),
    "measuring": ("bnncc.check.task:_measure_batch", 3),
    "the report": ("bnncc.report:print_compilation", 0),
    "saving": ("bnncc.model:CompiledModel.save", 0),
    "opening the file": ("bnncc.system.files:_open_unnamed", 0),
    "its permissions": ("os:fchmod", 0),
    "its bytes on the disk": ("os:fsync", 0),
    "its name": ("os:link", 0),
}
OLDER = b"an older file"
# So many moments, evenly over a compilation.
MOMENTS = 5
FIRST, LAST = 0.3, 2.5
# Images in a chunk that `check` measures; it saves between them.
CHUNKS = (0, 2, 5)


def struck(function: Callable[[], object], stage: str, count: int, number: int) -> Callable[[], object]:
    """`function`, with the signal `number` at the call `count` of what `stage` names."""

    def call() -> None:
        module, _, path = stage.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        original, calls = getattr(owner, name), 0

        def strike(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == count + 1:
                os.kill(os.getpid(), number)
            return original(*arguments, **options)

        setattr(owner, name, strike)
        function()

    return call


def _compile(subjects: Subjects) -> Callable[[], object]:
    data = ("--data", subjects["data.npz"], "--pixels", "0..1")
    return bnncc(("compile", *subjects.network, *data, "-o", "net.tflite"))


def _codes(number: int) -> tuple[int, ...]:
    return (-number,) if number == signal.SIGKILL else (INTERRUPTED,)


def _at_stage(stage: str, number: int, subjects: Subjects, folder: Path) -> Found:
    place = Place.make(folder)
    (place.folder / "net.tflite").write_bytes(OLDER)
    outcome = run_forked(struck(_compile(subjects), *STAGES[stage], number), place)
    return outcome, (*judge(outcome, _codes(number)), *_not_older(place))


def _at_moment(seconds: float, number: int, subjects: Subjects, folder: Path) -> Found:
    """Also behind the end, where the file is the new one."""
    place = Place.make(folder)
    (place.folder / "net.tflite").write_bytes(OLDER)

    def strike(process: int) -> None:
        time.sleep(seconds)
        os.kill(process, number)  # it is there until it is waited for

    outcome = run_forked(_compile(subjects), place, meanwhile=strike)
    problems = judge(outcome, (*_codes(number), 0))
    whole = (place.folder / "net.tflite").read_bytes()[4:8] == b"TFL3"
    return outcome, (*problems, *(() if whole else _not_older(place)))


def _not_older(place: Place) -> Sequence[str]:
    path = place.folder / "net.tflite"
    return () if path.is_file() and path.read_bytes() == OLDER else ("the older file is not what it was",)


def figures(path: Path) -> Any:
    """What `check --json` wrote, without what depends on the clock."""
    entry = json.loads(path.read_text())
    for name in ("reference", "compiled", "delegate", "baseline"):
        if entry.get(name) is not None:
            entry[name].pop("images_per_second", None)
    return entry


def check_many(subjects: Subjects, *options: object) -> Callable[[], object]:
    """`check` on data of several chunks."""
    file = subjects["net.tflite"]
    return bnncc(("check", file, *subjects.model, "--data", subjects["many.npz"], "--json", "made.json", *options))


def _resumed(chunk: int, number: int, subjects: Subjects, folder: Path) -> Found:
    """A check is hit while it measures a chunk, and is called again."""
    place = Place.make(folder)
    first = check_many(subjects, "--resume", "made.npz")
    outcome = run_forked(struck(first, "bnncc.check.run:measure", chunk, number), place)
    problems = list(judge(outcome, _codes(number), ("made",)))
    again = run_forked(first, place)
    problems += judge(again, (0,), ("made",))
    if again.code == 0 and figures(place.folder / "made.json") != figures(subjects["many.json"]):
        problems.append("the resumed check has other figures than one that was not interrupted")
    return outcome, problems


def trials() -> list[Trial]:
    """All of them."""
    found = []
    for number in SIGNALS:
        name, must = signal.Signals(number).name, "killed" if number == signal.SIGKILL else str(INTERRUPTED)
        whole = f"{must}; the older file as it was"
        found += [
            Trial(f"{name} in every stage", "compile", whole, stage, partial(_at_stage, stage, number))
            for stage in STAGES
        ]
        step = (LAST - FIRST) / (MOMENTS - 1)
        found += [
            Trial(
                f"{name} at a moment", "compile", f"{must}, or 0; the older file or the new one, whole",
                f"after {FIRST + index * step:.2f} s", partial(_at_moment, FIRST + index * step, number),
            )
            for index in range(MOMENTS)
        ]  # fmt: skip
        found += [
            Trial(
                f"{name}, then again", "check --resume", f"{must}, then 0 with the figures of one run",
                f"chunk {chunk}", partial(_resumed, chunk, number),
            )
            for chunk in CHUNKS
        ]  # fmt: skip
    return found
