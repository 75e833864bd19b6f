"""Compute equal things once.

    Before:  x ─ Clip(-1, 1) ─ p      x ─ Clip(-1, 1) ─ q
    After:   x ─ Clip(-1, 1) ─ p, used twice

Training code writes `sign(x) - clamp(x) + clamp(x)`: only when both clamps are one value can they be seen to cancel.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, DeduplicateHashedInitializersPass

# Initializers up to this many elements are compared; larger equal ones do not occur twice by accident.
LARGEST_COMPARED = 4096


class MergeDuplicates(ir.passes.InPlacePass):
    """onnx_ir's passes: equal small initializers become one, then equal nodes on equal inputs."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shared = DeduplicateHashedInitializersPass(size_limit=LARGEST_COMPARED)(model)
        merged = CommonSubexpressionEliminationPass()(model)
        return ir.passes.PassResult(model, modified=bool(shared.modified or merged.modified))
