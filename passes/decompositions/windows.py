"""Convolutions and pools that targets have no kernel for: three spatial axes, dilated and p-norm pools, Col2Im.

Shapes are [N, C, …spatial].  A window operator over (D, H, W) is one over (H, W) of every slice of D, and then what
combines the slices: a sum for a convolution, the operator itself along D for a pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of
from bnncc.passes.decompositions.builder import Builder, NotDecomposableError


@dataclass(frozen=True)
class _Axis:
    """A window along one axis; `end` is the padding up to the last position that an output reaches, at most."""

    size: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int
    outputs: int

    @property
    def reached(self) -> int:
        """How many positions of the padded input the outputs read, from the first one on."""
        return (self.outputs - 1) * self.stride + (self.kernel - 1) * self.dilation + 1


def _axes(build: Builder, kernel: Sequence[int], outputs: Sequence[int]) -> list[_Axis]:
    """Strides, dilations and pads of the node, auto_pad resolved; ceil_mode's outputs are those the graph declares."""
    sizes = build.shape(build.input(0))[2:]
    count = len(sizes)
    strides, dilations = build.integers("strides", [1] * count), build.integers("dilations", [1] * count)
    pads = build.integers("pads", [0] * 2 * count)
    auto = build.text("auto_pad", "NOTSET")
    result = []
    for axis, size in enumerate(sizes):
        begin, end = pads[axis], pads[count + axis]
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max((outputs[axis] - 1) * strides[axis] + extent - size, 0)
            begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
            end = total - begin
        elif auto == "VALID":
            begin = end = 0
        if begin < 0 or end < 0:
            raise NotDecomposableError("negative pads")
        result.append(_Axis(size, kernel[axis], strides[axis], dilations[axis], begin, end, outputs[axis]))
    return result


def _attributes(axes: Sequence[_Axis]) -> dict[str, Any]:
    """Explicit attributes for a node over `axes`, padded to what its outputs read."""
    ends = [max(axis.reached - axis.begin - axis.size, 0) for axis in axes]
    return {
        "strides": [axis.stride for axis in axes],
        "dilations": [axis.dilation for axis in axes],
        "pads": [*(axis.begin for axis in axes), *ends],
    }


def _taps(build: Builder, x: ir.Value, position: int, axis: _Axis, fill: float) -> list[ir.Value]:
    """What each tap of a window along the axis at `position` reads: strided slices of the padded x."""
    after = max(axis.reached - axis.begin - axis.size, 0)
    if axis.begin or after:
        amounts = build.ints([axis.begin, after])
        x = build.op("Pad", x, amounts, build.scalar(fill, x), build.ints([position]))
    last = (axis.outputs - 1) * axis.stride + 1
    starts = [tap * axis.dilation for tap in range(axis.kernel)]
    return [build.slice(x, position, start, start + last, axis.stride) for start in starts]


def conv(build: Builder) -> Sequence[ir.Value | None]:
    """Conv over (D, H, W): the slices of D that a window reads become input channels of one 2-D convolution.

    y[d] = Σₖ conv(x[d·s + k], w[k]); with groups, the sum of one convolution for each k.
    """
    x, weight, bias = build.input(0), build.input(1), build.optional(2)
    if constant_of(weight) is None or (bias is not None and constant_of(bias) is None):
        return [_product_with_patches(build)]
    shape, wanted = build.shape(x), build.shape(build.origin.outputs[0])
    if len(shape) != 5:
        raise NotDecomposableError
    depth, *plane = _axes(build, build.shape(weight)[2:], wanted[2:])
    groups = build.integer("group", 1)
    slices = [_as_planes(build, part) for part in _taps(build, x, 2, depth, 0.0)]
    kernels = [build.take(weight, 2, tap) for tap in range(depth.kernel)]
    attributes = {**_attributes(plane), "group": groups}
    if groups == 1:
        kernel = build.concat(kernels, 1)
        y = build.op("Conv", build.concat(slices, 1), kernel, *([] if bias is None else [bias]), **attributes)
    else:
        terms = [
            build.op("Conv", part, kernel, *([bias] if bias is not None and not tap else []), **attributes)
            for tap, (part, kernel) in enumerate(zip(slices, kernels, strict=True))
        ]
        y = build.sum(terms)
    return [_from_planes(build, y, shape[0])]


def _product_with_patches(build: Builder) -> ir.Value:
    """Conv with weights that are computed at run time: each output is a patch of x by a matrix of weights.

    Patches [N, G, positions, K·C/G] by weights [G, K·C/G, O/G], for G groups and K taps.
    """
    x, weight, bias = build.input(0), build.input(1), build.optional(2)
    batch, channels, *_ = build.shape(x)
    outputs, depth, *kernel = build.shape(weight)
    sizes = build.shape(build.origin.outputs[0])[2:]
    groups = build.integer("group", 1)
    axes = _axes(build, kernel, sizes)
    amounts = [(axis.begin, max(axis.reached - axis.begin - axis.size, 0)) for axis in axes]
    if any(map(any, amounts)):
        x = build.op("Pad", x, build.ints(np.pad(np.transpose(amounts), ((0, 0), (2, 0))).reshape(-1)))
    parts = [x]
    for position, axis in enumerate(axes, 2):
        inner = replace(axis, size=build.shape(x)[position], begin=0, end=0)
        parts = [tap for part in parts for tap in _taps(build, part, position, inner, 0.0)]
    count, positions = len(parts), int(np.prod(sizes))
    last = [0, *range(2, len(kernel) + 2), 1]
    rows = [
        build.reshape(build.transpose(part, last), (batch, positions, groups, channels // groups)) for part in parts
    ]
    patches = build.transpose(build.concat(rows, 3), (0, 2, 1, 3))
    taps = build.reshape(weight, (groups, outputs // groups, depth, count))
    matrix = build.reshape(build.transpose(taps, (0, 3, 2, 1)), (groups, count * depth, outputs // groups))
    y = build.transpose(build.op("MatMul", patches, matrix), (0, 2, 1, 3))
    y = build.reshape(y, (batch, *sizes, outputs))
    if bias is not None:
        y = build.op("Add", y, bias)
    return build.transpose(y, [0, len(kernel) + 1, *range(1, len(kernel) + 1)])


def conv_transpose(build: Builder) -> Sequence[ir.Value | None]:
    """auto_pad and output_shape become pads; with computed weights, columns by a MatMul, added up by a Col2Im."""
    x, weight, bias = build.input(0), build.input(1), build.optional(2)
    batch, channels, *sizes = build.shape(x)
    _, depth, *kernel = build.shape(weight)
    outputs = list(build.shape(build.origin.outputs[0])[2:])
    count, groups = len(sizes), build.integer("group", 1)
    strides, dilations = build.integers("strides", [1] * count), build.integers("dilations", [1] * count)
    spans = [(kernel[axis] - 1) * dilations[axis] + 1 for axis in range(count)]
    auto = build.text("auto_pad", "NOTSET")
    pads = build.integers("pads", [0] * 2 * count)
    extra = build.integers("output_padding", [0] * count)
    implied = auto in ("SAME_UPPER", "SAME_LOWER") or "output_shape" in build.origin.attributes
    if implied:
        for axis in range(count):
            total = (sizes[axis] - 1) * strides[axis] + extra[axis] + spans[axis] - outputs[axis]
            small = max(total, 0) // 2
            begin = small if auto == "SAME_UPPER" else max(total, 0) - small
            pads[axis], pads[count + axis] = begin, max(total, 0) - begin
            extra[axis] += max(-total, 0)
    elif auto == "VALID":
        pads = [0] * 2 * count
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "pads": pads}
    computed = constant_of(weight) is None or (bias is not None and constant_of(bias) is None)
    if count == 3:
        return [_transposed_volumes(build, attributes, extra)]
    if not computed:
        if auto == "NOTSET" and not implied:
            raise NotDecomposableError
        inputs = [x, weight, *([] if bias is None else [bias])]
        return [build.op("ConvTranspose", *inputs, output_padding=extra, group=groups, **attributes)]
    if count > 2:
        raise NotDecomposableError(f"{count} spatial axes")
    positions, taps = int(np.prod(sizes)), int(np.prod(kernel))
    maps = build.reshape(x, (batch, groups, channels // groups, positions))
    matrix = build.reshape(weight, (groups, channels // groups, depth * taps))
    columns = build.op("MatMul", build.transpose(matrix, (0, 2, 1)), maps)
    columns = build.reshape(columns, (batch * groups * depth, taps, *[1] * (2 - count), *sizes))
    flat = [0] * (2 - count)
    attributes["pads"] = [*flat, *pads[:count], *flat, *pads[count:]]
    attributes["strides"], attributes["dilations"] = [*[1] * (2 - count), *strides], [*[1] * (2 - count), *dilations]
    kernel = [*[1] * (2 - count), *kernel]
    one = build.constant(np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel))
    y = build.op("ConvTranspose", columns, one, output_padding=[*flat, *extra], kernel_shape=kernel, **attributes)
    y = build.reshape(y, (batch, groups * depth, *outputs))
    if bias is not None:
        y = build.op("Add", y, build.reshape(bias, (groups * depth, *[1] * count)))
    return [y]


def _transposed_volumes(build: Builder, attributes: Mapping[str, Any], extra: Sequence[int]) -> ir.Value:
    """ConvTranspose over (D, H, W) as one over (H, W) for each phase of D.

    Along D, y[q - p] is the sum of x[i]·w[k] with s·i + d·k = q.  Of the outputs with q = s·m + r only the taps k count
    for which t = (d·k - r) / s is whole: y[s·m + r - p] = Σ x[m - t]·w[k], of which the slices become input channels.
    """
    x, weight, bias = build.input(0), build.input(1), build.optional(2)
    groups, wanted = build.integer("group", 1), build.shape(build.origin.outputs[0])
    batch, _, depth, *_ = build.shape(x)
    inputs, outputs, taps, *kernel = build.shape(weight)
    stride, begin = attributes["strides"][0], attributes["pads"][0]
    reach = [tap * attributes["dilations"][0] for tap in range(taps)]
    positions = -(-(begin + wanted[2]) // stride)
    most = reach[-1] // stride
    behind = max(positions - depth, 0)
    padded = build.op("Pad", x, build.ints([most, behind]), None, build.ints([2])) if most or behind else x
    plane: dict[str, Any] = {key: [*whole[1:3], *whole[4:]] for key, whole in attributes.items()}
    plane |= {"kernel_shape": kernel, "output_padding": list(extra[1:]), "group": groups}
    phases = []
    for phase in range(stride):
        chosen = [tap for tap in range(taps) if reach[tap] >= phase and (reach[tap] - phase) % stride == 0]
        starts = [most - (reach[tap] - phase) // stride for tap in chosen]
        slices = [_as_planes(build, build.slice(padded, 2, start, start + positions)) for start in starts]
        kernels = [build.take(weight, 2, tap) for tap in chosen]
        if not chosen:  # of a stride that is longer than the kernel: the bias alone
            nothing = np.zeros((inputs, outputs, *kernel), np.float32)
            slices, kernels = [_as_planes(build, build.slice(padded, 2, 0, positions))], [build.constant(nothing)]
        if groups == 1:
            slices, kernels = [build.concat(slices, 1)], [build.concat(kernels, 0)]
        given = [] if bias is None else [bias]
        terms = [
            build.op("ConvTranspose", part, own, *(given if not index else []), **plane)
            for index, (part, own) in enumerate(zip(slices, kernels, strict=True))
        ]
        volume = _from_planes(build, build.sum(terms), batch)
        phases.append(build.reshape(volume, (*build.shape(volume)[:3], 1, int(np.prod(wanted[3:])))))
    y = build.concat(phases, 3)
    y = build.reshape(y, (batch, wanted[1], positions * stride, *wanted[3:]))
    return build.slice(y, 2, begin, begin + wanted[2])


def _as_planes(build: Builder, x: ir.Value) -> ir.Value:
    """[N, C, D, H, W] as [N·D, C, H, W]."""
    batch, channels, depth, height, width = build.shape(x)
    return build.reshape(build.transpose(x, (0, 2, 1, 3, 4)), (batch * depth, channels, height, width))


def _from_planes(build: Builder, x: ir.Value, batch: int) -> ir.Value:
    """The inverse of `_as_planes`."""
    planes, channels, height, width = build.shape(x)
    return build.transpose(build.reshape(x, (batch, planes // batch, channels, height, width)), (0, 2, 1, 3, 4))


def max_pool(build: Builder) -> Sequence[ir.Value | None]:
    """A maximum is one axis after the other: over (H, W), over D; with dilations, of as many slices as the kernel has.

    What padding adds is the lowest number, so that it never wins.
    """
    x = build.input(0)
    kernel = build.integers("kernel_shape", ())
    axes = _axes(build, kernel, build.shape(build.origin.outputs[0])[2:])
    if build.has_output(1):
        return _max_pool_with_indices(build, axes)
    dilated = any(axis.dilation != 1 and axis.kernel != 1 for axis in axes)
    if len(axes) > 3 or (len(axes) < 3 and not dilated):
        raise NotDecomposableError
    if x.dtype != ir.DataType.FLOAT:
        raise NotDecomposableError("only float32 has a kernel")
    if dilated:
        lowest = float(np.finfo(np.float32).min)
        for position, axis in enumerate(axes, 2):
            taps = _taps(build, x, position, axis, lowest)
            x = taps[0] if len(taps) == 1 else build.op("Max", *taps)
        return [x]
    return [_pool_by_axis(build, "MaxPool", x, axes, {})]


def _max_pool_with_indices(build: Builder, axes: Sequence[_Axis]) -> Sequence[ir.Value | None]:
    """The maximum, and the number of the first element of the window that equals it, in the order of the whole input.

    The taps of the windows lie one after the other; an ArgMax chooses one, and a table has how far it is from the first
    tap, of which the number is known.  storage_order: 1 where the numbers of a map run down its columns.
    """
    x = build.input(0)
    if x.dtype != ir.DataType.FLOAT:
        raise NotDecomposableError("only float32 has a kernel")
    batch, channels, *sizes = build.shape(x)
    lowest = float(np.finfo(np.float32).min)
    taps = [x]
    for position, axis in enumerate(axes, 2):
        taps = [tap for part in taps for tap in _taps(build, part, position, axis, lowest)]
    apart = [int(np.prod(sizes[axis + 1 :])) for axis in range(len(axes))]
    if build.integer("storage_order", 0):
        apart = [int(np.prod(sizes[:axis])) for axis in range(len(axes))]
    starts = np.meshgrid(*(np.arange(a.outputs) * a.stride - a.begin for a in axes), indexing="ij")
    number = sum((line * step for line, step in zip(starts, apart, strict=True)), np.zeros((), np.int64))
    number = number + (np.arange(batch * channels) * int(np.prod(sizes))).reshape(batch, channels, *[1] * len(axes))
    if len(taps) == 1:
        return [taps[0], build.ints(number)]
    kernel, dilations = [axis.kernel for axis in axes], [axis.dilation for axis in axes]
    places = np.moveaxis(np.indices(kernel), 0, -1).reshape(-1, len(axes))
    table = (places * dilations * np.asarray(apart)).sum(-1)
    if batch == 1:
        chosen = build.op("ArgMax", build.concat(taps, 0), axis=0)
    else:
        chosen = build.op("ArgMax", build.stack(taps, 0), axis=0, keepdims=0)
    index = build.op("Gather", build.ints(table), chosen, axis=0)
    return [
        build.op("MaxPool", x, kernel_shape=kernel, **_attributes(axes)),
        build.op("Add", index, build.ints(number)),
    ]


def _pool_by_axis(build: Builder, op_type: str, x: ir.Value, axes: Sequence[_Axis], others: dict[str, Any]) -> ir.Value:
    """A pool over (D, H, W) as one over (H, W) and one over D, in which channels and slices change places."""
    batch, channels, depth, *sizes = build.shape(x)
    x = build.reshape(x, (batch, channels * depth, *sizes))
    kernel = [axis.kernel for axis in axes]
    x = build.op(op_type, x, kernel_shape=kernel[1:], **_attributes(axes[1:]), **others)
    sizes = list(build.shape(x)[2:])
    x = build.reshape(x, (batch, channels, depth, int(np.prod(sizes))))
    whole = _Axis(int(np.prod(sizes)), 1, 1, 1, 0, 0, int(np.prod(sizes)))
    x = build.op(op_type, x, kernel_shape=[kernel[0], 1], **_attributes([axes[0], whole]), **others)
    return build.reshape(x, (batch, channels, axes[0].outputs, *sizes))


def average_pool(build: Builder) -> Sequence[ir.Value | None]:
    """The sum of each window, one axis after the other, by a constant: how many positions count is known.

    Counted are the input's positions; with count_include_pad those of its padding as well, but not what ceil_mode adds.
    """
    x = build.input(0)
    axes = _axes(build, build.integers("kernel_shape", ()), build.shape(build.origin.outputs[0])[2:])
    if len(axes) > 3 or (len(axes) < 3 and all(axis.dilation == 1 or axis.kernel == 1 for axis in axes)):
        raise NotDecomposableError
    include = bool(build.integer("count_include_pad", 0))
    for position, axis in enumerate(axes, 2):
        x = build.sum(_taps(build, x, position, axis, 0.0))
        reads = (np.arange(axis.outputs) * axis.stride - axis.begin)[:, None] + np.arange(axis.kernel) * axis.dilation
        low, high = (-axis.begin, axis.size + axis.end) if include else (0, axis.size)
        counts = ((reads >= low) & (reads < high)).sum(1)
        if counts.min() == 0:
            raise NotDecomposableError("a window that lies in the padding")
        share = (1 / counts).astype(np.float32).reshape((-1, *[1] * (len(axes) + 1 - position)))
        x = build.op("Mul", x, build.constant(share))
    return [x]


def lp_pool(build: Builder) -> Sequence[ir.Value | None]:
    """(Σ |x|ᵖ over a window)^(1/p), the sum one axis after the other."""
    x, p = build.input(0), build.integer("p", 2)
    axes = _axes(build, build.integers("kernel_shape", ()), build.shape(build.origin.outputs[0])[2:])
    x = build.op("Mul", x, x) if p == 2 else build.op("Pow", build.op("Abs", x), build.scalar(p, x))
    for position, axis in enumerate(axes, 2):
        x = build.sum(_taps(build, x, position, axis, 0.0))
    return [build.op("Sqrt", x) if p == 2 else build.op("Pow", x, build.scalar(1 / p, x))]


def col2im(build: Builder) -> Sequence[ir.Value | None]:
    """Columns [N, C·K, L] added up where their windows lie: a transposed convolution with one 1 for each tap.

    The C channels are handled alike, so they are images of one channel.  With one tap and stride 1 it is a Reshape.
    """
    x, image, block = build.input(0), build.array(1, "the image's shape"), build.array(2, "the block's shape")
    sizes, kernel = image.astype(int).tolist(), block.astype(int).tolist()
    count = len(sizes)
    if count != 2:
        raise NotDecomposableError(f"{count} spatial axes")
    strides, dilations = build.integers("strides", [1] * count), build.integers("dilations", [1] * count)
    pads = build.integers("pads", [0] * 2 * count)
    taps = int(np.prod(kernel))
    batch, rows, _ = build.shape(x)
    channels = rows // taps
    positions, extra = [], []
    for axis in range(count):
        span = sizes[axis] + pads[axis] + pads[count + axis] - (kernel[axis] - 1) * dilations[axis] - 1
        positions.append(span // strides[axis] + 1)
        extra.append(span % strides[axis])
    if taps == 1 and positions == sizes:
        return [build.reshape(x, (batch, channels, *sizes))]
    weight = np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel)
    maps = build.reshape(x, (batch * channels, taps, *positions))
    y = build.op(
        "ConvTranspose",
        maps,
        build.constant(weight),
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=extra,
        kernel_shape=kernel,
    )
    return [build.reshape(y, (batch, channels, *sizes))]


DECOMPOSITIONS = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "Col2Im": col2im,
}
