"""The native code: its fuzzers and ThreadSanitizer, as rows."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# libFuzzer's last line.
DONE = re.compile(r"Done (\d+) runs in (\d+) second")
FUZZERS = ("the delegate's preparation", "the interpreter for Android")
THREADS = "tests/targets/runtime/test_sanitizers.py"


@dataclass(frozen=True)
class NativeRow:
    """What ran, by which command, and what came of it."""

    what: str
    command: str
    must: str
    gave: str
    passed: bool


def native_rows(seconds: int) -> list[NativeRow]:
    """Run each fuzzer for so long, and the tests under ThreadSanitizer."""
    command = ["make", "fuzz-runtime", f"SECONDS={seconds}"]
    python = Path(sys.executable)
    if python.parent.name == "bin":  # the environment that runs this
        folder = python.parent.parent
        command += [f"VENV={folder}", f"--assume-old={folder}/installed-dev"]  # which is as it has to be
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    found = DONE.findall(done.stdout + done.stderr)
    must = "no finding of address or undefined-behaviour sanitizer"
    rows = []
    for index, what in enumerate(FUZZERS):
        ran = found[index] if index < len(found) else None
        passed = ran is not None and (done.returncode == 0 or index + 1 < len(found))
        gave = f"{int(ran[0]):,} runs in {int(ran[1]):,} s, no finding" if ran and passed else "FAILED"
        rows.append(NativeRow(what, f"make fuzz-runtime SECONDS={seconds}", must, gave, passed))
    test = ["pytest", "-q", "-p", "no:cacheprovider", "-m", "", "-k", "thread", THREADS]
    tested = subprocess.run(
        [sys.executable, "-m", *test], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
    )
    last = (tested.stdout.strip().splitlines() or ["nothing"])[-1]
    passed = tested.returncode == 0 and "passed" in last
    gave = last.strip("= ") if passed else f"FAILED: {last}"
    rows.append(NativeRow("the delegate in threads", f"pytest -k thread {THREADS}", "no data race", gave, passed))
    return rows
