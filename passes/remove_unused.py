"""Remove what nobody reads.

    Before:  x ─┬─ Sign ─ y                After:  x ─ Sign ─ y
                └─ Tanh ─ Sub(p) ─ (unread)

A node that nothing needs is one reader too many of what it reads: passes look for values with a single reader.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


class RemoveUnused(ir.passes.InPlacePass):
    """Remove every node, and every initializer, that no graph output needs; onnx_ir's pass."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        removed = RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified=removed.modified)
