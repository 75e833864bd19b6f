"""Turn every expression that takes two values, with one jump a channel, into a Sign and the affine that remains.

    Before:  x ─ Clip(-1, 1) ─ Mul(3) ─ Sign ─ y      Before:  x ─ Greater(c) ─ Cast ─ Mul(2) ─ Sub(1) ─ y
    After:   x ─ bnncc.Sign ─ y                       After:   x ─ Add(-c) ─ bnncc.Sign ─ y

    Before:  x ─ Clip(0, 1) ─ Round ─ a               Before:  x ─ Pad(0) ─ GreaterOrEqual(0) ─ Where(1, -1) ─ y
    After:   x ─ Mul(-1) ─ Add(½) ─ bnncc.Sign ─ b    After:   x ─ bnncc.Sign ─ Pad(1) ─ y
             b ─ Mul(-½) ─ Add(½) ─ a

The expression is read as a function of one value x (elementwise.py), however it is spelt.  In every channel it must be

    f(x) = low for x < t, high for x > t    (rising)        or  high for x < t, low for x > t    (falling)

and is then an affine of a sign (`binarizer`, where x = t is discussed).

Of all values that f is a function of, the source is the one that leaves the fewest operators between the layer in
front and the sign; affines that fold into that layer count as none.  Among equals it is the nearest.

In front of all that, a Pad by a constant p moves behind the expression, where it pads with f(p).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import THREE_VALUED_KEY, constant_of, inherit_source, new_constant, shape_of, take_over
from bnncc.passes.affine import affine_of
from bnncc.passes.binarizer import Binarizer, binarizer_of, readers, rests_between
from bnncc.passes.byte_steps import is_byte, steps_of_byte
from bnncc.passes.elementwise import Candidate, interpret, is_elementwise
from bnncc.passes.expression import Chain, exclusive, is_absorbed, rewrite_expressions
from bnncc.passes.insertion import insert_reshape
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.steps import steps_of
from bnncc.passes.traced import describe_signs
from bnncc.passes.weighted_layer import is_read_by_layer


class RecognizeSteps(ir.passes.InPlacePass):
    """Rewrite every two-valued expression; the last value of one comes first."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_expressions(model.graph, partial(_recognize, model)))


def _recognize(model: ir.Model, graph: ir.Graph, node: ir.Node) -> bool:
    value = node.outputs[0]
    if _is_affine_of_sign(node):
        return False
    best: tuple[int, Candidate, Binarizer] | None = None
    candidates = interpret(value)
    of_byte = next((one for one in candidates if is_byte(one.source)), None)
    known = None if of_byte is None or value.dtype != ir.DataType.FLOAT else steps_of_byte(model, of_byte.source, value)
    if known is not None and of_byte is not None:
        candidates = [of_byte]
    for index, candidate in enumerate(candidates):
        steps = known or steps_of(candidate.function)
        if (
            steps is None
            or rests_between(steps, candidates[index + 1 :])
            or not (steps.is_sign or _stands_alone(graph, value))
        ):
            continue
        binarizer = binarizer_of(graph, candidate, steps, value)
        if binarizer is None:
            continue
        cost = _cost(graph, candidate, candidates[-1], binarizer)
        if best is None or cost < best[0]:
            best = cost, candidate, binarizer
    if best is None or not any(_is_spelling(inner) for inner in best[1].nodes):
        return False
    replace_by_sign(graph, node, best[2])
    remove_unread(graph, best[1].nodes)
    return True


def _is_affine_of_sign(node: ir.Node) -> bool:
    """True for the affines that remain behind a Sign; what is in front of it is looked at when its turn comes."""
    inner: ir.Node | None = node
    while inner is not None and (step := affine_of(inner)) is not None:
        inner = step[0].producer()
    return inner is not node and ops.is_sign(inner)


def _is_spelling(node: ir.Node) -> bool:
    """True for an operator that does not remain: anything but Sign and affines."""
    return not ops.is_sign(node) and affine_of(node) is None


def _stands_alone(graph: ir.Graph, value: ir.Value) -> bool:
    """True unless `value` is but a mask: an operand of elementwise operators together with other computed values."""
    if value in graph.outputs:
        return True
    return any(
        not is_elementwise(use.node)
        or all(one is value or constant_of(one) is not None for one in _given(use.node))
        or _is_scaled_for_layer(use.node, value)
        or _is_added_for_layer(use.node, value)
        for use in value.uses()
    )


def _is_scaled_for_layer(node: ir.Node, value: ir.Value) -> bool:
    """True where the other operand is a scale of rows or images, and a layer with weights reads the product."""
    shapes = [shape_of(one) for one in _given(node)]
    first = node.op_type == "Mul" or (node.op_type == "Div" and node.inputs[0] is value)
    return first and shapes.count(shape_of(value)) == 1 and is_read_by_layer(node.outputs[0])


def _is_added_for_layer(node: ir.Node, value: ir.Value) -> bool:
    """True where the other operand takes two values as well, and a layer with weights reads the sum of both.

    So spiking networks spell a shortcut: spikes + spikes.
    """
    others = [one for one in _given(node) if one is not value]
    if node.op_type not in ("Add", "Sub") or len(others) != 1 or shape_of(others[0]) != shape_of(value):
        return False
    if not is_read_by_layer(node.outputs[0]):
        return False
    producer = others[0].producer()
    if producer is not None and _is_affine_of_sign(producer):
        return True
    return any(steps_of(candidate.function) is not None for candidate in interpret(others[0]))


def _given(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _cost(graph: ir.Graph, candidate: Candidate, farthest: Candidate, binarizer: Binarizer) -> int:
    """The operators that remain between the farthest source and the sign, and that nothing else needs."""
    removable = exclusive(graph, farthest.nodes)
    remaining = [node for node in removable if node not in candidate.nodes]
    affines = []
    for node in remaining:
        if affine_of(node) is None:
            break
        affines.append(node)
    in_front = binarizer.operators
    for node in affines:
        in_front += 2 if node.op_type == "BatchNormalization" else 1
    if is_absorbed(graph, binarizer.source, readers(candidate, binarizer.pad)):
        in_front = 0
    return min(in_front, 2) + len(remaining) - len(affines)


def replace_by_sign(graph: ir.Graph, node: ir.Node, binarizer: Binarizer) -> None:
    """Let the sign and the affine, in front of `node`, stand for its result."""
    value = node.outputs[0]
    name = value.name or "sign"
    source, is_scalar = binarizer.source, shape_of(binarizer.source) == ()
    if is_scalar:  # has no channels, along which bits lie
        source = insert_reshape(graph, source, (1, 1), f"{name}/row", node)
    chain = Chain(graph, node, source, name)
    chain.per_channel("Mul", binarizer.slope, "slope")
    chain.per_channel("Add", binarizer.shift, "shift")
    sign = ops.sign(chain.value)
    if binarizer.is_three_valued:
        sign.metadata_props[THREE_VALUED_KEY] = "1"
    chain.then(sign, "signs" if binarizer.pad is None else "unpadded")
    signs = chain.value
    chain.per_channel("Mul", binarizer.scale, "scale")
    chain.per_channel("Add", binarizer.offset, "offset")
    is_value = chain.value is signs and binarizer.pad is None and not is_scalar
    if not is_value:
        pads = None if binarizer.pad is None else constant_of(binarizer.pad.inputs[1])
        scale, offset = binarizer.scale, binarizer.offset
        describe_signs(signs, name, scale, offset, None if pads is None else pads.tolist())
    if binarizer.pad is not None:
        _pad(chain, binarizer)
    if is_scalar:
        chain.value = insert_reshape(graph, chain.value, (), f"{name}/scalar", node)
    take_over(value, chain.value)


def _pad(chain: Chain, binarizer: Binarizer) -> None:
    pad = binarizer.pad
    assert pad is not None
    inputs = [chain.value, pad.inputs[1]]
    if binarizer.padded or len(pad.inputs) > 3:
        fill = new_constant(chain.graph, np.array(binarizer.padded, np.float32), f"{chain.name}/fill")
        inputs += [fill, *pad.inputs[3:]]
    node = ir.node("Pad", inputs)
    inherit_source([node], pad)
    chain.then(node, "padded")
