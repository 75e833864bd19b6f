"""The affine operators behind a layer, through what only moves its output: they are affine functions of its channels.

    Before:  layer ─ y [N·T, C] ─ Reshape [N, T, C] ─ Mul(a [C]) ─ Transpose [N, C, T] ─ BatchNormalization ─ z
    After:   layer(a · γ/√(σ² + ε), …) ─ [N·T, C] ─ Reshape ─ Transpose ─ z

Networks on tokens write a batch norm between two Reshapes, and scales along the last axis.  Which channel of the layer
an element of a moved map belongs to is followed through the moves; a constant that is one number for each of these
channels goes into the layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import constant_of, shape_of, sole_consumer
from bnncc.passes.affine import MAGIC, Affine, Vector, affine_of

_Index = npt.NDArray[np.intp]

RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}


@dataclass
class AffinesBehind:
    """`affines` of the layer's channels, in order; `moves` between the layer and `last`, the last one of them."""

    last: ir.Node
    affines: list[Affine] = field(default_factory=list)
    moves: list[ir.Node] = field(default_factory=list)


def affines_behind(graph: ir.Graph, layer: ir.Node, axis: int) -> AffinesBehind:
    """What can go into `layer`, whose output has its channels along `axis`; each value is read by the next alone."""
    value, found, moves = layer.outputs[0], AffinesBehind(layer), list[ir.Node]()
    shape = shape_of(value) or ()
    along = [1] * len(shape)
    along[axis] = -1
    channels: _Index = np.broadcast_to(np.arange(shape[axis]).reshape(along), shape)
    while (following := sole_consumer(graph, value)) is not None:
        moved = _moved(following, channels)
        if moved is not None:
            channels = moved
            moves.append(following)
        else:
            step = affine_of(following)
            unmoved = axis == 1 and not moves
            affine = None if unmoved else _affine(following, value, step, channels, shape[axis])
            if unmoved and step is not None:
                affine = step[1]
            if affine is None:
                break
            found.affines.append(affine)
            found.last, found.moves = following, list(moves)
        value = following.outputs[0]
    return found


def _moved(node: ir.Node, channels: _Index) -> _Index | None:
    """The channel of each element behind a Reshape or Transpose; None behind anything else."""
    shape = shape_of(node.outputs[0])
    if node.domain != "" or shape is None:
        return None
    if node.op_type == "Transpose":
        order = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(channels.ndim)[::-1]
        return channels.transpose(*order)
    return channels.reshape(shape) if node.op_type in RESHAPES else None


def _affine(
    node: ir.Node, x: ir.Value, step: tuple[ir.Value, Affine] | None, channels: _Index, count: int
) -> Affine | None:
    """What `node`, a `step` by axis 1 or none, computes of `x`, by the layer's `count` channels; None where that is not
    one number a channel.
    """
    if step is not None:
        along = (1, -1, *(1,) * (channels.ndim - 2))
        scale, shift = (_vector(vector.reshape(along), channels, count) for vector in (step[1].scale, step[1].shift))
        return None if scale is None or shift is None else Affine(scale, shift)
    if node.domain != "" or node.op_type not in ("Add", "Sub", "Mul") or shape_of(x) != shape_of(node.outputs[0]):
        return None
    constant = next((constant_of(value) for value in node.inputs if value is not x), None)
    vector = None if constant is None else _vector(constant, channels, count)
    if vector is None or (node.op_type != "Mul" and np.all(vector == vector[0]) and abs(vector[0]) >= MAGIC):
        return None
    if node.op_type == "Mul":
        return Affine(vector, np.zeros(count))
    if node.op_type == "Add":
        return Affine(np.ones(count), vector)
    first = node.inputs[0] is x
    return Affine(np.ones(count), -vector) if first else Affine(-np.ones(count), vector)


def _vector(constant: npt.NDArray[np.generic], channels: _Index, count: int) -> Vector | None:
    """`constant`, broadcast to a map, as one number a channel, float64; None where it is none."""
    if constant.ndim > channels.ndim or np.broadcast_shapes(constant.shape, channels.shape) != channels.shape:
        return None
    spread = np.broadcast_to(constant.astype(np.float64), channels.shape)
    vector = np.zeros(count)
    vector[channels] = spread
    return vector if np.array_equal(vector[channels], spread) else None
