"""Put the branch that is taken in the place of an `If` whose condition constants or static shapes determine.

Before:  x ─ Shape ─ Gather(1) ─ Equal(1) ─ If(then: x ─ Squeeze, else: x ─ Identity) ─ y
After:   x ─ Squeeze ─ y
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.optimizer import fold_constants

from bnncc.ir.evaluate import ancestors


def inline_constant_branches(model: ir.Model) -> None:
    """In place; an `If` whose condition depends on data stays.  The graph inputs have their shapes."""
    branches = [node for node in model.graph if node.op_type == "If" and node.domain == ""]
    if not branches:
        return
    conditions = [value for node in branches if (value := node.inputs[0]) is not None]
    chosen = ancestors(conditions) | set(branches)
    fold_constants(
        model,
        onnx_shape_inference=True,
        should_fold=lambda node: node in chosen or node.op_type == "If",
    )
