"""Compute the copies of a convolution's output by the convolution itself, where that is faster than copying.

    Before:  x ─ BinaryConv(s [O, …]; m, b) ─ v ─ Concat(v, v) ─ BatchNormalization [2·O] ─ y
    merge:   x ─ BinaryConv(s, s [2·O, …]; m, m; b, b) ─ BatchNormalization ─ y          folded next: one operator
    repeat:  x ─ BinaryConv(s; m, b) ─ v ─ Concat(v, v) ─ BatchNormalization ─ y         folded next: Mul and Add

    Before:  v ─ Concat(v, v) ─ Conv(W [O, 2·C, …]) ─ y
    After:   v ─ Conv(W[:, :C] + W[:, C:]) ─ y

RepConv: channels doubled by repeating a binary convolution's output, each copy with its own batch norm and slope.
*Merge* multiplies again what is known already, in bits; *repeat* reads and writes floats.  The target's cost model
decides for each layer, or `--replication`.

Operators that treat every channel by itself may stand between the convolution and the repetition: they are applied to
the copies, with their constants repeated.  The copies' own operators may stand in front of the Concat:

    Before:  v ─┬─ BatchNormalization ─ PRelu ─┐
                └─ BatchNormalization ─ PRelu ─ Concat ─ y
    After:   v ─ Concat(v, v) ─ Mul ─ Add ─ PRelu ─ y        their constants one after the other

Where something else reads v, too, its convolution stays beside the merged one.  A repeated binary value is left alone:
its packed words are repeated.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import (
    CONV_KEY,
    INPUT_CHANNELS_KEY,
    OUTPUT_CHANNELS_KEY,
    STEP_WEIGHTS_KEY,
    TRACED_KEY,
    ZERO_WEIGHTS_KEY,
    constant_of,
    inherit_source,
    new_constant,
    shape_of,
    sole_consumer,
    take_over,
)
from bnncc.passes.affine import Affine, affine_of, channel_vector
from bnncc.passes.cost import FLOAT_BYTES, WORD, CostModel
from bnncc.passes.replication import Indices, Replication, find_replication

# Operators, with constants that vary along the channels at most, that work on every channel by itself.
POOLS = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
CHANNEL_WISE = POOLS | {"Relu", "Clip", "LeakyRelu", "PRelu"}
# Metadata of a BinaryConv that stays true for its copies.
KEPT = (CONV_KEY, INPUT_CHANNELS_KEY, STEP_WEIGHTS_KEY, TRACED_KEY, ZERO_WEIGHTS_KEY)


class ReplicationMode(enum.Enum):
    """How the repetition of a convolution's output is computed."""

    AUTO = "auto"
    MERGE = "merge"
    REPEAT = "repeat"


class MergeReplication(ir.passes.InPlacePass):
    """Merge or normalise every repetition along the channels.

    cost: the target's, for `AUTO`, which merges without one.
    """

    def __init__(self, mode: ReplicationMode = ReplicationMode.AUTO, cost: CostModel | None = None) -> None:
        super().__init__()
        self.mode = mode
        self.cost = cost

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        changed = False
        for node in list(graph):
            if node.graph is None:
                continue
            y = node.outputs[0]
            hoisted = _hoist_branches(graph, node)
            if hoisted is not None:
                y, changed = hoisted, True
            found = find_replication(model, y)
            if found is None:
                continue
            changed |= _sum_weights(graph, found)
            if y.uses() or y in graph.outputs:
                root = _Root.above(graph, found)
                if root is not None and self._merges(root):
                    root.merge(graph)
                    changed = True
                else:
                    changed |= _normalize(graph, found)
            else:
                _remove_unused(graph, [y])
        return ir.passes.PassResult(model, modified=changed)

    def _merges(self, root: _Root) -> bool:
        if self.mode is ReplicationMode.REPEAT:
            return False
        if self.mode is ReplicationMode.MERGE:
            # A float convolution is not computed twice for the sake of its copies.
            return root.exclusive or ops.is_binary_conv(root.conv)
        return (
            root.exclusive if self.cost is None else root.seconds_merged(self.cost) <= root.seconds_repeated(self.cost)
        )


@dataclass
class _Root:
    """The convolution whose output, through `between` (in the graph's order), is repeated.

    exclusive: nothing but the repetition reads any of it.
    """

    conv: ir.Node
    between: list[ir.Node]
    replication: Replication
    exclusive: bool
    affines_behind: int

    @classmethod
    def above(cls, graph: ir.Graph, replication: Replication) -> _Root | None:
        between: list[ir.Node] = []
        value = replication.x
        exclusive = value not in graph.outputs and all(use.node in replication.nodes for use in value.uses())
        while True:
            node = value.producer()
            if node is None:
                return None
            if _has_filters(node):
                return cls(node, between[::-1], replication, exclusive, _affines_behind(graph, replication.y))
            if not _is_channel_wise(node):
                return None
            between.append(node)
            value = next(operand for operand in node.inputs if operand is not None and constant_of(operand) is None)
            exclusive &= sole_consumer(graph, value) is not None

    def seconds_merged(self, cost: CostModel) -> float:
        copies = self.replication.copies
        times = copies if self.exclusive else copies + 1
        arithmetic = self._macs(cost, times)
        passes = sum(_bytes(node.inputs[0]) + _bytes(node.outputs[0]) for node in self._computed())
        written = _bytes(self.conv.outputs[0]) * times
        return arithmetic + cost(moved_bytes=written + passes * copies, operators=1 + len(self._computed()))

    def seconds_repeated(self, cost: CostModel) -> float:
        passes = sum(_bytes(node.inputs[0]) + _bytes(node.outputs[0]) for node in self._computed())
        copied = 2 * _bytes(self.replication.y) * (1 + self.affines_behind)
        moved = _bytes(self.conv.outputs[0]) + passes + copied
        operators = 2 + len(self._computed()) + self.affines_behind
        return self._macs(cost, 1) + cost(moved_bytes=moved, operators=operators)

    def _macs(self, cost: CostModel, times: int) -> float:
        weight, result = shape_of(self.conv.inputs[1]) if self.conv.inputs[1] else None, shape_of(self.conv.outputs[0])
        assert weight is not None
        assert result is not None
        outputs = int(np.prod(result)) * int(np.prod(weight[2:])) * times
        if ops.is_binary_conv(self.conv):
            return cost(binary_macs=outputs * WORD * -(-weight[1] // WORD))
        return cost(float_macs=outputs * weight[1])

    def _computed(self) -> list[ir.Node]:
        """What stays an operator: the affines are folded."""
        return [node for node in self.between if affine_of(node) is None]

    def merge(self, graph: ir.Graph) -> None:
        indices, last = self.replication.indices, self.replication.y.producer()
        assert last is not None
        value = _repeated_conv(graph, self.conv, indices, last)
        for node in self.between:
            value = _repeated_operator(graph, node, value, indices, last)
        y = self.replication.y
        take_over(y, value)
        value.metadata_props.update(y.metadata_props)
        _remove_unused(graph, [y])


def _bytes(value: ir.Value | None) -> int:
    shape = None if value is None else shape_of(value)
    return FLOAT_BYTES * int(np.prod(shape or (0,)))


def _has_filters(node: ir.Node) -> bool:
    """True for a Conv or BinaryConv [N, C, H, W] of one group whose weights are constant."""
    if not (ops.is_binary_conv(node) or (node.domain == "" and node.op_type == "Conv")):
        return False
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    constants = [constant_of(value) for value in node.inputs[1:] if value is not None]
    return group == 1 and all(array is not None for array in constants) and len(shape_of(node.outputs[0]) or ()) == 4


def _is_channel_wise(node: ir.Node) -> bool:
    if node.domain != "" or len([value for value in node.outputs if value.uses()]) > 1:
        return False
    if affine_of(node) is not None:
        return True
    if node.op_type not in CHANNEL_WISE:
        return False
    if node.op_type == "PRelu":
        shape = shape_of(node.outputs[0])
        return shape is not None and channel_vector(constant_of(node.inputs[1]), shape) is not None
    return all(value is None or constant_of(value) is not None for value in node.inputs[1:])


def _affines_behind(graph: ir.Graph, y: ir.Value) -> int:
    """How many of Mul and Add the copies' own affine operators come to."""
    shape = shape_of(y)
    assert shape is not None
    total = Affine.identity(shape[1])
    while (node := sole_consumer(graph, y)) is not None and (step := affine_of(node)) is not None:
        total, y = total.then(step[1]), node.outputs[0]
    return int(np.any(total.scale != 1)) + int(np.any(total.shift != 0))


def _repeated_conv(graph: ir.Graph, conv: ir.Node, indices: Indices, before: ir.Node) -> ir.Value:
    name = f"{conv.outputs[0].name}/repeated"
    inputs: list[ir.Value | None] = []
    for value in conv.inputs[1:]:
        array = constant_of(value)
        if value is None or array is None:
            inputs.append(None)
        else:
            inputs.append(new_constant(graph, array[indices], f"{value.name}/repeated"))
    copy = ir.node(conv.op_type, [conv.inputs[0], *inputs], dict(conv.attributes), domain=conv.domain)
    if ops.is_binary_conv(conv):
        for key in KEPT:
            if key in conv.metadata_props:
                copy.metadata_props[key] = conv.metadata_props[key]
        entry = conv.metadata_props.get(OUTPUT_CHANNELS_KEY)
        rows = json.loads(entry) if entry else range(int(indices.max()) + 1)
        copy.metadata_props[OUTPUT_CHANNELS_KEY] = json.dumps([rows[index] for index in indices.tolist()])
    else:
        copy.metadata_props.update(conv.metadata_props)
    return _insert(graph, copy, conv, name, indices.size, before)


def _repeated_operator(graph: ir.Graph, node: ir.Node, value: ir.Value, indices: Indices, before: ir.Node) -> ir.Value:
    """`node` on the repeated `value`, with the constants that vary along the channels repeated."""
    channels, rank = int(indices.max()) + 1, len(shape_of(node.outputs[0]) or ())
    inputs: list[ir.Value | None] = []
    for operand in node.inputs:
        array = constant_of(operand)
        if array is None or operand is None:
            inputs.append(None if operand is None else value)
            continue
        # BatchNormalization's vectors are [C]; what broadcasts has the channels on the axis that aligns with axis 1.
        axis = 0 if node.op_type == "BatchNormalization" else array.ndim - rank + 1
        varies = 0 <= axis < array.ndim and array.shape[axis] == channels > 1
        repeated = new_constant(graph, array.take(indices, axis), f"{operand.name}/repeated") if varies else operand
        inputs.append(repeated)
    copy = ir.node(node.op_type, inputs, dict(node.attributes), num_outputs=1)
    return _insert(graph, copy, node, f"{node.outputs[0].name}/repeated", indices.size, before)


def _insert(graph: ir.Graph, copy: ir.Node, origin: ir.Node, name: str, channels: int, before: ir.Node) -> ir.Value:
    shape = shape_of(origin.outputs[0])
    assert shape is not None
    result = copy.outputs[0]
    result.name, result.type = name, origin.outputs[0].type
    result.shape = ir.Shape((shape[0], channels, *shape[2:]))
    inherit_source([copy], origin)
    graph.insert_before(before, copy)
    return result


def _sum_weights(graph: ir.Graph, replication: Replication) -> bool:
    """Let the float convolutions of a repeated value read the value once: Σ over its copies of their weights."""
    changed = False
    for use in list(replication.y.uses()):
        node = use.node
        if node.domain != "" or use.idx != 0 or not _has_filters(node):
            continue
        filters = constant_of(node.inputs[1])
        assert filters is not None
        shape = (filters.shape[0], int(replication.indices.max()) + 1, *filters.shape[2:])
        summed = np.zeros(shape, np.float64)
        for position, channel in enumerate(replication.indices.tolist()):
            summed[:, channel] += filters[:, position].astype(np.float64)
        name = node.inputs[1].name if node.inputs[1] is not None else None
        node.replace_input_with(1, new_constant(graph, summed.astype(np.float32), f"{name}/summed"))
        node.replace_input_with(0, replication.x)
        changed = True
    return changed


def _normalize(graph: ir.Graph, replication: Replication) -> bool:
    """Spell a repetition as one Concat (one Gather where the copies of a channel are neighbours)."""
    last, (x, y) = replication.y.producer(), (replication.x, replication.y)
    assert last is not None
    if len(replication.nodes) == 1 and last.op_type in ("Concat", "Gather"):
        return False
    if replication.is_tiled:
        node = ir.node("Concat", [x] * replication.copies, {"axis": 1})
    else:
        node = ir.node("Gather", [x, new_constant(graph, replication.indices, f"{y.name}/channels")], {"axis": 1})
    inherit_source([node], last)
    graph.insert_before(last, node)
    take_over(y, node.outputs[0])
    node.outputs[0].metadata_props.update(y.metadata_props)
    _remove_unused(graph, [y])
    return True


def _remove_unused(graph: ir.Graph, values: Sequence[ir.Value]) -> None:
    pending = [value.producer() for value in values]
    while pending:
        node = pending.pop()
        if node is None or node.graph is None or any(v.uses() or v in graph.outputs for v in node.outputs):
            continue
        pending.extend(value.producer() for value in node.inputs if value is not None)
        graph.remove(node, safe=True)


# The copies' own operators in front of the Concat


Stage = Affine | tuple[ir.Node, npt.NDArray[np.float64] | None]


def _hoist_branches(graph: ir.Graph, concat: ir.Node) -> ir.Value | None:
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
    if node is None or not _has_filters(node):
        return None
    aligned = _align([stages for _, stages in branches], (shape_of(x) or (0, 0))[1])
    if aligned is None:
        return None
    y = concat.outputs[0]
    repeated = ir.node("Concat", [x] * len(values), {"axis": 1})
    value = _insert(graph, repeated, concat, f"{y.name}/repeated", len(values) * (shape_of(x) or (0, 0))[1], concat)
    result = value
    for position, stage in enumerate(aligned):
        result = _emit_stage(graph, stage, result, f"{y.name}/{position}", concat)
    take_over(y, result)
    result.metadata_props.update(y.metadata_props)
    _remove_unused(graph, [y])
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
        return _append(graph, ir.node(node.op_type, [x, *operands]), x, name, node, before)
    for operator, vector, unit in (("Mul", stage.scale, 1.0), ("Add", stage.shift, 0.0)):
        if np.any(vector != unit):
            constant = new_constant(
                graph, _along_channels(vector), f"{name}/{'scale' if operator == 'Mul' else 'shift'}"
            )
            x = _append(graph, ir.node(operator, [x, constant]), x, name, before, before)
    return x


def _append(graph: ir.Graph, node: ir.Node, x: ir.Value, name: str, origin: ir.Node, before: ir.Node) -> ir.Value:
    result = node.outputs[0]
    result.name, result.shape, result.type = f"{name}/{node.op_type.lower()}", x.shape, x.type
    inherit_source([node], origin)
    graph.insert_before(before, node)
    return result


def _along_channels(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return vector.astype(np.float32).reshape(1, -1, 1, 1)
