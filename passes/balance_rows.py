"""Bring the rows of a Linear's weights to one size, for int8 weights that share one scale.

    Before:  x ─ Gemm(W, b) ─ y
    After:   x ─ Gemm(W_o / 2^k_o, b_o / 2^k_o) ─ Mul(2^k_o) ─ y          for each output channel o

TensorFlow Lite 2.14 computes FULLY_CONNECTED with one int8 scale a channel as if all weights were 0.  With one scale
for all, the steps of a row are those of the largest one.  Behind this pass the largest weights of all rows are less
than a factor of two apart, so that no row loses more than one bit; powers of two divide without rounding, so that the
floats are the same to the bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import constant_of, inherit_source, new_constant, take_over, unique_name
from bnncc.ir.step import Step
from bnncc.passes.each_node import rewrite_each

Floats = npt.NDArray[np.float32]

# 2^k is no smaller: a processor may take subnormal numbers for 0.
SMALLEST_EXPONENT = -100


def balancing(smallest: int) -> Step:
    """The step for a file whose weights of `smallest` elements and more are rounded to int8."""
    return Step("balance-rows", lambda: BalanceRows(smallest), "bring the rows of Linears to one size")


class BalanceRows(ir.passes.InPlacePass):
    """Balance every Gemm and MatMul with constant weights whose rows differ by more than a factor of two."""

    def __init__(self, smallest: int) -> None:
        """smallest: weights of fewer elements are left as they are."""
        super().__init__()
        self._smallest = smallest

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, self._rewrite))

    def _rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        weight = _floats(node.inputs[1]) if node.domain == "" and node.op_type in ("Gemm", "MatMul") else None
        return weight is not None and weight.size >= self._smallest and _balance(graph, node, weight)


def _balance(graph: ir.Graph, node: ir.Node, weight: Floats) -> bool:
    axis = 0 if node.attributes.get_int("transB", 0) else 1
    return weight.ndim == 2 and divide_rows(graph, node, axis, _factors(weight, axis), node.outputs[0])


def divide_rows(graph: ir.Graph, node: ir.Node, axis: int, factors: Floats, end: ir.Value) -> bool:
    """Divide the weights and the bias of a layer by factors, one for each index of the weights' `axis`, and multiply by
    them behind `end`, what the layer yields or what is computed of that alone.

    False, and nothing done, where the quotients are not exact, or the factors all the same.
    """
    weight, offset = (_floats(value) for value in (*node.inputs[1:], None)[:2])
    added = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or (offset is None and added is not None):
        return False
    if offset is not None and offset.size not in (1, weight.shape[axis]):
        return False
    along = factors.reshape([-1 if index == axis else 1 for index in range(weight.ndim)])
    with np.errstate(over="ignore"):
        balanced = {1: weight / along}
        if offset is not None:
            balanced[2] = offset.reshape(-1) / factors
    if np.all(factors == factors[0]) or not _divides_exactly(balanced[1], along, weight):
        return False
    if offset is not None and not _divides_exactly(balanced[2], factors, offset.reshape(-1)):
        return False
    for index, array in balanced.items():
        node.replace_input_with(index, new_constant(graph, array, f"{node.outputs[0].name}/balanced"))
    _multiply_behind(graph, end, factors.reshape(-1, *(1,) * max(weight.ndim - 2, 0)))
    if end is not node.outputs[0]:
        node.outputs[0].name = unique_name(graph, f"{node.outputs[0].name}/rows")
    return True


def _multiply_behind(graph: ir.Graph, end: ir.Value, factors: Floats) -> None:
    """Let what reads `end` read its product with the factors, which takes its name."""
    node = end.producer()
    assert node is not None
    product = ir.node("Mul", [end, new_constant(graph, factors, f"{end.name}/factors")])
    inherit_source([product], node)
    graph.insert_after(node, product)
    name, shape, dtype = end.name, end.shape, end.type
    take_over(end, product.outputs[0])
    product.replace_input_with(0, end)
    end.name, end.shape, end.type = unique_name(graph, f"{name}/rows"), shape, dtype


def _floats(value: ir.Value | None) -> Floats | None:
    """A float32 constant; None for anything else."""
    array = constant_of(value)
    return array.astype(np.float32, copy=False) if array is not None and array.dtype == np.float32 else None


def _factors(weight: Floats, axis: int) -> Floats:
    """2^k for each row: its largest weight, divided by it, is as large as the largest of all but for a factor of 2."""
    largest = np.abs(weight).max(axis=1 - axis)
    known = (largest > 0) & np.isfinite(largest)
    if not known.any() or largest[known].max() <= 2 * largest[known].min():
        return np.ones(largest.shape, np.float32)
    exponents = np.where(known, np.frexp(largest)[1], 0)
    top = exponents[known].max()
    return np.ldexp(np.float32(1), np.where(known, np.maximum(exponents - top, SMALLEST_EXPONENT), 0)).astype(
        np.float32
    )


def _divides_exactly(quotient: Floats, divisor: Floats, dividend: Floats) -> bool:
    """False where a quotient is out of float32's range."""
    exact = np.array_equal(quotient * divisor, np.broadcast_to(dividend, quotient.shape))
    return exact and bool(np.all(np.isfinite(quotient)))
