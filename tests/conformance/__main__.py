"""Runs the matrix, and writes docs/conformance.md.

    python -m tests.conformance FOLDER [RUNTIME …]

FOLDER keeps virtual environments and results; a runtime whose results are there for the same files, and the same
sources of the delegate and of bnncc's interpreter where it has them, is not run again.  Without names, all runtimes,
two at a time; the emulated ones where BNNCC_SYSROOTS names what they need.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bnncc.runtime import Platform
from bnncc.runtime.build import source_folder
from bnncc.runtime.library import built_library
from tests.conformance import avoided
from tests.conformance.environments import ENVIRONMENTS, Environment
from tests.conformance.forms import all_forms
from tests.conformance.matrix import cases_of, run, write_forms
from tests.conformance.page import page
from tests.needs import SYSROOTS
from tests.targets.interpreter import native

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
AT_ONCE = 2
# What `tests.conformance.networks` leaves in the folder.
NETWORKS = "networks.json"


def main() -> int:
    """Run, and write the page of all results that the folder has."""
    folder, names = Path(sys.argv[1]).absolute(), set(sys.argv[2:])
    folder.mkdir(parents=True, exist_ok=True)
    cases, others = cases_of(all_forms()), avoided.forms()
    forms = write_forms(cases, others, folder / "forms.pickle")
    sources = native.hash_of(*(path for path in source_folder().rglob("*") if path.suffix in {".cc", ".h"}))
    print(f"{len(cases):,} forms", flush=True)

    def digest(environment: Environment) -> str:
        return f"{forms}-{sources}" if environment.delegate or environment.kind == "bnncc" else forms

    def run_one(environment: Environment) -> None:
        library = built_library(Platform(environment.machine or "x86_64")) if environment.delegate else ""
        if environment.kind == "bnncc":
            native.library()  # compiled before anything waits for it
        run(environment, cases, folder, digest(environment), str(library))
        print(environment.name, flush=True)

    chosen = [one for one in ENVIRONMENTS if one.name in names or (not names and (SYSROOTS or not one.machine))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(run_one, chosen))
    results = {}
    for environment in ENVIRONMENTS:
        path = folder / f"{environment.name}.json"
        found = json.loads(path.read_text()) if path.exists() else {"digest": ""}
        if found["digest"] == digest(environment):
            results[environment.name] = found["results"]
    path = folder / NETWORKS
    networks = json.loads(path.read_text()) if path.exists() else None
    PAGE.write_text(page(cases, others, results, networks), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
