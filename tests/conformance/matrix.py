"""Runs every form in every runtime, and keeps what each result is worth."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bnncc.ir.evaluate import Array
from tests.conformance import avoided, environments, values
from tests.conformance.avoided import AvoidedForm
from tests.conformance.batch import SECONDS_A_FORM, Outcome, run_batch
from tests.conformance.beside import with_signs
from tests.conformance.environments import Environment
from tests.conformance.form import EmittedForm, Form
from tests.conformance.forms import all_forms, emitted_forms
from tests.conformance.kept import on_all_cores
from tests.conformance.reference import Reference
from tests.conformance.signatures import Signature, signatures
from tests.conformance.verdict import Verdict, judge
from tests.targets.tflite.compare import to_file

Served = tuple[bytes, bool, list[list[Array]]]
# What a form's one result is called where there is none for each kind of values.
ALL = "all"
# Under emulation it takes a minute to read all forms.
EMULATED_SECONDS = 600.0
# So many forms are made by one process at a time.
AT_ONCE = 50


@dataclass(frozen=True)
class Case:
    """A form with its file, and for each kind of values its inputs and what they should yield, as the file has them.

    types: (operator, element type).  steps: of `EmittedForm`.  beside: the file with signs beside it, of which the
    delegate takes what it can; None where there are none.  signatures: of the file's operators.
    """

    form: Form
    operators: tuple[str, ...]
    content: bytes
    needs_lce: bool
    kinds: tuple[str, ...]
    inputs: tuple[tuple[Array, ...], ...]
    wanted: tuple[tuple[Array, ...], ...]
    types: frozenset[tuple[str, str]] = frozenset()
    steps: tuple[float, float] = (0.0, 0.0)
    beside: bytes | None = None
    signatures: frozenset[Signature] = frozenset()


def case_of(emitted: EmittedForm) -> Case:
    """Everything of one form but what a runtime makes of it."""
    reference = Reference(emitted.model)
    kinds = values.kinds_of(emitted.form, emitted.model)
    inputs, wanted = [], []
    for kind in kinds:
        arrays = values.inputs_of(emitted.form, emitted.model, kind)
        inputs.append(tuple(np.ascontiguousarray(to_file(array)) for array in arrays.values()))
        wanted.append(tuple(_stored(array) for array in reference.run(arrays)))
    beside = emitted.content if emitted.needs_lce else with_signs(emitted.content)
    return Case(
        emitted.form, emitted.operators, emitted.content, emitted.needs_lce, kinds, tuple(inputs), tuple(wanted),
        emitted.types, emitted.steps, beside, signatures(emitted.content),
    )  # fmt: skip


def _stored(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def cases_of(forms: Sequence[Form]) -> list[Case]:
    return [case_of(emitted) for emitted in emitted_forms(list(forms))]


def all_cases() -> list[Case]:
    """Of all forms, made on all cores."""
    parts = on_all_cores(_cases_from, range(0, len(all_forms()), AT_ONCE))
    return [case for part in parts for case in part]


def _cases_from(start: int) -> list[Case]:
    return cases_of(all_forms()[start : start + AT_ONCE])


def cases_for(environment: Environment, cases: Sequence[Case]) -> list[Case]:
    """Those that the environment is given: where the delegate is to claim what it can, those with signs beside them."""
    if not environment.claims:
        return list(cases)
    return [replace(case, content=case.beside, needs_lce=True) for case in cases if case.beside is not None]


def avoided_for(environment: Environment) -> list[AvoidedForm]:
    """All of them, with signs beside them where the delegate is to claim what it can."""
    if not environment.claims:
        return avoided.forms()
    return [replace(form, content=with_signs(form.content) or form.content) for form in avoided.forms()]


def write_forms(cases: Sequence[Case], others: Sequence[AvoidedForm], path: Path) -> str:
    """What served.py reads; returns its digest."""
    given = [(case.content, case.needs_lce, [list(batch) for batch in case.inputs]) for case in cases]
    given += [(form.content, form.needs_lce, [[form.x]]) for form in others]
    return write_served(given, path)


def write_served(given: Sequence[Served], path: Path) -> str:
    """(content, needs_lce, inputs by batch) as served.py reads them; returns their digest."""
    content = pickle.dumps([pickle.dumps(one, 4) for one in given], 4)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def verdicts_of(case: Case, outcome: Outcome) -> dict[str, Verdict]:
    """By kind of values; by ALL where the runtime refuses the file or ends."""
    if outcome.died:
        return {ALL: Verdict.ENDED}
    if outcome.refused:
        return {ALL: Verdict.REFUSED}
    return {
        kind: Verdict.REFUSED if found is None else judge(case.form, wanted, found[: len(wanted)], case.steps)
        for kind, wanted, found in zip(case.kinds, case.wanted, outcome.outputs, strict=True)
    }


def _verdict_of(form: AvoidedForm, outcome: Outcome) -> Verdict:
    if outcome.died or outcome.refused:
        return Verdict.ENDED if outcome.died else Verdict.REFUSED
    found = outcome.outputs[0]
    return Verdict.RIGHT if found is not None and form.is_right(list(found)) else Verdict.WRONG


def run(environment: Environment, cases: Sequence[Case], folder: Path, digest: str, library: str) -> None:
    """Run all forms with each configuration, and write folder/NAME.json; nothing where it is there for these forms.

    digest: of what the results depend on.
    """
    path = folder / f"{environment.name}.json"
    if path.exists() and json.loads(path.read_text())["digest"] == digest:
        return
    cases, others = cases_for(environment, cases), avoided_for(environment)
    forms = folder / f"{environment.name}.pickle"
    write_forms(cases, others, forms)
    results: dict[str, dict[str, dict[str, int]]] = {}
    for xnnpack, threads in environments.configurations(environment):
        command = environments.command(environment, folder, xnnpack, threads, library if environment.delegate else "")
        seconds = EMULATED_SECONDS if environment.machine else SECONDS_A_FORM
        outcomes = run_batch(command, forms, len(cases) + len(others), environments.variables(environment), seconds)
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
    forms.unlink()
