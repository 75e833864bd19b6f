"""What padding adds to the sums of a binary convolution, and how to take it back.

    Before:  x ─ BinaryConv(s; m, b; padding with p) ─ y
    After:   x ─ BinaryConv(s; m, b; padding with q) ─ Add((p - q)·m_o · border [1, O, H', W']) ─ y

Padding with q instead of p adds (q - p)·border to the sums, border = Σ s over the taps that meet padding, which depends
on the position of the output alone.  y = (acc + (p - q)·border)·m + b = (acc·m + b) + (p - q)·m·border.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.geometry import Window
from bnncc.ir.graph import constant_of


def correction(node: ir.Node, windows: tuple[Window, Window], value: float) -> npt.NDArray[np.float32]:
    """What to add to the output of a BinaryConv, weights constant, if it pads with `value` instead: [1, O, H', W']."""
    signs, multiplier = constant_of(node.inputs[1]), constant_of(node.inputs[2])
    if signs is None or multiplier is None:
        raise ValueError(f"the weights of {node.name} are not constants")
    difference = node.attributes["pad_value"].as_float() - value
    total = difference * border_sums(signs, windows) * multiplier.astype(np.float64)[:, None, None]
    return total.astype(np.float32)[None]


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
