"""ONNX's own node tests: the table in docs/ says what becomes of each, and nothing is wrong."""

from __future__ import annotations

import pytest

from tests.targets.tflite.onnx_backend import (
    EQUAL,
    KNOWN_DIFFERENCES,
    REFUSED,
    TABLE,
    Outcome,
    all_cases,
    eligible_cases,
    operator_of,
    run_cases,
    table,
)

# Of the eligible cases.
LEAST_EQUAL = 0.8


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return run_cases(eligible_cases())


@pytest.mark.slow
def test_every_case_is_equal_in_both_runtimes_or_refused(outcomes: list[Outcome]) -> None:
    others = [outcome for outcome in outcomes if outcome.kind not in (EQUAL, REFUSED)]
    assert {outcome.name for outcome in others} == set(KNOWN_DIFFERENCES), others
    assert sum(outcome.kind == EQUAL for outcome in outcomes) >= LEAST_EQUAL * len(outcomes)


@pytest.mark.slow
def test_the_table_is_up_to_date(outcomes: list[Outcome]) -> None:
    assert TABLE.read_text() == table(outcomes), "run `make onnx-backend`"


@pytest.mark.slow
def test_a_case_that_kills_its_process_does_not_end_the_run() -> None:
    first, second, third = run_cases(["test_abs", "no_such_case", "test_relu"])
    assert (first.kind, second.kind, third.kind) == (EQUAL, "crashed", EQUAL)


def test_a_function_body_counts_for_its_operator() -> None:
    assert operator_of(all_cases()["test_clip_expanded"]) == "Clip"
