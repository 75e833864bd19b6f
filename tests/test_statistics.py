"""Intervals and tests against the textbook's formulas, and the coverage that they promise."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from bnncc.statistics import LEVEL, difference, proportion


@given(st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_an_interval_is_given_by_the_quantiles_of_the_beta_distribution(case: tuple[int, int]) -> None:
    count, total = case
    found = proportion(count, total)
    tail = (1 - LEVEL) / 2
    low = 0.0 if count == 0 else beta.ppf(tail, count, total - count + 1)
    high = 1.0 if count == total else beta.ppf(1 - tail, count + 1, total - count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.low <= found.value <= found.high


def test_at_the_ends_of_an_interval_what_was_seen_has_a_probability_of_half_the_error() -> None:
    found = proportion(919, 1000)
    assert binom.sf(918, 1000, found.low) == pytest.approx(0.025)
    assert binom.cdf(919, 1000, found.high) == pytest.approx(0.025)


def test_no_error_in_a_thousand_images_still_leaves_room_for_some() -> None:
    found = proportion(1000, 1000)
    assert found.high == 1.0
    assert found.low == pytest.approx(0.025 ** (1 / 1000))


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_p_value_is_the_two_sided_tail_of_tossing_a_coin_for_each_image_that_changed(won: int, lost: int) -> None:
    found = difference(won, lost, 1000)
    tosses = won + lost
    tail = sum(comb(tosses, k) for k in range(min(won, lost) + 1)) / 2**tosses
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert found.value == (won - lost) / 1000


def test_equal_files_have_no_difference_and_an_interval_around_it() -> None:
    found = difference(0, 0, 10_000)
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert found.low == -found.high
    assert 0.0003 < found.high < 0.0005


@pytest.mark.slow
@pytest.mark.parametrize(("won", "lost"), [(0.01, 0.01), (0.0, 0.003), (0.05, 0.02), (0.0005, 0.0)])
def test_the_interval_of_a_difference_holds_the_true_one_as_often_as_it_says(won: float, lost: float) -> None:
    total, runs = 500, 1000
    draws = np.random.default_rng(0).multinomial(total, [won, lost, 1 - won - lost], size=runs)
    found = {tuple(row): difference(int(row[0]), int(row[1]), total) for row in draws[:, :2].tolist()}
    held = sum(found[tuple(row)].low <= won - lost <= found[tuple(row)].high for row in draws[:, :2].tolist())
    assert held / runs >= LEVEL
