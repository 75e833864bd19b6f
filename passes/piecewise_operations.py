"""Arithmetic, steps and selections of piecewise-linear functions.

    (f + g)(x) = f(x) + g(x)        sign(f)(x) = sign(f(x))        select(c, f, g)(x) = f(x) where c(x) ≠ 0, else g(x)

Each is taken piece by piece on the breakpoints of all operands, after those were added where a piece crosses zero.  An
operation whose result is no such function returns None, and passes None on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bnncc.passes.piecewise import (
    CANCELLED,
    Function,
    Matrix,
    Piecewise,
    aligned,
    constant,
    edges,
    inner_values,
    refine,
    simplified,
    with_knots,
    with_zeros,
)

# The most steps that a rounding may have.
MOST_STEPS = 16


def _sum(left: Matrix, right: Matrix) -> Matrix:
    total = left + right
    return np.where(np.abs(total) <= CANCELLED * (np.abs(left) + np.abs(right)), 0.0, total)


def _smooth_and_constant(f: Piecewise, g: Piecewise) -> tuple[Piecewise, Matrix, Matrix] | None:
    """(the one that is known by its sign, its center, the other one's values), where that is a constant."""
    if g.center is not None:
        f, g = g, f
    return None if f.center is None or not g.is_flat or g.knots.size else (f, f.center, g.offsets)


def add(f: Function, g: Function) -> Function:
    """f + g."""
    pair = aligned(f, g)
    if pair is None:
        return None
    f, g = pair
    if f.center is not None or g.center is not None:
        smooth = _smooth_and_constant(f, g)
        return None if smooth is None else replace(smooth[0], center=_sum(smooth[1], smooth[2]))
    return Piecewise(f.knots, _sum(f.slopes, g.slopes), _sum(f.offsets, g.offsets), _sum(f.at, g.at))


def negate(f: Function) -> Function:
    """-f."""
    return multiply(f, constant(-1.0))


def subtract(f: Function, g: Function) -> Function:
    """f - g."""
    return add(f, negate(g))


def multiply(f: Function, g: Function) -> Function:
    """f · g where on every piece one of them is constant."""
    pair = aligned(f, g)
    if pair is None:
        return None
    f, g = pair
    if f.center is not None or g.center is not None:
        smooth = _smooth_and_constant(f, g)
        if smooth is None or np.any(smooth[2] == 0):
            return None
        f, center, factor = smooth
        flipped = multiply(replace(f, center=None), constant(np.sign(factor)))
        assert flipped is not None
        return replace(flipped, center=center * factor, reach=f.reach * float(np.abs(factor).max()))
    if np.any((f.slopes != 0) & (g.slopes != 0)):
        return None
    slopes = f.slopes * g.offsets + g.slopes * f.offsets
    return Piecewise(f.knots, slopes, f.offsets * g.offsets, f.at * g.at)


def divide(f: Function, g: Function) -> Function:
    """f / g where on every piece g is constant, or f a multiple of g, as in x / |x|.  Undefined where g is 0."""
    if g is None or g.center is not None:
        return None
    pair = aligned(f, with_zeros(g))
    if pair is None:
        return None
    f, g = pair
    flat = g.slopes == 0
    if np.any(flat & (g.offsets == 0)):
        return None
    if f.center is not None:
        return multiply(f, constant(1 / g.offsets)) if flat.all() and not g.knots.size else None
    ratio = f.slopes / np.where(flat, g.offsets, g.slopes)
    proportional = np.abs(f.offsets - ratio * g.offsets) <= CANCELLED * np.abs(f.offsets)
    if np.any(~flat & ~proportional):
        return None
    slopes = np.where(flat, ratio, 0.0)
    offsets = np.where(flat, f.offsets / np.where(flat, g.offsets, 1.0), ratio)
    at = np.where(g.at == 0, np.nan, f.at / np.where(g.at == 0, 1.0, g.at))
    return Piecewise(f.knots, slopes, offsets, np.where(np.isfinite(f.knots), at, 0.0))


def sign(f: Function) -> Function:
    """-1, 0 or +1."""
    if f is None or (f.center is not None and np.any(f.center != 0)):
        return None
    cut = with_zeros(replace(f, center=None))
    if cut is None:
        return None
    signs = Piecewise(cut.knots, np.zeros_like(cut.slopes), np.sign(inner_values(cut)), np.sign(cut.at))
    return with_knots(signs, signs.knots)


def compare(f: Function, g: Function, holds: Callable[[Matrix], npt.NDArray[np.bool_]]) -> Function:
    """1 where `holds(sign(f - g))`, else 0; 0 where there is no value."""
    signs = sign(subtract(f, g))
    if signs is None:
        return None
    at = np.where(np.isnan(signs.at), 0.0, holds(signs.at))
    return replace(signs, offsets=holds(signs.offsets).astype(np.float64), at=at)


def select(condition: Function, f: Function, g: Function) -> Function:
    """f where the condition, constant on every piece, is not 0; else g."""
    operands = aligned(condition, f, g)
    if operands is None or any(one.center is not None for one in operands) or not operands[0].is_flat:
        return None
    where, f, g = operands
    piece, knot = where.offsets != 0, where.at != 0
    slopes, offsets = np.where(piece, f.slopes, g.slopes), np.where(piece, f.offsets, g.offsets)
    return simplified(Piecewise(where.knots, slopes, offsets, np.where(knot, f.at, g.at)))


def _zero(f: Piecewise) -> bool:
    return f.center is None or not f.center.any()


def _inside(f: Function, bound: Function, side: int) -> bool:
    """True where f is known by its sign, and a constant bound on that side lies beyond its center."""
    if f is None or f.center is None or bound is None or not bound.is_flat or bound.knots.size:
        return False
    return bool(np.all(side * (bound.offsets - f.center) > 0))


def maximum(f: Function, g: Function) -> Function:
    """The larger one."""
    for one, other in ((f, g), (g, f)):
        if _inside(one, other, -1):
            return one
    if f is not None and f.center is not None and _zero(f) and g is not None and g.is_flat and not g.offsets.any():
        inner = maximum(replace(f, center=None), g)
        return None if inner is None else replace(inner, center=np.zeros((inner.channels, 1)), reach=f.reach)
    return select(compare(f, g, lambda s: s >= 0), f, g)


def minimum(f: Function, g: Function) -> Function:
    """The smaller one."""
    return negate(maximum(negate(f), negate(g)))


def absolute(f: Function) -> Function:
    """|f|."""
    if f is not None and f.center is not None:
        inner = absolute(replace(f, center=None)) if _zero(f) else None
        return None if inner is None else replace(inner, center=np.zeros((inner.channels, 1)), reach=f.reach)
    return select(compare(f, constant(0.0), lambda s: s >= 0), f, negate(f))


def leaky(f: Function, slope: Function) -> Function:
    """f where it is ≥ 0, slope · f elsewhere."""
    if f is not None and f.center is not None:
        if not _zero(f) or slope is None or not np.all(slope.offsets > 0):
            return None
        return replace(f, reach=f.reach * max(1.0, float(slope.offsets.max())))
    return select(compare(f, constant(0.0), lambda s: s >= 0), f, multiply(f, slope))


def monotone(f: Function, center: float, reach: float) -> Function:
    """center + h(f) with an h that has the sign of its argument, and |h| ≤ reach."""
    if f is None or not _zero(f):
        return None
    return replace(f, center=np.full((f.channels, 1), center), reach=reach)


def truncate(f: Function) -> Function:
    """The integer part of a function with few steps."""
    if f is None or not f.is_flat:
        return select(
            compare(f, constant(0.0), lambda s: s >= 0), quantize(f, np.floor, 0.0), quantize(f, np.ceil, 0.0)
        )
    return replace(f, offsets=np.trunc(f.offsets), at=np.trunc(f.at))


def apply(function: Callable[..., Matrix], *arguments: Function) -> Function:
    """Any function of what is constant on every piece; None where it is no number on one of them."""
    operands = aligned(*arguments)
    if operands is None or not all(one.is_flat for one in operands):
        return None
    with np.errstate(all="ignore"):
        offsets, at = (function(*(getattr(one, part) for one in operands)) for part in ("offsets", "at"))
    if not np.all(np.isfinite(offsets)):
        return None
    return simplified(replace(operands[0], offsets=offsets, at=at))


def quantize(f: Function, to_integer: Callable[[Matrix], Matrix], threshold: float) -> Function:
    """np.rint (its thresholds lie 0.5 above the integers), np.floor or np.ceil (0) of a function with few steps."""
    if f is None:
        return None
    if f.center is not None:
        # Within less than 1 of a threshold there is no other.  In float32 tanh(9.1) is 1.
        center = f.center
        if f.reach >= 1 or np.any(center - np.floor(center) != threshold):
            return None
        step = sign(replace(f, center=None))
        if step is None:
            return None
        return replace(step, offsets=to_integer(center + 0.25 * step.offsets), at=to_integer(center + 0.25 * step.at))
    left, right = edges(f)
    sloped = (f.slopes != 0) & ~(np.isinf(left) & (left > 0))
    if np.any(sloped & (np.isinf(left) | np.isinf(right))):
        return None
    left, right = (np.where(sloped, edge, 0.0) for edge in (left, right))
    ends = np.stack([f.slopes * left + f.offsets, f.slopes * right + f.offsets])
    first, last = np.ceil(ends.min(axis=0) - threshold), np.floor(ends.max(axis=0) - threshold)
    steps = np.where(sloped, last - first + 1, 0)
    most = int(steps.max(initial=0))
    if most > MOST_STEPS:
        return None
    found = [
        np.where(sloped & (k < steps), (first + k + threshold - f.offsets) / np.where(sloped, f.slopes, 1.0), np.inf)
        for k in range(most)
    ]
    inside = [np.where((knot > left) & (knot < right), knot + 0.0, np.inf) for knot in found]
    refined = refine(f, np.concatenate(inside, axis=1)) if inside else f
    if refined is None:
        return None
    values = to_integer(inner_values(refined))
    # A breakpoint that was computed from its value has this value, not one rounded to either side.
    snapped = np.rint(refined.at - threshold) + threshold
    near = np.abs(refined.at - snapped) <= CANCELLED * (1 + np.abs(snapped))
    at = to_integer(np.where(near, snapped, refined.at))
    return simplified(Piecewise(refined.knots, np.zeros_like(values), values, at))
