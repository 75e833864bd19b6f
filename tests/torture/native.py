"""The native code: its fuzzers and ThreadSanitizer, as rows."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# libFuzzer's last line, where it found nothing.
DONE = re.compile(r"Done (\d+) runs in (\d+) second")
FUZZERS = {"fuzz_preparation": "the delegate's preparation", "fuzz_interpreter": "the interpreter for Android"}
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
    """Run the fuzzers side by side, each for so long, and then the tests under ThreadSanitizer."""
    command = ["make", "--jobs=2", "--keep-going", "--output-sync=target", "fuzz-runtime", f"SECONDS={seconds}"]
    python = Path(sys.executable)
    if python.parent.name == "bin":  # the environment that runs this
        folder = python.parent.parent
        command += [f"VENV={folder}", f"--assume-old={folder}/installed-dev"]  # which is as it has to be
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    must = "no finding of address or undefined-behaviour sanitizer"
    rows = []
    for program, what in FUZZERS.items():
        ran = DONE.search(_told_by(program, done.stdout))
        gave = f"{int(ran[1]):,} runs in {int(ran[2]):,} s, no finding" if ran else "FAILED"
        rows.append(NativeRow(what, f"make fuzz-runtime SECONDS={seconds}", must, gave, ran is not None))
    test = ["pytest", "-q", "-p", "no:cacheprovider", "-m", "", "-k", "thread", THREADS]
    tested = subprocess.run(
        [sys.executable, "-m", *test], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
    )
    last = (tested.stdout.strip().splitlines() or ["nothing"])[-1]
    passed = tested.returncode == 0 and "passed" in last
    gave = last.strip("= ") if passed else f"FAILED: {last}"
    rows.append(NativeRow("the delegate in threads", f"pytest -k thread {THREADS}", "no data race", gave, passed))
    return rows


def _told_by(program: str, output: str) -> str:
    """What make printed between this fuzzer's command line and the next one's."""
    parts = re.split(r"^build/fuzz/(fuzz_\w+) ", output, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(program, "")
