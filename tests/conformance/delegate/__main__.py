"""Tries the delegate in every runtime, and writes docs/conformance_delegate.md.

    python -m tests.conformance.delegate FOLDER [RUNTIME …]

FOLDER keeps virtual environments, those of `python -m tests.conformance` among them, and results: a runtime whose
results are there for the same files and sources is not tried again.  Without names, all runtimes, one on each core; the
emulated ones where BNNCC_SYSROOTS names what they need.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bnncc.runtime.build import source_folder
from tests.conformance.delegate import served
from tests.conformance.delegate.files import write_tasks
from tests.conformance.delegate.matrix import EMULATED_ROUNDS, ROUNDS, results, run
from tests.conformance.delegate.page import page
from tests.conformance.delegate.runtimes import delegate_runtimes
from tests.conformance.environments import Environment
from tests.conformance.kept import cores
from tests.needs import SYSROOTS
from tests.targets.interpreter import native

PAGE = Path(__file__).parents[3] / "docs" / "conformance_delegate.md"


def main() -> int:
    """Run, and write the page of all results that the folder has.  1 where something is not right."""
    folder, names = Path(sys.argv[1]).absolute(), set(sys.argv[2:])
    folder.mkdir(parents=True, exist_ok=True)
    tasks, few = folder / "delegate.tasks", folder / "delegate.emulated.tasks"
    write_tasks(tasks, ROUNDS)
    write_tasks(few, EMULATED_ROUNDS, memory=False)
    sources = [path for path in source_folder().rglob("*") if path.suffix in {".cc", ".h"}]
    digest = native.hash_of(tasks, few, Path(served.__file__), *sources)

    def run_one(environment: Environment) -> None:
        run(environment, folder, few if environment.machine else tasks, digest)
        print(environment.name, flush=True)

    everything = delegate_runtimes()
    chosen = [one for one in everything if one.name in names or (not names and (SYSROOTS or not one.machine))]
    with ThreadPoolExecutor(cores()) as pool:
        # The emulated ones, which take longest, first.
        list(pool.map(run_one, sorted(chosen, key=lambda one: not one.machine)))
    found = {one.name: results(one, folder, digest) for one in everything}
    text = page({name: said for name, said in found.items() if said is not None}, EMULATED_ROUNDS)
    PAGE.write_text(text, encoding="utf-8")
    return int("## What is not right" in text)


if __name__ == "__main__":
    sys.exit(main())
