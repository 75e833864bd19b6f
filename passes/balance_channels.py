"""Bring the channels that a convolution yields to one size, for int8 activations that share one scale.

    Before:  x ─ Conv(W, b) ─ MaxPool ─ y
    After:   x ─ Conv(W_o / 2^k_o, b_o / 2^k_o) ─ MaxPool ─ Mul(2^k_o) ─ y          for each channel o

A batch norm that is folded into a convolution leaves channels of unequal size.  In steps of one scale the small ones
have few steps, and a sign that reads them few to tell its threshold by.  Behind this pass the largest numbers of all
channels are less than a factor of two apart.  Powers of two divide without rounding: the floats are the same to the
bit.

How large channels become only data can tell: `bnncc.calibration` measures the exponents k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import constant_of, shape_of, sole_consumer
from bnncc.ir.step import Step
from bnncc.passes.balance_rows import divide_rows

BALANCE_CHANNELS = "balance-channels"
# What multiplies by a positive number as well before as behind it, channel by channel.
_PASSED = {"Relu", "MaxPool", "AveragePool"}
# Of a channel that is as good as constant 0.
SMALLEST = -12


def balancing_channels(exponents: Mapping[str, Sequence[int]]) -> Step:
    """The step; exponents: of each convolution's channels, by the name of what it yields."""
    return Step(
        BALANCE_CHANNELS, lambda: BalanceChannels(exponents), "bring the channels of int8 convolutions to one size"
    )


class BalanceChannels(ir.passes.InPlacePass):
    """Balance the convolutions that are named."""

    def __init__(self, exponents: Mapping[str, Sequence[int]]) -> None:
        """exponents: none is positive."""
        super().__init__()
        self._exponents = exponents

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        for node, end in convolutions(model.graph):
            weight = constant_of(node.inputs[1])
            exponents = self._exponents.get(node.outputs[0].name or "")
            if exponents is not None and weight is not None and len(exponents) == len(weight):
                factors = np.ldexp(np.float32(1), np.asarray(exponents)).astype(np.float32)
                changed |= divide_rows(model.graph, node, 0, factors, end)
        return ir.passes.PassResult(model, modified=changed)


def convolutions(graph: ir.Graph) -> list[tuple[ir.Node, ir.Value]]:
    """Those with constant weights, and the value behind each that the product would be of."""
    found = []
    for node in graph:
        shape = shape_of(node.outputs[0])
        is_convolution = node.domain == "" and node.op_type == "Conv" and constant_of(node.inputs[1]) is not None
        if is_convolution and shape is not None and len(shape) == 4:
            end = _end(graph, node.outputs[0])
            if end is not None:
                found.append((node, end))
    return found


def exponents_of(largest: npt.NDArray[np.float64]) -> list[int]:
    """k for each channel, whose largest magnitude is given: that divided by 2^k is as large as any but for a factor
    of 2.
    """
    known = largest > 0
    if not known.any():
        return [0] * len(largest)
    shares = np.where(known, largest / largest.max(), 1)
    exponents = np.ceil(np.log2(shares)).astype(int)
    return [int(exponent) for exponent in np.maximum(exponents, SMALLEST)]


def _end(graph: ir.Graph, value: ir.Value) -> ir.Value | None:
    """The value behind what only the convolution feeds; None where a clip is in between, whose bounds are numbers."""
    node = sole_consumer(graph, value)
    if node is None or node.domain != "" or node.op_type not in (*_PASSED, "Clip"):
        return value
    return None if node.op_type == "Clip" else _end(graph, node.outputs[0])
