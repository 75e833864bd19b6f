"""Why a layer with a binary operand stays in float.

A reason has a word, which stands in the source once: where the reason is made.  Whoever reads
`in float [word]: …` finds that line by searching for the word.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from bnncc.ir.graph import LEFT_IN_FLOAT_KEY


@dataclass(frozen=True)
class Reason:
    """word: lower case with hyphens, no other reason's.  text: a clause about "it", the layer."""

    word: str
    text: str

    def __str__(self) -> str:
        """As it is stored in the graph."""
        return f"{self.word}: {self.text}"

    @classmethod
    def of(cls, node: ir.Node) -> Reason | None:
        """The reason that `leave_in_float` left on `node`; None where there is none."""
        stored = node.metadata_props.get(LEFT_IN_FLOAT_KEY)
        return cls(*stored.split(": ", 1)) if stored else None


def leave_in_float(node: ir.Node, reason: Reason) -> None:
    """Leave the reason on `node`, for the report."""
    node.metadata_props[LEFT_IN_FLOAT_KEY] = str(reason)
