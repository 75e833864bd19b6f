"""Compute the convolutions of a map's parts, side by side, as one convolution in groups.

    Before:  x [N, C, H, W] ─ Split ─┬─ Conv(W₁) ─┐
                                     ├─ Conv(W₂) ─ Concat ─ y
                                     └─ …
    After:   x ─ Conv([W₁; W₂; …], group = G) ─ y

That is what a grouped convolution is.  Networks from before frameworks had one spell it so.  Each Conv may have groups
of its own; then there are as many more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.bit_moves import slice_ranges
from bnncc.ir.graph import constant_of, inherit_source, new_constant, replace_node, shape_of, sole_consumer
from bnncc.ir.left_in_float import Reason
from bnncc.passes.each_node import rewrite_each

CHANNELS = 1


class JoinGroups(ir.passes.InPlacePass):
    """Join the float Convs whose outputs a Concat puts side by side, where they read a map's equal parts in sequence.

    Layers of which the report says why they stay in float are left as they are.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _join))


def _join(graph: ir.Graph, node: ir.Node) -> bool:
    if node.op_type != "Concat" or node.domain != "" or node.attributes["axis"].as_int() != CHANNELS:
        return False
    found = [_own_convolution(graph, value) for value in node.inputs]
    convolutions = [conv for conv in found if conv is not None]
    if len(convolutions) < max(2, len(found)) or len({_geometry(conv) for conv in convolutions}) > 1:
        return False
    weights = [constant_of(conv.inputs[1]) for conv in convolutions]
    known = [weight for weight in weights if weight is not None]
    x = _whole([conv.inputs[0] for conv in convolutions])
    if x is None or len(known) < len(weights) or len({weight.shape for weight in known}) > 1:
        return False
    biases = [_bias(conv, weight) for conv, weight in zip(convolutions, known, strict=True)]
    if any(bias is None for bias in biases):
        return False
    name, first = node.outputs[0].name, convolutions[0]
    attributes = {key: value for key, value in first.attributes.items() if key != "group"}
    joined = ir.Node(
        "",
        "Conv",
        [
            x,
            new_constant(graph, np.concatenate(known), f"{name}/weight"),
            new_constant(graph, np.concatenate([bias for bias in biases if bias is not None]), f"{name}/bias"),
        ],
        [*attributes.values(), ir.AttrInt64("group", len(convolutions) * _groups(first))],
    )
    inherit_source([joined], first)
    replace_node(graph, node, joined)
    graph.remove(convolutions, safe=True)
    return True


def _own_convolution(graph: ir.Graph, value: ir.Value | None) -> ir.Node | None:
    """The float Conv of `value`, where nothing else reads that."""
    node = None if value is None else value.producer()
    if value is None or node is None or node.op_type != "Conv" or node.domain != "" or Reason.of(node) is not None:
        return None
    return node if sole_consumer(graph, value) is not None else None


def _geometry(conv: ir.Node) -> tuple[tuple[str, str], ...]:
    """What has to be equal: every attribute, as text."""
    return tuple(sorted((key, str(attribute.value)) for key, attribute in conv.attributes.items()))


def _groups(conv: ir.Node) -> int:
    return conv.attributes.get_int("group", 1)


def _bias(conv: ir.Node, weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic] | None:
    """One number a filter; None where it is computed."""
    if len(conv.inputs) < 3 or conv.inputs[2] is None:
        return np.zeros(len(weight), weight.dtype)
    return constant_of(conv.inputs[2])


def _whole(parts: Sequence[ir.Value | None]) -> ir.Value | None:
    """The map of whose channels `parts` are the equal parts, all of them and in sequence."""
    found = [_part(value) for value in parts]
    sources = {entry[0] for entry in found if entry is not None}
    if None in found or len(sources) > 1:
        return None
    x = sources.pop()
    shape = shape_of(x)
    if shape is None or shape[CHANNELS] % len(parts) != 0:
        return None
    size = shape[CHANNELS] // len(parts)
    wanted = [range(index * size, (index + 1) * size) for index in range(len(parts))]
    return x if [entry[1] for entry in found if entry is not None] == wanted else None


def _part(value: ir.Value | None) -> tuple[ir.Value, range] | None:
    """The map and which of its channels a Split or a Slice takes, and nothing of another axis."""
    node = None if value is None else value.producer()
    x = node.inputs[0] if node is not None and node.inputs else None
    shape = shape_of(x) if x is not None else None
    if value is None or node is None or x is None or shape is None or node.domain != "":
        return None
    if node.op_type == "Split":
        if node.attributes.get_int("axis", 0) % len(shape) != CHANNELS:
            return None
        sizes = [(shape_of(output) or (0, 0))[CHANNELS] for output in node.outputs]
        index = list(node.outputs).index(value)
        begin = sum(sizes[:index])
        return x, range(begin, begin + sizes[index])
    ranges = slice_ranges(node) if node.op_type == "Slice" else None
    if ranges is None or any(taken != range(shape[axis]) for axis, taken in enumerate(ranges) if axis != CHANNELS):
        return None
    return x, ranges[CHANNELS]
