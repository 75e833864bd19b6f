"""Does a pass keep what the graph computes?  What `--verify-passes` asks behind each of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.evaluate import Array, cut, random_inputs, run, skeleton, weights_of
from bnncc.ir.graph import describe
from bnncc.ir.rounding import ROUNDING, relative_error
from bnncc.verification.reference import oriented

# Operators whose result jumps where their operand crosses a threshold.
JUMPS = {
    "Sign",
    "Round",
    "Floor",
    "Ceil",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "Equal",
    "BinaryConvSign",
}


def first_difference(before: ir.Model, after: ir.Model, seed: int = 0) -> str | None:
    """Where `after` computes something else than `before` on random inputs, beyond rounding; None where it does not.

    Signs, comparisons and roundings of `after` whose values `before` has under the same names are fed from there, so
    that a flip near zero does not spread.  Each may differ only where the value before it lies within rounding of its
    threshold, which is where `before` itself, nudged by that much, differs as well.
    """
    feeds = dict(zip([value.name or "" for value in before.graph.inputs], random_inputs(before, seed), strict=True))
    known = {value.name: value for node in before.graph for value in node.outputs}
    jumps = [
        node
        for node in after.graph
        if node.op_type in JUMPS and node.domain in ("", ops.DOMAIN) and node.outputs[0].name in known
    ]
    operands = [x.name or "" for node in jumps for x in node.inputs if x is not None and x.name in known]
    results = [node.outputs[0].name or "" for node in jumps]
    outputs = [value.name or "" for value in before.graph.outputs]
    kept = [value.name or "" for value in after.graph.outputs]
    if kept != outputs:
        return f"the outputs were {', '.join(outputs)} and are {', '.join(kept)}"
    wanted = [known[name] for name in dict.fromkeys([*results, *operands]) if name in known and name not in outputs]
    whole = run(skeleton(before, [*before.graph.outputs, *wanted]), {**weights_of(before), **feeds})
    renewed = {value.name: value for node in after.graph for value in node.outputs}
    reference = {name: _turned(value, known.get(name), renewed.get(name)) for name, value in whole.items()}
    forced = {node.outputs[0].name or "": reference[node.outputs[0].name or ""] for node in jumps}
    proto, forced_feeds = cut(after, {name: value for name, value in forced.items() if name not in outputs})
    computed = run(proto, {**weights_of(after), **feeds, **forced_feeds})
    for node in jumps:
        name = node.outputs[0].name or ""
        flipped = computed[name] != reference[name]
        if np.any(flipped) and not np.all(_near_threshold(node, reference, flipped)):
            return f"{describe(node)}: {int(np.count_nonzero(flipped)):,} of {flipped.size:,} values differ"
    for name in outputs:
        error = relative_error(computed[name], reference[name])
        if error > ROUNDING:
            return f"output '{name}' is off by {error:.2g} of its largest magnitude"
    return None


def _near_threshold(node: ir.Node, reference: dict[str, Array], flipped: Array) -> Array:
    """Of the flipped elements, those whose operand in the reference lies within rounding of the threshold."""
    operands = [reference.get(x.name or "") for x in node.inputs if x is not None]
    constants = [x.const_value.numpy() for x in node.inputs if x is not None and x.const_value is not None]
    arrays = [array for array in operands if array is not None] + constants
    if len(arrays) != len(node.inputs):
        # The operand is new in `after`: nothing tells its scale, so the share of flips must be that of rounding.
        return np.broadcast_to(np.asarray(np.mean(flipped) <= ROUNDING), (int(flipped.sum()),))
    scale = max(float(np.max(np.abs(array), initial=0.0)) for array in arrays)
    distance = arrays[0] if len(arrays) == 1 else arrays[0] - arrays[1]
    if node.op_type == "Round":
        distance = distance - np.floor(distance) - 0.5
    elif node.op_type in ("Floor", "Ceil"):
        distance = distance - np.round(distance)
    near: Array = np.abs(np.broadcast_to(distance, flipped.shape))[flipped] <= ROUNDING * scale
    return near


def _turned(array: Array, before: ir.Value | None, after: ir.Value | None) -> Array:
    """A value of `before` as `after` holds it, where one of them is rotated or holds channels negated."""
    if before is None or after is None:
        return array
    return np.ascontiguousarray(oriented(after, oriented(before, array)))
