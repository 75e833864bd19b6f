"""Let a sum at which a binary convolution is 0 by design yield 0 in float32 as well.

    Before:  x ─ BinaryConv(s; m, b) ─ Sign             b = fl(-c·m) · (1 + ε)
    After:   x ─ BinaryConv(s; m, b') ─ Sign            b' ≥ -c·m, the least float32

    Before:  x ─ BinaryConv(s; m, b) ─ Add(k) ─ Sign    k [C, H, W]: what padding with -1 adds
    After:   x ─ BinaryConv(s; m, b) ─ Add(k') ─ Sign   k' ≥ -(c·m + b)

Sums of 0 and 1 are c - 2·p for a c that is no 0: α·(Σw - conv(w, s))/2 is 0 where conv(w, s) is Σw.  That is common in
networks without a shift in front of the sign, and in untrained ones.  Multiplier, bias and what is added are products,
each rounded by itself, so m·c + b is some 1e-8 of either sign, and `m·c + b >= 0` as rounding has it.  Where -b/m is a
whole number but for rounding, the constant becomes what makes it 0, and no less, however a processor rounds m·c or does
not.  LCE subtracts what zero padding has added wrongly from the float result, two roundings more: there, and behind an
Add, the result is made larger than those; the next sum is -m away.

What a sign reads alone is settled so: floats differ by the last bit, if at all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, new_constant, shape_of
from bnncc.passes.threshold import can_yield_bits

Floats = npt.NDArray[np.float64]

# What the roundings of a multiplier and of constants may amount to, relative to their quotient: three products' halves
# of a unit, and less than what says > in place of ≥ (strict_threshold.py).
ROUNDINGS = 2.0**-22


class SettleTies(ir.passes.InPlacePass):
    """Look at every BinaryConv that signs alone read, and at what is added to one that they read."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = [_settle(model.graph, node) for node in model.graph if ops.is_binary_conv(node)]
        return ir.passes.PassResult(model, modified=any(changed))


def _settle(graph: ir.Graph, conv: ir.Node) -> bool:
    multiplier, bias, signs = (constant_of(conv.inputs[index]) for index in (2, 3, 1))
    if multiplier is None or bias is None or signs is None:
        return False
    m, b = multiplier.astype(np.float64), bias.astype(np.float64)
    size = signs[0].size * np.abs(m) + np.abs(b)
    if _is_read_by_signs(graph, conv.outputs[0]):
        tie, is_tie = _ties(m, b, np.zeros(1))
        margin = 0.0 if can_yield_bits(conv) else ROUNDINGS * size
        return _replace(graph, conv, 3, bias, np.where(is_tie, _least(margin - tie * m), bias))
    changed = False
    for add in [use.node for use in conv.outputs[0].uses()]:
        index = 1 if add.inputs[0] is conv.outputs[0] else 0
        added = constant_of(add.inputs[index]) if add.domain == "" and add.op_type == "Add" else None
        shape = shape_of(add.outputs[0])
        if added is None or shape != shape_of(conv.outputs[0]) or not _is_read_by_signs(graph, add.outputs[0]):
            continue
        scale, shift, sizes = (array.reshape(-1, 1, 1) for array in (m, b, size))
        tie, is_tie = _ties(scale, shift, added.astype(np.float64))
        settled = _least(ROUNDINGS * (sizes + np.abs(added)) - (tie * scale + shift))
        if is_tie.any():
            changed |= _replace(graph, add, index, added, np.where(is_tie, settled, added))
    return changed


def _is_read_by_signs(graph: ir.Graph, value: ir.Value) -> bool:
    return value not in graph.outputs and all(ops.is_sign(use.node) for use in value.uses())


def _ties(m: Floats, b: Floats, added: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(the whole sum nearest to where m·sum + b + added is 0, where that is no more than rounding away)."""
    zero = np.divide(-(b + added), m, out=np.zeros(np.broadcast_shapes(m.shape, added.shape)), where=m != 0)
    whole: Floats = np.rint(zero)
    near = np.abs(zero - whole) * np.abs(m) <= ROUNDINGS * (np.abs(b) + np.abs(added))
    return whole, (m != 0) & near


def _least(exact: Floats) -> npt.NDArray[np.float32]:
    """The least float32 that is no smaller."""
    rounded = exact.astype(np.float32)
    return np.where(rounded < exact, np.nextafter(rounded, np.float32(np.inf)), rounded)


def _replace(
    graph: ir.Graph, node: ir.Node, index: int, before: npt.NDArray[np.generic], after: npt.NDArray[np.float64]
) -> bool:
    settled = after.astype(np.float32)
    if np.array_equal(settled, before):
        return False
    node.replace_input_with(index, new_constant(graph, settled, f"{node.outputs[0].name}/settled"))
    return True
