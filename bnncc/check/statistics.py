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

from dataclasses import dataclass

LEVEL = 0.95


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
    from scipy.stats import binomtest

    level = 1 - (1 - LEVEL) / 2
    (won_low, won_high), (lost_low, lost_high) = (_exact_interval(count, total, level) for count in (won, lost))
    p_value = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Difference(won, lost, total, won_low - lost_high, won_high - lost_low, p_value)


def _exact_interval(count: int, total: int, level: float) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)
