"""Compute equal things once.

    Before:  x ─ Clip(-1, 1) ─ p      x ─ Clip(-1, 1) ─ q
    After:   x ─ Clip(-1, 1) ─ p, used twice

Training code writes `sign(x) - clamp(x) + clamp(x)`: only when both clamps are one value can they be seen to cancel.
And two layers of the same weights, one of the sign of a map and one of its two bits, are one where they read the same.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, DeduplicateHashedInitializersPass

from bnncc.ir import ops
from bnncc.ir.graph import MERGED_KEY, constant_of

# Initializers up to this many elements are compared with all others.
LARGEST_COMPARED = 4096


class MergeDuplicates(ir.passes.InPlacePass):
    """onnx_ir's passes: equal initializers become one, then equal nodes on equal inputs."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        with _without_warnings():
            shared = DeduplicateHashedInitializersPass(size_limit=LARGEST_COMPARED)(model)
        merged = _merge_nodes(model)
        weights = _share_weights(model.graph) and _merge_nodes(model)
        return ir.passes.PassResult(model, modified=bool(shared.modified or merged or weights))


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """onnx_ir warns of each constant that is an output, and stays as it is."""
    logger = logging.getLogger(DeduplicateHashedInitializersPass.__module__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _merge_nodes(model: ir.Model) -> bool:
    """Equal nodes become one; that one records the layers which it computes for others."""
    # A reader of each layer says afterwards which node computes it.
    readers: list[ir.Node] = []
    for layer in [node for node in model.graph if node.op_type in (*ops.WEIGHTED, ops.BINARY_CONV)]:
        readers.append(ir.node("Reader", [layer.outputs[0]], {"number": len(readers)}, domain=ops.DOMAIN))
        readers[-1].metadata_props.update(layer.metadata_props)
        model.graph.append(readers[-1])
    modified = CommonSubexpressionEliminationPass()(model).modified
    found: set[ir.Node] = set()
    for reader in readers:
        value = reader.inputs[0]
        node = None if value is None else value.producer()
        assert node is not None
        if node in found:
            entries = json.loads(node.metadata_props.get(MERGED_KEY, "[]"))
            entries += json.loads(reader.metadata_props.pop(MERGED_KEY, "[]"))
            node.metadata_props[MERGED_KEY] = json.dumps([*entries, dict(reader.metadata_props)])
        found.add(node)
    model.graph.remove(readers, safe=True)
    return modified


def _share_weights(graph: ir.Graph) -> bool:
    """Let BinaryConvs of one input read one of two equal weights, however large."""
    modified = False
    first: dict[tuple[ir.Value | None, tuple[int, ...]], list[tuple[ir.Value, npt.NDArray[np.generic]]]] = {}
    for node in graph:
        weight = node.inputs[1] if ops.is_binary_conv(node) else None
        array = constant_of(weight)
        if weight is None or array is None:
            continue
        known = first.setdefault((node.inputs[0], array.shape), [])
        equal = [other for other, values in known if np.array_equal(values, array)]
        if not equal:
            known.append((weight, array))
        elif equal[0] is not weight:
            node.replace_input_with(1, equal[0])
            modified = True
    return modified
