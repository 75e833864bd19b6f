"""Which layer of the user's network an operator of the file belongs to."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from bnncc.ir.graph import MODULE_KEY
from bnncc.targets.tflite.integer_file import SUFFIX
from bnncc.targets.tflite.lowerings.lce import PACKED_SUFFIX
from bnncc.targets.tflite.reader import Operator

# An operator that is an activation itself, not one with an activation of its own.
CLIPS = ("RELU", "RELU6", "RELU_N1_TO_1", "MINIMUM", "MAXIMUM")


def values_by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    """What the nodes of the lowered graph yield."""
    return {value.name or "": value for node in graph for value in node.outputs}


def names_of_value(tensor: str) -> tuple[str, ...]:
    """What the value may be called that a tensor holds, as it is, as bits or as int8."""
    return tensor, tensor.removesuffix(PACKED_SUFFIX), tensor.removesuffix(SUFFIX)


def module_of(operator: Operator, values: Mapping[str, ir.Value]) -> str:
    """The module path of the layer that an operator of a file belongs to, else its output's name.

    values: of the graph that was lowered, by their names.
    """
    name = operator.outputs[0].name
    value = next((values[one] for one in names_of_value(name) if one in values), None)
    node = value.producer() if value is not None else None
    before = node.inputs[0].producer() if node is not None and node.inputs and node.inputs[0] is not None else None
    if node is not None and before is not None and node.op_type in ("Relu", "Clip") and operator.name not in CLIPS:
        node = before  # the operator applies the activation itself
    module = node.metadata_props.get(MODULE_KEY) if node is not None else None
    return module or name
