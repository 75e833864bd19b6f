"""The sign and the affine that take the place of a function with two values and one jump a channel.

With d = +1 for a rising and -1 for a falling channel,

    f(x) = (high - low)/2 · S + (high + low)/2,         S = Sign(d · (x - t)).

A {0, 1} expression is written with b = -S, which is +1 where f is 0: zero padding of f is then padding of b with +1,
which LCE's kernels know; and x > 0, which is 0 at 0, is exact.  Where it gains nothing and costs an operator, it is S.
Channels without a jump get d = 0 and a constant argument.

At x = t.  Sign(0) is +1, which is right if f(t) is the value that +1 stands for.  If it is the other one, t is moved to
the next float32, t⁺: x > t and x ≥ t⁺ are the same for float32.  At t = 0 this would cost an operator of its own, so it
is done only where an exact 0 is more than chance.  If f(t) is neither (PyTorch's sign(0) = 0) and x is t by design, no
bit says so, and x is not the source to use; further back there may be one.

In front of all that, a Pad by a constant p moves behind the expression, where it pads with f(p).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import constant_of, shape_of
from bnncc.ir.value_facts import granularity, may_equal_by_design
from bnncc.passes.elementwise import Candidate
from bnncc.passes.expression import is_absorbed
from bnncc.passes.piecewise import Matrix
from bnncc.passes.steps import Steps
from bnncc.passes.strict_threshold import strictly_beyond


@dataclass(frozen=True)
class Binarizer:
    """f = scale · Sign(slope · x + shift) + offset, all [C], and the source x behind a Pad with f(p), if any.

    is_three_valued: at the threshold f is neither of its two values, as PyTorch's sign(0) = 0.
    """

    slope: Matrix
    shift: Matrix
    scale: Matrix
    offset: Matrix
    source: ir.Value
    pad: ir.Node | None
    padded: float
    is_three_valued: bool

    @property
    def operators(self) -> int:
        """How many operators stand in front of the sign."""
        return int(np.any(self.slope != 1)) + int(np.any(self.shift != 0))


def binarizer_of(graph: ir.Graph, candidate: Candidate, steps: Steps, value: ir.Value) -> Binarizer | None:
    """What to put in place of the expression; None where its value at the threshold matters and is no sign."""
    source, pad, padded = _behind_pad(candidate, steps)
    if _undecided(source, steps):
        return None
    absorbed = is_absorbed(graph, source, readers(candidate, pad))
    # x > t is -Sign(t - x) as it is; with Sign(x - t) the threshold must move, by how much x says or does not.
    # Behind a pool of bits no layer takes the minus: it would be an operator of its own.
    low, high = (bool(np.any(steps.jumps & (steps.at == level))) for level in (steps.low, steps.high))
    turns = absorbed and pad is None and low and not high and granularity(source) is None and not _is_pooled(value)
    options = [_arguments(source, steps, positive=not turns)]
    if np.all(steps.low == 0) and not _is_pooled(value):  # the maximum of 0 and 1 is that of signs that rise with them
        negative = _arguments(source, steps, positive=False)
        if (
            absorbed
            or low
            or pad is not None
            or _is_padded_later(value)
            or np.any(negative[0] != 1) <= np.any(options[0][0] != 1)
        ):
            options = [negative]
    slope, shift, sign = options[0]
    half, middle = (steps.high - steps.low) / 2, (steps.high + steps.low) / 2
    return Binarizer(slope, shift, sign * half, middle, source, pad, padded, bool(np.any(_between(steps))))


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


def readers(candidate: Candidate, pad: ir.Node | None) -> list[ir.Node]:
    """What is replaced where the Pad goes behind the expression: its nodes and the Pad."""
    return [*candidate.nodes, *([] if pad is None else [pad])]


def _undecided(source: ir.Value, steps: Steps) -> bool:
    """True where some x is the threshold by design, and f is neither low nor high there."""
    neither = _between(steps)
    return may_equal_by_design(source, np.unique(steps.threshold[neither]))


def _between(steps: Steps) -> npt.NDArray[np.bool_]:
    """The channels whose value at the threshold is neither of the two, [C]."""
    between: npt.NDArray[np.bool_] = steps.jumps & (steps.at != steps.low) & (steps.at != steps.high)
    return between


def rests_between(steps: Steps, farther: Sequence[Candidate]) -> bool:
    """True where the threshold is met for a whole range of a source farther back, as |x| - x is 0 for all x > 0."""
    neither = _between(steps)[:, None]
    known = [candidate.function for candidate in farther if candidate.function.center is None]
    return any(bool(np.any(neither & (one.slopes == 0) & (one.offsets == steps.at[:, None]))) for one in known)


def _arguments(source: ir.Value, steps: Steps, *, positive: bool) -> tuple[Matrix, Matrix, float]:
    """(slope, shift, sign): Sign(slope · x + shift) is +1 where f is high, if not `positive` low; f ~ sign · Sign."""
    direction = np.where(steps.rising == positive, 1.0, -1.0)
    threshold = np.where(steps.jumps, steps.threshold, 0.0)
    wrong = steps.jumps & (steps.at == (steps.low if positive else steps.high))
    if wrong.any():
        threshold = np.where(wrong, strictly_beyond(source, threshold, direction), threshold)
    slope = np.where(steps.jumps, direction, 0.0)
    shift = np.where(steps.jumps, -direction * threshold, direction)
    return slope, shift + 0.0, 1.0 if positive else -1.0


def _is_pooled(value: ir.Value) -> bool:
    return any(use.node.domain == "" and use.node.op_type == "MaxPool" for use in value.uses())


def _is_padded_later(value: ir.Value) -> bool:
    """True where a consumer pads, or may pad, with zeros."""
    return any(
        use.node.op_type == "Pad" or ("pads" in use.node.attributes and any(use.node.attributes["pads"].as_ints()))
        for use in value.uses()
    )
