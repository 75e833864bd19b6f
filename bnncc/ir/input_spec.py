"""What one input of a network is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnncc.errors import InputError
from bnncc.ir.arrays import Array, random_array

# The types that an input may have, and that a file can hold.
INPUT_TYPES = ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")

# What an int8 is less than the byte that it stands for.
MIDDLE = 128


@dataclass(frozen=True)
class InputSpec:
    """One input.

    Attributes:
        name: of forward's parameter; `batch.image` and `maps.0` are parts of a dict and of a list.
        shape: in PyTorch's order (NCHW), batch included.
        dtype: NumPy's name of its type.
        range: random values are at least the first number and below the second; None for normally distributed floats,
            or for integers that every type has.
        is_bytes: the elements are the bytes of a picture; of int8, less `MIDDLE`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    range: tuple[float, float] | None = None
    is_bytes: bool = False

    @property
    def is_float(self) -> bool:
        """Whether pictures are normalised for it."""
        return self.dtype == "float32"

    @property
    def size_in_bytes(self) -> int:
        """Of an array of it."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def text(self) -> str:
        """For a message: `ids of 1x16:int64`."""
        return f"{self.name} of {shape_text(self.shape)}" + ("" if self.is_float else f":{self.dtype}")

    def random(self, generator: np.random.Generator) -> Array:
        """Values to try the network on."""
        return random_array(generator, self.shape, np.dtype(self.dtype), self.range)

    def zeros(self) -> Array:
        """The least that it may hold where a range is given, zeros otherwise."""
        return np.full(self.shape, 0 if self.range is None else self.range[0], self.dtype)

    def convert(self, array: Array) -> Array:
        """`array` in this type.  Raises InputError where that changes an integer's value."""
        given = np.asarray(array)
        if self.is_bytes and self.dtype == "int8" and given.dtype == np.uint8:
            given = given.astype(np.int16) - MIDDLE
        with np.errstate(invalid="ignore", over="ignore"):
            converted = given.astype(self.dtype)
        if not self.is_float and not np.array_equal(converted, given):
            if self.is_bytes:
                raise InputError(
                    f"the input '{self.name}' takes a picture's bytes (--input-type {self.dtype}), and these are "
                    f"{given.dtype} numbers: give uint8 pixels, as they are decoded"
                )
            raise InputError(f"the input '{self.name}' takes {self.dtype}, and {given.dtype} values do not fit into it")
        return converted

    def with_dtype(self, dtype: str) -> InputSpec:
        """The same input of another type."""
        return replace(self, dtype=dtype)


def shape_text(shape: Sequence[int]) -> str:
    """As the command line spells it: 1x3x224x224."""
    return "x".join(map(str, shape)) or "a scalar"
