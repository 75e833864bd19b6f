"""The element type that CastLike takes from another value is known.

Before:  6.0 ─ CastLike(x of float32) ─ y
After:   6.0 ─ Cast(float32) ─ y
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir.graph import replace_node


class ReplaceCastLike(ir.passes.InPlacePass):
    """CastLike becomes Cast: what it yields then depends on its first input alone, and may be a constant."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        nodes = [node for node in model.graph if node.domain == "" and node.op_type == "CastLike"]
        for node in nodes:
            dtype = node.outputs[0].dtype
            if dtype is not None:
                replace_node(model.graph, node, ir.node("Cast", [node.inputs[0]], {"to": int(dtype)}))
        return ir.passes.PassResult(model, modified=bool(nodes))
