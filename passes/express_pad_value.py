"""Express padding of ±1 with another value than 0 or +1, which LCE does not have, by zero padding and a correction.

    Before:  S ─ BinaryConv(s; m, b; pad_value p) ─ y
    After:   S ─ BinaryConv(s; m, b; pad_value 0) ─ Add(p·m_o · border [1, O, H', W']) ─ y

Padding with p instead of 0 adds p · Σ s over the taps that meet padding to the sum, which depends on the position of
the output alone.  Such p come from activations a·S + m padded with zeros, p = -m/a: -1 for {0, 1} activations whose 1
is S = +1.  (For the other sense p is +1, which needs no correction.)

It runs behind `fold-affine`, so that what follows the convolution is in m and b already.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, inherit_source, new_constant, take_over
from bnncc.passes.pad_with_ones import border_sums
from bnncc.passes.windows import windows_of


class ExpressPadValue(ir.passes.InPlacePass):
    """Rewrite the BinaryConvs whose pad_value is neither 0 nor 1."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        for node in list(model.graph):
            if ops.is_binary_conv(node) and node.attributes["pad_value"].as_float() not in (0.0, 1.0):
                changed |= _rewrite(model.graph, node)
        return ir.passes.PassResult(model, modified=changed)


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    signs, multiplier, windows = constant_of(node.inputs[1]), constant_of(node.inputs[2]), windows_of(node)
    if signs is None or multiplier is None or windows is None:
        return False
    value = node.attributes["pad_value"].as_float()
    correction = value * border_sums(signs, windows) * multiplier.astype(np.float64)[:, None, None]
    node.attributes["pad_value"] = ir.AttrFloat32("pad_value", 0.0)
    if not np.any(correction):
        return True
    y = node.outputs[0]
    add = ir.node("Add", [y, new_constant(graph, correction.astype(np.float32)[None], f"{y.name}/border")])
    inherit_source([add], node)
    graph.insert_after(node, add)
    take_over(y, add.outputs[0])
    add.outputs[0].metadata_props.update(y.metadata_props)
    add.replace_input_with(0, y)
    y.name = f"{add.outputs[0].name}/zero_padded"
    return True
