"""Turn every expression that takes two values, with one jump a channel, into a Sign and the affine that remains.

    Before:  x ─ Clip(-1, 1) ─ Mul(3) ─ Sign ─ y      Before:  x ─ Greater(c) ─ Cast ─ Mul(2) ─ Sub(1) ─ y
    After:   x ─ bnncc.Sign ─ y                       After:   x ─ Add(-c) ─ bnncc.Sign ─ y

    Before:  x ─ Clip(0, 1) ─ Round ─ a               Before:  x ─ Pad(0) ─ GreaterOrEqual(0) ─ Where(1, -1) ─ y
    After:   x ─ Mul(-1) ─ Add(½) ─ bnncc.Sign ─ b    After:   x ─ bnncc.Sign ─ Pad(1) ─ y
             b ─ Mul(-½) ─ Add(½) ─ a

The expression is read as a function of one value x (elementwise.py), however it is spelt.  In every channel it must be

    f(x) = low for x < t, high for x > t    (rising)        or  high for x < t, low for x > t    (falling)

and then, with d = +1 for a rising and -1 for a falling channel,

    f(x) = (high - low)/2 · S + (high + low)/2,         S = Sign(d · (x - t)).

A {0, 1} expression is written with b = -S, which is +1 where f is 0: zero padding of f is then padding of b with +1,
which LCE's kernels know; and x > 0, which is 0 at 0, is exact.  Where it gains nothing and costs an operator, it is S.
Channels without a jump get d = 0 and a constant argument.

At x = t.  Sign(0) is +1, which is right if f(t) is the value that +1 stands for.  If it is the other one, t is moved to
the next float32, t⁺: x > t and x ≥ t⁺ are the same for float32.  At t = 0 this would cost an operator of its own, so it
is done only where an exact 0 is more than chance.  If f(t) is neither (PyTorch's sign(0) = 0) and x is t by design, no
bit says so, and x is not the source to use; further back there may be one.

Of all values that f is a function of, the source is the one that leaves the fewest operators between the layer in
front and the sign; affines that fold into that layer count as none.  Among equals it is the nearest.

In front of all that, a Pad by a constant p moves behind the expression, where it pads with f(p).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import TRACED_KEY, constant_of, inherit_source, new_constant, shape_of, take_over
from bnncc.ir.value_facts import FIRST_INPUT_ONLY, may_equal_by_design
from bnncc.passes.affine import affine_of
from bnncc.passes.elementwise import Candidate, Chain, exclusive, interpret, is_absorbed, is_elementwise, remove_unused
from bnncc.passes.piecewise import Matrix, Piecewise, simplified

# Two values that differ by less, relative to the larger, differ by the rounding of float32 constants.
SAME = 1e-6
# A threshold closer to 0 is one that avoids sign(0), as in sign(x + 1e-12): activations are not that small.
NEGLIGIBLE = 1e-12
# Operators that make no difference to an exact 0 in a sum of integers.
ZERO_KEEPING = FIRST_INPUT_ONLY | {"Mul", "Div", "Neg"}


@dataclass(frozen=True)
class Steps:
    """low and high [C]; threshold [C], +inf in a channel without a jump; rising [C], there true where f is high.

    at [C]: the value at the threshold, NaN where there is none.
    """

    low: Matrix
    high: Matrix
    threshold: Matrix
    rising: npt.NDArray[np.bool_]
    at: Matrix

    @property
    def jumps(self) -> npt.NDArray[np.bool_]:
        """The channels that have a threshold."""
        return np.isfinite(self.threshold)

    @property
    def is_sign(self) -> bool:
        """True where the values are -1 and +1."""
        return bool(np.all(self.low == -1) and np.all(self.high == 1))


@dataclass(frozen=True)
class Binarizer:
    """f = scale · Sign(slope · x + shift) + offset, all [C], and the source x behind a Pad with f(p), if any."""

    slope: Matrix
    shift: Matrix
    scale: Matrix
    offset: Matrix
    source: ir.Value
    pad: ir.Node | None
    padded: float

    @property
    def operators(self) -> int:
        """How many operators stand in front of the sign."""
        return int(np.any(self.slope != 1)) + int(np.any(self.shift != 0))


class RecognizeSteps(ir.passes.InPlacePass):
    """Rewrite every two-valued expression; the last value of one comes first."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        changed = False
        for node in reversed(list(graph)):
            if node.graph is graph and is_elementwise(node) and node.outputs[0].dtype == ir.DataType.FLOAT:
                changed |= _recognize(graph, node)
        return ir.passes.PassResult(model, modified=changed)


def _recognize(graph: ir.Graph, node: ir.Node) -> bool:
    value = node.outputs[0]
    if _is_affine_of_sign(node):
        return False
    best: tuple[int, Candidate, Binarizer] | None = None
    candidates = interpret(value)
    for index, candidate in enumerate(candidates):
        steps = steps_of(candidate.function)
        if (
            steps is None
            or _rests_between(steps, candidates[index + 1 :])
            or not (steps.is_sign or _stands_alone(graph, value))
        ):
            continue
        binarizer = _binarizer(graph, candidate, steps, value)
        if binarizer is None:
            continue
        cost = _cost(graph, candidate, candidates[-1], binarizer)
        if best is None or cost < best[0]:
            best = cost, candidate, binarizer
    if best is None or not any(_is_spelling(inner) for inner in best[1].nodes):
        return False
    _rewrite(graph, node, best[2])
    remove_unused(graph, best[1].nodes)
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


def steps_of(function: Piecewise) -> Steps | None:
    """The two values and the threshold of every channel; None where it is not such a function."""
    if function.center is not None:
        return None
    function = simplified(function, SAME)
    if not function.is_flat or function.knots.shape[1] != 1:
        return None
    threshold, at = function.knots[:, 0], function.at[:, 0]
    left, right = function.offsets[:, 0], function.offsets[:, 1]
    jumps = np.isfinite(threshold)
    if np.any(jumps & (np.abs(left - right) <= SAME * np.maximum(np.abs(left), np.abs(right)))):
        return None  # A single point that differs.
    low, high, rising = np.minimum(left, right), np.maximum(left, right), right > left
    low, high = _uniform(low, jumps), _uniform(high, jumps)
    if not jumps.all():
        same_low, same_high = (
            np.abs(left - one) <= SAME * np.maximum(np.abs(low), np.abs(high)) for one in (low, high)
        )
        if np.any(low == high) or np.any(~jumps & ~same_low & ~same_high):
            return None
        rising = np.where(jumps, rising, same_high)
    size = SAME * np.maximum(np.abs(low), np.abs(high))
    for one in (low, high):
        at = np.where(np.abs(at - one) <= size, one, at)
    return _centered(Steps(low, high, threshold, rising, at), function)


def _uniform(values: Matrix, jumps: npt.NDArray[np.bool_]) -> Matrix:
    """One number for all channels where they are the same up to rounding, and ±1 and 0 exactly."""
    first = values[jumps][0]
    nearest = np.rint(first)
    first = nearest if abs(first - nearest) <= SAME else first
    same = np.all(np.abs(values[jumps] - first) <= SAME * max(abs(first), 1e-30))
    return np.full_like(values, first) if same else values


def _centered(steps: Steps, function: Piecewise) -> Steps:
    """Negligible thresholds become 0, with what the function is there."""
    negligible = np.abs(steps.threshold) <= NEGLIGIBLE
    if not np.any(negligible & (steps.threshold != 0)):
        return steps
    zero = function(np.zeros((function.channels, 1)))[:, 0]
    at, threshold = np.where(negligible, zero, steps.at), np.where(negligible, 0.0, steps.threshold)
    return Steps(steps.low, steps.high, threshold, steps.rising, at)


def _stands_alone(graph: ir.Graph, value: ir.Value) -> bool:
    """True unless `value` is but a mask: an operand of elementwise operators together with other computed values."""
    if value in graph.outputs:
        return True
    return any(
        not is_elementwise(use.node) or all(one is value or constant_of(one) is not None for one in _given(use.node))
        for use in value.uses()
    )


def _given(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


# The argument of the sign


def _binarizer(graph: ir.Graph, candidate: Candidate, steps: Steps, value: ir.Value) -> Binarizer | None:
    """What to put in place of the expression; None where its value at the threshold matters and is no sign."""
    source, pad, padded = _behind_pad(candidate, steps)
    if _undecided(source, steps):
        return None
    absorbed = is_absorbed(graph, source, _readers(candidate, pad))
    options = [_arguments(source, steps, positive=True)]
    if np.all(steps.low == 0):
        negative = _arguments(source, steps, positive=False)
        exact = bool(np.any(steps.jumps & (steps.at == steps.low)))
        if (
            absorbed
            or exact
            or pad is not None
            or _is_padded_later(value)
            or np.any(negative[0] != 1) <= np.any(options[0][0] != 1)
        ):
            options = [negative]
    slope, shift, sign = options[0]
    half, middle = (steps.high - steps.low) / 2, (steps.high + steps.low) / 2
    return Binarizer(slope, shift, sign * half, middle, source, pad, padded)


def _behind_pad(candidate: Candidate, steps: Steps) -> tuple[ir.Value, ir.Node | None, float]:
    """(source, pad, f(p)): the input of the Pad that computes the source, where it can move behind the expression."""
    source = candidate.source
    node = source.producer()
    if node is None or node.domain != "" or node.op_type != "Pad" or node.inputs[0] is None:
        return source, None, 0.0
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    fill = np.zeros(()) if len(node.inputs) < 3 or node.inputs[2] is None else constant_of(node.inputs[2])
    inner = node.inputs[0]
    inner_shape, shape = shape_of(inner), shape_of(source)
    if mode != "constant" or fill is None or inner_shape is None or shape is None:
        return source, None, 0.0
    value = candidate.function(np.full((candidate.function.channels, 1), float(fill.reshape(-1)[0])))[:, 0]
    uniform = np.all(value == value[0]) and np.isfinite(value[0])
    if not uniform or (len(shape) > 1 and inner_shape[1] != shape[1] and len(steps.low) > 1):
        return source, None, 0.0
    return inner, node, float(value[0])


def _readers(candidate: Candidate, pad: ir.Node | None) -> list[ir.Node]:
    return [*candidate.nodes, *([] if pad is None else [pad])]


def _undecided(source: ir.Value, steps: Steps) -> bool:
    """True where some x is the threshold by design, and f is neither low nor high there."""
    neither = steps.jumps & (steps.at != steps.low) & (steps.at != steps.high)
    thresholds = [float(threshold) for threshold in np.unique(steps.threshold[neither])]
    return any(may_equal_by_design(source, number) for number in thresholds)


def _rests_between(steps: Steps, farther: Sequence[Candidate]) -> bool:
    """True where the threshold is met for a whole range of a source farther back, as |x| - x is 0 for all x > 0."""
    neither = (steps.jumps & (steps.at != steps.low) & (steps.at != steps.high))[:, None]
    known = [candidate.function for candidate in farther if candidate.function.center is None]
    return any(bool(np.any(neither & (one.slopes == 0) & (one.offsets == steps.at[:, None]))) for one in known)


def _arguments(source: ir.Value, steps: Steps, *, positive: bool) -> tuple[Matrix, Matrix, float]:
    """(slope, shift, sign): Sign(slope · x + shift) is +1 where f is high, if not `positive` low; f ~ sign · Sign."""
    direction = np.where(steps.rising == positive, 1.0, -1.0)
    threshold = np.where(steps.jumps, steps.threshold, 0.0)
    wrong = steps.jumps & (steps.at == (steps.low if positive else steps.high))
    next_float = _next_float32(threshold, direction)
    # Only a float32 can be met exactly, and 0 is met by chance unless something says otherwise.
    met = (threshold == threshold.astype(np.float32)) & ((threshold != 0) | _meets_zero(source))
    threshold = np.where(wrong & met, next_float, threshold)
    slope = np.where(steps.jumps, direction, 0.0)
    shift = np.where(steps.jumps, -direction * threshold, direction)
    return slope, shift + 0.0, 1.0 if positive else -1.0


def _next_float32(threshold: Matrix, direction: Matrix) -> Matrix:
    """The next float32 in `direction`; the smallest normal number next to 0, as kernels may flush smaller ones."""
    following = np.nextafter(threshold.astype(np.float32), np.float32(np.inf) * direction.astype(np.float32))
    tiny = direction * float(np.finfo(np.float32).tiny)
    return np.where(threshold == 0, tiny, following.astype(np.float64))


def _meets_zero(x: ir.Value) -> bool:
    """True where x is 0 by design, or a sum of products without a bias, which for ±1 is often exactly 0."""
    if may_equal_by_design(x, 0.0):
        return True
    node = x.producer()
    while node is not None and node.domain == "" and node.op_type in ZERO_KEEPING and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return False
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    return bias is None or not np.all(bias)


def _is_padded_later(value: ir.Value) -> bool:
    """True where a consumer pads, or may pad, with zeros."""
    return any(
        use.node.op_type == "Pad" or ("pads" in use.node.attributes and any(use.node.attributes["pads"].as_ints()))
        for use in value.uses()
    )


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
    if is_absorbed(graph, binarizer.source, _readers(candidate, binarizer.pad)):
        in_front = 0
    return min(in_front, 2) + len(remaining) - len(affines)


# The new operators


def _rewrite(graph: ir.Graph, node: ir.Node, binarizer: Binarizer) -> None:
    value = node.outputs[0]
    name = value.name or "sign"
    chain = Chain(graph, node, binarizer.source, name)
    chain.per_channel("Mul", binarizer.slope, "slope")
    chain.per_channel("Add", binarizer.shift, "shift")
    bare = chain.value is binarizer.source
    chain.then(ops.sign(chain.value), "signs" if binarizer.pad is None else "unpadded")
    signs = chain.value
    chain.per_channel("Mul", binarizer.scale, "scale")
    chain.per_channel("Add", binarizer.offset, "offset")
    is_value = chain.value is signs and binarizer.pad is None
    # The sign of a traced value, unpadded, is compared with that value; all others with what they stand for.
    if not is_value and not (bare and chain.value is signs):
        _describe(signs, binarizer, name)
    if binarizer.pad is not None:
        _pad(chain, binarizer)
    take_over(value, chain.value)


def _describe(signs: ir.Value, binarizer: Binarizer, name: str) -> None:
    """S = (f - offset) / scale, of the padded value where a Pad follows."""
    scale, offset = 1 / binarizer.scale, -binarizer.offset / binarizer.scale
    meaning: dict[str, object] = {
        "value": name,
        "scale": scale[0] if np.all(scale == scale[0]) else scale.tolist(),
        "offset": offset[0] + 0.0 if np.all(offset == offset[0]) else offset.tolist(),
    }
    amounts = constant_of(binarizer.pad.inputs[1]) if binarizer.pad is not None else None
    if amounts is not None:
        meaning["pads"] = amounts.tolist()
    signs.metadata_props[TRACED_KEY] = json.dumps(meaning)


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
