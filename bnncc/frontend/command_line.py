"""The spellings of the command line: `depth=18` for an argument, `1x3x224x224` or `x=1x3x224x224` for a shape."""

from __future__ import annotations

import ast
import re

from bnncc.errors import InputError

_SHAPE = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<shape>[1-9]\d*(?:[x,][1-9]\d*)*)")


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
    except (ValueError, SyntaxError):
        return name, value


def parse_input_shape(text: str) -> tuple[str | None, tuple[int, ...]]:
    """`"1x3x224x224"` → `(None, (1, 3, 224, 224))`; `"x=1x3x224x224"` → `("x", (1, 3, 224, 224))`.

    Raises:
        InputError: it is not a list of positive integers.
    """
    match = _SHAPE.fullmatch(text.replace(" ", ""))
    if match is None:
        raise InputError(
            f"cannot read the input shape {text!r}: write the sizes in PyTorch's order with x between them, "
            "for example 1x3x224x224, or image=1x3x224x224 for the input named image"
        )
    return match["name"], tuple(int(size) for size in re.split("[x,]", match["shape"]))
