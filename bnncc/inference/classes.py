"""Which outputs name a class: rows of logits, one for each image, where the largest logit is the class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnncc.ir.arrays import Array


def class_count(shape: Sequence[int]) -> int | None:
    """How many logits an output of this shape has for each image, [N, classes]; None where it is no row of logits."""
    return shape[1] if len(shape) == 2 and shape[1] > 1 else None


def same_classes(found: Array, expected: Array) -> bool | None:
    """Whether two outputs of one shape name the same class for every image; None where they are no logits."""
    if class_count(expected.shape) is None:
        return None
    return bool(np.array_equal(found.argmax(axis=1), expected.argmax(axis=1)))
