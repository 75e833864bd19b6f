"""Turn Constant nodes into initializers, so that a constant is read in one way.

    Before:  Constant(c) ─ Mul(x) ─ y
    After:   x ─ Mul(c) ─ y                c among the graph's initializers

The passes behind it ask `constant_of`, which knows initializers.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass


class LiftConstants(ir.passes.InPlacePass):
    """Lift every Constant, of whatever size and type; onnx_ir's pass."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        lifted = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        return ir.passes.PassResult(model, modified=lifted.modified)
