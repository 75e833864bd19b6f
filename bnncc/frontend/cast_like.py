"""Casts to the type of another tensor become plain casts: once all types are known, that one is too.

Before:  x, y (float32) ─ CastLike ─ z
After:   x ─ Cast(float32) ─ z
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.ir.graph import replace_node


def resolve_cast_like(model: ir.Model) -> None:
    """Replace every CastLike of the main graph, in place.  All values have their types."""
    for node in list(model.graph):
        if node.op_type == "CastLike" and node.domain == "":
            kept = {
                name: attribute for name, attribute in node.attributes.items() if name in ("saturate", "round_mode")
            }
            target = node.outputs[0].dtype
            assert target is not None
            cast = ir.node("Cast", [node.inputs[0]], attributes={**kept, "to": ir.AttrInt64("to", int(target))})
            cast.name = node.name
            replace_node(model.graph, node, cast)
