"""Operators that yield which element is the largest: a choice, that rounding gives to another of two equal ones."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.evaluate import Array

CHOICES = ("ArgMax", "ArgMin", "TopK")


def result_of(node: ir.Node) -> ir.Value:
    """The value of an operator that jumps where its operands cross a threshold: TopK's indices are its second."""
    return node.outputs[1 if node.op_type == "TopK" else 0]


def apart(x: Array, first: Array, second: Array, axis: int) -> Array:
    """How far from each other, in float64, the elements of `x` are that two results choose along `axis`; infinitely far
    where one of them is no index.
    """
    outside = np.zeros(first.shape, bool)
    for indices in (first, second):
        outside |= (indices < 0) | (indices >= x.shape[axis])
    elements = [chosen(x, np.where(outside, 0, indices), axis).astype(np.float64) for indices in (first, second)]
    distance: Array = np.where(outside, np.inf, np.abs(elements[0] - elements[1]))
    return distance


def chosen(x: Array, indices: Array, axis: int) -> Array:
    """The elements at `indices`, which have the shape of `x` with another size along `axis`, or without that axis."""
    dropped = x.ndim > indices.ndim
    found = np.take_along_axis(x, np.expand_dims(indices, axis) if dropped else indices, axis)
    elements: Array = np.squeeze(found, axis) if dropped else found
    return elements
