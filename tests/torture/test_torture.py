"""A sample of the torture passes; and what is not as required is found, whichever way it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.torture import forked
from tests.torture.forked import Outcome, Place, run_forked
from tests.torture.rows import Trial, judge, rows_of
from tests.torture.subjects import Subjects

ROOT = Path(__file__).parents[2]
# Runs a sample with a fault put into bnncc once everything whole is made.
PLANTED = """\
from bnncc.targets.tflite import reader
from tests.torture import __main__ as torture

def damaged(content):
    {fault}

def make_and_plant(folder, make=torture.make_subjects):
    subjects = make(folder)
    reader.is_damaged = damaged
    return subjects

torture.make_subjects = make_and_plant
torture.main()
"""


def torture(*arguments: str, program: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", program] if program else ["-m", "tests.torture"]
    return subprocess.run(
        [sys.executable, *start, *arguments], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
    )


@pytest.mark.slow
def test_a_sample_is_as_required(tmp_path: Path) -> None:
    table = tmp_path / "reliability.md"
    done = torture("--share", "0.01", "--output", str(table))
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    content = table.read_text()
    assert "| wrong exit codes | 0 |" in content
    assert "## Not as required" not in content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("return False", "exit code 0, not 2"),
        ("import tempfile; tempfile.mkstemp(); return True", "left behind"),
    ],
)
def test_a_fault_that_is_put_in_fails_the_run(tmp_path: Path, fault: str, found: str) -> None:
    table = tmp_path / "reliability.md"
    arguments = ("--share", "0.02", "--only", ".tflite, damaged, inspect", "--output", str(table))
    done = torture(*arguments, program=PLANTED.format(fault=fault))
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert found in table.read_text()


def _crash() -> None:
    raise ValueError("planted")


def _hang() -> None:
    time.sleep(60)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _fill_memory() -> None:
    bytearray(2**28)


def _leave_a_file() -> None:
    Path("left").write_text("x")
    sys.exit(2)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (_crash, "a traceback"),
        (_crash, "exit code 1, not 0 or 2"),
        (_hang, "it hung"),
        (_die, "exit code signal 11"),
        (_fill_memory, "MiB of memory"),
        (_leave_a_file, "left behind"),
        (lambda: sys.exit(3), "exit code 3, not 0 or 2"),
        (lambda: sys.exit(2), None),
        (lambda: None, None),
    ],
)
def test_what_is_not_as_it_must_be_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Callable[[], object], problem: str | None
) -> None:
    monkeypatch.setattr("tests.torture.rows.MEMORY_LIMIT", 2**28)
    place = Place.make(tmp_path / "place")
    # In a process of its own, which has loaded no libraries: a test's own memory would count.
    found = judge(run_forked(function, place, hang=2), (0, 2), ("made",))
    found = tuple(text for text in found if problem == "MiB of memory" or "MiB of memory" not in text)
    assert any(text.startswith(problem) or problem in text for text in found) if problem else not found


def test_what_a_command_made_is_no_leftover_but_where_it_refuses(tmp_path: Path) -> None:
    left = (f"{tmp_path}/out/made.npz", f"{tmp_path}/tmp/torchinductor_me")
    assert not judge(Outcome(0, left=left), (0, 2), ("made",))
    assert judge(Outcome(2, left=left), (0, 2), ("made",)) == (f"left behind: {left[0]}",)
    assert judge(Outcome(0, left=(f"{tmp_path}/out/.bnncc-x",)), (0, 2), ("made",))
    assert judge(Outcome(0, left=(f"{tmp_path}/tmp/made",)), (0, 2), ("made",))


def test_a_trial_that_does_not_come_about_is_not_passed(tmp_path: Path) -> None:
    def fail(subjects: Subjects, folder: Path) -> tuple[Outcome, tuple[str, ...]]:
        raise RuntimeError("no such device")

    trial = Trial("a title", "inspect", "2", "one", fail)
    case = trial.case(Subjects(tmp_path), tmp_path / "case")
    (row,) = rows_of([trial], [case])
    assert row.problems == ["a title, inspect, one: the trial itself failed: RuntimeError: no such device"]


def test_a_command_and_what_it_started_are_ended_when_it_hangs(tmp_path: Path) -> None:
    def start_another() -> None:
        subprocess.Popen(["sleep", "60"])
        Path("number").write_text(str(os.getpid()))
        time.sleep(60)

    outcome = run_forked(start_another, Place.make(tmp_path / "place"), hang=1)
    assert outcome.code is None
    group = int((tmp_path / "place" / "out" / "number").read_text())
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process of the command's group is still there")


def test_the_limit_that_bnncc_is_told_is_below_the_one_that_counts() -> None:
    assert forked.MEMORY_TOLD == "1G"
    assert forked.MEMORY_LIMIT == 2 * 2**30
