"""Move elements as bits: what only moves data goes below the sign, where it moves words of 32 channels.

    Before:  x ─ Slice ─ Sign ─ BinaryConv ─ y       Before:  a, b ─ Concat ─ Sign ─ BinaryConv ─ y
    After:   x ─ Sign ─ Slice ─ BinaryConv ─ y       After:   a ─ Sign ┬ Concat ─ BinaryConv ─ y
                                                             b ─ Sign ┘

The sign works on each element alone, so it commutes with every move; a Pad then adds the sign of what it added.
`bnncc.ir.bit_moves` says which moves can be done in words.  A move that drops elements lets the sign read more than
before; it goes below only where that is less than what the float move read and wrote.

What cannot be done in words goes the other way, so that its result is packed and not what it reads:

    Before:  x [N, H, W, C] ─ Sign ─ Transpose ─ BinaryConv ─ y
    After:   x ─ Transpose ─ Sign ─ BinaryConv ─ y                          free where the file is channels last

    Before:  x ─ Sign ─ Reshape ─ Transpose ─ Reshape ─ BinaryConv ─ y      a pixel shuffle to fewer channels than 32
    After:   x ─ Reshape ─ Transpose ─ Reshape ─ Sign ─ BinaryConv ─ y

Two moves disappear in the weights of the convolutions that read them:

    Before:  x ─ pixel_unshuffle ─ Sign ─ BinaryConv(s) ─ y       channels (c, row, column)
    After:   x ─ Sign ─ SpaceToDepth ─ BinaryConv(s[:, order]) ─ y     channels (row, column, c); so for a float Conv,
                                                                       and for x[:, :, r::b, q::b] of all r, q, joined

    Before:  x [N, C, H, W] ─ Flatten ─ Sign ─ BinaryConv(s [O, C·H·W, 1, 1]) ─ y     unless that is the smaller one:
    After:   x ─ Sign ─ BinaryConv(s [O, C, H, W]) ─ y                                flat_bits.py
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.bit_moves import RESHAPES, WORD, has_bit_reader, moves_words, reads_bits
from bnncc.ir.graph import (
    INPUT_CHANNELS_KEY,
    NEGATED_KEY,
    constant_of,
    element_count,
    inherit_source,
    new_constant,
    replace_node,
    shape_of,
    sole_consumer,
    take_over,
)
from bnncc.ir.value_facts import data_inputs, is_binary
from bnncc.passes.cost import FLOAT_MOVE_COST
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.flat_bits import is_packed_flat
from bnncc.passes.pixel_shuffle import find_blocks
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.traced import (
    choose_channels,
    describe_signs,
    describes_each_alike,
    negated_channels,
    set_negated_channels,
)

# Moves of whole values, which yield as many elements as they read.
RAISED = {"Transpose", "DepthToSpace", "SpaceToDepth", *RESHAPES}


class SinkMoves(ir.passes.InPlacePass):
    """Put moves below signs until none is left that can be."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        while rewrite_each(model.graph, _step):
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _step(graph: ir.Graph, node: ir.Node) -> bool:
    if ops.is_binary_conv(node) or ops.is_binary_conv_sign(node):
        return _absorb_flatten(graph, node)
    if _absorb_unshuffle(graph, node):
        return True
    return (_can_sink(graph, node) and _sink(graph, node)) or _raise(graph, node)


# Below the sign


def _can_sink(graph: ir.Graph, node: ir.Node) -> bool:
    """True for a move in words whose every result is read by one Sign alone, where it pays."""
    if not _commutes(graph, node):
        return False
    for value in data_inputs(node):
        if constant_of(value) is None and not _signs_of(value):
            movers = {use.node for use in value.uses() if _commutes(graph, use.node)}
            moved = sum(element_count(result) for mover in movers for result in mover.outputs)
            if element_count(value) > FLOAT_MOVE_COST * moved:
                return False
    return True


def _commutes(graph: ir.Graph, node: ir.Node) -> bool:
    if node.domain != "" or not any(value.uses() for value in node.outputs):
        return False
    for value in node.outputs:
        sign = sole_consumer(graph, value)
        read = bool(value.uses()) or value in graph.outputs
        if read and (not ops.is_sign(sign) or sign is None or not has_bit_reader(sign.outputs[0])):
            return False
    if node.op_type != "Pad":
        return moves_words(node)
    return _with_signed_fill(graph, node, keep=False)


def _with_signed_fill(graph: ir.Graph, node: ir.Node, *, keep: bool) -> bool:
    """Whether a Pad moves words once its fill is ±1; with `keep`, leave that fill in its place."""
    fill = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    constant = "mode" not in node.attributes or node.attributes["mode"].as_string() == "constant"
    if not constant:
        return moves_words(node)
    if fill is None or not np.all(fill):
        return False  # The sign of a zero that is there by design is no bit.
    given = node.inputs[2]
    signed = ir.val("fill", const_value=ir.tensor(np.sign(fill).astype(np.float32), name="fill"))
    node.replace_input_with(2, signed)
    possible = moves_words(node)
    kept = new_constant(graph, np.sign(fill).astype(np.float32), f"{node.outputs[0].name}/fill") if keep else given
    node.replace_input_with(2, kept)
    return possible


def _sink(graph: ir.Graph, node: ir.Node) -> bool:
    """Let `node` move signs, and its results stand for those of the Signs behind it."""
    signs = {value: use.node for value in node.outputs for use in value.uses()}
    origin = next(iter(signs.values()))
    if node.op_type == "Pad":
        _with_signed_fill(graph, node, keep=True)
    for index, value in enumerate(data_inputs(node)):
        reshaped = origin if node.op_type in RESHAPES else None
        node.replace_input_with(index, _signed(graph, value, origin, reshaped))
    for value, sign in signs.items():
        y = sign.outputs[0]
        value.metadata_props.clear()
        value.metadata_props.update(y.metadata_props)
        take_over(y, value)
        graph.remove(sign, safe=True)
    return True


def _raise(graph: ir.Graph, node: ir.Node) -> bool:
    """Let moves of which some move no words move the floats, where packed operators alone read the signs."""
    moved, chain = node.outputs[0], _moves_of_signs(graph, node)
    sign = chain[-1].inputs[0].producer() if chain and chain[-1].inputs[0] is not None else None
    if sign is None or all(map(moves_words, chain)) or moved in graph.outputs or not moved.uses():
        return False
    signs = sign.outputs[0]
    if not all(_is_described_alike(signs, move) and not move.outputs[0].metadata_props for move in chain):
        return False
    if not all(reads_bits(use.node) for use in moved.uses()):
        return False
    chain[-1].replace_input_with(0, sign.inputs[0])
    renewed = ops.sign(moved)
    inherit_source([renewed], sign)
    for use in list(moved.uses()):
        if use.node is not renewed:
            use.node.replace_input_with(use.idx, renewed.outputs[0])
    renewed.outputs[0].metadata_props.update(signs.metadata_props)
    name = moved.name
    for move in chain:
        move.outputs[0].name = f"{move.outputs[0].name}/unsigned"
    renewed.outputs[0].name, renewed.outputs[0].shape, renewed.outputs[0].type = name, moved.shape, moved.type
    graph.insert_after(node, renewed)
    graph.remove(sign, safe=True)
    return True


def _moves_of_signs(graph: ir.Graph, node: ir.Node) -> list[ir.Node]:
    """The moves from `node` back to a Sign that nothing else reads, the last one first; none where there is no such."""
    chain: list[ir.Node] = []
    move: ir.Node | None = node
    while move is not None and move.domain == "" and move.op_type in RAISED:
        value = move.inputs[0]
        if value is None or sole_consumer(graph, value) is None:
            return []
        chain.append(move)
        move = value.producer()
    return chain if move is not None and ops.is_sign(move) else []


def _is_described_alike(signs: ir.Value, move: ir.Node) -> bool:
    """True where all that is known of signs is true of them when they are moved as well: no channel has its own."""
    return not signs.metadata_props or (move.op_type in RESHAPES and describes_each_alike(signs))


def _signed(graph: ir.Graph, x: ir.Value, origin: ir.Node, reshaped: ir.Node | None = None) -> ir.Value:
    """The signs of `x`: `x` itself where it is binary, the Sign that is there, or a new one behind its producer.

    reshaped: the Sign whose result has the same elements in the same order, and is the one that the network knows.
    """
    if is_binary(x):
        return x
    array = constant_of(x)
    if array is not None:
        return new_constant(graph, np.where(array.astype(np.float32) < 0, -1, 1).astype(np.float32), f"{x.name}/sign")
    known = _signs_of(x)
    if known:
        sign = known[0]
        graph.remove(sign)
    else:
        sign = ops.sign(x)
        sign.outputs[0].name = f"{x.name}/sign"
        inherit_source([sign], origin)
        if reshaped is not None and not reshaped.outputs[0].metadata_props:
            describe_signs(sign.outputs[0], reshaped.outputs[0].name, np.ones(1), np.zeros(1))
    producer = x.producer()
    if producer is not None:
        graph.insert_after(producer, sign)
    else:
        graph.insert_before(graph.node(0), sign)
    return sign.outputs[0]


def _signs_of(x: ir.Value) -> list[ir.Node]:
    return [use.node for use in x.uses() if ops.is_sign(use.node)]


# Into the weights


def _absorb_unshuffle(graph: ir.Graph, last: ir.Node) -> bool:
    """pixel_unshuffle, exported as [N, C, h·b, w·b] → [N, C, h, b, w, b] → [N, C, b, b, h, w] → [N, C·b², h, w], or
    x[:, :, r::b, q::b] of all r and q, joined.

    Channel c·b² + r·b + q of the former is SpaceToDepth's (r·b + q)·C + c.
    """
    found = find_blocks(graph, last)
    if found is None:
        return False
    x, block, order = found.x, found.block, found.order
    value = last.outputs[0]
    sign = sole_consumer(graph, value)
    signs = sign.outputs[0] if sign is not None and ops.is_sign(sign) else value
    convs = [use.node for use in signs.uses()]
    channels = (shape_of(x) or (0, 0))[1]
    are_floats = signs is value and all(conv.op_type == "Conv" for conv in convs)
    absorbed = signs not in graph.outputs and all(_reads_channels(use.node, use.idx) for use in signs.uses())
    if not convs or not absorbed:
        return False
    if not are_floats and (channels % WORD or (signs is value and not is_binary(x))):
        return False
    for conv in dict.fromkeys(convs):
        _permute_inputs(graph, conv, order)
    if NEGATED_KEY in signs.metadata_props:
        set_negated_channels(signs, np.flatnonzero(np.isin(order, negated_channels(signs))).tolist())
    # Neither holds what the traced value of its name holds.
    for renamed in dict.fromkeys((value, signs)):
        renamed.name = f"{renamed.name}/space_to_depth"
    operands = [operand.producer() for operand in last.inputs if operand is not None]
    replace_node(graph, last, ir.node("SpaceToDepth", [x], {"blocksize": block}))
    remove_unread(graph, [node for node in operands if node is not None])
    return True


def _reads_channels(node: ir.Node, index: int) -> bool:
    """True for a convolution of one group, binary or float, whose filters are known."""
    conv = ops.is_binary_conv(node) or ops.is_binary_conv_sign(node) or (node.domain == "" and node.op_type == "Conv")
    return conv and index == 0 and node.attributes.get_int("group", 1) == 1 and constant_of(node.inputs[1]) is not None


def _permute_inputs(graph: ir.Graph, conv: ir.Node, order: npt.NDArray[np.int64]) -> None:
    """Let input channel i of `conv` be what `order[i]` was."""
    weight, signs = conv.inputs[1], constant_of(conv.inputs[1])
    assert weight is not None
    assert signs is not None
    conv.replace_input_with(1, new_constant(graph, signs[:, order], f"{weight.name}/reordered"))
    if conv.op_type != "Conv":
        choose_channels(conv, INPUT_CHANNELS_KEY, order, order.size)


def _absorb_flatten(graph: ir.Graph, conv: ir.Node) -> bool:
    """A binary Linear on flattened maps is a convolution with a kernel as large as the map."""
    signs, features = constant_of(conv.inputs[1]), conv.inputs[0]
    if signs is None or features is None or signs.shape[2:] != (1, 1) or conv.attributes["group"].as_int() != 1:
        return False
    if (shape_of(features) or ())[2:] != (1, 1) or any(conv.attributes["pads"].as_ints()):
        return False
    if INPUT_CHANNELS_KEY in conv.metadata_props:
        return False
    passed: list[ir.Node] = []
    value = features
    while len(shape := shape_of(value) or ()) != 4 or shape[2:] == (1, 1):
        node = value.producer()
        moves = node is not None and (ops.is_sign(node) or (node.domain == "" and node.op_type in RESHAPES))
        if node is None or not moves or node.inputs[0] is None or sole_consumer(graph, value) is None:
            return False
        if NEGATED_KEY in value.metadata_props:
            return False
        passed.append(node)
        value = node.inputs[0]
    batch, channels, height, width = shape
    if (batch, channels * height * width) != (shape_of(features) or ())[:2]:
        return False
    sign = next((node for node in passed if ops.is_sign(node)), None)
    if sign is None and not is_binary(value):
        return False
    if sign is not None and not is_binary(value) and is_packed_flat(value, len(signs)):
        return False
    if sign is None or is_binary(value):
        source = value
    else:
        source = sign.outputs[0] if sign.inputs[0] is value else _signed(graph, value, sign, sign)
    kernel = np.ascontiguousarray(signs.reshape(signs.shape[0], channels, height, width))
    weight = conv.inputs[1]
    conv.replace_input_with(0, source)
    conv.replace_input_with(1, new_constant(graph, kernel, f"{weight.name if weight else 'weight'}/kernel"))
    conv.attributes["strides"] = ir.AttrInt64s("strides", [1, 1])
    for node in passed:
        if node is not source.producer():
            graph.remove(node, safe=True)
    return True
