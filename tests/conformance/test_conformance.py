"""A sample of the matrix: what is installed here runs every 90th form, each in a process of its own."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from bnncc.targets import tflite
from bnncc.targets.released import PROVEN, RUNTIMES
from bnncc.targets.tflite.integer_file import VERSIONS
from bnncc.targets.tflite.lowerings import LOWERINGS
from tests.conformance import environments, values
from tests.conformance.__main__ import PAGE
from tests.conformance.batch import run_batch
from tests.conformance.environments import Environment
from tests.conformance.form import emitted, floats, normal
from tests.conformance.forms import all_forms
from tests.conformance.kept import kept
from tests.conformance.matrix import ALL, Case, cases_of, verdicts_of, write_forms
from tests.conformance.page import OLDEST, unstated
from tests.conformance.signatures import Signature, signatures
from tests.conformance.verdict import Verdict, judge
from tests.needs import need_zig
from tests.targets.interpreter import native

EVERY = 90
INSTALLED = (
    Environment("lce", "lce"),
    Environment("bnncc", "bnncc"),
    Environment("litert", "ai_edge_litert"),
)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return cases_of(all_forms()[::EVERY])


@pytest.mark.parametrize("environment", INSTALLED, ids=lambda environment: environment.name)
def test_every_90th_form_is_right_on_ordinary_numbers(
    environment: Environment, cases: list[Case], tmp_path: Path
) -> None:
    if environment.kind == "lce" and importlib.util.find_spec("larq_compute_engine") is None:
        pytest.skip("larq-compute-engine is not installed")
    need_zig()
    if environment.kind == "bnncc":
        native.library()  # compiled before anything waits for it
    # LiteRT without the delegate has none of LCE's operators.
    taken = [case for case in cases if environment.kind != "ai_edge_litert" or not case.needs_lce]
    write_forms(taken, [], tmp_path / "forms")
    command = environments.command(environment, tmp_path, xnnpack=True, threads=2, library="")
    outcomes = run_batch(command, tmp_path / "forms", len(taken), environments.variables(environment))
    for case, outcome in zip(taken, outcomes, strict=True):
        found = verdicts_of(case, outcome)
        assert ALL not in found, f"{case.form.title}: {outcome}"
        assert all(found[kind] <= Verdict.CLAMPED for kind in values.FINITE if kind in found), (case.form.title, found)


def _names(heading: str) -> dict[str, str]:
    """What the first column of a table of docs/conformance.md has, with the rest of its row."""
    table = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|", 2) for line in table.splitlines() if line.startswith("| ")]
    return {row[1].strip(): row[2] for row in rows}


def test_every_operator_that_the_emitter_writes_has_forms() -> None:
    """What its sources name, and what is lowered; in int8, what `--quantize int8` writes so."""
    given = _names("Operators of the file format")
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(tflite.__file__).parent.rglob("*.py"))
    assert set(re.findall(r"BuiltinOperator\.([A-Z0-9_]+)", sources)) - set(given) == {"CUSTOM"}
    assert set(re.findall(r'emit_custom\(\s*"(\w+)"', sources)) <= set(given)
    assert {name for name, types in given.items() if "int8" in types} >= set(VERSIONS)
    bodies = " ".join(form.body for form in all_forms())
    lowered = {f"{domain}.{name}".lstrip(".") for domain, name in LOWERINGS}
    assert {name for name in lowered if not re.search(rf"(?<![\w.]){re.escape(name)} *[<(]", bodies)} == set()


def test_every_runtime_that_is_named_was_run() -> None:
    run = _names("Ordinary numbers, ties and zeros")
    assert {f"{name.partition('-')[0]}-{version}" for name, version in PROVEN.items() if "tflite" not in name} <= set(
        run
    )
    assert {name for name in PROVEN if "tflite" in name} <= set(run)
    assert list(PROVEN) == list(RUNTIMES)


def test_a_process_that_ends_is_the_outcome_of_its_form_and_the_others_run(tmp_path: Path) -> None:
    server = tmp_path / "server.py"
    server.write_text(
        "import os, pickle, sys\n"
        "for number in range(int(sys.argv[-1]), 4):\n"
        "    pickle.dump(('begin', number), sys.stdout.buffer); sys.stdout.buffer.flush()\n"
        "    if number == 1: os.abort()\n"
        "    pickle.dump(('refused', number, 'no') if number == 2 else ('done', number, []), sys.stdout.buffer)\n"
        "pickle.dump(('end',), sys.stdout.buffer)\n"
    )
    outcomes = run_batch([environments.sys.executable, str(server)], tmp_path / "forms", 4)
    assert [bool(outcome.died) for outcome in outcomes] == [False, True, False, False]
    assert [outcome.refused for outcome in outcomes] == ["", "", "no", ""]


def test_verdicts() -> None:
    (exact,) = (form for form in all_forms() if form.title == "Neg [7]")
    (rounding,) = (form for form in all_forms() if form.title == "Exp [7]")
    wanted = normal(7).astype("float64")
    right = wanted.astype("float32")
    for form, factor, verdict in (
        (exact, 1, Verdict.RIGHT), (exact, 1 + 1e-6, Verdict.WRONG),
        (rounding, 1 + 1e-6, Verdict.ROUNDED), (rounding, 1.01, Verdict.WRONG),
    ):  # fmt: skip
        assert judge(form, [wanted], [right * right.dtype.type(factor)]) is verdict
    infinite = wanted * float("inf")
    assert judge(
        rounding, [infinite], [infinite.clip(-3.4028234663852886e38, 3.4028234663852886e38).astype("float32")]
    ) is (Verdict.CLAMPED)
    assert judge(exact, [wanted], [right[:3]]) is Verdict.WRONG
    assert floats("x", 7) == "float[7] x"


def test_what_no_file_says_of_a_runtime_is_a_fault() -> None:
    """DIV by computed numbers asks for TensorFlow Lite 2.13, ADD for nothing."""
    titles = ("Div [7] [7]", "Add [7] [7]")
    given = cases_of([form for form in all_forms() if form.title in titles])
    wrong = {title: {values.ORDINARY: int(Verdict.WRONG)} for title in titles}
    results = {runtime: {"built-in, 1 thread": wrong} for runtime in (OLDEST, "tflite-2.12", "litert-2.3.0")}
    assert unstated(given, results) == [
        f"{title} in {runtime}: wrong"
        for title, runtime in ((titles[1], "tflite-2.12"), (titles[1], "litert-2.3.0"), (titles[0], "litert-2.3.0"))
    ]


def test_what_was_made_of_the_same_sources_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make() -> int:
        made.append(len(made))
        return len(made)

    path = tmp_path / "made"
    assert [kept(path, make), kept(path, make)] == [1, 1]
    monkeypatch.setattr("tests.conformance.kept.sources_digest", lambda: "other sources")
    assert [kept(path, make), kept(path, make)] == [2, 2]


def test_uses_of_an_operator_are_told_apart() -> None:
    """By constants, ranks, types, options and broadcasting, and not by sizes."""
    forms = {form.title: form for form in all_forms()}

    def of(title: str) -> frozenset[Signature]:
        return signatures(emitted(forms[title]).content)

    assert of("Add [7] [7]") == of("Add [1] [1]")
    others = [
        "Add [7] constant [7]",
        "Add [2,3] [2,3]",
        "Add int32 [2,3,5,7] [2,3,5,7]",
        "Add [2,1,5,1] [1,3,1,7]",
        "Sub [7] [7]",
    ]
    assert len({of(title) for title in ["Add [7] [7]", "Add Relu [2,3,5,7] [2,3,5,7]", *others]}) == 7
