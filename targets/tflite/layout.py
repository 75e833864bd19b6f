"""How a value's axes are ordered in the file.

ONNX values are NCHW.  TensorFlow Lite's kernels want the channels last, so every value carries a `Layout`:

    PLAIN           the axes as in ONNX
    CHANNELS_LAST   [N, C, …spatial] stored as [N, …spatial, C]; only for rank 3 and more
    flattened(C, H, W)  a [N, C·H·W] value whose elements are stored in the order H, W, C: what a Flatten of a
                    CHANNELS_LAST value costs nothing to give, and what a Linear absorbs into its weights
    Layout(order=…)  any other order: what a Transpose, or a Reshape that splits channels, yields without moving data
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Layout:
    """One of the layouts above; `flat` is (C, …spatial) for a flattened one, `order` the permutation of any other."""

    channels_last: bool = False
    flat: tuple[int, ...] | None = None
    order: tuple[int, ...] | None = None

    def permutation(self, rank: int) -> tuple[int, ...]:
        """The file's axis order: entry i is the ONNX axis stored i-th."""
        if self.order is not None:
            return self.order
        if self.channels_last and rank > 2:
            return (0, *range(2, rank), 1)
        return tuple(range(rank))

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The stored shape of a value with the ONNX shape `shape`."""
        return tuple(shape[axis] for axis in self.permutation(len(shape)))

    def axis(self, axis: int, rank: int) -> int:
        """Where the ONNX axis (negative allowed) of a value of `rank` is stored."""
        return self.permutation(rank).index(axis % rank)

    def arrange(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A constant in ONNX order, rearranged to this layout."""
        if self.flat is not None:
            size = int(np.prod(self.flat))
            if array.ndim == 0 or array.shape[-1] == 1:
                return array
            if array.shape[-1] != size:
                raise ValueError(f"a constant of shape {array.shape} does not follow a flattened {self.flat}")
            parts = array.reshape(*array.shape[:-1], *self.flat)
            return np.ascontiguousarray(np.moveaxis(parts, array.ndim - 1, -1).reshape(array.shape))
        # np.ascontiguousarray would make an array of one axis of a scalar.
        return np.asarray(array.transpose(self.permutation(array.ndim)), order="C")

    def restore(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The inverse of `arrange` for an array of the value's full shape."""
        if self.flat is not None:
            channels, *spatial = self.flat
            parts = array.reshape(*array.shape[:-1], *spatial, channels)
            return np.ascontiguousarray(np.moveaxis(parts, -1, array.ndim - 1).reshape(array.shape))
        return np.ascontiguousarray(array.transpose(np.argsort(self.permutation(array.ndim))))


PLAIN = Layout()
CHANNELS_LAST = Layout(channels_last=True)


def flattened(channels: int, spatial: Sequence[int]) -> Layout:
    """The layout of Flatten([N, C, …spatial]) stored channels last; PLAIN where both orders are the same."""
    return PLAIN if channels == 1 or np.prod(spatial) == 1 else Layout(flat=(channels, *spatial))


def ordered(order: Sequence[int], shape: Sequence[int] | None = None) -> Layout:
    """The layout that stores the axes in `order`, by its name where it has one.

    With `shape`, a layout counts as the same where only axes of size 1 stand elsewhere: the same data, another stored
    shape.  CHANNELS_LAST is preferred for rank 4, PLAIN for any other.
    """
    rank = len(order)

    def moving(axes: Sequence[int]) -> list[int]:
        return [axis for axis in axes if shape is None or shape[axis] != 1]

    for layout in (CHANNELS_LAST, PLAIN) if rank == 4 else (PLAIN, CHANNELS_LAST):
        if moving(layout.permutation(rank)) == moving(order):
            return layout
    return Layout(order=tuple(order))


def reshaped_order(order: Sequence[int], shape: Sequence[int], target: Sequence[int]) -> tuple[int, ...] | None:
    """In which order a value of `shape`, stored in `order`, holds the axes of `target` after an ONNX Reshape.

    The two shapes fall into groups of neighbouring axes with equal products, [N, g·c, H, W] → [N, g, c, H, W] into
    N | g·c | H | W.  The data stays where it is if every group's axes are stored next to each other and in sequence;
    None where they are not.
    """
    groups = _axis_groups(shape, target)
    stored = [axis for axis in order if shape[axis] != 1]
    groups.sort(key=lambda group: stored.index(group[0][0]))
    if [axis for axes, _ in groups for axis in axes] != stored:
        return None
    ones = [axis for axis, size in enumerate(target) if size == 1]
    return (*ones, *(axis for _, axes in groups for axis in axes))


def _axis_groups(shape: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of neighbouring axes (sizes of 1 left out) of both shapes whose products agree."""
    groups: list[tuple[list[int], list[int]]] = []
    before = [axis for axis, size in enumerate(shape) if size != 1]
    after = [axis for axis, size in enumerate(target) if size != 1]
    while before:
        left, right = [before.pop(0)], [after.pop(0)]
        left_size, right_size = shape[left[0]], target[right[0]]
        while left_size != right_size:
            if left_size < right_size:
                left.append(before.pop(0))
                left_size *= shape[left[-1]]
            else:
                right.append(after.pop(0))
                right_size *= target[right[-1]]
        groups.append((left, right))
    return groups
