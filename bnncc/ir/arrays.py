"""Arrays, and random ones: what needs no graph, so that whoever only runs a file waits for no graph library."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def random_array(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any], within: tuple[float, float] | None
) -> Array:
    """Values from the first number of `within` on and below the second.

    Without a range: normally distributed floats; all values of bools and of 8-bit integers; 0 and 1 of wider integers,
    which an index into anything may be.
    """
    if np.issubdtype(dtype, np.floating):
        return (generator.standard_normal(shape) if within is None else generator.uniform(*within, shape)).astype(dtype)
    if within is None:
        is_byte = dtype.itemsize == 1 and dtype != np.bool_
        within = (np.iinfo(dtype).min, np.iinfo(dtype).max + 1) if is_byte else (0, 2)
    return generator.integers(int(within[0]), int(within[1]), shape).astype(dtype)
