"""A step of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Step:
    """A pass in its place: what makes it, and what it is for.

    name: its file's, with - for _; on the command line, in the report and in dumps.
    """

    name: str
    make: Callable[[], ir.passes.PassBase]
    purpose: str
