"""Runs networks and the matrix, and writes docs/conformance.md.

    python -m tests.conformance FOLDER [RUNTIME …]

FOLDER keeps virtual environments, forms and results; a runtime whose results are there for the same files, and the same
sources of the delegate and of bnncc's interpreter where it has them, is not run again.  So what was interrupted goes on
where it stopped.  Without names, all runtimes, one on each core; the emulated ones where BNNCC_SYSROOTS names what they
need.  Ends with status 1 where a network's classes differ otherwise than by rounding, or a form is not computed by a
runtime that its file does not call too old, or no form is what a network's file holds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bnncc.runtime.build import source_folder
from tests.conformance import avoided, networks
from tests.conformance.environments import ENVIRONMENTS, Environment
from tests.conformance.kept import cores, kept
from tests.conformance.matrix import Case, all_cases, run, write_forms
from tests.conformance.page import page, unstated
from tests.conformance.signatures import signatures
from tests.needs import SYSROOTS
from tests.targets.interpreter import native

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def _uncovered(cases: Sequence[Case], given: Sequence[networks.Subject]) -> Iterator[str]:
    """What the networks' files hold and no form does."""
    covered = frozenset().union(*(case.signatures for case in cases))
    for subject in given:
        yield from (f"{subject.name}: no form is {one}" for one in signatures(subject.content) - covered)


def main() -> int:
    """Run, and write the page of all results that the folder has."""
    status = networks.main()
    folder, names = Path(sys.argv[1]).absolute(), set(sys.argv[2:])
    cases, others = kept(folder / "cases.pickle", all_cases), avoided.forms()
    forms = write_forms(cases, others, folder / "forms.pickle")
    sources = native.hash_of(*(path for path in source_folder().rglob("*") if path.suffix in {".cc", ".h"}))
    print(f"{len(cases):,} forms", flush=True)

    def digest(environment: Environment) -> str:
        return f"{forms}-{sources}" if environment.delegate or environment.kind == "bnncc" else forms

    def run_one(environment: Environment) -> None:
        run(environment, cases, folder, digest(environment), networks.library_of(environment))
        print(environment.name, flush=True)

    chosen = [one for one in ENVIRONMENTS if one.name in names or (not names and (SYSROOTS or not one.machine))]
    with ThreadPoolExecutor(cores()) as pool:
        # The emulated ones, which take longest, first.
        list(pool.map(run_one, sorted(chosen, key=lambda one: not one.machine)))
    results: dict[str, Any] = {}
    for environment in ENVIRONMENTS:
        path = folder / f"{environment.name}.json"
        found = json.loads(path.read_text()) if path.exists() else {"digest": ""}
        if found["digest"] == digest(environment):
            results[environment.name] = found["results"]
    whole = json.loads((folder / networks.FOUND).read_text())
    PAGE.write_text(page(cases, others, results, whole), encoding="utf-8")
    faults = [*unstated(cases, results), *_uncovered(cases, networks.subjects(folder))]
    print("\n".join(faults))
    return 1 if faults else status


if __name__ == "__main__":
    sys.exit(main())
