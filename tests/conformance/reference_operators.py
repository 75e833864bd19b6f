"""Operators that ONNX's reference evaluator (1.23) computes wrongly or refuses, by PyTorch in float64 or by NumPy.

MaxPool and AveragePool (a kernel of one row, ceil_mode), ConvTranspose (groups), GlobalMaxPool (one axis), Mean
(broadcasting), Pad (negative amounts).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx.reference.op_run import OpRun
from torch.nn import functional

from bnncc.ir.evaluate import Array


def _padded(x: Array, kernel: list[int], strides: Any, pads: Any, ceil_mode: Any, fill: float) -> Array:
    """x with `fill` around it, at the end so much that the windows fit; with ceil_mode the last may reach beyond."""
    count = len(kernel)
    amounts = [(0, 0), (0, 0)]
    for axis in range(count):
        stride = (strides or [1] * count)[axis]
        begin, end = (pads or [0] * 2 * count)[axis], (pads or [0] * 2 * count)[axis + count]
        size = x.shape[axis + 2]
        span = size + begin + end - kernel[axis]
        outputs = (-(-span // stride) if ceil_mode else span // stride) + 1
        if ceil_mode and (outputs - 1) * stride >= size + begin:
            outputs -= 1
        needed = (outputs - 1) * stride + kernel[axis]
        amounts.append((begin, max(needed - size - begin, 0)))
    return np.pad(x, amounts, constant_values=fill)


class MaxPool(OpRun):  # type: ignore[misc]
    op_domain = ""

    def _run(self, x, auto_pad=None, ceil_mode=0, dilations=None, kernel_shape=None, pads=None, storage_order=None,
             strides=None):  # type: ignore[no-untyped-def]  # fmt: skip
        padded = torch.from_numpy(_padded(x, kernel_shape, strides, pads, ceil_mode, -np.inf))
        return (functional.max_pool2d(padded, kernel_shape, strides or 1).numpy(),)


class AveragePool(OpRun):  # type: ignore[misc]
    op_domain = ""

    def _run(self, x, auto_pad=None, ceil_mode=0, count_include_pad=0, dilations=None, kernel_shape=None, pads=None,
             strides=None):  # type: ignore[no-untyped-def]  # fmt: skip
        counted = np.ones_like(x)
        if count_include_pad:
            count = len(kernel_shape)
            given = pads or [0] * 2 * count
            counted = np.pad(
                counted, [(0, 0), (0, 0), *zip(given[:count], given[count:], strict=True)], constant_values=1
            )
            shares = _padded(counted, kernel_shape, strides, None, ceil_mode, 0)
        else:
            shares = _padded(counted, kernel_shape, strides, pads, ceil_mode, 0)
        sums, counts = (
            functional.avg_pool2d(torch.from_numpy(array), kernel_shape, strides or 1)
            for array in (_padded(x, kernel_shape, strides, pads, ceil_mode, 0), shares)
        )
        return ((sums / counts[:, :, : sums.shape[2], : sums.shape[3]]).numpy(),)


class ConvTranspose(OpRun):  # type: ignore[misc]
    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, output_padding=None,
             output_shape=None, pads=None, strides=None):  # type: ignore[no-untyped-def]  # fmt: skip
        count = x.ndim - 2
        extra, begins_ends = output_padding or [0] * count, pads or [0] * 2 * count
        tensors = [None if array is None else torch.from_numpy(np.array(array)) for array in (x, w, b)]
        convolve = functional.conv_transpose1d if count == 1 else functional.conv_transpose2d
        whole = convolve(*tensors, stride=strides or 1, groups=group or 1, dilation=dilations or 1).numpy()
        bias = np.zeros(whole.shape[1]) if b is None else b
        grown = np.broadcast_to(
            bias.reshape(1, -1, *[1] * count),
            (*whole.shape[:2], *(size + more for size, more in zip(whole.shape[2:], extra, strict=True))),
        ).copy()
        grown[tuple(slice(0, size) for size in whole.shape)] = whole
        cut = [slice(begins_ends[axis], grown.shape[axis + 2] - begins_ends[axis + count]) for axis in range(count)]
        return (grown[(slice(None), slice(None), *cut)],)


class GlobalMaxPool(OpRun):  # type: ignore[misc]
    op_domain = ""

    def _run(self, x):  # type: ignore[no-untyped-def]
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class Mean(OpRun):  # type: ignore[misc]
    op_domain = ""

    def _run(self, *operands):  # type: ignore[no-untyped-def]
        return (sum(operands[1:], operands[0]) / len(operands),)


class Pad(OpRun):  # type: ignore[misc]
    op_domain = ""

    def _run(self, x, pads, value=None, axes=None, mode=None):  # type: ignore[no-untyped-def]
        named = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
        amounts = [(0, 0)] * x.ndim
        for index, axis in enumerate(named):
            amounts[axis] = (int(pads[index]), int(pads[index + len(named)]))
        cut = tuple(
            slice(max(-before, 0), size - max(-after, 0))
            for size, (before, after) in zip(x.shape, amounts, strict=True)
        )
        grown = [(max(before, 0), max(after, 0)) for before, after in amounts]
        if mode in (None, "constant"):
            return (np.pad(x[cut], grown, constant_values=0 if value is None else np.asarray(value).item()),)
        return (np.pad(x[cut], grown, mode=mode),)


OPERATORS = (MaxPool, AveragePool, ConvTranspose, GlobalMaxPool, Mean, Pad)
