"""Let a sum at which a binary convolution is 0 by design yield 0 in float32 as well.

    Before:  x ─ BinaryConv(s; m, b) ─ Sign        b = fl(-c·m) · (1 + ε)
    After:   x ─ BinaryConv(s; m, b') ─ Sign       b' ≥ -c·m, the least float32

Sums of 0 and 1 are c - 2·p for a c that is no 0: α·(Σw - conv(w, s))/2 is 0 where conv(w, s) is Σw.  That is common in
networks without a shift in front of the sign, and in untrained ones.  Multiplier and bias are products, each rounded by
itself, so m·c + b is some 1e-8 of either sign, and `m·c + b >= 0` as rounding has it.  Where -b/m is a whole number but
for rounding, the bias becomes what makes it 0, and no less, however a processor rounds m·c or does not.

What a sign reads alone is settled so: floats differ by the last bit, if at all.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, new_constant

# What the roundings of a multiplier and a bias may amount to, relative to their quotient: three products' halves of a
# unit, and less than what says > in place of ≥ (strict_threshold.py).
ROUNDINGS = 2.0**-22


class SettleTies(ir.passes.InPlacePass):
    """Look at every BinaryConv that signs alone read."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = [_settle(model.graph, node) for node in model.graph if ops.is_binary_conv(node)]
        return ir.passes.PassResult(model, modified=any(changed))


def _settle(graph: ir.Graph, conv: ir.Node) -> bool:
    y = conv.outputs[0]
    multiplier, bias = (constant_of(value) for value in conv.inputs[2:4])
    if multiplier is None or bias is None or y in graph.outputs:
        return False
    if not all(ops.is_sign(use.node) for use in y.uses()):
        return False
    m, b = multiplier.astype(np.float64), bias.astype(np.float64)
    zero = np.divide(-b, m, out=np.zeros_like(b), where=m != 0)
    whole = np.rint(zero)
    is_tie = (whole != 0) & (np.abs(zero - whole) <= ROUNDINGS * np.abs(whole))
    exact = -whole * m
    least = exact.astype(np.float32)
    least = np.where(least < exact, np.nextafter(least, np.float32(np.inf)), least)
    settled = np.where(is_tie, least, bias).astype(np.float32)
    if np.array_equal(settled, bias):
        return False
    conv.replace_input_with(3, new_constant(graph, settled, f"{y.name}/settled"))
    return True
