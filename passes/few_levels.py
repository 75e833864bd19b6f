"""Find a layer's input that takes a few levels, and put bits in its place.

    Before:  x ─ Clip(-1, 1) ─ Add(1) ─ Mul(1.5) ─ Round ─ Div(1.5) ─ Sub(1) ─ a ─ Conv(W) ─ y
    After:   x ─ bnncc.Sign ─ h ─ Mul(⅔) ─ Conv(W) ─ u
             x ─ Sub(Where(x ≥ 0, T_3, T_1)) ─ bnncc.Sign ─ l ─ Mul(⅓) ─ Conv(W) ─ v ─ Add(u) ─ y

A convolution is linear in its input, so it is the sum of those of the terms that `levels` finds, each exact, of the
same weights.  What moves or pads a in front of the layer moves each term.  A max-pool is no sum; but it commutes with
what rises, so it goes in front of the thresholds.

The thresholds are those of the farthest value behind which the levels can be told: where that is a rounding of what is
bounded, as round(tanh(x)) is, half-way between whole numbers.  A batch norm that folds into the
layer in front of it stays where it is: its thresholds would differ between channels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.evaluate import ancestors, run, skeleton
from bnncc.ir.graph import THREE_VALUED_KEY, TRACED_KEY, constant_of, new_constant, shape_of
from bnncc.ir.value_facts import MOVES, is_binary
from bnncc.passes.affine import affine_of
from bnncc.passes.binary_operand import spatial_pads
from bnncc.passes.elementwise import Candidate, interpret
from bnncc.passes.expression import Chain, is_absorbed
from bnncc.passes.levels import MOST_LEVELS, SAME, TINY, Bit, Levels, bits_of, float32_before, levels_of
from bnncc.passes.piecewise import identity
from bnncc.passes.ranges import whole_numbers

# The bits that were put in for a value, by its name.
KnownBits = dict[str, list[tuple[Bit, ir.Value]]]

# What moves the terms of a sum as it moves the sum.
LINEAR_MOVES = MOVES - {"MaxPool", "Concat", "Split"}


@dataclass(frozen=True)
class FewLevels:
    """A `value` that takes `levels`, by the thresholds of `candidate.source`.

    name: of what the bits add up to.  pools: MaxPools between the value and that, last one first.  between: what moves
    it in front of the layer, last one first.
    """

    name: str
    value: ir.Value
    candidate: Candidate
    levels: Levels
    bits: tuple[Bit, ...]
    pools: tuple[ir.Node, ...]
    between: tuple[ir.Node, ...]

    @property
    def clause(self) -> str:
        """For the report."""
        return f"its input, of {len(self.levels.values)} levels, taken as the sum of {len(self.bits)} signs"


def few_levels(graph: ir.Graph, x: ir.Value) -> FewLevels | None:
    """How a layer's input `x` is a sum of bits; None where it is none of few levels, or bits itself."""
    between: list[ir.Node] = []
    while (node := x.producer()) is not None and moves_terms(node) and node.inputs[0] is not None:
        between.append(node)
        x = node.inputs[0]
    pools: list[ir.Node] = []
    value = x
    while (node := value.producer()) is not None and _is_pool(node) and node.inputs[0] is not None:
        pools.append(node)
        value = node.inputs[0]
    if is_binary(value):
        return None
    found: tuple[Candidate, Levels] | None = None
    for candidate in (Candidate(value, identity(), ()), *interpret(value)):
        levels = levels_of(candidate.function) or _levels_of_numbers(candidate)
        if levels is None:
            continue
        if found is not None and _goes_behind_affines(graph, found[0], candidate):
            continue
        found = candidate, levels
    if found is None:
        return None
    candidate, levels = found
    levels = _with_float32_at_zero(graph, value, candidate, levels)
    name, bits = x.name or "levels", tuple(bits_of(levels))
    return FewLevels(name, value, candidate, levels, bits, tuple(pools), tuple(between))


def _levels_of_numbers(candidate: Candidate) -> Levels | None:
    """The levels of a function of what is a whole number, of few; None of others."""
    known = whole_numbers(candidate.source)
    if known is None or not 1 <= known[1] - known[0] < MOST_LEVELS or candidate.function.center is not None:
        return None
    numbers = np.arange(known[0], known[1] + 1.0)
    values = candidate.function(numbers)
    if not np.isfinite(values).all() or np.any(values != values[:1]) or np.any(np.diff(values[0]) <= 0):
        return None
    return Levels(values[0], (numbers[1:] - 0.5).astype(np.float32)[np.newaxis])


def _with_float32_at_zero(graph: ir.Graph, value: ir.Value, candidate: Candidate, levels: Levels) -> Levels:
    """`levels` with a jump beside 0 where the network's own float32 has it.

    Constants such as 2/3 are rounded, so that the algebra puts a jump at 0 beside it, on either side; and sums of bits
    are exactly 0 often.  There x + 1 is 1, whatever so small an x is: what the network computes of 0 decides.
    """
    thresholds = levels.thresholds
    beside = (np.abs(thresholds) <= SAME * np.abs(thresholds).max()) & (thresholds != 0) & (thresholds != TINY)
    if not np.any(beside):
        return levels
    source = candidate.source
    proto = skeleton(ir.Model(graph, ir_version=10), [value], [source])
    feeds = {
        entry.name: constant_of(graph.initializers[entry.name])
        for entry in proto.graph.input
        if entry.name in graph.initializers
    }
    feeds[source.name or ""] = np.zeros(shape_of(source) or (), np.float32)
    (result,) = run(proto, {name: array for name, array in feeds.items() if array is not None}).values()
    at_zero = result.reshape(*result.shape[:2], -1)[0, :, 0]
    # Whether 0 is behind the jump to each level, [C, n - 1].
    behind = at_zero[:, np.newaxis] > (levels.values[1:] + levels.values[:-1]) / 2
    return Levels(levels.values, np.where(beside, np.where(behind, np.float32(0), TINY), thresholds).astype(np.float32))


def moves_terms(node: ir.Node) -> bool:
    """True where `node` does to a sum what it does to each term of it."""
    if node.domain != "" or len(node.outputs) != 1:
        return False
    if node.op_type != "Pad":
        return node.op_type in LINEAR_MOVES
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    number = np.zeros(()) if fill is None else constant_of(fill)
    rank = len(shape_of(node.outputs[0]) or ())
    return mode == "constant" and number is not None and not np.any(number) and spatial_pads(node, rank) is not None


def _is_pool(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type == "MaxPool" and not any(one.uses() for one in node.outputs[1:])


def _goes_behind_affines(graph: ir.Graph, near: Candidate, far: Candidate) -> bool:
    """True where only affines lie between the two sources, which the layer in front absorbs, whoever reads them."""
    passed = far.nodes[len(near.nodes) :]
    return all(affine_of(node) is not None for node in passed) and is_absorbed(graph, far.source, passed)


def bit_terms(graph: ir.Graph, node: ir.Node, found: FewLevels, known: KnownBits) -> list[ir.Value]:
    """What the layers of the sum read in place of the input of `node`, in front of which it is computed.

    known: the bits that were put in before, which layers share.
    """
    if found.name not in known:
        source = found.candidate.source
        for pool in found.pools[::-1]:
            source = copied(graph, node, pool, source, "source")
        signs_of = [_bit(graph, node, source, found, bit, index) for index, bit in enumerate(found.bits)]
        known[found.name] = list(zip(found.bits, signs_of, strict=True))
        _take_signs_of_source(graph, found)
    values = []
    for bit, signs in known[found.name]:
        chain = Chain(graph, node, signs, signs.name or "")
        chain.per_channel("Mul", np.array([bit.weight]), "weight")
        chain.per_channel("Add", np.array([bit.offset]), "offset")
        value = chain.value
        for move in found.between[::-1]:
            value = copied(graph, node, move, value, "term")
        values.append(value)
    return values


def _take_signs_of_source(graph: ir.Graph, found: FewLevels) -> None:
    """Let signs of the levels compare the source as well, so that nobody needs the levels.

    The sign of a level says whether it is no less than the first that is not negative.
    """
    negative = int(np.count_nonzero(found.levels.values < 0))
    if not 0 < negative < len(found.levels.values):
        return
    threshold = found.levels.thresholds[:, negative - 1].astype(np.float64)
    for sign in [use.node for use in found.value.uses() if ops.is_sign(use.node)]:
        chain = Chain(graph, sign, found.candidate.source, sign.outputs[0].name or "sign")
        chain.per_channel("Add", -threshold + 0.0, "shift")
        sign.replace_input_with(0, chain.value)


def copied(graph: ir.Graph, before: ir.Node, node: ir.Node, x: ir.Value, suffix: str) -> ir.Value:
    """What `node` makes of another value of its input's shape."""
    copy = ir.node(node.op_type, [x, *node.inputs[1:]], dict(node.attributes))
    copy.outputs[0].shape, copy.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
    chain = Chain(graph, before, x, node.outputs[0].name or "")
    chain.then(copy, suffix)
    return chain.value


def _bit(graph: ir.Graph, node: ir.Node, x: ir.Value, found: FewLevels, bit: Bit, index: int) -> ir.Value:
    """+1 where x is no less than the threshold, else -1; the other way round for a negative weight."""
    rises = bit.weight > 0
    thresholds = found.levels.thresholds if rises else float32_before(found.levels.thresholds)
    chain = Chain(graph, node, x, f"{found.name}/bit{index}")
    if len(bit.chosen) == 1:
        threshold = thresholds[:, bit.chosen[0]].astype(np.float64)
        chain.per_channel("Mul", np.array([1.0 if rises else -1.0]), "slope")
        chain.per_channel("Add", (-threshold if rises else threshold) + 0.0, "shift")
    else:
        low, _, high = (_constant(chain, thresholds[:, which], f"threshold{which}") for which in bit.chosen)
        middle = _constant(chain, found.levels.thresholds[:, bit.chosen[1]], "middle")
        above = ir.node("GreaterOrEqual", [x, middle])
        above.outputs[0].type, above.outputs[0].shape = ir.TensorType(ir.DataType.BOOL), x.shape
        chain.then(above, "above")
        choose = ir.node("Where", [chain.value, high, low])
        choose.outputs[0].type, choose.outputs[0].shape = x.type, x.shape
        chain.then(choose, "threshold")
        chain.then(ir.node("Sub", [x, chain.value] if rises else [chain.value, x]), "difference")
        chain.value.type = x.type
    chain.then(ops.sign(chain.value), "signs")
    between = found.levels.between
    meaning: dict[str, object] = {
        "value": found.name,
        "scale": 1.0 if rises else -1.0,
        "offset": 0.0,
        "thresholds": [between[which] for which in bit.chosen],
    }
    within = ancestors([found.value], [found.candidate.source])
    ternary = [one.outputs[0].name for one in within if ops.is_sign(one) and THREE_VALUED_KEY in one.metadata_props]
    if ternary:
        meaning["zero_is_one"] = sorted(name for name in ternary if name is not None)
    if not found.pools:
        jumps = thresholds[:, list(bit.chosen)]
        meaning |= {"source": x.name, "jumps": jumps[:1].tolist() if np.all(jumps == jumps[0]) else jumps.tolist()}
    chain.value.metadata_props[TRACED_KEY] = json.dumps(meaning)
    return chain.value


def _constant(chain: Chain, vector: npt.NDArray[np.float32], suffix: str) -> ir.Value:
    rank = len(shape_of(chain.value) or ())
    array = vector[0] if np.all(vector == vector[0]) else vector.reshape(1, -1, *(1,) * (rank - 2))
    return new_constant(chain.graph, np.asarray(array, np.float32), f"{chain.name}/{suffix}")
