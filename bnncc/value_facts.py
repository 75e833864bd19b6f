"""What is known of a value's elements from the operators that computed it: is it ±1, can it be exactly zero by
design?
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc import ops
from bnncc.graph import constant_of

# Operators that move elements without changing them.
MOVES = {
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Concat", "Gather",
    "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool",
}  # fmt: skip
# Operators that hold the axes, indices and the like of the above in their other inputs.
FIRST_INPUT_ONLY = MOVES - {"Concat"}
# Operators that yield exactly 0 for a whole range of inputs.
RECTIFIERS = {"Relu", "HardSwish", "HardSigmoid", "ThresholdedRelu", "Shrink", "Round", "Floor", "Ceil", "Cast", "Not"}


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs of a moving operator that carry elements."""
    given = [value for value in node.inputs if value is not None]
    return given[:1] if node.op_type in FIRST_INPUT_ONLY else given


def is_binary(value: ir.Value) -> bool:
    """True where every element is +1 or -1: a bnncc Sign's output, moved about, pooled by maximum or concatenated, or
    such a constant."""
    array = constant_of(value)
    if array is not None:
        return bool(np.all(np.abs(array) == 1)) and array.dtype == np.float32
    node = value.producer()
    if node is None:
        return False
    if ops.is_sign(node):
        return True
    return node.domain == "" and node.op_type in MOVES and all(is_binary(source) for source in data_inputs(node))


def has_structural_zeros(value: ir.Value) -> bool:
    """True where an element may be exactly 0 by design, not by chance: behind a ReLU, a zero pad, a clip at 0, a step.

    The sign of such an element is 0 in PyTorch, and no bit says that.
    """
    array = constant_of(value)
    if array is not None:
        return bool(np.any(array == 0))
    node = value.producer()
    if node is None or node.domain != "":
        return False
    if node.op_type in MOVES or node.op_type in (
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Neg",
        "Abs",
        "Sqrt",
    ):
        return any(has_structural_zeros(source) for source in data_inputs(node))
    if node.op_type in RECTIFIERS:
        return True
    if node.op_type == "Clip":
        return any(np.any(constant_of(bound) == 0) for bound in node.inputs[1:] if bound is not None) or _first(node)
    if node.op_type in ("PRelu", "LeakyRelu"):
        slope = constant_of(node.inputs[1]) if node.op_type == "PRelu" else _alpha(node)
        return slope is None or bool(np.any(slope == 0)) or _first(node)
    if node.op_type == "Pad":
        mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
        fill = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        return (mode == "constant" and (fill is None or bool(np.any(fill == 0)))) or _first(node)
    if node.op_type in ("Mul", "Div", "Max", "Min", "Where"):
        return any(has_structural_zeros(source) for source in node.inputs if source is not None)
    if node.op_type in ("Add", "Sub"):
        return all(has_structural_zeros(source) for source in node.inputs if source is not None)
    return False


def _first(node: ir.Node) -> bool:
    return node.inputs[0] is not None and has_structural_zeros(node.inputs[0])


def _alpha(node: ir.Node) -> npt.NDArray[np.float64]:
    return np.asarray(node.attributes["alpha"].as_float() if "alpha" in node.attributes else 0.01)
