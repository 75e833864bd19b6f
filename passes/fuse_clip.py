"""Let a binary convolution clip its integer sums, where that is what a ReLU or Clip behind it does.

    Before:  x ─ BinaryConv(s; m, b) ─ Relu ─ y
    After:   x ─ BinaryConv(s'; m', b'; sums clipped to [0, ∞)) ─ y          s' = ±s per output channel

LCE clips acc = Σ (±1)(±1) to the bounds of a fused activation, the same for all channels, in front of multiplier and
bias.  With m > 0 and b = 0,

    relu(m·acc) = m·relu(acc);        with m < 0:  relu(m·acc) = |m|·relu(-acc), of the negated weights.

In general f(acc) = clip(m·acc + b, L, U), and acc is one of K + 1 sums -K, -K + 2, …, K.  The clip goes where m' and b'
have f(acc) = m'·clip(±acc, l, u) + b' at every one of them: so does Clip(-1, 1) behind m = 1, or behind any m that
takes every sum but 0 beyond it.  m' and b' follow from the ends: clip(±acc, l, u) takes two values there.

A window that zero padding reaches keeps its clip: LCE has a fused activation with unpadded and one-padded sums only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, new_constant, sole_consumer, take_over
from bnncc.passes.affine import Vector
from bnncc.passes.merge_clips import clip_of
from bnncc.passes.threshold import can_yield_bits, record_negated

# What LCE's kernels clip sums to.
BOUNDS = ((0.0, ops.UNBOUNDED[1]), (-1.0, 1.0), (0.0, 6.0))
# float64 rounds at 1e-16, and float32 constants at 6e-8: what differs by this little is the same constant.
SAME = 1e-9


@dataclass(frozen=True)
class _Fit:
    """The clip as BinaryConv has it; negated: the channels whose weights change their sign, bool [O]."""

    bounds: tuple[float, float]
    multiplier: Vector
    bias: Vector
    negated: npt.NDArray[np.bool_]


def fuse_clip(graph: ir.Graph, node: ir.Node) -> bool:
    """Fold a Relu or Clip `node` into the BinaryConv in front of it, if that is possible."""
    clip = clip_of(node)
    conv = clip[0].producer() if clip is not None else None
    if clip is None or conv is None or not ops.is_binary_conv(conv):
        return False
    x, limits = clip
    if sole_consumer(graph, x) is None or not can_yield_bits(conv) or ops.sum_bounds(conv) != ops.UNBOUNDED:
        return False
    signs, multiplier, bias = (constant_of(value) for value in conv.inputs[1:4])
    if signs is None or multiplier is None or bias is None:
        return False
    products = int(np.prod(signs.shape[1:]))
    fit = _fit(multiplier.astype(np.float64), bias.astype(np.float64), limits, products)
    if fit is None:
        return False
    name = node.outputs[0].name
    if fit.negated.any():
        turned = np.where(fit.negated[:, None, None, None], -signs, signs)
        conv.replace_input_with(1, new_constant(graph, turned, f"{name}/negated"))
        record_negated(conv, fit.negated)
    conv.replace_input_with(2, new_constant(graph, fit.multiplier.astype(np.float32), f"{name}/multiplier"))
    conv.replace_input_with(3, new_constant(graph, fit.bias.astype(np.float32), f"{name}/bias"))
    ops.set_sum_bounds(conv, fit.bounds)
    x.metadata_props.update(node.outputs[0].metadata_props)
    take_over(node.outputs[0], x)
    graph.remove(node, safe=True)
    return True


def _fit(multiplier: Vector, bias: Vector, limits: tuple[float, float], products: int) -> _Fit | None:
    """How clipped sums make clip(multiplier·acc + bias, limits) of `products` products; None where they do not."""
    sums = np.arange(-products, products + 1, 2, dtype=np.float64)
    wanted = np.clip(multiplier[:, None] * sums + bias[:, None], *limits)
    # Of the sums, negated where m < 0: f then rises with them.
    negated = multiplier < 0
    wanted[negated] = wanted[negated, ::-1]
    for bounds in BOUNDS:
        clipped = np.clip(sums, *bounds)
        reach = clipped[-1] - clipped[0]
        scale = (wanted[:, -1] - wanted[:, 0]) / reach if reach else np.zeros_like(multiplier)
        shift = wanted[:, 0] - scale * clipped[0]
        error = np.abs(scale[:, None] * clipped + shift[:, None] - wanted).max(axis=1)
        if np.all(error <= SAME * np.abs(wanted).max(axis=1)):
            return _Fit(bounds, scale, shift, negated)
    return None
