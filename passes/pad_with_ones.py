"""Express zero padding that LCE's SAME cannot say by padding with +1 and a correction.

    Before:  x ─ BinaryConv(s; m, b; pads (1, 1, 1, 1), stride 2, zeros) ─ y
    After:   x ─ BinaryConv(s; m, b; the same pads, ones) ─ Add(-m_o · border [1, O, H', W']) ─ y

With ones around x the integer sum is larger by border = Σ s over the taps that meet padding, which depends on the
position of the output alone: conv of an indicator of the frame by s.  y = (acc - border)·m + b = (acc·m + b) -
border·m. The integer sums stay exact; the correction is one float Add.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from bnncc.ir.graph import constant_of, inherit_source, new_constant, take_over
from bnncc.passes.windows import windows_of


class PadWithOnes(ir.passes.InPlacePass):
    """Rewrite the zero-padded BinaryConvs of which `expressible` says that the kernels cannot do them."""

    def __init__(self, expressible: Callable[[tuple[Window, Window]], bool]) -> None:
        super().__init__()
        self.expressible = expressible

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        for node in list(model.graph):
            if not ops.is_binary_conv(node) or node.attributes["pad_value"].as_float() != 0.0:
                continue
            windows = windows_of(node)
            if windows is not None and not self.expressible(windows):
                _rewrite(model.graph, node, windows)
                changed = True
        return ir.passes.PassResult(model, modified=changed)


def _rewrite(graph: ir.Graph, node: ir.Node, windows: tuple[Window, Window]) -> None:
    signs, multiplier = constant_of(node.inputs[1]), constant_of(node.inputs[2])
    if signs is None or multiplier is None:
        raise ValueError(f"the weights of {node.name} are not constants")
    y = node.outputs[0]
    correction = -border_sums(signs, windows) * multiplier.astype(np.float64)[:, None, None]
    node.attributes["pad_value"] = ir.AttrFloat32("pad_value", 1.0)
    add = ir.node("Add", [y, new_constant(graph, correction.astype(np.float32)[None], f"{y.name}/border")])
    inherit_source([add], node)
    graph.insert_after(node, add)
    take_over(y, add.outputs[0])
    add.outputs[0].metadata_props.update(y.metadata_props)
    add.replace_input_with(0, y)
    y.name = f"{add.outputs[0].name}/one_padded"


def border_sums(signs: npt.NDArray[np.generic], windows: tuple[Window, Window]) -> npt.NDArray[np.float64]:
    """Σ of the signs [O, C, KH, KW] over the taps that meet padding, for every output position: float64 [O, H', W'].

    The taps that meet data form a rectangle, rows × columns, so with T_o = Σ_c s[o, c] [KH, KW]:
    border = Σ T - Σ_{kh, kw} rows[h', kh] · columns[w', kw] · T[kh, kw].
    """
    taps = signs.astype(np.float64).sum(axis=1)
    rows, columns = (_data_taps(window) for window in windows)
    inside = np.einsum("hk,wl,okl->ohw", rows, columns, taps)
    result: npt.NDArray[np.float64] = taps.sum(axis=(1, 2))[:, None, None] - inside
    return result


def _data_taps(window: Window) -> npt.NDArray[np.float64]:
    """[outputs, kernel]: 1 where the tap of that output reads the map, 0 where it reads padding."""
    outputs, taps = np.arange(window.outputs)[:, None], np.arange(window.kernel)[None, :]
    position = outputs * window.stride - window.begin + taps * window.dilation
    return ((position >= 0) & (position < window.size)).astype(np.float64)
