"""A test draws the same whatever ran before it, and what is skipped is one line."""

from __future__ import annotations

import importlib.util
import random
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.needs import NO_SYSROOTS, NO_ZIG, skipped_line


def drawn_integers() -> list[int]:
    """What a property test draws."""
    found = []

    @settings(max_examples=200)
    @given(st.integers(), st.floats())
    def collect(number: int, _: float) -> None:
        found.append(number)

    collect()
    return found


def test_a_property_test_draws_the_same_twice_and_no_numbers_of_modules_that_happen_to_be_loaded(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = drawn_integers()
    assert drawn_integers() == first
    # Not in a folder whose name says that it is a test's: hypothesis leaves those out by itself.
    path = tmp_path_factory.mktemp("loaded") / "numbers_of_a_user.py"
    numbers = range(7_100_000, 7_100_200)
    path.write_text("\n".join(f"A{number} = {number}" for number in numbers))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, path.stem, module)
    assert drawn_integers() == first
    assert not set(first) & set(numbers)


@pytest.fixture(scope="module")
def shared() -> torch.Tensor:
    return torch.rand(3)


@pytest.mark.parametrize("turn", [0, 1])
def test_the_libraries_generators_are_seeded_before_each_test_and_each_shared_fixture(
    turn: int, shared: torch.Tensor
) -> None:
    expected = torch.rand(3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shared, expected, rtol=0, atol=0)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    np.testing.assert_array_equal(np.random.rand(3), np.random.RandomState(0).rand(3))
    assert random.random() == random.Random(0).random()


def test_what_is_skipped_is_one_line_with_each_reason_once() -> None:
    assert skipped_line([NO_ZIG]) == "1 skipped: no package ziglang (pip install 'bnncc[runtime]')"
    line = skipped_line([NO_ZIG, NO_SYSROOTS, NO_SYSROOTS])
    assert line == f"3 skipped: 2: {NO_SYSROOTS}; 1: {NO_ZIG}"
