"""Damage, faults and odd command lines, and a table of what bnncc made of them: `make torture`.

    python -m tests.torture                     all of it; rewrites docs/reliability.md
    python -m tests.torture --share 0.02 …      a sample of each row, printed

Exit code 1 where a row is not as required; what made it so stays in the folder that is named then.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.torture import mutants, outputs, races, signals, values
from tests.torture.forked import MEMORY_TOLD, load_libraries
from tests.torture.native import NativeRow, native_rows
from tests.torture.page import page
from tests.torture.rows import Case, Trial, rows_of
from tests.torture.subjects import make_subjects

TABLE = Path(__file__).parents[2] / "docs" / "reliability.md"
SEED = 13
JOBS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of each row (1)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the damaged files ({SEED})")
    parser.add_argument("--only", default="", help="only trials in whose title, command or name this is")
    parser.add_argument(
        "--fuzz", type=int, default=0, metavar="SECONDS", help="also fuzz the native code, so long each"
    )
    parser.add_argument("--output", type=Path, help="where the table goes (printed for a sample)")
    arguments = parser.parse_args()
    started = time.monotonic()
    load_libraries()
    folder = Path(tempfile.mkdtemp(prefix="bnncc-torture-"))
    subjects = make_subjects(folder / "subjects")
    damaged = _chosen(mutants.trials(arguments.seed, arguments.share), arguments.only)
    faults = [*signals.trials(), *outputs.trials(), *races.trials(), *values.trials()]
    faults = _chosen(_sample(faults, arguments.share), arguments.only)
    trials = [*damaged, *faults]
    print(f"{len(damaged):,} damaged files and {len(faults):,} faults, in {folder}", flush=True)

    def run(index: int) -> Case:
        case = trials[index].case(subjects, folder / str(index))
        for problem in case.problems:
            print(
                ascii(f"{folder / str(index)}: {trials[index].title}, {trials[index].command}, {case.name}: {problem}")
            )
        if index % 250 == 0:
            print(f"{index:,} of {len(trials):,} after {time.monotonic() - started:.0f} s", flush=True)
        return case

    with ThreadPoolExecutor(JOBS) as pool:
        cases = list(pool.map(run, range(len(trials))))
    split = len(damaged)
    tables = rows_of(damaged, cases[:split]), rows_of(faults, cases[split:])
    whole = arguments.share == 1 and not arguments.only
    command = f"make torture FUZZ={arguments.fuzz}" if whole else " ".join(sys.argv)
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    output = arguments.output or (TABLE if whole else None)

    def write(native: Sequence[NativeRow]) -> None:
        written = page(*tables, native, command, date, time.monotonic() - started, MEMORY_TOLD)
        if output is None:
            print(written)
        else:
            output.write_text(written, encoding="utf-8")

    write([])
    native = native_rows(arguments.fuzz) if arguments.fuzz else []
    if native:
        write(native)
    failed = sum(bool(case.problems) for case in cases) + sum(not row.passed for row in native)
    print(f"{len(cases):,} cases in {time.monotonic() - started:.0f} s, {failed:,} not as required")
    if failed:
        sys.exit(1)
    shutil.rmtree(folder)


def _chosen(trials: Sequence[Trial], only: str) -> list[Trial]:
    return [trial for trial in trials if only in f"{trial.title}, {trial.command}, {trial.name}"]


def _sample(trials: Sequence[Trial], share: float) -> list[Trial]:
    """Evenly over all of them."""
    count = max(1, round(share * len(trials)))
    return [trials[index * len(trials) // count] for index in range(count)]


if __name__ == "__main__":
    main()
