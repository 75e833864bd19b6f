"""The fewest operators, and bytes of elementwise floats, with which LCE's operators can express a network.

Counted on the graph as soon as its binary layers are known, before any pass that saves operators.  What the algebra of
docs/architecture.md can take into something else counts nothing:

    constants per channel        into a multiplier and a bias, or a threshold
    ReLU, ReLU6, clips           into the activation of the operator in front
    signs                        one LceQuantize for each map that signs read; none where a binary convolution, or a
                                 max-pool of one, alone is read: it writes bits
    moves without data           Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Identity

Everything else is one operator.  No file may reach it: a sign whose threshold differs by channel reads an ADD where its
map is read by a shortcut too.
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.frontend import TracedModel
from bnncc.ir import ops
from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.graph import constant_of, element_count
from bnncc.ir.pass_runner import PassRunner
from bnncc.passes import PIPELINE
from bnncc.passes.affine import affine_of
from bnncc.passes.cost import FLOAT_BYTES

_IN_PLACE = {*RESHAPES, "Transpose", "Identity", "Cast", "Dropout"}
_FUSED = {"Relu", "Clip"}
_ELEMENTWISE = {
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu", "LeakyRelu", "Neg", "Abs", "Where", "Sigmoid",
    "Tanh", "HardSwish", "HardSigmoid",
}  # fmt: skip


def minimum(traced: TracedModel) -> tuple[int, int]:
    """(operators, bytes that elementwise ones read and write)."""
    model = traced.model.clone()
    ops.register(model)
    last = [step.name for step in PIPELINE].index("recognize-binary-conv")
    PassRunner().run(model, PIPELINE[: last + 1])
    operators, moved, quantized = 0, 0, set[ir.Value]()
    for node in model.graph:
        if ops.is_sign(node):
            quantized.add(_compared(node.inputs[0]))
            continue
        if node.op_type in _IN_PLACE | _FUSED or affine_of(node) is not None:
            continue
        operators += 1
        if node.op_type in _ELEMENTWISE and node.domain == "":
            computed = [value for value in node.inputs if value is not None and constant_of(value) is None]
            moved += FLOAT_BYTES * sum(map(element_count, (*computed, node.outputs[0])))
    return operators + sum(not _writes_bits(value) for value in quantized), moved


def _compared(value: ir.Value | None) -> ir.Value:
    """The map whose thresholds a sign of `value` is."""
    assert value is not None
    while (node := value.producer()) is not None and node.domain == "":
        step = affine_of(node)
        follows = step is not None or node.op_type in _IN_PLACE | _FUSED | {"MaxPool"}
        source = step[0] if step is not None else node.inputs[0] if node.inputs else None
        if not follows or source is None:
            break
        value = source
    return value


def _writes_bits(value: ir.Value) -> bool:
    return ops.is_binary_conv(value.producer()) and len(value.uses()) == 1
