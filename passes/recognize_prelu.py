"""Turn every continuous two-slope function of one value into a PRelu between affines.

    Before:  x ─ Max(0) ─ Mul(k) ─┐                    Before:  x ─ Neg ─ Relu ─ Neg ─ y
             x ─ Min(0) ─ Mul(c) ─ Add ─ y
    After:   x ─ PRelu(c / k) ─ Mul(k) ─ y             After:   x ─ Mul(-1) ─ Relu ─ Mul(-1) ─ y

The expression is read as a function of x (elementwise.py).  With the kink of a channel at (t, v),

    f(x) = v + s₁·(x - t) for x < t,    v + s₂·(x - t) for x ≥ t,

    f(x) = v + s₂ · PRelu(x - t; s₁/s₂)             s₂ ≠ 0
    f(x) = v - s₁ · PRelu(-(x - t); s₂/s₁)          s₁ ≠ 0, needed where s₂ = 0

PRelu(p·x) = p·PRelu(x) for p > 0: where an affine in front folds into a convolution, the magnitude of the factor behind
goes there, and the form is taken that leaves no minus behind.  Parts that change nothing are left out; a PRelu whose
slopes are all 0 is a Relu; a function without a kink is an affine.  A channel without a kink has s₁ = s₂, which is a
PRelu of slope 1.  All this is done only where it leaves fewer operators than there were, and no rounding reads what
comes of it (kept_order.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import bypass, take_over
from bnncc.passes.affine import affine_of
from bnncc.passes.elementwise import Candidate, interpret
from bnncc.passes.expression import Chain, exclusive, is_absorbed, rewrite_expressions
from bnncc.passes.kept_order import ROUNDINGS, is_learnt, is_rounded
from bnncc.passes.piecewise import Matrix, Piecewise, simplified
from bnncc.passes.remove_unused import remove_unread

# A jump, or a kink, smaller than this share of its surroundings is the rounding of float32 constants.
SAME = 1e-6


@dataclass(frozen=True)
class Kink:
    """t, v, s₁ and s₂ of every channel, [C]."""

    position: Matrix
    value: Matrix
    below: Matrix
    above: Matrix


@dataclass(frozen=True)
class Form:
    """factor · PRelu(slope · x + shift; negative_slope) + offset, all [C]."""

    slope: Matrix
    shift: Matrix
    negative_slope: Matrix
    factor: Matrix
    offset: Matrix

    @property
    def is_learnt(self) -> bool:
        """True where its numbers are not some that somebody chose."""
        return any(map(is_learnt, (self.slope, self.shift, self.negative_slope, self.factor)))

    @property
    def operators(self) -> int:
        """How many operators it takes."""
        ones = (self.slope, self.negative_slope, self.factor)
        return sum(bool(np.any(one != 1)) for one in ones) + sum(bool(one.any()) for one in (self.shift, self.offset))


class RecognizePRelu(ir.passes.InPlacePass):
    """Rewrite every two-slope expression; the last value of one comes first."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_expressions(model.graph, _recognize))


def _recognize(graph: ir.Graph, node: ir.Node) -> bool:
    best: tuple[int, Candidate, Form] | None = None
    for candidate in interpret(node.outputs[0]):
        kink = kink_of(candidate.function)
        removable = exclusive(graph, candidate.nodes)
        if kink is None or all(affine_of(inner) is not None for inner in removable):
            continue
        form = _form(kink, absorbed=is_absorbed(graph, candidate.source, candidate.nodes))
        saved = len(removable) - form.operators
        if not form.is_learnt and is_rounded(node.outputs[0], ROUNDINGS):
            continue
        if saved > 0 and (best is None or saved > best[0]):
            best = saved, candidate, form
    if best is None or not _rewrite(graph, node, best[1].source, best[2]):
        return False
    remove_unread(graph, best[1].nodes)
    return True


def kink_of(function: Piecewise) -> Kink | None:
    """The kink of every channel, at 0 where there is none; None for anything but one or two slopes without a jump."""
    if function.center is not None:
        return None
    function = simplified(function, SAME)
    if function.knots.shape[1] > 1:
        return None
    if not function.knots.shape[1]:
        slope, offset = function.slopes[:, 0], function.offsets[:, 0]
        return Kink(np.zeros_like(slope), offset, slope, slope) if slope.any() else None
    has_kink = np.isfinite(function.knots[:, 0])
    position = np.where(has_kink, function.knots[:, 0], 0.0)
    left, right = (function.slopes[:, side] * position + function.offsets[:, side] for side in (0, 1))
    value = np.where(has_kink, function.at[:, 0], right)
    size = np.abs(function.slopes * position[:, None]).max(axis=1) + np.abs(function.offsets).max(axis=1)
    if not np.all((np.abs(left - right) <= SAME * size) & (np.abs(value - right) <= SAME * size)):
        return None
    below, above = function.slopes[:, 0], function.slopes[:, 1]
    # Where the function rests it has one value, to the bit: the 0 of a ReLU is none that rounding moved.
    value = np.where(below == 0, function.offsets[:, 0], np.where(above == 0, function.offsets[:, 1], right))
    return None if np.any((below == 0) & (above == 0)) else Kink(position, value, below, above)


def _form(kink: Kink, *, absorbed: bool) -> Form:
    """The cheapest form."""
    below, above = kink.below, kink.above
    no_kink = below == above
    mirrored = above == 0
    if absorbed:
        # Mirrored, the factor is -s₁: positive where the function falls on the left.
        mirrored = mirrored | ((above < 0) & (below < 0))
    direction = np.where(mirrored, -1.0, 1.0)
    factor = np.where(mirrored, -below, above)
    negative_slope = np.where(
        no_kink, 1.0, np.where(mirrored, above, below) / np.where(factor == 0, 1.0, direction * factor)
    )
    slope = direction
    if absorbed:
        slope, factor = direction * np.abs(factor), np.sign(factor)
    if np.all(no_kink):
        return Form(
            above, np.zeros_like(above), np.ones_like(above), np.ones_like(above), kink.value - above * kink.position
        )
    return Form(slope, -slope * kink.position + 0.0, negative_slope, factor, kink.value + 0.0)


def _rewrite(graph: ir.Graph, node: ir.Node, source: ir.Value, form: Form) -> bool:
    value = node.outputs[0]
    if form.operators == 0:
        return bypass(graph, value, source)
    chain = Chain(graph, node, source, value.name or "prelu")
    chain.per_channel("Mul", form.slope, "slope")
    chain.per_channel("Add", form.shift, "shift")
    if not form.negative_slope.any():
        chain.then(ir.node("Relu", [chain.value]), "relu")
    else:
        chain.per_channel("PRelu", form.negative_slope, "negative_slope")
    chain.per_channel("Mul", form.factor, "factor")
    chain.per_channel("Add", form.offset, "offset")
    take_over(value, chain.value)
    return True
