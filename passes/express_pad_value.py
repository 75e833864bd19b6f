"""Express padding of ±1 with another value than 0 or +1, which LCE does not have, by zero padding and a correction.

    Before:  S ─ BinaryConv(s; m, b; pad_value p) ─ y
    After:   S ─ BinaryConv(s; m, b; pad_value 0) ─ Add(p·m_o · border [1, O, H', W']) ─ y

Padding with p instead of 0 adds p · Σ s over the taps that meet padding to the sum (see `border`).  Such p come from
activations a·S + m padded with zeros, p = -m/a: -1 for {0, 1} activations whose 1 is S = +1.  (For the other sense p is
+1, which needs no correction.)

It runs behind `fold-affine`, so that what follows the convolution is in m and b already.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from bnncc.ir.graph import constant_of
from bnncc.passes.border import correction
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import add_behind
from bnncc.passes.windows import windows_of


class ExpressPadValue(ir.passes.InPlacePass):
    """Rewrite the BinaryConvs whose pad_value is neither 0 nor 1."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if not ops.is_binary_conv(node) or node.attributes["pad_value"].as_float() in (0.0, 1.0):
        return False
    windows = windows_of(node)
    if windows is None or any(constant_of(value) is None for value in node.inputs[1:3]):
        return False
    pad_with_zeros(graph, node, windows)
    return True


def pad_with_zeros(graph: ir.Graph, node: ir.Node, windows: tuple[Window, Window]) -> None:
    """Let a BinaryConv, weights constant, pad with zeros, and correct its border."""
    added = correction(node, windows, 0.0)
    node.attributes["pad_value"] = ir.AttrFloat32("pad_value", 0.0)
    if np.any(added):
        add_behind(graph, node, added, ("border", "zero_padded"))
