"""Express zero padding that LCE's SAME cannot say by padding with +1 and a correction.

    Before:  x ─ BinaryConv(s; m, b; pads (1, 1, 1, 1), stride 2, zeros) ─ y
    After:   x ─ BinaryConv(s; m, b; the same pads, ones) ─ Add(-m_o · border [1, O, H', W']) ─ y

With ones around x the integer sum is larger by border = Σ s over the taps that meet padding (see `border`).  The
integer sums stay exact; the correction is one float Add.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from bnncc.passes.border import correction
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import add_behind
from bnncc.passes.windows import windows_of


class PadWithOnes(ir.passes.InPlacePass):
    """Rewrite the zero-padded BinaryConvs of which `expressible` says that the kernels cannot do them."""

    def __init__(self, expressible: Callable[[tuple[Window, Window]], bool]) -> None:
        super().__init__()
        self.expressible = expressible

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, self._rewrite))

    def _rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if not ops.is_binary_conv(node) or node.attributes["pad_value"].as_float() != 0.0:
            return False
        windows = windows_of(node)
        if windows is None or self.expressible(windows):
            return False
        added = correction(node, windows, 1.0)
        node.attributes["pad_value"] = ir.AttrFloat32("pad_value", 1.0)
        add_behind(graph, node, added, ("border", "one_padded"))
        return True
