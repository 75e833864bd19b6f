"""What is counted of work on a core.

A unit of each kind costs a core about the same wherever it occurs (tflite/work.py counts them in a file).  They are
those of bnncc's own kernels (targets/runtime), and of `bnncc_run`, which runs the operators between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Work(Enum):
    """A kind of work; the value says what one unit is."""

    CALL = "an operator, whatever it does"
    BINARY_PRODUCT = "products of 32 bits of a pixel and of 4 filters"
    BINARY_SUM = "one output of a binary convolution"
    PATCH_WORD = "32 bits of what a pixel's filters meet, copied"
    FLOAT_PRODUCT = "one product and sum of a float convolution"
    FLOAT_OUTPUT = "one output of a float convolution"
    FLOAT_TAP = "one place of an output pixel's window, its channels copied"
    VECTOR_PRODUCT = "one product and sum of a matrix and a vector"
    DEPTHWISE_PRODUCT = "one product and sum of a depthwise convolution"
    ELEMENT = "one result of elementwise arithmetic"
    FUNCTION = "one result of an exponential or the like"
    GATE = "one result of a sigmoid"
    SIGN = "one float packed as a bit, or one bit unpacked"
    POOLED = "one element of a pool's window"
    REDUCED = "one element that goes into a mean, a sum or a largest one"
    MOVED = "one element that is only moved"
    PADDED = "one element of a padded map"
    ROW = "one run of channels that a window, a gate or a move handles by itself"


@dataclass(frozen=True)
class Range:
    """All between two figures, which are not negative."""

    least: float
    most: float

    @property
    def middle(self) -> float:
        """As many times the least as the most is times it."""
        return math.sqrt(self.least * self.most)

    def __add__(self, other: Range) -> Range:
        return Range(self.least + other.least, self.most + other.most)

    def __mul__(self, times: float) -> Range:
        return Range(self.least * times, self.most * times)


@dataclass(frozen=True)
class Cost:
    """Of one unit of work on a core: instructions, and cycles while all data are in the first cache.

    cycles: from what keeps the core's busiest unit occupied to what all takes one after the other.
    """

    instructions: float
    cycles: Range
