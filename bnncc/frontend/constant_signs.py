"""Give the signs of weights the values that PyTorch computes.

    Before:  w - mean(w) ─ Sign ─ Conv
    After:   PyTorch's own signs, an initializer ─ Conv

Only where the two engines differ: a mean is a sum, its rounding depends on the order of the additions, and where a
weight equals the mean to the last bit the sign of the difference is anyone's guess.  PyTorch is the arbiter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from bnncc.frontend.flips import differing, explained
from bnncc.frontend.recording import JUMPING, Operation
from bnncc.ir.choices import result_of
from bnncc.ir.evaluate import constant_values, input_dependent


def pin_constant_signs(model: ir.Model, pairs: Sequence[tuple[Operation, ir.Node]]) -> dict[int, int]:
    """Replace constant signs, comparisons and roundings that ONNX Runtime computes otherwise than PyTorch, in place.

    Differences that rounding does not explain are left for the trace check to report.

    Args:
        pairs: operations of an eager run with their nodes, from `align`.

    Returns:
        For each node that was replaced, `id(operation)` with the number of elements that differed.
    """
    dependent = input_dependent(model.graph)
    constant = [
        (operation, node) for operation, node in pairs if operation.kind in JUMPING and result_of(node) not in dependent
    ]
    if not constant:
        return {}
    values = [result_of(node) for _, node in constant]
    results = constant_values(model, values)
    pinned: dict[int, int] = {}
    for operation, node in constant:
        value = result_of(node)
        assert value.name is not None
        flipped = differing(results[value.name], operation.output)
        count = int(np.count_nonzero(flipped))
        if count and count == int(np.count_nonzero(explained(operation, results[value.name]))):
            _replace(model.graph, value, operation.output.astype(results[value.name].dtype))
            pinned[id(operation)] = count
    if pinned:
        common.RemoveUnusedNodesPass()(model)
    return pinned


def _replace(graph: ir.Graph, value: ir.Value, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    name = value.name
    assert name is not None
    value.name = f"{name}/computed"
    constant = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(constant)
    value.replace_all_uses_with(constant, replace_graph_outputs=True)
