"""Bring the copies of one value together in front of the operators that each of them had for itself.

    Before:  v ─┬─ BatchNormalization ─ PRelu ─┐
                └─ BatchNormalization ─ PRelu ─ Concat ─ y
    After:   v ─ Concat(v, v) ─ Mul ─ Add ─ PRelu ─ y        their constants one after the other

The branches are read as stages, one affine or one PRelu or Relu each, and put side by side; an affine that a branch
lacks is the identity there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import constant_of, new_constant, shape_of, sole_consumer, take_over
from bnncc.passes.affine import Affine, affine_of, channel_vector
from bnncc.passes.insertion import insert
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.weighted_layer import has_filters

Stage = Affine | tuple[ir.Node, npt.NDArray[np.float64] | None]


def hoist_branches(graph: ir.Graph, concat: ir.Node) -> ir.Value | None:
    """Move the operators of branches from one convolution behind their Concat; returns the Concat of that one value.

    None where the inputs of `concat` are no such branches.
    """
    if concat.domain != "" or concat.op_type != "Concat" or concat.attributes["axis"].as_int() != 1:
        return None
    values = [value for value in concat.inputs if value is not None]
    if len(values) < 2 or len(shape_of(concat.outputs[0]) or ()) != 4:
        return None
    branches = [_branch(graph, value) for value in values]
    x = branches[0][0]
    if any(root is not x for root, _ in branches) or not any(stages for _, stages in branches):
        return None
    node = x.producer()
    if node is None or not has_filters(node):
        return None
    aligned = _align([stages for _, stages in branches], (shape_of(x) or (0, 0))[1])
    if aligned is None:
        return None
    y = concat.outputs[0]
    repeated = ir.node("Concat", [x] * len(values), {"axis": 1})
    value = insert(graph, repeated, concat, name=f"{y.name}/repeated", like=y)
    result = value
    for position, stage in enumerate(aligned):
        result = _emit_stage(graph, stage, result, f"{y.name}/{position}", concat)
    take_over(y, result)
    result.metadata_props.update(y.metadata_props)
    remove_unread(graph, [y.producer()])
    return value


def _branch(graph: ir.Graph, value: ir.Value) -> tuple[ir.Value, list[Stage]]:
    """(the value that a branch starts from, its operators in order, with neighbouring affines composed)."""
    stages: list[Stage] = []
    while (node := value.producer()) is not None and sole_consumer(graph, value) is not None:
        shape = shape_of(value)
        step = affine_of(node)
        if step is not None:
            if stages and isinstance(stages[0], Affine):
                stages[0] = step[1].then(stages[0])
            else:
                stages.insert(0, step[1])
            value = step[0]
            continue
        if node.domain != "" or node.op_type not in ("PRelu", "Relu") or shape is None or node.inputs[0] is None:
            break
        slopes = channel_vector(constant_of(node.inputs[1]), shape) if node.op_type == "PRelu" else None
        if node.op_type == "PRelu" and slopes is None:
            break
        stages.insert(0, (node, slopes))
        value = node.inputs[0]
    return value, stages


def _align(branches: list[list[Stage]], channels: int) -> list[Stage] | None:
    """One stage for all branches at each step; None where their operators differ."""
    queues = [list(stages) for stages in branches]
    aligned: list[Stage] = []
    while any(queues):
        heads = [queue[0] if queue else None for queue in queues]
        if any(isinstance(head, Affine) for head in heads):
            parts = [head if isinstance(head, Affine) else Affine.identity(channels) for head in heads]
            scale, shift = (np.concatenate([getattr(part, what) for part in parts]) for what in ("scale", "shift"))
            aligned.append(Affine(scale, shift))
            queues = [
                queue[1:] if isinstance(head, Affine) else queue for queue, head in zip(queues, heads, strict=True)
            ]
            continue
        operators = [head for head in heads if head is not None and not isinstance(head, Affine)]
        if len(operators) != len(queues) or len({node.op_type for node, _ in operators}) != 1:
            return None
        slopes = [vector for _, vector in operators if vector is not None]
        aligned.append((operators[0][0], np.concatenate(slopes) if slopes else None))
        queues = [queue[1:] for queue in queues]
    return aligned


def _emit_stage(graph: ir.Graph, stage: Stage, x: ir.Value, name: str, before: ir.Node) -> ir.Value:
    if not isinstance(stage, Affine):
        node, slopes = stage
        operands = [] if slopes is None else [new_constant(graph, _along_channels(slopes), f"{name}/slopes")]
        copy = ir.node(node.op_type, [x, *operands])
        return insert(graph, copy, before, name=f"{name}/{node.op_type.lower()}", like=x, origin=node)
    for operator, vector, unit in (("Mul", stage.scale, 1.0), ("Add", stage.shift, 0.0)):
        if np.any(vector != unit):
            constant = new_constant(
                graph, _along_channels(vector), f"{name}/{'scale' if operator == 'Mul' else 'shift'}"
            )
            x = insert(graph, ir.node(operator, [x, constant]), before, name=f"{name}/{operator.lower()}", like=x)
    return x


def _along_channels(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return vector.astype(np.float32).reshape(1, -1, 1, 1)
