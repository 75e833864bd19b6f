"""Find the convolutions of ±1 by ±1, and split their weights into signs and a scale per output channel.

    Before:  x ─ Sign ─ Conv(W = α_o · s, b) ─ y          s = ±1, α_o > 0
    After:   x ─ Sign ─ BinaryConv(s; multiplier = α_o, bias = b_o) ─ y

The weights decide, not how they were computed: within an output channel all |w| are equal up to RELATIVE_TOLERANCE.
A channel of zeros has the scale 0.  A convolution that has one of the two binary operands but cannot be a BinaryConv
gets the reason as metadata, for the report.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc import ops
from bnncc.graph import CONV_KEY, LEFT_IN_FLOAT_KEY, constant_of, new_constant, replace_node, shape_of
from bnncc.value_facts import is_binary

# Scales that went through a float32 residue, (α·s - w) + w with |w| ≤ 1, are off by 6e-8 of 1, which for the smallest
# scales seen (α = 1e-4) is 6e-4 of α. Weights that really differ do so by far more.
RELATIVE_TOLERANCE = 2e-3


class RecognizeBinaryConv(ir.passes.InPlacePass):
    """Replace every Conv whose operands are both binary."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        for node in list(model.graph):
            if node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul"):
                continue
            reason = self._recognize(model.graph, node)
            if reason is None:
                changed = True
            elif reason and node.metadata_props.get(LEFT_IN_FLOAT_KEY) != reason:
                node.metadata_props[LEFT_IN_FLOAT_KEY] = reason
        return ir.passes.PassResult(model, modified=changed)

    def _recognize(self, graph: ir.Graph, node: ir.Node) -> str | None:
        """Replace `node` and return None; or return why not, "" where nothing about it is binary."""
        x, weight = node.inputs[0], node.inputs[1]
        assert x is not None
        assert weight is not None
        filters = constant_of(weight)
        binary_input = is_binary(x) or _is_step(x)
        if filters is None:
            return "its weights are computed at run time" if binary_input else ""
        split = split_weights(filters if node.op_type == "Conv" else _output_first(node, filters))
        if not binary_input:
            # One weight a channel is always "equal in magnitude": that says nothing.
            single = filters.size == filters.shape[0]
            return "" if split is None or single else "its weights are binary but its input is not"
        if split is None:
            zeros = int(np.count_nonzero(filters == 0))
            if zeros and np.all(np.isin(np.sign(filters), (-1, 0, 1))) and _is_ternary(filters):
                return f"{zeros} of its {filters.size} weights are exactly 0, which no bit says"
            return "its input is binary but its weights are not"
        if not is_binary(x):
            return "its input holds zeros by design, which no bit says"
        if node.op_type != "Conv":
            return "it is a Linear layer, which stays in float"
        if filters.ndim != 4:
            return f"it is a {filters.ndim - 2}-D convolution"
        size = shape_of(x)
        if size is None:
            return "its input has no static shape"
        geometry = ops.ConvGeometry.of(node, filters.shape[2:], size[2:])
        if geometry.group != 1:
            return f"it has {geometry.group} groups, which LCE's default kernel rejects"
        bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(filters.shape[0], np.float32)
        if bias is None:
            return "its bias is computed at run time"
        signs, scales = split
        name = node.outputs[0].name
        binary = ops.binary_conv(
            x,
            new_constant(graph, signs, f"{name}/weight"),
            new_constant(graph, scales.astype(np.float32), f"{name}/multiplier"),
            new_constant(graph, bias.astype(np.float32), f"{name}/bias"),
            geometry,
        )
        binary.metadata_props[CONV_KEY] = name or ""
        replace_node(graph, node, binary)
        return None


def split_weights(
    filters: npt.NDArray[np.generic],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]] | None:
    """(signs ±1 of the filters' shape, scale α_o per output channel) of filters [O, …]; None where they are not
    α_o·(±1).

    α_o is the mean |w| in float64.
    """
    magnitude = np.abs(filters.astype(np.float64)).reshape(filters.shape[0], -1)
    low, high = magnitude.min(axis=1), magnitude.max(axis=1)
    if not np.all(high - low <= RELATIVE_TOLERANCE * high):
        return None
    signs = np.where(np.signbit(filters), np.float32(-1), np.float32(1)).astype(np.float32)
    return signs, magnitude.mean(axis=1)


def _output_first(node: ir.Node, matrix: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The weights of a Gemm or MatMul as [O, I]."""
    transposed = node.op_type == "Gemm" and "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    return matrix if transposed else np.moveaxis(matrix, -1, 0)


def _is_ternary(filters: npt.NDArray[np.generic]) -> bool:
    """True for weights α_o·{-1, 0, +1}."""
    magnitude = np.abs(filters.astype(np.float64)).reshape(filters.shape[0], -1)
    high = magnitude.max(axis=1, keepdims=True)
    return bool(np.all((magnitude == 0) | (high - magnitude <= RELATIVE_TOLERANCE * high)))


def _is_step(value: ir.Value) -> bool:
    """True for the output of a sign that was left alone because zeros reach it."""
    node = value.producer()
    return node is not None and node.domain == "" and node.op_type == "Sign"
