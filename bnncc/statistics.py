"""How far an accuracy measured on some images may be from the true one, so that nobody reads noise as a loss.

An accuracy is k right answers of n: its interval is Clopper and Pearson's exact one (1934), from the binomial
distribution's own tails.

Two files on the same images are paired.  Only the images count on which one is right and the other is wrong:

    lost    the reference is right, the file is wrong
    won     the file is right, the reference is wrong        difference = (won − lost) / n

McNemar's exact test (1947) asks whether lost and won differ by more than a coin would: a two-sided binomial test of won
among lost + won.  The interval of the difference is exact, too: won and lost each get a Clopper-Pearson interval with
half of the error probability, so that both hold together with at least the level asked for (Bonferroni).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
# Halvings of an interval: what is left of it is below the precision of a float64 near 1.
BISECTIONS = 53


@dataclass(frozen=True)
class Proportion:
    """count of total, and the interval low…high that holds the true proportion at `LEVEL`."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """count / total."""
        return self.count / self.total


@dataclass(frozen=True)
class Difference:
    """The difference of two paired accuracies: `won` − `lost` of `total`, its interval, and McNemar's p-value."""

    won: int
    lost: int
    total: int
    low: float
    high: float
    p_value: float

    @property
    def value(self) -> float:
        """The accuracy of the file minus that of the reference."""
        return (self.won - self.lost) / self.total


def proportion(count: int, total: int) -> Proportion:
    """`count` of `total` (at least one) with its exact interval."""
    return Proportion(count, total, *_exact_interval(count, total, LEVEL))


def difference(won: int, lost: int, total: int) -> Difference:
    """The paired difference of two accuracies measured on the same `total` images."""
    level = 1 - (1 - LEVEL) / 2
    (won_low, won_high), (lost_low, lost_high) = (_exact_interval(count, total, level) for count in (won, lost))
    p_value = min(1.0, 2 * _at_least(max(won, lost), won + lost, 0.5))  # a fair coin is as likely to fall either way
    return Difference(won, lost, total, won_low - lost_high, won_high - lost_low, p_value)


def _exact_interval(count: int, total: int, level: float) -> tuple[float, float]:
    """From the p of which `count` or more are improbable to the p of which `count` or fewer are: each with half of the
    error probability.  The second is the first of what was not counted."""
    tail = (1 - level) / 2
    return _improbable(count, total, tail), 1 - _improbable(total - count, total, tail)


def _improbable(count: int, total: int, tail: float) -> float:
    """The p with which `count` or more of `total` have the probability `tail`; 0 where that is none."""
    if count == 0:
        return 0.0
    low, high = 0.0, count / total
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_least(count, total, middle) < tail else (low, middle)
    return (low + high) / 2


def _at_least(count: int, total: int, p: float) -> float:
    """The probability of `count` or more of `total`: Σ_k C(n, k) p^k (1 − p)^(n − k), from the logarithms."""
    k = np.arange(count, total + 1)
    logarithms = _log_binomials(total)[count:] + k * np.log(p) + (total - k) * np.log1p(-p)
    return float(np.exp(logarithms).sum())


@functools.lru_cache(maxsize=8)
def _log_binomials(total: int) -> npt.NDArray[np.float64]:
    """log C(total, k) for k = 0 … total."""
    factorials = np.array([math.lgamma(k + 1) for k in range(total + 1)])
    found: npt.NDArray[np.float64] = factorials[-1] - factorials - factorials[::-1]
    return found
