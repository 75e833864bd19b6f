"""Write operators that networks use and few targets have by others that any target has.

Before:  x ─ LayerNormalization(γ, β) ─ y
After:   x ─ ReduceMean ─ Sub ─┬─ Mul(itself) ─ ReduceMean ─ Add(ε) ─ Sqrt ─ Reciprocal ─┐
                               └───────────────────────────────────────────────────────── Mul ─ Mul(γ) ─ Add(β) ─ y

What a decomposition contains may decompose further.  Each new node has the module path and the source line of the
operator it stands for, and the operator's outputs keep their names.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from bnncc.ir.graph import NOT_DECOMPOSED_KEY, known_array, shape_of
from bnncc.passes.decompositions import DECOMPOSITIONS, integer_products, small_integers
from bnncc.passes.decompositions.builder import Builder, NotDecomposableError
from bnncc.passes.fold_constants import FoldConstants
from bnncc.passes.remove_unused import RemoveUnused


class Decompose(ir.passes.InPlacePass):
    """Apply `DECOMPOSITIONS` to every node of the main graph, or to those of which `chosen` is true."""

    def __init__(self, chosen: Callable[[ir.Node], bool] | None = None) -> None:
        super().__init__()
        self.chosen = chosen

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        pending = [node for node in graph if _can_try(node) and (self.chosen is None or self.chosen(node))]
        if not pending:
            return ir.passes.PassResult(model, modified=False)
        names = {value.name or "" for value in (*graph.inputs, *graph.initializers.values())}
        names |= {value.name or "" for node in graph for value in node.outputs}
        changed = False
        pending.reverse()
        while pending:
            node = pending.pop()
            build = Builder(graph, node, names)
            try:
                made = build.finish(DECOMPOSITIONS[node.op_type](build))
            except NotDecomposableError as reason:
                build.discard()
                if str(reason):
                    node.metadata_props[NOT_DECOMPOSED_KEY] = str(reason)
                continue
            changed = True
            pending.extend(inner for inner in reversed(made) if _can_try(inner))
        if changed:
            FoldConstants()(model)
            RemoveUnused()(model)  # what a decomposition has looked through, as assignments to one map
        return ir.passes.PassResult(model, modified=changed)


def is_product(node: ir.Node) -> bool:
    """True for an operator that becomes layers or choices, of which verification knows each by itself: an Einsum, a
    convolution over three axes, a product of integers; the indices of a max-pool, and what they scatter.
    """
    if node.domain != "":
        return False
    if node.op_type == "MaxPool":
        return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    if node.op_type == "ScatterND":
        return known_array(node.inputs[1]) is None
    is_convolution = node.op_type in ("Conv", "ConvTranspose")
    return node.op_type in ("Einsum", *integer_products.DECOMPOSITIONS) or (
        is_convolution and len(shape_of(node.outputs[0]) or ()) > 4
    )


def _can_try(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in DECOMPOSITIONS:
        return False
    return node.op_type not in small_integers.DECOMPOSITIONS or small_integers.is_small(node)
