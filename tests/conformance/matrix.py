"""Runs every form in every runtime, and keeps what each result is worth."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc.ir.evaluate import Array
from tests.conformance import avoided, environments, values
from tests.conformance.avoided import AvoidedForm
from tests.conformance.batch import Outcome, run_batch
from tests.conformance.environments import Environment
from tests.conformance.form import EmittedForm, Form
from tests.conformance.forms import emitted_forms
from tests.conformance.reference import Reference
from tests.conformance.verdict import Verdict, judge
from tests.targets.tflite.compare import to_file

# What a form's one result is called where there is none for each kind of values.
ALL = "all"


@dataclass(frozen=True)
class Case:
    """A form with its file, and for each kind of values its inputs and what they should yield, as the file has them."""

    form: Form
    operators: tuple[str, ...]
    content: bytes
    needs_lce: bool
    kinds: tuple[str, ...]
    inputs: tuple[tuple[Array, ...], ...]
    wanted: tuple[tuple[Array, ...], ...]


def case_of(emitted: EmittedForm) -> Case:
    """Everything of one form but what a runtime makes of it."""
    reference = Reference(emitted.model)
    kinds = values.kinds_of(emitted.form, emitted.model)
    inputs, wanted = [], []
    for kind in kinds:
        arrays = values.inputs_of(emitted.form, emitted.model, kind)
        inputs.append(tuple(np.ascontiguousarray(to_file(array)) for array in arrays.values()))
        wanted.append(tuple(_stored(array) for array in reference.run(arrays)))
    return Case(
        emitted.form, emitted.operators, emitted.content, emitted.needs_lce, kinds, tuple(inputs), tuple(wanted)
    )


def _stored(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def cases_of(forms: Sequence[Form]) -> list[Case]:
    return [case_of(emitted) for emitted in emitted_forms(list(forms))]


def write_forms(cases: Sequence[Case], others: Sequence[AvoidedForm], path: Path) -> str:
    """What served.py reads; returns its digest."""
    served = [(case.content, case.needs_lce, [list(batch) for batch in case.inputs]) for case in cases]
    served += [(form.content, False, [[form.x]]) for form in others]
    content = pickle.dumps(served, 4)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def verdicts_of(case: Case, outcome: Outcome) -> dict[str, Verdict]:
    """By kind of values; by ALL where the runtime refuses the file or ends."""
    if outcome.died:
        return {ALL: Verdict.ENDED}
    if outcome.refused:
        return {ALL: Verdict.REFUSED}
    return {
        kind: Verdict.REFUSED if found is None else judge(case.form, wanted, found)
        for kind, wanted, found in zip(case.kinds, case.wanted, outcome.outputs, strict=True)
    }


def _verdict_of(form: AvoidedForm, outcome: Outcome) -> Verdict:
    if outcome.died or outcome.refused:
        return Verdict.ENDED if outcome.died else Verdict.REFUSED
    found = outcome.outputs[0]
    return Verdict.RIGHT if found is not None and form.is_right(list(found)) else Verdict.WRONG


def run(environment: Environment, cases: Sequence[Case], folder: Path, forms: Path, digest: str, library: str) -> None:
    """Run all forms with each configuration, and write folder/NAME.json; nothing where it is there for these forms."""
    path = folder / f"{environment.name}.json"
    if path.exists() and json.loads(path.read_text())["digest"] == digest:
        return
    others = avoided.forms()
    results: dict[str, dict[str, dict[str, int]]] = {}
    for xnnpack, threads in environments.configurations(environment):
        command = environments.command(environment, folder, xnnpack, threads, library if environment.delegate else "")
        outcomes = run_batch(command, forms, len(cases) + len(others), environments.variables(environment))
        own: dict[str, dict[str, int]] = {
            case.form.title: {kind: int(verdict) for kind, verdict in verdicts_of(case, outcome).items()}
            for case, outcome in zip(cases, outcomes, strict=False)
        }
        own |= {
            form.name: {ALL: int(_verdict_of(form, outcome))}
            for form, outcome in zip(others, outcomes[len(cases) :], strict=True)
        }
        results[f"{'XNNPACK' if xnnpack else 'built-in'}, {threads} thread{'s' if threads > 1 else ''}"] = own
    path.write_text(json.dumps({"digest": digest, "results": results}))
