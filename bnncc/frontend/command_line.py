"""The spellings of the command line.

`depth=18` is an argument; `1x3x224x224`, `x=1x3x224x224` and `ids=1x128:int64` are inputs; `ids=0:100` is the range of
the random values of one.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass

import numpy as np

from bnncc.errors import InputError
from bnncc.ir.input_spec import INPUT_TYPES
from bnncc.system.memory import require_memory

# A size has at most 100 digits: Python reads no number of thousands of them.
_SHAPE = re.compile(
    r"(?:(?P<name>[^=]+)=)?(?P<shape>[1-9]\d{0,99}(?:[x,][1-9]\d{0,99})*)(?::(?P<dtype>\w+))?", re.ASCII
)
_RANGE = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<low>[^:=]+):(?P<high>[^:=]+)")


@dataclass(frozen=True)
class GivenShape:
    """What the user says of an input: its name, its shape (NCHW, batch included), its type; None where not said."""

    name: str | None
    shape: tuple[int, ...]
    dtype: str | None = None


def parse_argument(text: str) -> tuple[str, object]:
    """`"depth=18"` → `("depth", 18)`.  The value is a Python literal, or else the string itself.

    Raises:
        InputError: there is no `=`, or what stands before it is no Python name.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InputError(f"cannot read the argument {text!r}: write name=value, for example depth=18")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: hundreds of brackets
        return name, value


def parse_input_shape(text: str) -> GivenShape:
    """`"1x3x224x224"`, `"x=1x3x224x224"` and `"ids=1x128:int64"` as a `GivenShape`.

    Raises:
        InputError: it is not a list of positive integers, the type is none of `INPUT_TYPES`, or such an array does not
            fit into memory.
    """
    match = _SHAPE.fullmatch(text.replace(" ", ""))
    if match is None:
        raise InputError(
            f"cannot read the input shape {text!r}: write the sizes in PyTorch's order with x between them, "
            "for example 1x3x224x224, image=1x3x224x224 for the input named image, or ids=1x128:int64 for integers"
        )
    dtype = match["dtype"]
    if dtype is not None and dtype not in INPUT_TYPES:
        raise InputError(
            f"the input shape {text!r}: an input cannot be {dtype}; the types are {', '.join(INPUT_TYPES)}"
        )
    shape = tuple(int(size) for size in re.split("[x,]", match["shape"]))
    require_memory(math.prod(shape) * np.dtype(dtype or np.float32).itemsize, f"the input {text}")
    return GivenShape(match["name"], shape, dtype)


def parse_input_range(text: str) -> tuple[str | None, tuple[float, float]]:
    """`"ids=0:100"` → `("ids", (0, 100))`: from the first number on, below the second, as Python's slices.

    Raises:
        InputError: these are no two numbers in rising order.
    """
    match = _RANGE.fullmatch(text.replace(" ", ""))
    try:
        low, high = (float(match[key]) for key in ("low", "high")) if match else (0.0, 0.0)
    except ValueError:
        low = high = 0.0
    if match is None or not low < high or high - low == float("inf"):
        raise InputError(
            f"cannot read the input range {text!r}: write the smallest value and the one behind the largest, "
            "for example 0:100, or ids=0:100 for the input named ids"
        )
    return match["name"], (low, high)
