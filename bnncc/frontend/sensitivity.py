"""How far roundings alone move the values of a graph, where they are more than usual.

Two engines round differently, and what cancels afterwards keeps the difference: x + 30 is rounded at 2e-6, and so is
the variance of it that E[x²] - E[x]² yields, which may be that small.  How much that is depends on the values.  So the
graph runs again with every float result of arithmetic moved at random by up to some roundings of its own:

    Before:  x ─ Add ─ y                  After:   x ─ Add ─ y' ┬─────────────────────── Mul ─ y
                                                                └ RandomUniformLike(1 ± 2^-22) ┘

What an operator adds up by itself may cancel inside it, as γ·x - γ·μ + β does where x is near a zero of a batch norm.
There what it reads is moved too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from bnncc.frontend.recording import JUMPING
from bnncc.ir.evaluate import Array, run
from bnncc.ir.rounding import differences
from bnncc.ir.value_facts import MOVES

# Four roundings of a float32, which is what one operator's result may be off by in either engine.
MOVED = 2.0**-22
# Runs of which the largest change counts, and how much more than that roundings may make of the values.
RUNS = 4
MARGIN = 16.0
# Operators that add up what they read.
SUMS = {
    "BatchNormalization", "Conv", "ConvTranspose", "Einsum", "Gemm", "GroupNormalization", "InstanceNormalization",
    "LayerNormalization", "MatMul", "ReduceMean", "ReduceSum", "GlobalAveragePool", "AveragePool",
}  # fmt: skip
# Operators that yield what they were given, or whole numbers.
EXACT = MOVES | JUMPING | {
    "Pad", "Neg", "Abs", "Relu", "Max", "Min", "Clip", "Where", "Constant", "ConstantOfShape", "Cast", "CastLike",
}  # fmt: skip


def moved_by_rounding(
    model: ir.Model, proto: onnx.ModelProto, feeds: Mapping[str, Array], names: Collection[str]
) -> dict[str, float]:
    """What roundings may change of the float values `names` of `proto`, at most: absolute, for each name.

    Args:
        model: the graph that `proto` was made of, for the types of its values.
        proto: a graph to run; `names` that are none of its outputs become such in copies of it.
        feeds: its inputs.
    """
    plain = onnx.ModelProto()
    plain.CopyFrom(proto)
    given = {output.name for output in plain.graph.output}
    plain.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    results = run(plain, feeds)
    rounded = {value.name for node in model.graph for value in _rounded(node)}
    adding = (node for node in model.graph if node.domain == "" and node.op_type in SUMS)
    summed = frozenset(node.outputs[0].name for node in adding) & rounded
    changes = dict.fromkeys(names, 0.0)
    for seed in range(RUNS):
        moved = run(_shaken(plain, rounded, summed, seed), feeds)
        for name in names:
            changes[name] = max(changes[name], _largest_change(moved[name], results[name]))
    return {name: MARGIN * change for name, change in changes.items()}


def _rounded(node: ir.Node) -> Sequence[ir.Value]:
    if node.domain == "" and node.op_type in EXACT:
        return ()
    return [value for value in node.outputs if value.dtype == ir.DataType.FLOAT]


def _shaken(
    proto: onnx.ModelProto, rounded: Collection[str | None], summed: frozenset[str | None], seed: int
) -> onnx.ModelProto:
    """A copy of `proto` in which the values `rounded` are multiplied by random numbers near 1.

    So is, for them alone, what the operators of the values `summed` read first.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    nodes = list(copy.graph.node)
    del copy.graph.node[:]

    def move(exact: str, moved: str, number: int) -> None:
        factor = f"{moved}\0factor"
        random = onnx.helper.make_node(
            "RandomUniformLike", [exact], [factor], low=1 - MOVED, high=1 + MOVED, seed=float(2000 * number + seed)
        )
        copy.graph.node.extend([random, onnx.helper.make_node("Mul", [exact, factor], [moved])])

    for index, node in enumerate(nodes):
        if summed.intersection(node.output):
            operand = f"{node.output[0]}\0operand"
            move(node.input[0], operand, 2 * index)
            node.input[0] = operand
        copy.graph.node.append(node)
        added = copy.graph.node[-1]
        for position, name in enumerate(node.output):
            if name in rounded:
                added.output[position] = f"{name}\0exact"
                move(f"{name}\0exact", name, 2 * index + 1)
    return copy


def _largest_change(moved: Array, result: Array) -> float:
    if not np.issubdtype(result.dtype, np.floating) or not result.size:
        return 0.0
    # What may be no number at all may be anything.
    return float(np.max(np.nan_to_num(differences(moved, result), nan=np.inf)))
