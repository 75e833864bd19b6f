"""Give sequences the height that images have: a convolution over one axis is one over rows of height 1.

    Before:  x [N, C, L] ─ Conv(W [O, C, K]) ─ [N, O, M] ─ MaxPool ─ BatchNormalization ─ Sign ─ y
    After:   x ─ Reshape ─ [N, C, 1, L] ─ Conv(W [O, C, 1, K]) ─ [N, O, 1, M] ─ … ─ Sign ─ Reshape ─ y

What is known of maps, as that a sign goes in front of a max-pool, is then known of sequences, and no Reshape stands
between the operators.  With the convolutions and pools go the arithmetic and what pads, cuts, joins and reduces, as far
as it is connected to them: every operand [.., C, L] gets the axis in front of its last, constants as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.bit_moves import RESHAPES
from bnncc.ir.evaluate import computed_constant, input_dependent
from bnncc.ir.graph import constant_of, new_constant, shape_of, unique_name
from bnncc.passes.elementwise_operators import ELEMENTWISE
from bnncc.passes.insertion import insert, insert_reshape, replace_by_layer

FILTERED = {"Conv", "ConvTranspose"}
WINDOWED = {*FILTERED, "MaxPool", "AveragePool"}
GLOBAL = {"GlobalAveragePool", "GlobalMaxPool"}
REDUCTIONS = {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"}
# What an attribute that has an entry an axis says of the height; "pads" has two.
OF_HEIGHT = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}
RANK, LENGTH = 3, 2


def is_of_sequences(node: ir.Node) -> bool:
    """True for a convolution over one axis."""
    return node.domain == "" and node.op_type in FILTERED and _rank(node.outputs[0]) == RANK


class GiveSequencesHeight(ir.passes.InPlacePass):
    """Where there is a convolution over one axis, write it and what is connected to it with rows of height 1."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        members = _connected(graph, [node for node in graph if is_of_sequences(node)])
        tall: dict[ir.Value, ir.Value] = {}
        lines = [_write_tall(graph, node, tall) for node in list(graph) if node in members]
        for line in lines:
            reshape = None if line is None or line.uses() or line in graph.outputs else line.producer()
            if reshape is not None:  # nothing but members has read it
                graph.remove(reshape, safe=True)
        return ir.passes.PassResult(model, modified=bool(members))


def _connected(graph: ir.Graph, seeds: list[ir.Node]) -> set[ir.Node]:
    """The seeds, and what can be written with a height and is connected to them through nothing else."""
    dependent = input_dependent(graph, by_shape=False) if seeds else set()
    members, pending = set(seeds), list(seeds)
    while pending:
        node = pending.pop()
        sources = [value for value in node.inputs if value in dependent and _rank(value) == RANK]
        near = [value.producer() for value in sources]
        near += [use.node for value in node.outputs if _rank(value) == RANK for use in value.uses()]
        for other in near:
            if other is not None and other not in members and _can_be_tall(other, dependent):
                members.add(other)
                pending.append(other)
    return members


def _can_be_tall(node: ir.Node, dependent: set[ir.Value]) -> bool:
    if node.domain != "" or len(node.outputs) != 1:
        return False
    if node.op_type in REDUCTIONS:
        axes, kept = _axes(node), node.attributes.get_int("keepdims", 1)
        return _rank(node.inputs[0]) == RANK and bool(axes) and (bool(kept) or LENGTH in axes)
    if _rank(node.outputs[0]) != RANK or any(_rank(value) > RANK for value in node.inputs):
        return False
    if node.op_type in ("Pad", "Slice"):
        return node.inputs[0] in dependent and dependent.isdisjoint(node.inputs[1:])
    if node.op_type == "Resize":
        repeats = node.attributes.get_string("mode", "nearest") == "nearest" and "axes" not in node.attributes
        return repeats and node.inputs[0] in dependent and all(map(_is_known_or_empty, node.inputs[1:]))
    if node.op_type in WINDOWED | GLOBAL | {"Concat"}:
        return node.inputs[0] in dependent
    return node.op_type in ELEMENTWISE


def _write_tall(graph: ir.Graph, node: ir.Node, tall: dict[ir.Value, ir.Value]) -> ir.Value | None:
    """Put `node` with a height in its place, and behind it the sequence of its result, which is returned, if it is one.

    tall: by sequence, what holds it with a height; the result is added.
    """
    result = node.outputs[0]
    shape, name = shape_of(result) or (), result.name or node.op_type
    operands, attributes = _tall_form(graph, node, tall)
    copy = ir.node(node.op_type, operands, attributes)
    size = shape if len(shape) < RANK else (*shape[:-1], 1, shape[-1])
    value = insert(graph, copy, node, name=unique_name(graph, f"{name}/tall"), like=result, shape=size, origin=node)
    value.metadata_props.update(result.metadata_props)
    if len(shape) < RANK:
        replace_by_layer(graph, node, value, value)
        return None
    line = insert_reshape(graph, value, shape, unique_name(graph, f"{name}/line"), node)
    replace_by_layer(graph, node, value, line)
    tall[line] = value
    for use in list(line.uses()):  # what only moves the elements of a sequence reads them as they lie
        if use.node.domain == "" and use.node.op_type in RESHAPES and use.idx == 0:
            _reshape_instead(graph, use.node, value)
    return line


def _reshape_instead(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Let `value` become what `node`, a Reshape of the same elements, yields."""
    result = node.outputs[0]
    shape = shape_of(result) or ()
    made = insert_reshape(graph, value, shape, unique_name(graph, f"{result.name}/line"), node)
    replace_by_layer(graph, node, made, made)


def _tall_form(
    graph: ir.Graph, node: ir.Node, tall: dict[ir.Value, ir.Value]
) -> tuple[list[ir.Value | None], dict[str, ir.Attr]]:
    """The operands and attributes that `node` has with a height."""
    attributes = dict(node.attributes)
    if node.op_type in WINDOWED:
        attributes.update(_windows(node))
        counts = 2 if node.op_type in FILTERED else 1
        return [*(_tall(graph, value, node, tall) for value in node.inputs[:counts]), *node.inputs[counts:]], attributes
    if node.op_type in GLOBAL:
        return [_tall(graph, node.inputs[0], node, tall)], attributes
    if node.op_type == "BatchNormalization":
        return [_tall(graph, node.inputs[0], node, tall), *node.inputs[1:]], attributes
    if node.op_type == "Concat":
        axis = attributes["axis"].as_int() % RANK
        attributes["axis"] = ir.AttrInt64("axis", _moved(axis))
        return [_tall(graph, value, node, tall) for value in node.inputs], attributes
    if node.op_type in REDUCTIONS:
        attributes.pop("axes", None)
        given = _axes(node)
        of_map = [*map(_moved, given), *([LENGTH] if LENGTH in given else [])]  # also over the height: a map's mean
        axes = new_constant(graph, _integers(sorted(of_map)), f"{node.outputs[0].name}/axes")
        return [_tall(graph, node.inputs[0], node, tall), axes], attributes
    if node.op_type in ("Pad", "Slice"):
        return _with_axes(graph, node, tall), attributes
    if node.op_type == "Resize":
        of_axes: list[ir.Value | None] = []
        for operand in node.inputs[2:]:  # scales and sizes, one of which is given
            array = None if operand is None else computed_constant(operand)
            with_height = None if array is None or not array.size else np.insert(array, LENGTH, 1)
            name = f"{node.outputs[0].name}/of_axes"
            of_axes.append(None if with_height is None else new_constant(graph, with_height, name))
        return [_tall(graph, node.inputs[0], node, tall), None, *of_axes], attributes
    return [_tall(graph, value, node, tall) for value in node.inputs], attributes


def _windows(node: ir.Node) -> dict[str, ir.Attr]:
    """The attributes of a convolution or pool that have entries for each axis."""
    found: dict[str, ir.Attr] = {}
    for key, of_height in OF_HEIGHT.items():
        if key in node.attributes:
            found[key] = ir.AttrInt64s(key, [of_height, *node.attributes[key].as_ints()])
    if "pads" in node.attributes:
        before, behind = node.attributes["pads"].as_ints()
        found["pads"] = ir.AttrInt64s("pads", [0, before, 0, behind])
    return found


def _with_axes(graph: ir.Graph, node: ir.Node, tall: dict[ir.Value, ir.Value]) -> list[ir.Value | None]:
    """The operands of a Pad or Slice, which name the axes that they are about, or are about all."""
    inputs = list(node.inputs)
    place = 3  # of the axes, behind those of a Slice's begins and ends, of a Pad's widths and value
    (count,) = (shape_of(inputs[1]) if inputs[1] is not None else None) or (0,)
    given = inputs[place] if len(inputs) > place else None
    named = _integers_of(given) if given is not None else range(count // (2 if node.op_type == "Pad" else 1))
    axes = new_constant(graph, _integers([_moved(int(axis) % RANK) for axis in named]), f"{node.outputs[0].name}/axes")
    inputs += [None] * (place + 1 - len(inputs))
    inputs[place] = axes
    return [_tall(graph, inputs[0], node, tall), *inputs[1:]]


def _tall(graph: ir.Graph, value: ir.Value | None, before: ir.Node, tall: dict[ir.Value, ir.Value]) -> ir.Value | None:
    """`value` with an axis in front of its last; what has no two axes broadcasts as it is."""
    if value is None or _rank(value) < 2:
        return value
    if value not in tall:
        shape = shape_of(value) or ()
        size, name = (*shape[:-1], 1, shape[-1]), unique_name(graph, f"{value.name}/tall")
        array = constant_of(value)
        if array is not None:
            tall[value] = new_constant(graph, array.reshape(size), name)
            return tall[value]
        producer = value.producer()
        moves = producer is not None and producer.domain == "" and producer.op_type in RESHAPES
        source = producer.inputs[0] if moves and producer is not None else value
        assert source is not None
        tall[value] = insert_reshape(graph, source, size, name, before)
    return tall[value]


def _moved(axis: int) -> int:
    """Where an axis of a sequence is in what has a height."""
    return axis + 1 if axis >= LENGTH else axis


def _axes(node: ir.Node) -> list[int]:
    """The axes that a reduction is about, from 0 on; none where that is all."""
    if "axes" in node.attributes:
        given: Sequence[int] = node.attributes["axes"].as_ints()
    else:
        given = _integers_of(node.inputs[1]) if len(node.inputs) > 1 else []
    return [axis % _rank(node.inputs[0]) for axis in given]


def _is_known_or_empty(value: ir.Value | None) -> bool:
    """True for an operand that is not given, or that is constant or computed of constants."""
    return value is None or computed_constant(value) is not None


def _integers_of(value: ir.Value | None) -> list[int]:
    """What is constant, or is computed of constants; none where it is neither, or nothing."""
    array = None if value is None else computed_constant(value)
    return [] if array is None else [int(one) for one in array.reshape(-1)]


def _integers(values: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.asarray(values, np.int64)


def _rank(value: ir.Value | None) -> int:
    return 0 if value is None else len(shape_of(value) or ())
