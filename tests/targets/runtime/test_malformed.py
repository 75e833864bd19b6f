"""A malformed file is an error with a message, never a crash: the files are prepared in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.targets.runtime.malformed import NAMED

ROOT = Path(__file__).resolve().parents[3]
MUTATIONS = 400


def outcomes(*arguments: str) -> dict[object, str]:
    """What `malformed.py` says of each file."""
    command = [sys.executable, "-m", "tests.targets.runtime.malformed", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"status {done.returncode} behind {done.stdout[-300:]}\n{done.stderr[-2000:]}"
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_each_fault_has_a_message_that_names_it() -> None:
    found = outcomes("named")
    assert list(found) == list(NAMED)
    for name, (_, expected) in NAMED.items():
        assert found[name] != "ran", name
        assert expected in found[name], name


def test_random_options_and_shapes_never_crash() -> None:
    found = outcomes("random", "0", str(MUTATIONS))
    assert len(found) == MUTATIONS
    # Both happen often: a check that rejects all, or none, would pass unnoticed.
    ran = sum(text == "ran" for text in found.values())
    assert MUTATIONS // 20 < ran < MUTATIONS // 2
