"""Piecewise-linear functions of one variable, one a channel, exact at their breakpoints.

                        ⎧ a_0 · x + b_0      x < t_1
    f_c(x), channel c = ⎨ v_1                x = t_1
                        ⎪ a_1 · x + b_1      t_1 < x < t_2
                        ⎩ …

The value at a breakpoint is kept apart from the pieces beside it, so that x ≥ 0, x > 0 and ONNX's Sign, which is 0 at
0, are three functions; NaN says that there is none (x / |x| at 0).  All arithmetic is float64.  An operation whose
result is no such function returns None, and passes None on.

A smooth monotone function keeps nothing of this but its sign: tanh(f) is written h(f) + 0, sigmoid(f) h(f) + 1/2, with
an h that is nowhere zero but at 0 and has the sign of its argument.  `center` is then the number that is added to h(f)
and `reach` the largest |h|; Sign and comparisons at the center, and rounding at a half, find back to f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
# More breakpoints than any binariser or activation has; a function with more is given up.
MOST_KNOTS = 32
# What cancels up to this share of its terms is zero: float64 rounds at 1e-16, and constants come from float32.
CANCELLED = 1e-12


@dataclass(frozen=True)
class Piecewise:
    """The functions of C channels (C = 1: the same for all), with up to K breakpoints.

    knots [C, K] ascend; a channel with fewer than K has +inf behind its own.  slopes and offsets [C, K + 1] are those
    of the open intervals before, between and behind; those behind an infinite knot repeat the last.  at [C, K].
    """

    knots: Matrix
    slopes: Matrix
    offsets: Matrix
    at: Matrix
    center: Matrix | None = None
    reach: float = np.inf

    @property
    def channels(self) -> int:
        """How many functions there are."""
        return int(self.slopes.shape[0])

    @property
    def is_flat(self) -> bool:
        """True where every piece is constant."""
        return self.center is None and not self.slopes.any()

    def __call__(self, x: npt.ArrayLike) -> Matrix:
        """The values at x [C or 1, M]: [C, M]."""
        assert self.center is None, "of this function the sign is known alone"
        points = np.broadcast_to(np.asarray(x, np.float64), (self.channels, np.shape(x)[-1]))
        piece = _pieces_right_of(self.knots, points)
        values = _take(self.slopes, piece) * points + _take(self.offsets, piece)
        for knot, value in zip(self.knots.T, self.at.T, strict=True):
            values = np.where(points == knot[:, None], value[:, None], values)
        return values


Function = Piecewise | None


def identity() -> Piecewise:
    """f(x) = x."""
    return Piecewise(np.empty((1, 0)), np.ones((1, 1)), np.zeros((1, 1)), np.empty((1, 0)))


def constant(values: npt.ArrayLike) -> Piecewise:
    """f_c(x) = values[c]."""
    column = np.asarray(values, np.float64).reshape(-1, 1)
    return Piecewise(np.empty((len(column), 0)), np.zeros_like(column), column, np.empty((len(column), 0)))


def _take(matrix: Matrix, index: npt.NDArray[np.intp]) -> Matrix:
    taken: Matrix = np.take_along_axis(matrix, index, axis=1)
    return taken


def _pieces_right_of(knots: Matrix, points: Matrix) -> npt.NDArray[np.intp]:
    """The index of the piece that begins at or contains each point; behind the last knot of a channel, the last."""
    passed = (knots[:, None, :] <= points[:, :, None]) & np.isfinite(knots)[:, None, :]
    count: npt.NDArray[np.intp] = passed.sum(axis=2)
    return count


def _rows(f: Piecewise, channels: int) -> Piecewise:
    if f.channels == channels:
        return f

    def grown(matrix: Matrix) -> Matrix:
        return np.broadcast_to(matrix, (channels, matrix.shape[1]))

    center = None if f.center is None else grown(f.center)
    return replace(
        f, knots=grown(f.knots), slopes=grown(f.slopes), offsets=grown(f.offsets), at=grown(f.at), center=center
    )


def rows_of(f: Piecewise, rows: npt.NDArray[np.int64]) -> Piecewise:
    """The functions of the channels `rows`, in this order; of a function that is the same for all, so many copies."""
    rows = rows if f.channels > 1 else np.zeros_like(rows)
    center = None if f.center is None else f.center[rows]
    return replace(f, knots=f.knots[rows], slopes=f.slopes[rows], offsets=f.offsets[rows], at=f.at[rows], center=center)


def stacked(functions: Sequence[Piecewise]) -> Function:
    """The channels of all, one behind the other; None where some are known by their sign alone."""
    if any(f.center is not None for f in functions):
        return None
    most = max(f.knots.shape[1] for f in functions)

    def widened(matrix: Matrix, last: Matrix) -> Matrix:
        return np.concatenate([matrix, np.broadcast_to(last, (len(matrix), most - matrix.shape[1]))], axis=1)

    knots, at = (
        np.concatenate([widened(matrix, np.full((1, 1), fill)) for matrix in matrices])
        for matrices, fill in (([f.knots for f in functions], np.inf), ([f.at for f in functions], 0.0))
    )
    most += 1
    slopes, offsets = (
        np.concatenate([widened(matrix, matrix[:, -1:]) for matrix in matrices])
        for matrices in ([f.slopes for f in functions], [f.offsets for f in functions])
    )
    return Piecewise(knots, slopes, offsets, at)


def _sorted_knots(knots: Matrix) -> Matrix:
    """Ascending, each once, without columns that no channel uses."""
    knots = np.sort(knots, axis=1)
    repeated = np.zeros(knots.shape, bool)
    repeated[:, 1:] = knots[:, 1:] == knots[:, :-1]
    knots = np.sort(np.where(repeated, np.inf, knots), axis=1)
    return knots[:, : int(np.isfinite(knots).sum(axis=1).max(initial=0))]


def with_knots(f: Piecewise, knots: Matrix) -> Piecewise:
    """The same function on `knots`, which hold all of its own that matter."""
    if np.array_equal(f.knots, knots) and np.isfinite(knots).all():
        return f
    left = np.concatenate([np.full((len(knots), 1), -np.inf), knots], axis=1)
    piece = _pieces_right_of(f.knots, left)
    slopes, offsets = _take(f.slopes, piece), _take(f.offsets, piece)
    finite = np.where(np.isfinite(knots), knots, 0.0)
    at = slopes[:, 1:] * finite + offsets[:, 1:]
    for knot, value in zip(f.knots.T, f.at.T, strict=True):
        at = np.where(knots == knot[:, None], value[:, None], at)
    return replace(f, knots=knots, slopes=slopes, offsets=offsets, at=np.where(np.isfinite(knots), at, 0.0))


def refine(f: Piecewise, knots: Matrix) -> Function:
    """The same function with `knots` [C, any] among its breakpoints; None where these become too many."""
    merged = _sorted_knots(np.concatenate([f.knots, knots], axis=1))
    return None if merged.shape[1] > MOST_KNOTS else with_knots(f, merged)


def aligned(*functions: Function) -> list[Piecewise] | None:
    """All of them on the same breakpoints."""
    given = [f for f in functions if f is not None]
    if len(given) < len(functions):
        return None
    channels = max(f.channels for f in given)
    rows = [_rows(f, channels) for f in given]
    if all(np.array_equal(f.knots, rows[0].knots) for f in rows) and np.isfinite(rows[0].knots).all():
        return rows
    knots = _sorted_knots(np.concatenate([f.knots for f in rows], axis=1))
    return None if knots.shape[1] > MOST_KNOTS else [with_knots(f, knots) for f in rows]


def edges(f: Piecewise) -> tuple[Matrix, Matrix]:
    """The left and right ends of the pieces; beyond the last knot of a channel both are infinite."""
    far = np.full((f.channels, 1), np.inf)
    return np.concatenate([-far, f.knots], axis=1), np.concatenate([f.knots, far], axis=1)


def inner_values(f: Piecewise) -> Matrix:
    """The value of every piece at a point inside it (of those behind the last knot, whatever)."""
    left, right = edges(f)
    low = np.where(np.isfinite(left), left, 0.0)
    high = np.where(np.isfinite(right), right, 0.0)
    only_left = low + np.maximum(1.0, np.abs(low))
    only_right = high - np.maximum(1.0, np.abs(high))
    bounded = low + (high - low) / 2
    point = np.where(np.isfinite(left), np.where(np.isfinite(right), bounded, only_left), only_right)
    point = np.where(np.isfinite(left) | np.isfinite(right), point, 0.0)
    return np.where(f.slopes == 0, f.offsets, f.slopes * point + f.offsets)


def simplified(f: Piecewise, tolerance: float = CANCELLED) -> Piecewise:
    """Without the breakpoints at which nothing happens: both pieces are one line (up to `tolerance`), and the value
    there lies on it."""
    finite = np.where(np.isfinite(f.knots), f.knots, 0.0)
    left = f.slopes[:, :-1] * finite + f.offsets[:, :-1]
    right = f.slopes[:, 1:] * finite + f.offsets[:, 1:]
    size = np.abs(f.slopes[:, 1:] * finite) + np.abs(f.offsets[:, :-1]) + np.abs(f.offsets[:, 1:])
    slope = np.abs(f.slopes[:, 1:]) + np.abs(f.slopes[:, :-1])
    idle = (
        (np.abs(f.slopes[:, 1:] - f.slopes[:, :-1]) <= tolerance * slope)
        & (np.abs(left - right) <= tolerance * size)
        & (np.abs(f.at - right) <= tolerance * size)
    )
    if not idle.any() and np.isfinite(f.knots).all():
        return f
    return with_knots(f, _sorted_knots(np.where(idle, np.inf, f.knots)))


def with_zeros(f: Piecewise) -> Function:
    """The same function with a breakpoint wherever a piece crosses zero."""
    left, right = edges(f)
    sloped = f.slopes != 0
    crossing = np.where(sloped, -f.offsets / np.where(sloped, f.slopes, 1.0), np.inf)
    # Adding 0 turns -0 into 0.
    crossing = np.where((crossing > left) & (crossing < right), crossing + 0.0, np.inf)
    refined = refine(f, crossing)
    if refined is None:
        return None
    new = (refined.knots[:, :, None] == crossing[:, None, :]).any(axis=2) & np.isfinite(refined.knots)
    return replace(refined, at=np.where(new, 0.0, refined.at))
