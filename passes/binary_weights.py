"""Split the weights of a layer into signs and one scale per output channel.

    w[o, …] = α_o · s[o, …],   s = ±1, α_o > 0

|w| is compared within an output channel and relative to α_o, so a layer may mix scales of any size.  Besides ±α_o two
near misses are told apart, because a user can do something about them: some weights are exactly 0 (`torch.sign(0)`,
pruning), or they are α_o·{0, 1}.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Filters = npt.NDArray[np.generic]

# Scales that went through a float32 residue, (α·s - w) + w with |w| ≤ 4, are off by two roundings of 2.4e-7, which for
# the smallest scales seen (α = 1e-4, |w| ≤ 1) is 1.2e-3 of α.  Weights that differ by more are not the same.
RESIDUE = 2.0**-21
RELATIVE_TOLERANCE = 2e-3


def tolerance(scales: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far weights ±α may be from these α, or multiples of α from others."""
    allowed: npt.NDArray[np.float64] = np.minimum(RELATIVE_TOLERANCE * scales, RESIDUE * np.maximum(scales, 1.0))
    return allowed


def split_weights(filters: Filters) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]] | None:
    """(signs ±1 of the filters' shape, scale α_o per output channel) of filters [O, …]; None where they are not
    α_o·(±1).

    α_o is the mean |w| in float64.  A channel of zeros has the scale 0.
    """
    magnitude = np.abs(filters).reshape(filters.shape[0], -1)
    scales = magnitude.mean(axis=1, dtype=np.float64)
    if np.any(magnitude.max(axis=1) - scales > tolerance(scales)):
        return None
    if np.any(scales - magnitude.min(axis=1) > tolerance(scales)):
        return None
    signs = np.copysign(np.float32(1), filters).astype(np.float32, copy=False)
    signs[scales == 0] = 1
    return signs, scales


def count_zeros(filters: Filters) -> int:
    """How many weights of filters [O, …] that are otherwise ±α_o, of both signs, are exactly 0; 0 where they are
    something else.

    A channel of zeros only has none: its scale is 0.
    """
    magnitude, scales = _magnitudes(filters)
    zero = magnitude == 0
    if not np.all(zero | (np.abs(magnitude - scales[:, None]) <= tolerance(scales)[:, None])):
        return 0
    return 0 if _are_steps(filters) else int(np.count_nonzero(zero[scales != 0]))


def zeros_to_plus_one(filters: Filters) -> npt.NDArray[np.float64]:
    """The filters [O, …], float64, with +α_o where they are 0."""
    _, scales = _magnitudes(filters)
    along = scales.reshape(-1, *(1,) * (filters.ndim - 1))
    return np.where(filters == 0, along, filters.astype(np.float64))


def are_steps(filters: Filters) -> bool:
    """True for weights α_o·{0, 1} with α_o of either sign."""
    if np.all(filters):
        return False
    magnitude, scales = _magnitudes(filters)
    near = (magnitude == 0) | (np.abs(magnitude - scales[:, None]) <= tolerance(scales)[:, None])
    return bool(np.all(near)) and _are_steps(filters)


def _are_steps(filters: Filters) -> bool:
    rows = filters.astype(np.float64).reshape(filters.shape[0], -1)
    both = np.any(rows > 0, axis=1) & np.any(rows < 0, axis=1)
    # A handful of weights may lack a sign by chance; a quarter of 0 is none.
    return not np.any(both) and 4 * int(np.count_nonzero(rows == 0)) >= rows.size


def _magnitudes(filters: Filters) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(|w| as [O, …] flattened to two axes, the mean over what is not 0 in each channel)."""
    magnitude = np.abs(filters.astype(np.float64)).reshape(filters.shape[0], -1)
    count = np.count_nonzero(magnitude, axis=1)
    return magnitude, magnitude.sum(axis=1) / np.maximum(count, 1)
