"""Run autograd functions in the form that PyTorch had until 1.2, whose `forward` is a method: `Binarize()(x)`.

PyTorch refuses such a call because of gradients only, which nobody takes here: the result is what `forward` returns.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch.autograd import Function

_CALL = "__call__"


@contextlib.contextmanager
def legacy_functions() -> Iterator[None]:
    """While this is active, an instance of a Function whose `forward` is a method can be called."""
    refuse: Callable[..., Any] = Function.__call__

    def call(self: Function, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inspect.getattr_static(type(self), "forward"), staticmethod):
            return refuse(self, *args, **kwargs)
        return self.forward(*args, **kwargs)

    try:
        setattr(Function, _CALL, call)
        yield
    finally:
        setattr(Function, _CALL, refuse)
