"""Cut the kernel taps that only ever meet padding.

    Before:  x [1, C, 1, 1] ─ BinaryConv(3x3, pads 1) ─ y
    After:   x [1, C, 1, 1] ─ BinaryConv(1x1, pads 0; the centre of the kernel) ─ y

Tap t of a kernel reads the positions j·s - b + t·d for the outputs j.  Leading and trailing taps for which all of
them lie outside the map multiply zeros only.  On tiny maps this also removes the padding that LCE computes wrongly.
"""

from __future__ import annotations

import json

import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from bnncc.ir.graph import TRIMMED_KEY, constant_of, new_constant
from bnncc.passes.windows import windows_of


class TrimKernels(ir.passes.InPlacePass):
    """Shrink the kernels of zero-padded binary and float convolutions."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        for node in model.graph:
            is_conv = node.domain == "" and node.op_type == "Conv"
            if not is_conv and not (ops.is_binary_conv(node) and node.attributes["pad_value"].as_float() == 0.0):
                continue
            weight = node.inputs[1]
            filters, windows = constant_of(weight), windows_of(node)
            if filters is None or weight is None or filters.ndim != 4 or windows is None:
                continue
            cuts = [useless_taps(window) for window in windows]
            if not any(lead or trail for lead, trail in cuts):
                continue
            (top, bottom), (left, right) = cuts
            trimmed = filters[:, :, top : filters.shape[2] - bottom, left : filters.shape[3] - right]
            node.replace_input_with(1, new_constant(model.graph, trimmed, f"{weight.name}/trimmed"))
            begins = [w.begin - lead * w.dilation for w, (lead, _) in zip(windows, cuts, strict=True)]
            ends = [max(w.end - trail * w.dilation, 0) for w, (_, trail) in zip(windows, cuts, strict=True)]
            node.attributes["pads"] = ir.AttrInt64s("pads", [*begins, *ends])
            node.attributes.pop("auto_pad", None)
            node.attributes.pop("kernel_shape", None)
            before = json.loads(node.metadata_props.get(TRIMMED_KEY, "[0, 0, 0, 0]"))
            total = [old + new for old, new in zip(before, (top, left, bottom, right), strict=True)]
            node.metadata_props[TRIMMED_KEY] = json.dumps(total)
            changed = True
        return ir.passes.PassResult(model, modified=changed)


def useless_taps(window: Window) -> tuple[int, int]:
    """How many leading and how many trailing taps never read the map, and can go.

    At least one tap is kept, and with dilation d no more are cut than leave padding ≥ 0 in front, and behind ≥ 1 - s,
    which a padding of 0 replaces without another output.
    """
    reads = [
        any(
            0 <= output * window.stride - window.begin + tap * window.dilation < window.size
            for output in range(window.outputs)
        )
        for tap in range(window.kernel)
    ]
    if not any(reads):
        return 0, 0
    most = window.begin // window.dilation, (window.reached_end + window.stride - 1) // window.dilation
    return min(reads.index(True), most[0]), min(reads[::-1].index(True), most[1])
