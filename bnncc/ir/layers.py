"""What became of each binary layer of the source, read off the compiled graph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Scheme, common_scheme
from bnncc.ir.graph import (
    CONV_KEY,
    INPUT_TERM_KEY,
    MERGED_KEY,
    MIRRORED_KEY,
    MODULE_KEY,
    NEGATED_KEY,
    OUTPUT_CHANNELS_KEY,
    SOURCE_KEY,
    STEP_WEIGHTS_KEY,
    TRACED_KEY,
    WEIGHT_TERM_KEY,
    shape_of,
)
from bnncc.ir.left_in_float import Reason


@dataclass(frozen=True)
class BinaryLayer:
    """A convolution or Linear of the source with a binary operand, and what became of it.

    module: the user's module path.  source: the line.  operator: what it is in the file.  macs: multiply-accumulates.
    reason: why it is not binary in the file; None where it is.  explanation: how it was lowered, one clause each.
    word: the reason's, by which it is found in the source.
    """

    module: str
    source: str
    operator: str
    macs: int
    reason: str | None = None
    explanation: tuple[str, ...] = ()
    word: str | None = None

    @property
    def in_float(self) -> str:
        """`in float [word]`, by which reports begin the reason."""
        return f"in float [{self.word}]"


def binary_layers(graph: ir.Graph) -> list[BinaryLayer]:
    """Every layer with a binary operand, in the graph's order.

    What was split into several operators is one layer; an operator that two layers share is both.
    """
    by_layer: dict[object, list[ir.Node]] = {}
    for node in graph:
        if ops.is_binary_conv(node) or ops.is_binary_conv_sign(node) or Reason.of(node) is not None:
            by_layer.setdefault(node.metadata_props.get(CONV_KEY) or node, []).append(node)
    layers, known = [], set(by_layer)
    for nodes in by_layer.values():
        layer = _describe(nodes)
        layers.append(layer)
        for entry in [entry for node in nodes for entry in json.loads(node.metadata_props.get(MERGED_KEY, "[]"))]:
            name = entry.get(CONV_KEY)
            if name is None or name not in known:
                layers.append(_merged(layer, entry))
                known.add(name)
    return layers


def _merged(layer: BinaryLayer, entry: dict[str, str]) -> BinaryLayer:
    """The layer that `layer` computes too."""
    module = entry.get(MODULE_KEY) or entry.get(CONV_KEY) or ""
    explanation = (f"computed by '{layer.module}', which reads the same and has the same weights",)
    return replace(layer, module=module, source=entry.get(SOURCE_KEY, ""), explanation=explanation)


def _describe(nodes: Sequence[ir.Node]) -> BinaryLayer:
    first = nodes[0]
    module = first.metadata_props.get(MODULE_KEY) or first.metadata_props.get(CONV_KEY) or first.name or ""
    source = first.metadata_props.get(SOURCE_KEY, "")
    macs = sum(macs_of(node) for node in nodes)
    reason = Reason.of(first)
    if reason is not None:
        return BinaryLayer(module, source, first.op_type, macs, reason.text, word=reason.word)
    return BinaryLayer(module, source, "LceBconv2d", macs, None, tuple(_explain(nodes)))


def _explain(nodes: Sequence[ir.Node]) -> list[str]:
    """The clauses of `--explain` for the BinaryConvs that one layer became."""
    node = nodes[0]
    x, weight, result = (shape_of(value) or () for value in (node.inputs[0], node.inputs[1], node.outputs[0]) if value)
    windows = ops.ConvGeometry.of(node, weight[2:], x[2:]).windows(weight[2:], x[2:])
    clauses = [f"{weight[2]}x{weight[3]}, {x[1]} to {result[1]} channels, {x[2]}x{x[3]} to {result[2]}x{result[3]}"]
    if len(nodes) > 1:
        clauses.append(f"split into {len(nodes)} convolutions")
    rows = json.loads(node.metadata_props.get(OUTPUT_CHANNELS_KEY, "[]"))
    chosen = [row if row >= 0 else -1 - row for row in rows]
    if chosen and len(set(chosen)) < len(chosen):
        clauses.append(f"{len(chosen) // len(set(chosen))} copies of its output merged into the weights")
    if STEP_WEIGHTS_KEY in node.metadata_props:
        clauses.append("its weights, 0 and α, taken as ±α/2 on its input, twice")
    for key in (INPUT_TERM_KEY, WEIGHT_TERM_KEY):
        if key in node.metadata_props:
            clauses.append(node.metadata_props[key])
    clauses.append(_padding_clause(node, common_scheme(windows)))
    operand = node.inputs[0]
    if operand is not None and _is_scaled(operand):
        clauses.append("its input, {0, 1} or scaled, taken as ±1")
    negated = json.loads(operand.metadata_props.get(NEGATED_KEY, "[]")) if operand is not None else []
    if negated:
        clauses.append(f"{len(negated)} input channels negated, for a negative scale before their sign")
    if ops.is_binary_conv_sign(node):
        clauses.append("the sign behind it became thresholds, its output stays packed")
    else:
        clauses.append("what follows it folded into one multiplier and bias a channel")
    return clauses


def _is_scaled(value: ir.Value) -> bool:
    """True where a ±1 value stands for another one of the network: {0, 1}, or ±α."""
    entry = json.loads(value.metadata_props.get(TRACED_KEY, "{}"))
    return bool(np.any(np.asarray(entry.get("scale", 1.0)) != 1) or np.any(np.asarray(entry.get("offset", 0.0)) != 0))


def _padding_clause(node: ir.Node, scheme: Scheme) -> str:
    operand = node.inputs[0]
    mirrored = operand is not None and bool(operand.metadata_props.get(MIRRORED_KEY))
    frame = " in the mirrored frame" if mirrored else ""
    ones = "pad_value" in node.attributes and node.attributes["pad_value"].as_float() == 1.0
    if scheme is Scheme.VALID:
        return "no padding"
    if ones:
        corrected = ops.is_binary_conv(node) and any(use.node.op_type == "Add" for use in node.outputs[0].uses())
        return f"padded with +1{frame}" + (", the border corrected behind it" if corrected else "")
    return f"zero padding as SAME{frame}"


def macs_of(node: ir.Node) -> int:
    """Multiply-accumulates of a convolution or Linear: outputs times the weights that each output sums over."""
    weight = shape_of(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    result = shape_of(node.outputs[0])
    if weight is None or result is None:
        return 0
    if node.op_type == "MatMul" and len(weight) > 1:
        return int(np.prod(result)) * weight[-2]
    if node.op_type in ("Gemm", "MatMul"):
        return int(np.prod(result)) * int(np.prod(weight)) // result[-1]
    return int(np.prod(result)) * int(np.prod(weight[1:]))
