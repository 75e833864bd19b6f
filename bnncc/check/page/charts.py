"""Where a value lies in a drawing, in percent of its width: SVGs without a viewBox fit every screen that way.

Axis    low ├────┼────┼────┤ high      intervals: the axis shows what they span, not from 0
bar     0 ▇▇▇▇▇▇▇▇──────── largest     lengths: always from 0
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Room left and right of an axis, so that the labels of its ends fit.
MARGIN = 8.0

# An axis has about so many steps, each 1, 2 or 5 times a power of ten.
STEPS = 4
ROUND_STEPS = (1, 2, 5, 10)

# What an axis spans at least: one hundredth of a percent.
SMALLEST_SPAN = 1e-4

# Bars of anything but 0 are drawn so wide at least, in percent, that they can be told from 0.
SMALLEST_BAR = 0.6


@dataclass(frozen=True)
class Axis:
    """From its first tick to its last.  step: between two ticks.  Values are shares, 0.5 for 50 %."""

    ticks: tuple[float, ...]
    step: float

    def at(self, value: float) -> str:
        """The place of `value`."""
        low, high = self.ticks[0], self.ticks[-1]
        return f"{MARGIN + (100 - 2 * MARGIN) * (value - low) / (high - low):.3f}%"

    def label(self, tick: float, signed: bool = False) -> str:
        """A tick in percent, with the decimals that the step needs."""
        decimals = max(0, -math.floor(math.log10(100 * self.step) + 1e-9))
        text = f"{100 * tick:+.{decimals}f}" if signed else f"{100 * tick:.{decimals}f}"
        return "0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def axis(values: Iterable[float], lowest: float = -1.0, highest: float = 1.0) -> Axis:
    """An axis that holds all `values` (at least one) and does not leave lowest…highest."""
    kept = list(values)
    low, high = min(kept), max(kept)
    if high - low < SMALLEST_SPAN:
        low, high = max(lowest, low - SMALLEST_SPAN), min(highest, high + SMALLEST_SPAN)
    step = _round_step((high - low) / STEPS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(tuple(tick * step for tick in range(first, last + 1)), step)


def bar(value: float, largest: float) -> str:
    """The width of a bar; what is not finite fills it."""
    if not math.isfinite(value):
        return "100%"
    if value == 0 or largest == 0:
        return "0%"
    return f"{max(SMALLEST_BAR, min(100.0, 100 * value / largest)):.2f}%"


def largest(values: Iterable[float]) -> float:
    """The largest finite value, 0 where there is none."""
    return max((value for value in values if math.isfinite(value)), default=0.0)


def _round_step(raw: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(raw))
    return power * next(step for step in ROUND_STEPS if step * power >= raw * (1 - 1e-9))
