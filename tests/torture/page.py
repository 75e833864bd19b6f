"""The table of `docs/reliability.md`."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from tests.torture.forked import BUILDING, HANG, MEMORY_LIMIT, TRACEBACK
from tests.torture.native import NativeRow
from tests.torture.rows import Row

INTRODUCTION = """\
# Reliability

What bnncc gives where files are damaged, disks full, processes killed and command lines odd.  Made by `{command}`,
which fails where a row is not as required; {date}, {machine}, {minutes:.0f} minutes.  Every figure is that run's.
A sample of the rows runs in CI (`tests/torture/test_torture.py`).

Each case is a process of its own, forked from one that has loaded the libraries, with the real command line.  It must
end with the exit code of its row, without a traceback, within {hang:.0f} s ({building:.0f} s where a C++ compiler has
to build the delegate first), below {memory:,.0f} MiB of memory with the libraries (`BNNCC_MEMORY={told}`), and leave
nothing beside its output or in TMPDIR.  (PyTorch's own empty folder `torchinductor_…` there, which all programs of a
user share, does not count.)

| | |
| --- | --- |
| damaged files | {mutants:,} |
| faults | {faults:,} |
| tracebacks | {tracebacks:,} |
| hangs | {hangs:,} |
| memory over the limit | {memories:,} |
| leftovers | {leftovers:,} |
| wrong exit codes | {codes:,} |
| otherwise not as required | {others:,} |
| slowest case | {slowest:.1f} s |
| most memory | {most:,.0f} MiB |

Exit codes: 0, done; 1, the file is not what the network compiles to, or disagrees with it; 2, refused with the cause;
130, interrupted.
"""
MUTANTS = """
## Damaged files

Bits flipped, bytes and numbers set to their extremes, files cut, zeroed, spliced, repeated and swapped in parts; fields
of flatbuffers, protobufs, JSON and array headers, members of archives and chunks of PNGs changed with checksums made
right.  "Forged" .tflite files carry the right digest of their damaged bytes: they reach the interpreters.
"""
FAULTS = """
## Faults
"""
NATIVE = """
## Native code

The delegate's preparation and the interpreter for Android under address and undefined-behaviour sanitizers, by
libFuzzer (`make fuzz-runtime SECONDS=3600` takes an hour for each; the table says how long this run took), and the
delegate's inference under ThreadSanitizer.

| what | command | must give | gave |
| --- | --- | --- | --- |
"""
HEADER = """
| what | command | cases | must give | gave (exit code: cases) | slowest |
| --- | --- | --- | --- | --- | --- |
"""


def page(
    mutants: Sequence[Row], faults: Sequence[Row], native: Sequence[NativeRow], command: str, date: str, seconds: float,
    told: str,
) -> str:  # fmt: skip
    """The page, as Markdown.  command: that made it.  told: what the commands were told of memory."""
    cases = [case for row in (*mutants, *faults) for case in row.cases]
    problems = [text for case in cases for text in case.problems]
    kinds = {
        "tracebacks": sum(TRACEBACK in case.outcome.output for case in cases),
        "hangs": sum(text.startswith("it hung") for text in problems),
        "memories": sum("of memory" in text for text in problems),
        "leftovers": sum("left behind" in text for text in problems),
        "codes": sum(text.startswith("exit code") for text in problems),
    }
    introduction = INTRODUCTION.format(
        **kinds,
        others=len([text for text in problems if not _is_counted(text)]),
        command=command,
        date=date,
        machine=f"{os.cpu_count()} cores, Linux on {platform.machine()}",
        minutes=seconds / 60,
        hang=HANG,
        building=BUILDING,
        memory=MEMORY_LIMIT / 2**20,
        told=told,
        mutants=sum(len(row.cases) for row in mutants),
        faults=sum(len(row.cases) for row in faults),
        slowest=max(case.outcome.seconds for case in cases),
        most=max(case.outcome.peak for case in cases) / 2**20,
    )
    lines = [f"| {one.what} | `{one.command}` | {one.must} | {one.gave} |\n" for one in native]
    failures = [text for row in (*mutants, *faults) for text in row.problems]
    return (
        f"{introduction}{MUTANTS}{_table(mutants)}{FAULTS}{_table(faults)}"
        f"{NATIVE + ''.join(lines) if native else ''}{_failures(failures)}"
    )


def _is_counted(text: str) -> bool:
    begins = text.startswith(("it hung", "exit code", "a traceback"))
    return begins or "of memory" in text or "left behind" in text


def _table(rows: Sequence[Row]) -> str:
    lines = [
        f"| {row.title} | {row.command} | {len(row.cases):,} | {row.must} | {row.gave} | {_slowest(row):.1f} s |\n"
        for row in rows
    ]
    return HEADER + "".join(lines)


def _slowest(row: Row) -> float:
    return max(case.outcome.seconds for case in row.cases)


def _failures(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    return "\n## Not as required\n\n" + "".join(f"- {text}\n" for text in problems)
