"""See a value as an affine function of a binary one, through what stands between a binariser and its convolution.

    x = scale_c · pad(S, fill) + offset_c          S = ±1, c the index along axis 1

    S ─ Mul(-0.5) ─ Add(0.5) ─ x                   scale -0.5, offset 0.5: activations {0, 1}
    S ─ Mul(α) ─ MaxPool ─ Flatten ─ x             S' = Flatten(MaxPool(S)), scale α > 0
    S ─ Pad(+1) ─ x                                pads, fill 1
    Concat(S, a·T + m) ─ x                         S' = Concat(S, T), scale (1, a), offset (0, m)

The moving operators are applied to the binary value instead, as copies under new names: x itself may have other users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of, shape_of
from bnncc.ir.value_facts import MOVES, data_inputs, is_binary
from bnncc.passes.affine import Affine, affine_of
from bnncc.passes.cost import WORD
from bnncc.passes.insertion import insert_copy

Pads = tuple[int, int, int, int]
NO_PADS: Pads = (0, 0, 0, 0)


@dataclass(frozen=True)
class Moved:
    """Output `index` of a moving operator `node`, were its data inputs the binary `sources`."""

    node: ir.Node
    index: int
    sources: tuple[Signs, ...]


Signs = ir.Value | Moved


@dataclass(frozen=True)
class BinaryOperand:
    """x = affine(pad(signs, fill)); the pads are (top, left, bottom, right), or (0, before, 0, after) of one axis."""

    signs: Signs
    affine: Affine
    pads: Pads = NO_PADS
    fill: float = 0.0

    @property
    def uniform(self) -> tuple[float, float] | None:
        """(scale, offset) where they are the same for all channels."""
        scale, offset = self.affine.scale, self.affine.shift
        same = bool(np.all(scale == scale[0]) and np.all(offset == offset[0]))
        return (float(scale[0]), float(offset[0])) if same else None

    def preimage(self, value: float) -> float | None:
        """The p for which scale_c · p + offset_c = value in every channel; None where there is no such p."""
        candidates = (value - self.affine.shift) / self.affine.scale
        # Constants such as 1/3 leave a rounding; what is meant is 0 or ±1.
        rounded = np.round(candidates)
        candidates = np.where(np.abs(candidates - rounded) < 1e-6, rounded, candidates) + 0.0
        return float(candidates[0]) if np.all(candidates == candidates[0]) else None


def binary_operand(x: ir.Value) -> BinaryOperand | None:
    """`x` as an affine function of a binary value; None where it is none that is known."""
    shape = shape_of(x)
    if shape is None or len(shape) < 2 or constant_of(x) is not None:
        return None
    node = x.producer()
    if is_binary(x):
        # A Pad of signs with signs is binary, but the convolution can pad with +1 by itself.  Padding with -1 is a Pad
        # of words where the channels fill them.
        padded = _through_pad(node, shape) if node is not None and node.op_type == "Pad" else None
        folds = padded is not None and padded.pads != NO_PADS and (padded.fill == 1 or shape[1] % WORD != 0)
        return padded if padded is not None and folds else unfolded(x)
    if node is None or node.domain != "":
        return None
    step = affine_of(node)
    if step is not None:
        inner = binary_operand(step[0])
        return (
            None if inner is None or np.any(step[1].scale == 0) else replace(inner, affine=inner.affine.then(step[1]))
        )
    if node.op_type == "Pad":
        return _through_pad(node, shape)
    if node.op_type == "Concat":
        return _through_concat(node, x, shape)
    return _through_move(node, x, shape) if node.op_type in MOVES else None


def unfolded(x: ir.Value) -> BinaryOperand:
    """A binary value as its own signs, whatever computed it."""
    return BinaryOperand(x, Affine.identity((shape_of(x) or (0, 0))[1]))


def _through_move(node: ir.Node, x: ir.Value, shape: tuple[int, ...]) -> BinaryOperand | None:
    inner = _whole_operand(data_inputs(node)[0])
    if inner is None or inner.pads != NO_PADS or inner.uniform is None:
        return None
    scale, offset = inner.uniform
    if node.op_type == "MaxPool" and scale < 0:
        return None
    affine = Affine(np.full(shape[1], scale), np.full(shape[1], offset))
    return BinaryOperand(Moved(node, x.index() or 0, (inner.signs,)), affine)


def _whole_operand(x: ir.Value) -> BinaryOperand | None:
    """Without pads where that can be: moving operators take padded signs as they are."""
    return unfolded(x) if is_binary(x) and constant_of(x) is None else binary_operand(x)


def _through_concat(node: ir.Node, x: ir.Value, shape: tuple[int, ...]) -> BinaryOperand | None:
    parts = [_whole_operand(value) for value in data_inputs(node)]
    found = [part for part in parts if part is not None and part.pads == NO_PADS]
    if len(found) != len(parts):
        return None
    signs = Moved(node, x.index() or 0, tuple(part.signs for part in found))
    if node.attributes["axis"].as_int() % len(shape) == 1:
        scale = np.concatenate([part.affine.scale for part in found])
        return BinaryOperand(signs, Affine(scale, np.concatenate([part.affine.shift for part in found])))
    same = all(
        np.array_equal(part.affine.scale, found[0].affine.scale)
        and np.array_equal(part.affine.shift, found[0].affine.shift)
        for part in found
    )
    return BinaryOperand(signs, found[0].affine) if same else None


def _through_pad(node: ir.Node, shape: tuple[int, ...]) -> BinaryOperand | None:
    source = node.inputs[0]
    inner = None if source is None else binary_operand(source)
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    if inner is None:
        return None
    if mode != "constant":
        # Reflect, edge and wrap repeat what is there: a move.
        before = None if source is None else shape_of(source)
        kept = before is not None and before[:2] == shape[:2]
        return replace(inner, signs=Moved(node, 0, (inner.signs,))) if kept and inner.pads == NO_PADS else None
    amounts = spatial_pads(node, len(shape))
    given = node.inputs[2] if len(node.inputs) > 2 else None
    fill = np.zeros(()) if given is None else constant_of(given)
    if amounts is None or fill is None:
        return None
    value = inner.preimage(float(fill.reshape(-1)[0]))
    if value is None or (inner.pads != NO_PADS and inner.fill != value):
        return None
    top, left, bottom, right = (a + b for a, b in zip(inner.pads, amounts, strict=True))
    return replace(inner, pads=(top, left, bottom, right), fill=value)


def spatial_pads(node: ir.Node, rank: int) -> Pads | None:
    """The amounts of a Pad of [N, C, W] or [N, C, H, W]; None where it pads something else, crops, or is unknown."""
    pads = constant_of(node.inputs[1])
    axes_value = node.inputs[3] if len(node.inputs) > 3 else None
    axes = np.arange(rank) if axes_value is None else constant_of(axes_value)
    if pads is None or axes is None or rank not in (3, 4):
        return None
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(axes.reshape(-1).tolist()):
        before[axis % rank], after[axis % rank] = int(pads[position]), int(pads[position + axes.size])
    if any(before[:2] + after[:2]) or min(before + after) < 0:
        return None
    return (before[-2] if rank == 4 else 0, before[-1], after[-2] if rank == 4 else 0, after[-1])


@dataclass
class Materializer:
    """Adds the copies of the moving operators to the graph, each once."""

    graph: ir.Graph
    made: dict[Moved, Sequence[ir.Value]] = field(default_factory=dict)

    def value_of(self, signs: Signs) -> ir.Value:
        """The binary value itself."""
        if isinstance(signs, ir.Value):
            return signs
        whole = replace(signs, index=0)
        if whole not in self.made:
            sources = [self.value_of(source) for source in signs.sources]
            self.made[whole] = insert_copy(self.graph, signs.node, sources, signs.node, "signs")
        return self.made[whole][signs.index]
