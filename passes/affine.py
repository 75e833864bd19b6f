"""The per-channel affine function y = scale_c · x + shift_c that an operator with constants computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import constant_of, shape_of
from bnncc.ir.value_facts import batch_norm_affine

Vector = npt.NDArray[np.float64]

# (x + c) - c with one such c rounds x to an integer: 2²³ and 1.5·2²³ are the usual ones.
MAGIC = 2.0**22


@dataclass(frozen=True)
class Affine:
    """y = scale · x + shift, both float64 [C] along axis 1 of the value."""

    scale: Vector
    shift: Vector

    @classmethod
    def identity(cls, channels: int) -> Affine:
        """y = x."""
        return cls(np.ones(channels), np.zeros(channels))

    def then(self, after: Affine) -> Affine:
        """The affine that applies `self` first: after(self(x))."""
        return Affine(after.scale * self.scale, after.scale * self.shift + after.shift)


def affine_of(node: ir.Node) -> tuple[ir.Value, Affine] | None:
    """(x, affine) where `node` computes a per-channel affine function of one run-time input x; None otherwise.

    Add, Sub, Mul, Div with a constant that varies along axis 1 at most, Neg, and BatchNormalization:
    y = γ·(x - μ) / √(σ² + ε) + β.
    """
    if node.domain != "" or len(node.outputs) != 1:
        return None
    if node.op_type == "BatchNormalization":
        return _batch_norm(node)
    if node.op_type not in ("Add", "Sub", "Mul", "Div", "Neg"):
        return None
    operands = [value for value in node.inputs if value is not None]
    computed = [value for value in operands if constant_of(value) is None]
    if len(computed) != 1 or computed[0].dtype != ir.DataType.FLOAT:
        return None
    x = computed[0]
    shape = shape_of(x)
    if shape is None or len(shape) < 2 or shape != shape_of(node.outputs[0]):
        return None
    ones, zeros = np.ones(shape[1]), np.zeros(shape[1])
    if node.op_type == "Neg":
        return x, Affine(-ones, zeros)
    constant_first = operands[1] is x
    vector = channel_vector(constant_of(operands[0 if constant_first else 1]), shape)
    if vector is None or (node.op_type in ("Add", "Sub") and np.all(vector == vector[0]) and abs(vector[0]) >= MAGIC):
        return None
    if node.op_type == "Add":
        return x, Affine(ones, vector)
    if node.op_type == "Mul":
        return x, Affine(vector, zeros)
    if node.op_type == "Sub":
        return x, Affine(-ones, vector) if constant_first else Affine(ones, -vector)
    if constant_first or np.any(vector == 0):
        return None
    return x, Affine(1 / vector, zeros)


def channel_vector(array: npt.NDArray[np.generic] | None, shape: tuple[int, ...]) -> Vector | None:
    """`array`, broadcast to a value of `shape` [N, C, …], as float64 [C]; None where it varies along another axis."""
    if array is None or array.ndim > len(shape):
        return None
    aligned = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if any(size != 1 for axis, size in enumerate(aligned.shape) if axis != 1):
        return None
    return np.broadcast_to(aligned.reshape(-1).astype(np.float64), (shape[1],)).copy()


def _batch_norm(node: ir.Node) -> tuple[ir.Value, Affine] | None:
    x, found = node.inputs[0], batch_norm_affine(node)
    return None if x is None or x.dtype != ir.DataType.FLOAT or found is None else (x, Affine(*found))
