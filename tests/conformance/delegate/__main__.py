"""Tries the delegate in every runtime, and writes docs/conformance_delegate.md.

    python -m tests.conformance.delegate FOLDER [RUNTIME …]

FOLDER keeps virtual environments, those of `python -m tests.conformance` among them, and results.  Without names, all
runtimes; the emulated ones where BNNCC_SYSROOTS names what they need.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.conformance.delegate.files import write_tasks
from tests.conformance.delegate.matrix import EMULATED_ROUNDS, ROUNDS, run
from tests.conformance.delegate.page import page
from tests.conformance.delegate.runtimes import delegate_runtimes
from tests.needs import SYSROOTS

PAGE = Path(__file__).parents[3] / "docs" / "conformance_delegate.md"


def main() -> int:
    """Run, and write the page of all results that the folder has.  1 where something is not right."""
    folder, names = Path(sys.argv[1]).absolute(), set(sys.argv[2:])
    folder.mkdir(parents=True, exist_ok=True)
    tasks, few = folder / "delegate.tasks", folder / "delegate.emulated.tasks"
    write_tasks(tasks, ROUNDS)
    write_tasks(few, EMULATED_ROUNDS, memory=False)
    for environment in delegate_runtimes():
        if environment.name in names or (not names and (SYSROOTS or not environment.machine)):
            run(environment, folder, few if environment.machine else tasks)
            print(environment.name, flush=True)
    paths = {environment.name: folder / f"{environment.name}.delegate.json" for environment in delegate_runtimes()}
    results = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    text = page(results, EMULATED_ROUNDS)
    PAGE.write_text(text, encoding="utf-8")
    return int("## What is not right" in text)


if __name__ == "__main__":
    sys.exit(main())
