"""Turn every binariser that yields ±1 into bnncc's Sign.

    Before:  x ─ Sign ─ y              Before:  x ─ Pad(0) ─ Reshape ─ Sign ─ y
    After:   x ─ bnncc.Sign ─ y        After:   x ─ bnncc.Sign ─ Pad(0) ─ Reshape ─ y

ONNX's Sign yields 0 for 0, bnncc's yields +1.  Where an exact 0 is chance (a sum that happens to cancel) the two are
the same network; the check counts such zeros.  Where it is by design (behind a ReLU, in a zero pad, a pixel of the
input) they are not.  A zero pad moves behind the sign, with what moves elements behind it: there the convolution takes
it as its own padding, or `fill_known_zeros` knows the places.  What is never negative, as a sum of ReLUs, has a sign
of two values, 0 and 1:

    Before:  x ≥ 0 ─ Sign ─ y
    After:   x ─ Mul(-1) ─ bnncc.Sign ─ Mul(-½) ─ Add(½) ─ y

Any other such sign is left as it is, or read as the user says.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.bit_moves import pad_mode, pad_value
from bnncc.ir.graph import THREE_VALUED_KEY, inherit_source, replace_node, shape_of, sole_consumer, take_over
from bnncc.ir.modes import SignOfZero
from bnncc.ir.value_facts import MOVES, data_inputs, may_equal_by_design
from bnncc.passes.binarizer import Binarizer
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.elementwise import rests_at
from bnncc.passes.insertion import insert_copy
from bnncc.passes.ranges import is_never_negative
from bnncc.passes.recognize_steps import replace_by_sign
from bnncc.passes.remove_unused import remove_unread


class RecognizeSign(ir.passes.InPlacePass):
    """Replace ONNX's Sign where no structural zero reaches it, or where zeros are +1."""

    def __init__(self, sign_of_zero: SignOfZero = SignOfZero.ZERO) -> None:
        super().__init__()
        self.sign_of_zero = sign_of_zero

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, self._recognize))

    def _recognize(self, graph: ir.Graph, node: ir.Node) -> bool:
        # bnncc's Sign yields float32, so that of an integer stays.
        if node.domain != "" or node.op_type != "Sign" or node.outputs[0].dtype != ir.DataType.FLOAT:
            return False
        x = node.inputs[0]
        assert x is not None
        padded = _padded_by_zeros(graph, x)
        if padded is not None:
            source = padded[-1].inputs[0]
            assert source is not None
            if self._holds_zeros(source):
                return False
            _move_behind(graph, padded, node)
            return True
        if self._holds_zeros(x):
            return bool(shape_of(x)) and is_never_negative(x) and _compare_with_zero(graph, node)
        if shape_of(x) == ():  # has no channels, along which bits lie: `recognize_steps` gives it some
            return False
        sign = ops.sign(x)
        sign.metadata_props[THREE_VALUED_KEY] = "1"
        replace_node(graph, node, sign)
        return True

    def _holds_zeros(self, value: ir.Value) -> bool:
        """Whether `value` may be 0 by design, and that makes a difference."""
        return self.sign_of_zero is SignOfZero.ZERO and (may_equal_by_design(value, 0.0) or rests_at(value, 0.0))


def _padded_by_zeros(graph: ir.Graph, x: ir.Value) -> list[ir.Node] | None:
    """What computes `x` from a value that may be binarised instead: a Pad with zeros, last, and moves behind it."""
    passed: list[ir.Node] = []
    while (node := x.producer()) is not None and node.domain == "":
        passed.append(node)
        if node.op_type == "Pad":
            return passed if pad_mode(node) == "constant" and pad_value(node) == 0 else None
        # A maximum of ±1 and of zeros leaves zeros, and where they are depends on the signs.
        if node.op_type not in MOVES - {"MaxPool"} or len(data_inputs(node)) > 1 or len(node.outputs) > 1:
            return None
        x = data_inputs(node)[0]
        if sole_consumer(graph, x) is None:
            return None
    return None


def _compare_with_zero(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace the Sign of what is never negative."""
    x, half = node.inputs[0], np.array([0.5])
    assert x is not None
    replace_by_sign(graph, node, Binarizer(np.array([-1.0]), np.zeros(1), -half, half, x, None, 0.0, False))
    graph.remove(node, safe=True)
    return True


def _move_behind(graph: ir.Graph, nodes: list[ir.Node], sign: ir.Node) -> None:
    """Put copies of `nodes`, of which the last comes first, behind a sign of what they read."""
    pad = nodes[-1]
    assert pad.inputs[0] is not None
    inner = ops.sign(pad.inputs[0])
    inner.outputs[0].name = f"{sign.outputs[0].name}/unpadded"
    inner.metadata_props[THREE_VALUED_KEY] = "1"
    inherit_source([inner], sign)
    graph.insert_before(sign, inner)
    moved = inner.outputs[0]
    for node in reversed(nodes):
        (moved,) = insert_copy(graph, node, [moved], sign, "signs")
    take_over(sign.outputs[0], moved)
    graph.remove(sign, safe=True)
    remove_unread(graph, nodes)
