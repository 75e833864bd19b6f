"""Let a convolution pad by itself.

    Before:  x ─ Pad(0; [0, 0, 1, 1, 0, 0, 1, 1]) ─ Conv(W) ─ y
    After:   x ─ Conv(W; pads (1, 1, 1, 1)) ─ y

A padded operand would be one float pass more over the map; `recognize-binary-conv` looks for the layer's own pads.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules.common import fuse_pad_into_conv_rule


class FusePad(ir.passes.InPlacePass):
    """Fuse every Pad of H and W with zeros into the Conv behind it; onnxscript's rule."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        fused = RewritePass([fuse_pad_into_conv_rule])(model)
        return ir.passes.PassResult(model, modified=fused.modified)
