"""Assignment through a mask as a choice: `y[mask] = v` is `torch.where(mask, v, y)`.

    Before:  mask ─ Expand ─ NonZero ─ Transpose ─ i          ScatterND(y, i, Reshape(Expand(v))) ─ z
    After:   Where(mask, v, y) ─ z

    Before:  GatherND(x, i) ─ Mul(-1) ─ v                     y[mask] = -x[mask]
    After:   x ─ Mul(-1) ─ v

The indices have as many rows as the mask has ones, which no static shape says; the choice has the shape of y.  What is
assigned must be one number, or computed element by element of what the same mask selects.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from bnncc.ir.graph import inherit_source, known_array, new_constant, replace_node, shape_of

# What works on each element alone.
ELEMENTWISE = {
    "Abs", "Add", "Cast", "CastLike", "Ceil", "Clip", "Div", "Erf", "Exp", "Floor", "Identity", "LeakyRelu", "Log",
    "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
# How far back two masks are compared.
DEPTH = 12


def choose_by_masks(model: ir.Model) -> bool:
    """Rewrite every such ScatterND whose mask has a known shape; True where there was one."""
    changed = False
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "ScatterND":
            changed |= _rewrite(model.graph, node)
    if changed:
        RemoveUnusedNodesPass()(model)
    return changed


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    data, indices, updates = node.inputs[:3]
    if data is None or updates is None or node.attributes.get_string("reduction", "none") != "none":
        return False
    mask = _mask_of(indices)
    shape = None if mask is None else shape_of(mask)
    if mask is None or shape is None or shape_of(data) is None or len(shape) != len(shape_of(data) or ()):
        return False
    made: dict[ir.Value, ir.Value] = {}
    value = _ungathered(graph, node, updates, mask, made)
    if value is None:
        return False
    replace_node(graph, node, ir.node("Where", [mask, value, data]))
    return True


def _mask_of(indices: ir.Value | None) -> ir.Value | None:
    """The mask whose ones `indices` are, one a row."""
    transpose = _producer(indices, "Transpose")
    nonzero = None if transpose is None else _producer(transpose.inputs[0], "NonZero")
    return None if nonzero is None else _behind(nonzero.inputs[0], {"Identity", "Expand"})


def _ungathered(
    graph: ir.Graph, before: ir.Node, value: ir.Value, mask: ir.Value, made: dict[ir.Value, ir.Value]
) -> ir.Value | None:
    """`value`, which has an element for each one of the mask, as a map of which these are chosen, or one number."""
    inner = _behind(value, {"Identity", "Reshape", "Expand"})
    if inner is None:
        return None
    if inner in made:
        return made[inner]
    array = known_array(inner)
    if array is not None or shape_of(inner) is not None:
        single = int(np.prod(array.shape if array is not None else shape_of(inner) or ())) == 1
        return _scalar(graph, before, inner) if single else None
    node = inner.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "GatherND" and node.attributes.get_int("batch_dims", 0) == 0:
        other = _mask_of(node.inputs[1])
        same = other is not None and _equal(other, mask, DEPTH)
        return node.inputs[0] if same else None
    if node.op_type not in ELEMENTWISE or len(node.outputs) != 1:
        return None
    operands = [None if one is None else _ungathered(graph, before, one, mask, made) for one in node.inputs]
    if any(new is None and old is not None for new, old in zip(operands, node.inputs, strict=True)):
        return None
    copy = ir.node(node.op_type, operands, dict(node.attributes))
    copy.outputs[0].name = f"{inner.name}/everywhere"
    copy.outputs[0].type = inner.type
    inherit_source([copy], node)
    graph.insert_before(before, copy)
    made[inner] = copy.outputs[0]
    return copy.outputs[0]


def _scalar(graph: ir.Graph, before: ir.Node, value: ir.Value) -> ir.Value:
    """A value of one element as one of rank 0, which broadcasts to everything."""
    if shape_of(value) == ():
        return value
    node = ir.node("Reshape", [value, new_constant(graph, np.zeros(0, np.int64), f"{value.name}/no_axes")])
    node.outputs[0].name, node.outputs[0].type = f"{value.name}/scalar", value.type
    graph.insert_before(before, node)
    return node.outputs[0]


def _behind(value: ir.Value | None, passed: set[str]) -> ir.Value | None:
    while value is not None and (node := value.producer()) is not None:
        if node.domain != "" or node.op_type not in passed:
            break
        value = node.inputs[0]
    return value


def _producer(value: ir.Value | None, operator: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.domain == "" and node.op_type == operator else None


def _equal(first: ir.Value | None, second: ir.Value | None, depth: int) -> bool:
    """Whether two values are computed alike."""
    if first is second:
        return True
    if first is None or second is None or depth == 0:
        return False
    arrays = [known_array(value) for value in (first, second)]
    if arrays[0] is not None and arrays[1] is not None:
        return arrays[0].dtype == arrays[1].dtype and np.array_equal(arrays[0], arrays[1])
    nodes = [_behind(value, {"Identity"}) for value in (first, second)]
    left, right = (None if value is None else value.producer() for value in nodes)
    if left is None or right is None:
        return nodes[0] is nodes[1]
    alike = (left.domain, left.op_type, len(left.inputs)) == (right.domain, right.op_type, len(right.inputs))
    if not alike or nodes[0].index() != nodes[1].index():  # type: ignore[union-attr]
        return False
    if _settings(left) != _settings(right):
        return False
    return all(_equal(*pair, depth - 1) for pair in zip(left.inputs, right.inputs, strict=True))


def _settings(node: ir.Node) -> Mapping[str, object]:
    return {name: str(attribute.value) for name, attribute in node.attributes.items()}
