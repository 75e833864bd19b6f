"""Figures as text: rounded, but never so that a small share reads 0 % or an almost perfect one 100 %."""

from __future__ import annotations

import math
from collections.abc import Callable

from bnncc.report import size_text, times
from bnncc.statistics import LEVEL

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# What every interval is called.
INTERVAL_NAME = f"{100 * LEVEL:g}{NO_BREAK_SPACE}%{NO_BREAK_SPACE}interval"

# A share is given with two decimals, or as many as it takes to tell it from 0 % and 100 %.
DECIMALS, MOST_DECIMALS = 2, 9

# Magnitudes that are written out; others get a power of ten.
WRITTEN_OUT = (1e-3, 1e5)


def count(number: int) -> str:
    """1234567 → "1,234,567"."""
    return f"{number:,}"


def percent(value: float) -> str:
    """0.931 → "93.10 %"."""
    return f"{_percentage(value)}{NO_BREAK_SPACE}%"


def percent_interval(low: float, high: float) -> str:
    """0.913, 0.946 → "91.30 to 94.60 %"."""
    return f"{_percentage(low)}{NO_BREAK_SPACE}to{NO_BREAK_SPACE}{percent(high)}"


def points(value: float) -> str:
    """A difference of percentages: -0.001 → "−0.10 points"."""
    return f"{_signed(value)}{NO_BREAK_SPACE}points"


def points_interval(low: float, high: float) -> str:
    """-0.006, 0.004 → "−0.60 to +0.40 points"."""
    return f"{_signed(low)}{NO_BREAK_SPACE}to{NO_BREAK_SPACE}{points(high)}"


def p_value(value: float) -> str:
    """0.6171 → "p = 0.62"."""
    space = NO_BREAK_SPACE
    return f"p{space}<{space}0.001" if value < 0.001 else f"p{space}={space}{value:.2g}"


def decimal(value: float) -> str:
    """Three digits: 0.0123 → "0.0123", 3.1e-6 → "3.10 × 10⁻⁶"."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == 0 or WRITTEN_OUT[0] <= abs(value) < WRITTEN_OUT[1]:
        return f"{value:.3g}".replace("-", MINUS) if abs(value) < 1000 else f"{value:,.0f}".replace("-", MINUS)
    mantissa, exponent = f"{value:.2e}".split("e")
    space = NO_BREAK_SPACE
    return f"{mantissa.replace('-', MINUS)}{space}×{space}10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def decibels(value: float) -> str:
    """61.24 → "61.2 dB"; a ratio to no noise at all is infinite."""
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite: all outputs equal" if value > 0 else f"{MINUS}infinite: an output is no number"
    return f"{value:.1f}".replace("-", MINUS) + f"{NO_BREAK_SPACE}dB"


def size(count_of_bytes: int) -> str:
    """45392 → "45.4 kB", powers of 1000."""
    return size_text(count_of_bytes).replace(" ", NO_BREAK_SPACE)


def rate(per_second: float) -> str:
    """Images a second: 1234.5 → "1,234", 3.21 → "3.2"."""
    if not math.isfinite(per_second):
        return "not measured"
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.2g}" if per_second < 1 else f"{per_second:.1f}"


def ratio(larger: float, smaller: float) -> str:
    """718120, 45392 → "15.8"."""
    return f"{larger / smaller:,.1f}" if larger < 100 * smaller else f"{larger / smaller:,.0f}"


FILTERS: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        count, percent, percent_interval, points, points_interval, p_value, decimal, decibels, size, rate, ratio,
        times,
    )
}  # fmt: skip


def _percentage(value: float) -> str:
    if value in (0, 1):
        return f"{100 * value:.0f}"
    for decimals in range(DECIMALS, MOST_DECIMALS):
        text = f"{100 * value:.{decimals}f}"
        if float(text) not in (0, 100):
            return text if decimals == DECIMALS else f"{100 * value:.{decimals + 1}f}"
    return text


def _signed(value: float) -> str:
    text = f"{100 * value:+.{DECIMALS}f}"
    return "0" if float(text) == 0 and value == 0 else text.replace("-", MINUS)
