"""LSTM, GRU and RNN, unrolled: the sequence has a static length.

All products with the inputs are one MatMul; what is left a step is one MatMul with the state.  X is [T, N, I] (layout
1: [N, T, I]), weights [D, gates·H, …] for D directions, the gates in ONNX's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of
from bnncc.passes.decompositions.builder import Builder, NotDecomposableError
from bnncc.passes.decompositions.indexing import reversed_axis

# The activations that need no alpha and beta of their own.
ACTIVATIONS = ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")
# A step: (its products with the input [N, gates·H], the states) → the states; the first one is the output.
Step = Callable[[ir.Value, list[ir.Value]], list[ir.Value]]


class _Direction:
    """One direction's weights, and its steps over the sequence."""

    def __init__(self, build: Builder, direction: int, gates: int, activations: Sequence[str]) -> None:
        self.build, self.activations = build, activations
        self.hidden = build.shape(build.input(2))[2]
        self.weight = build.transpose(build.take(build.input(1), 0, direction), (1, 0))  # [I, gates·H]
        self.recurrent = build.transpose(build.take(build.input(2), 0, direction), (1, 0))  # [H, gates·H]
        bias = build.optional(3)
        self.input_bias = self.recurrent_bias = None
        if bias is not None:
            both = build.take(bias, 0, direction)
            self.input_bias = build.slice(both, 0, 0, gates * self.hidden)
            self.recurrent_bias = build.slice(both, 0, gates * self.hidden, 2 * gates * self.hidden)

    def activate(self, index: int, x: ir.Value) -> ir.Value:
        """The activation in place `index` of this direction's."""
        return self.build.op(self.activations[index], x)

    def gate(self, x: ir.Value, index: int, count: int = 1) -> ir.Value:
        """Gates `index` to `index + count` of [N, gates·H]."""
        return self.build.slice(x, 1, index * self.hidden, (index + count) * self.hidden)

    def product(self, state: ir.Value) -> ir.Value:
        """The state by the recurrent weights, without bias."""
        return self.build.op("MatMul", state, self.recurrent)


def lstm(build: Builder) -> Sequence[ir.Value | None]:
    """i, o, f, c = gates; C = f·C + i·c; H = o·h(C); peepholes add p·C to i and f, p·C' to o."""
    if build.integer("input_forget", 0):
        raise NotDecomposableError("input_forget")

    def step_of(one: _Direction, direction: int) -> Step:
        peepholes: list[ir.Value] = []
        if build.optional(7) is not None:
            row = build.take(build.input(7), 0, direction)
            peepholes = [build.slice(row, 0, k * one.hidden, (k + 1) * one.hidden) for k in range(3)]

        def step(x: ir.Value, states: list[ir.Value]) -> list[ir.Value]:
            hidden, cell = states
            gates = build.op("Add", x, one.product(hidden))
            parts = [one.gate(gates, index) for index in range(4)]
            if peepholes:
                for index, peephole in ((0, peepholes[0]), (2, peepholes[2])):
                    parts[index] = build.op("Add", parts[index], build.op("Mul", peephole, cell))
            inputs, forget = one.activate(0, parts[0]), one.activate(0, parts[2])
            kept = build.op("Mul", forget, cell)
            cell = build.op("Add", kept, build.op("Mul", inputs, one.activate(1, parts[3])))
            output = parts[1]
            if peepholes:
                output = build.op("Add", output, build.op("Mul", peepholes[1], cell))
            return [build.op("Mul", one.activate(0, output), one.activate(2, cell)), cell]

        return step

    return _unrolled(build, 4, ("Sigmoid", "Tanh", "Tanh"), step_of, states=2)


def gru(build: Builder) -> Sequence[ir.Value | None]:
    """z, r, h = gates; H = (1 - z)·h + z·H, with r in front of the product or behind it (linear_before_reset)."""
    behind = bool(build.integer("linear_before_reset", 0))

    def step_of(one: _Direction, direction: int) -> Step:
        last_bias = None
        if one.recurrent_bias is not None:
            last_bias = build.slice(one.recurrent_bias, 0, 2 * one.hidden, 3 * one.hidden)
        outer = build.slice(one.recurrent, 1, 0, 2 * one.hidden)
        inner = build.slice(one.recurrent, 1, 2 * one.hidden, 3 * one.hidden)

        def step(x: ir.Value, states: list[ir.Value]) -> list[ir.Value]:
            (hidden,) = states
            gates = build.op("Add", one.gate(x, 0, 2), build.op("MatMul", hidden, outer))
            update, reset = (one.activate(0, one.gate(gates, index)) for index in range(2))
            if behind:
                term = build.op("MatMul", hidden, inner)
                term = build.op("Mul", reset, term if last_bias is None else build.op("Add", term, last_bias))
            else:
                term = build.op("MatMul", build.op("Mul", reset, hidden), inner)
            new = one.activate(1, build.op("Add", one.gate(x, 2), term))
            # (1 - z)·h + z·H
            difference = build.op("Mul", build.op("Sub", build.scalar(1, update), update), new)
            return [build.op("Add", difference, build.op("Mul", update, hidden))]

        return step

    # The reset gate multiplies the last gate's bias too, if it comes behind the product: it is not the input's then.
    return _unrolled(build, 3, ("Sigmoid", "Tanh"), step_of, own_bias=2 if behind else 3)


def rnn(build: Builder) -> Sequence[ir.Value | None]:
    """H = f(x·W + H·R + b)."""

    def step_of(one: _Direction, direction: int) -> Step:
        return lambda x, states: [one.activate(0, build.op("Add", x, one.product(states[0])))]

    return _unrolled(build, 1, ("Tanh",), step_of)


def _unrolled(
    build: Builder,
    gates: int,
    defaults: Sequence[str],
    step_of: Callable[[_Direction, int], Step],
    *,
    states: int = 1,
    own_bias: int | None = None,
) -> list[ir.Value | None]:
    """Y [T, D, N, H] and the last states [D, N, H].

    own_bias: how many of the gates take the recurrent bias together with the input's.
    """
    x = build.input(0)
    batch_first = bool(build.integer("layout", 0))
    if batch_first:
        x = build.transpose(x, (1, 0, 2))
    length, batch, _ = build.shape(x)
    directions = build.shape(build.input(1))[0]
    _require_plain(build, length)
    names = _activations(build, defaults, directions)
    outputs, last = [], []
    for direction in range(directions):
        one = _Direction(build, direction, gates, names[direction * len(defaults) :])
        step = step_of(one, direction)
        backwards = direction == 1 or build.text("direction", "forward") == "reverse"
        sequence = reversed_axis(build, x, 0) if backwards else x
        products = build.op("MatMul", sequence, one.weight)
        for bias in _biases(build, one, gates, gates if own_bias is None else own_bias):
            products = build.op("Add", products, bias)
        current = [_initial(build, 5 + index, direction, batch, one.hidden, batch_first) for index in range(states)]
        steps = []
        for time in range(length):
            current = step(build.take(products, 0, time), current)
            steps.append(current[0])
        outputs.append(build.stack(steps[::-1] if backwards else steps, 0))
        last.append(current)
    finals = [build.stack([current[index] for current in last], 0) for index in range(states)]
    y = build.stack(outputs, 1)
    if batch_first:
        y = build.transpose(y, (2, 0, 1, 3))
        finals = [build.transpose(final, (1, 0, 2)) for final in finals]
    return [y, *finals]


def _biases(build: Builder, one: _Direction, gates: int, own: int) -> list[ir.Value]:
    if one.input_bias is None or one.recurrent_bias is None:
        return []
    if own == gates:
        return [build.op("Add", one.input_bias, one.recurrent_bias)]
    zeros = build.constant(np.zeros((gates - own) * one.hidden, np.float32))
    shared = build.slice(one.recurrent_bias, 0, 0, own * one.hidden)
    return [build.op("Add", one.input_bias, build.concat([shared, zeros], 0))]


def _initial(build: Builder, index: int, direction: int, batch: int, hidden: int, batch_first: bool) -> ir.Value:
    """The initial state of a direction [N, H], 0 where it is left out."""
    value = build.optional(index)
    if value is None:
        return build.constant(np.zeros((batch, hidden), np.float32))
    return build.take(value, 1 if batch_first else 0, direction)


def _require_plain(build: Builder, length: int) -> None:
    """NotDecomposableError for sequences of several lengths and for clipped gates."""
    if build.optional(4) is not None:
        lengths = constant_of(build.optional(4))
        if lengths is None or np.any(lengths != length):
            raise NotDecomposableError("sequences of several lengths")
    if "clip" in build.origin.attributes:
        raise NotDecomposableError("clip")


def _activations(build: Builder, defaults: Sequence[str], directions: int) -> list[str]:
    given = build.origin.attributes.get_strings("activations") if "activations" in build.origin.attributes else None
    names = list(given) if given else list(defaults) * directions
    known = {name.lower(): name for name in ACTIVATIONS}
    if any(name.lower() not in known for name in names):
        raise NotDecomposableError(f"an activation that is none of {', '.join(ACTIVATIONS)}")
    return [known[name.lower()] for name in names]


DECOMPOSITIONS = {"LSTM": lstm, "GRU": gru, "RNN": rnn}
