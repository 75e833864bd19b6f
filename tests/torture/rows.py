"""Rows of the table: what each must give, and what it gave."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.forked import HANG, MEMORY_LIMIT, TRACEBACK, Outcome
from tests.torture.subjects import Subjects

# PyTorch's own folder for what it compiles, which all of a user's programs share; torch.export makes it, empty.
OF_PYTORCH = "/torchinductor_"
# The exit code of what is wrong with the input: nothing is written.
REFUSED = 2


@dataclass(frozen=True)
class Case:
    """One command under one fault.

    name: tells it from others of its row, and makes it again: the seed of a mutation, or what was done.
    problems: what is not as it must be.
    """

    name: str
    outcome: Outcome
    problems: tuple[str, ...]


# What a trial yields: the outcome, and what is not as it must be.
Found = tuple[Outcome, Sequence[str]]


@dataclass(frozen=True)
class Trial:
    """A case to be: `run` is given a new folder.  Those of one title, command and `must` are a row."""

    title: str
    command: str
    must: str
    name: str
    run: Callable[[Subjects, Path], Found]

    def case(self, subjects: Subjects, folder: Path) -> Case:
        """Run it; the folder stays where something is not as it must be."""
        try:
            outcome, problems = self.run(subjects, folder)
        except Exception as error:  # a trial that does not come about is none that was passed
            outcome, problems = Outcome(None), (f"the trial itself failed: {type(error).__name__}: {error}",)
        if not problems:
            shutil.rmtree(folder, ignore_errors=True)
        return Case(self.name, outcome, tuple(problems))


@dataclass
class Row:
    """title: what was damaged, or done.  command: to what.  must: the exit codes that are right, in words."""

    title: str
    command: str
    must: str
    cases: list[Case] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return [f"{self.title}, {self.command}, {case.name}: {text}" for case in self.cases for text in case.problems]

    @property
    def gave(self) -> str:
        """How often which exit code came."""
        codes = Counter(case.outcome.code for case in self.cases)
        return ", ".join(f"{name_of(code)}: {count:,}" for code, count in sorted(codes.items(), key=str))


def rows_of(trials: Sequence[Trial], cases: Sequence[Case]) -> list[Row]:
    """The rows of trials and what became of them, in the order of the trials."""
    rows: dict[tuple[str, str, str], Row] = {}
    for trial, case in zip(trials, cases, strict=True):
        key = (trial.title, trial.command, trial.must)
        rows.setdefault(key, Row(*key)).cases.append(case)
    return list(rows.values())


def name_of(code: int | None) -> str:
    if code is None:
        return "hung"
    return f"signal {-code}" if code < 0 else str(code)


def judge(outcome: Outcome, codes: Sequence[int], made: Sequence[str] = ()) -> tuple[str, ...]:
    """What is not as it must be.

    codes: the exit codes that are right.  made: beginnings of the names, in the folder of outputs, of what the command
    may leave where it refuses nothing.
    """
    problems = []
    last = (outcome.output.strip().splitlines() or [""])[-1][:300]
    if outcome.code is None:
        problems.append(f"it hung: no end within {HANG:.0f} s")
    elif outcome.code not in codes:
        wanted = " or ".join(map(name_of, codes))
        problems.append(f"exit code {name_of(outcome.code)}, not {wanted}: {last}")
    if TRACEBACK in outcome.output:
        problems.append(f"a traceback: {last}")
    if outcome.peak > MEMORY_LIMIT:
        problems.append(f"{outcome.peak / 2**20:,.0f} MiB of memory, the limit is {MEMORY_LIMIT / 2**20:,.0f} MiB")
    allowed = made if outcome.code in codes and outcome.code != REFUSED else ()
    left = [path for path in outcome.left if OF_PYTORCH not in path and not _is_made(path, allowed)]
    if left:
        problems.append(f"left behind: {', '.join(left[:3])}")
    return tuple(problems)


def _is_made(path: str, allowed: Sequence[str]) -> bool:
    name = path.rpartition("/out/")[2]
    return "/out/" in path and any(name.startswith(one) for one in allowed)
