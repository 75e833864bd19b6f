"""A step of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Step:
    """A pass in its place: its name on the command line, what makes it, what it is for."""

    name: str
    make: Callable[[], ir.passes.PassBase]
    purpose: str
