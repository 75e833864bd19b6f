"""Turn every binariser that yields ±1 into bnncc's Sign.

    Before:  x ─ Sign ─ y                      Before:  x ─ Pad(0) ─ Sign ─ y
    After:   x ─ bnncc.Sign ─ y                After:   x ─ bnncc.Sign ─ Pad(0) ─ y

ONNX's Sign yields 0 for 0, bnncc's yields +1.  Where an exact 0 is chance (a sum that happens to cancel) the two are
the same network; the check counts such zeros.  Where it is by design (behind a ReLU, in a zero pad, a pixel of the
input) they are not: a zero pad moves behind the sign, where the convolution takes it as its own padding, and any other
such sign is left as it is, or read as the user says.
"""

from __future__ import annotations

import enum

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, inherit_source, replace_node, take_over
from bnncc.ir.value_facts import may_equal_by_design
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.elementwise import rests_at


class SignOfZero(enum.Enum):
    """What torch.sign makes of zeros by design: 0, as PyTorch, which no bit says; or +1."""

    ZERO = "zero"
    PLUS_ONE = "plus-one"


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
        pad = x.producer()
        if _is_zero_pad(pad) and pad is not None and pad.inputs[0] is not None:
            if self._holds_zeros(pad.inputs[0]):
                return False
            _move_pad_behind(graph, pad, node)
            return True
        if self._holds_zeros(x):
            return False
        replace_node(graph, node, ops.sign(x))
        return True

    def _holds_zeros(self, value: ir.Value) -> bool:
        """Whether `value` may be 0 by design, and that makes a difference."""
        return self.sign_of_zero is SignOfZero.ZERO and (may_equal_by_design(value, 0.0) or rests_at(value, 0.0))


def _is_zero_pad(node: ir.Node | None) -> bool:
    if node is None or node.domain != "" or node.op_type != "Pad":
        return False
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    number = constant_of(fill)
    return mode == "constant" and (fill is None or (number is not None and not np.any(number)))


def _move_pad_behind(graph: ir.Graph, pad: ir.Node, sign: ir.Node) -> None:
    assert pad.inputs[0] is not None
    inner = ops.sign(pad.inputs[0])
    inner.outputs[0].name = f"{sign.outputs[0].name}/unpadded"
    outer = ir.node("Pad", [inner.outputs[0], *pad.inputs[1:]], dict(pad.attributes))
    inherit_source([inner], sign)
    inherit_source([outer], pad)
    graph.insert_before(sign, [inner, outer])
    take_over(sign.outputs[0], outer.outputs[0])
    graph.remove(sign, safe=True)
