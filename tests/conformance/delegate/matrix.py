"""Tries the delegate in runtimes, and keeps what each said of each check."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from bnncc.runtime import Platform
from bnncc.runtime.library import built_library
from tests.conformance.batch import Outcome, run_batch
from tests.conformance.delegate import served
from tests.conformance.environments import Environment, command, configurations, variables

SCRIPT = Path(served.__file__)
# What a runtime said: by the check's name, "" for right, `served.MISSING`, or what is wrong.
Said = Mapping[str, str]
# How often everything is created and destroyed; emulated, it takes a hundred times as long.
ROUNDS, EMULATED_ROUNDS = 1000, 100


def results(environment: Environment, folder: Path, digest: str) -> dict[str, Said] | None:
    """By configuration, where `folder` has them for what `digest` is of."""
    path = _path(environment, folder)
    held = json.loads(path.read_text()) if path.exists() else {}
    return cast("dict[str, Said]", held["results"]) if held.get("digest") == digest else None


def _path(environment: Environment, folder: Path) -> Path:
    return folder / f"{environment.name}.delegate.json"


def run(environment: Environment, folder: Path, tasks: Path, digest: str) -> None:
    """Write what is said to a file of `folder`, where it is not there."""
    if results(environment, folder, digest) is not None:
        return
    library = str(built_library(Platform(environment.machine or "x86_64")))
    found = {}
    for xnnpack, threads in configurations(environment):
        line = command(environment, folder, xnnpack, threads, library, SCRIPT)
        name = f"{'XNNPACK' if xnnpack else 'built-in'}, {threads} thread{'s' * (threads > 1)}"
        found[name] = say(lambda line=line: run_batch(line, tasks, len(served.CHECKS), variables(environment)))  # type: ignore[misc]
    _path(environment, folder).write_text(json.dumps({"digest": digest, "results": found}, indent=1))


def say(serve: Callable[[], list[Outcome]]) -> dict[str, str]:
    """What `serve` gives, by the checks' names."""
    return {check.__name__: _text(outcome) for check, outcome in zip(served.CHECKS, serve(), strict=True)}


def _text(outcome: Outcome) -> str:
    if outcome.died or outcome.refused:
        return f"ends the process: {outcome.died}" if outcome.died else f"refused: {outcome.refused}"
    return cast(str, outcome.outputs)  # served.py of the delegate answers with a text
