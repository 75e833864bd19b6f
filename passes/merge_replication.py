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
the copies, with their constants repeated (`repeat_channels`).  The copies' own operators may stand in front of the
Concat (`hoist_branches`).

Where something else reads v, too, its convolution stays beside the merged one.  A repeated binary value is left alone:
its packed words are repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, inherit_source, new_constant, shape_of, sole_consumer, take_over
from bnncc.ir.modes import ReplicationMode
from bnncc.passes.affine import Affine, affine_of, channel_vector
from bnncc.passes.cost import FLOAT_BYTES, WORD, CostModel
from bnncc.passes.hoist_branches import hoist_branches
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.repeat_channels import repeated_conv, repeated_operator
from bnncc.passes.replication import Replication, find_replication
from bnncc.passes.weighted_layer import has_filters

# Operators, with constants that vary along the channels at most, that work on every channel by itself.
POOLS = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
CHANNEL_WISE = POOLS | {"Relu", "Clip", "LeakyRelu", "PRelu"}


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
            hoisted = hoist_branches(graph, node)
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
                remove_unread(graph, [y.producer()])
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
            if has_filters(node):
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
        value = repeated_conv(graph, self.conv, indices, last)
        for node in self.between:
            value = repeated_operator(graph, node, value, indices, last)
        y = self.replication.y
        take_over(y, value)
        value.metadata_props.update(y.metadata_props)
        remove_unread(graph, [y.producer()])


def _bytes(value: ir.Value | None) -> int:
    shape = None if value is None else shape_of(value)
    return FLOAT_BYTES * int(np.prod(shape or (0,)))


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


def _sum_weights(graph: ir.Graph, replication: Replication) -> bool:
    """Let the float convolutions of a repeated value read the value once: Σ over its copies of their weights."""
    changed = False
    for use in list(replication.y.uses()):
        node = use.node
        if node.domain != "" or use.idx != 0 or not has_filters(node):
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
    remove_unread(graph, [y.producer()])
    return True
