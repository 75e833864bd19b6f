"""Hand torch.export the numbers that forward reads from parameters and buffers, which an eager run has read before.

    if self.scale.item() == 0.0:          traced: `if 0.7 == 0.0`, and the branch is known
        self.scale = first_scale(x)
    return conv(x) * self.scale.item()    traced: `conv(x) * 0.7`

torch.export takes every number that comes out of a tensor for one that the next input may change, also where it comes
from the checkpoint, and gives up at the first `if`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

from bnncc.frontend.dataflow import NUMBERS, Site
from bnncc.frontend.source import location_in_stack

# By place and in the order of reading, as `Flow.numbers` has them.
Numbers = Mapping[Site, Sequence[Any]]


class KnownNumbers(TorchFunctionMode):
    """While active, `.item()`, `bool()` and the like yield `numbers`; what is None there they read."""

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        self._numbers = numbers
        self._turns = Counter[Site]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in NUMBERS:
            site = Site(location_in_stack(sys._getframe(1)), "scalar")
            values = self._numbers.get(site, ())
            if site.source is not None and values:
                known = values[self._turns[site] % len(values)]  # forward may be run more than once
                self._turns[site] += 1
                if known is not None:
                    return known
        return func(*args, **(kwargs or {}))
