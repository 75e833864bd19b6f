"""All that is found, and what follows for the commands."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bnncc.doctor.packages import GROUP as PACKAGES
from bnncc.doctor.packages import examine_packages
from bnncc.doctor.row import PREBUILT, Row, State

COMMANDS = "commands"
# What each probe tells of, for a row where it tells nothing.
TITLES = {
    "lce": ("runtimes", "LCE's interpreter"),
    "litert": ("runtimes", "LiteRT with bnncc's delegate"),
    "cache": ("runtimes", "cache folder"),
    "prove": ("runtimes", "compile and prove"),
    "compilers": ("compilers", "compilers"),
}
# What the extra `baseline` converts with, where there is a release for this Python.
CONVERTERS = ("onnx2tf", "tensorflow")
# Seconds: building the delegate with ziglang, which compiles its own libraries first, takes minutes on a Raspberry Pi.
LONGEST = 900


def examine() -> list[Row]:
    """Every row, in the order of the report; the commands last."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        probed = [row for rows in pool.map(_probe, TITLES) for row in rows]
    rows = [*examine_packages(), *probed]
    return [*rows, *_commands(rows)]


def can_compile(rows: Sequence[Row]) -> bool:
    """True where a network was compiled and its file proven."""
    return _find(rows, *TITLES["prove"]).is_ok


def _probe(name: str) -> list[Row]:
    """The rows of a probe; one that says how its process ended where it wrote none."""
    group, title = TITLES[name]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-m", "bnncc.doctor.probes", name]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=LONGEST,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return [Row(group, title, State.WRONG, f"did not end within {LONGEST} s")]
    if done.returncode == 0:
        entries = json.loads(done.stdout.splitlines()[-1])
        return [Row(**{**entry, "state": State(entry["state"])}) for entry in entries]
    return [Row(group, title, State.WRONG, _how_it_ended(done))]


def _how_it_ended(done: subprocess.CompletedProcess[str]) -> str:
    """The signal that ended a process, or the last line of its traceback."""
    if done.returncode < 0:
        try:
            return f"crashed: {signal.Signals(-done.returncode).name}"
        except ValueError:
            return f"crashed: signal {-done.returncode}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return f"failed: {lines[-1].strip()}" if lines else f"failed with status {done.returncode}"


def _commands(rows: Sequence[Row]) -> Iterator[Row]:
    """What works with what was found."""
    prove, litert = (_find(rows, *TITLES[name]) for name in ("prove", "litert"))
    yield _follows("compile, check, verify", [prove])
    yield _follows("run, bench", [litert])
    packages = {row.name: row for row in rows if row.group == PACKAGES}
    absent = [name for name in CONVERTERS if name not in packages]
    if "onnx2tf" in packages and absent:
        text = f"does not work: no {' or '.join(absent)} for Python {platform.python_version()}"
        yield Row(COMMANDS, "baseline", State.MISSING, text, "use an earlier Python")
    else:
        yield _follows("baseline", [prove, *(packages[name] for name in CONVERTERS if name in packages)])
    yield _follows("check --dask", [prove, *(packages[name] for name in ("distributed",) if name in packages)])
    makers = [row for row in rows if row.group == "compilers" and row.name != PREBUILT and "for this" not in row.name]
    working = [row.name for row in makers if row.is_ok]
    if working:
        yield Row(COMMANDS, "bundle", State.OK, f"with {', '.join(working)}")
    else:
        yield Row(COMMANDS, "bundle", State.MISSING, "no compiler for a device", "pip install 'bnncc[runtime]'")
    yield _program("deploy", ("ssh", "scp"), "apt install openssh-client")
    yield _program("deploy --adb", ("adb",), "apt install adb")
    yield Row(COMMANDS, "inspect, targets", State.OK, "works")


def _follows(name: str, needed: Sequence[Row]) -> Row:
    """A command that needs all of these."""
    lacking = [row for row in needed if not row.is_ok]
    if not lacking:
        return Row(COMMANDS, name, State.OK, "works")
    advice = "; ".join(dict.fromkeys(row.advice for row in lacking if row.advice))
    return Row(COMMANDS, name, State.MISSING, f"does not work: see {', '.join(row.name for row in lacking)}", advice)


def _program(name: str, programs: Sequence[str], advice: str) -> Row:
    lacking = [program for program in programs if shutil.which(program) is None]
    if lacking:
        return Row(COMMANDS, name, State.MISSING, f"does not work without {' and '.join(lacking)}", advice)
    return Row(COMMANDS, name, State.OK, f"with {', '.join(str(shutil.which(program)) for program in programs)}")


def _find(rows: Sequence[Row], group: str, name: str) -> Row:
    return next(row for row in rows if row.group == group and row.name == name)
