"""Give code of earlier years the names that Python, NumPy and PyTorch have dropped since: `collections.Iterable`.

Each is another name of what is still there, so that the code computes what it computed then.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import fractions
import math
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch

_INFINITY, _NOT_A_NUMBER = float("inf"), float("nan")
_OF_COLLECTIONS = {name: getattr(collections.abc, name) for name in collections.abc.__all__}
_OF_NUMPY: dict[str, Any] = {
    **{"bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str},
    **{"long": int, "unicode": str, "float_": np.float64, "complex_": np.complex128},
    **{"Inf": _INFINITY, "Infinity": _INFINITY, "infty": _INFINITY, "PINF": _INFINITY, "NINF": -_INFINITY},
    **{"NaN": _NOT_A_NUMBER, "NAN": _NOT_A_NUMBER},
    **{"product": np.prod, "cumproduct": np.cumprod, "alltrue": np.all, "sometrue": np.any},
}
# What Python dropped in 3.10 (collections) and 3.9 (fractions), NumPy in 1.24 and 2.0.
_REMOVED: Mapping[ModuleType, Mapping[str, Any]] = {
    collections: _OF_COLLECTIONS,
    fractions: {"gcd": math.gcd},
    np: _OF_NUMPY,
}
# PyTorch's module for Python 2, which PyTorch 2.0 dropped.
_SIX = "torch._six"
_OF_SIX = {
    "container_abcs": collections.abc,
    "string_classes": (str, bytes),
    "int_classes": int,
    "inf": torch.inf,
    "nan": torch.nan,
    "PY3": True,
    "PY37": True,
}


@contextlib.contextmanager
def removed_names() -> Iterator[None]:
    """While this is active, the names are there; names that a library still has are left alone."""
    added = [(module, name) for module in _REMOVED for name in _REMOVED[module] if name not in vars(module)]
    lacks_six = _SIX not in sys.modules
    try:
        for module, name in added:
            setattr(module, name, _REMOVED[module][name])
        if lacks_six:
            six = ModuleType(_SIX)
            vars(six).update(_OF_SIX)
            sys.modules[_SIX] = six
        yield
    finally:
        for module, name in added:
            delattr(module, name)
        if lacks_six:
            sys.modules.pop(_SIX, None)
