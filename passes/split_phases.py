"""Write a transposed convolution as convolutions of its input, one for each phase of its output.

    Before:  x [N, I, H, W] ─ ConvTranspose(W [I, O, KH, KW], stride s, pads p) ─ y
    After:   x ┬ Conv(W of phase (0, 0)) ┬ Concat ─ DepthToSpace(s) ─ Slice ─ y
               └ Conv(W of phase (r, c)) ┘

Along one axis y[q - p] is the sum of x[i] · w[k] with s·i + k = q.  Of the outputs with q = s·m + r only the taps
k = r + s·t count:

    y[s·m + r - p] = Σ_t x[m - t] · w[r + s·t],      t < T_r = ⌈(K - r)/s⌉

a convolution with the turned taps, T_r - 1 zeros in front, T_0 - 1 behind.  Where s divides K all phases have as many
taps, and are filters of one convolution.  Only weights of a few values are written so: they may run as bits, which LCE
has no transposed convolution for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, new_constant, shape_of, unique_name
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.insertion import insert, insert_reshape, replace_by_layer
from bnncc.passes.weight_terms import takes_few_values

Filters = npt.NDArray[np.generic]
# Phases of both axes: each is a layer of its own where the stride does not divide the kernel.
MOST_PHASES = 16


@dataclass(frozen=True)
class _Geometry:
    """Of both axes: the input's and the output's size, taps, stride, and what is cut off in front."""

    sizes: tuple[int, int]
    results: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    begins: tuple[int, int]

    def taps(self, axis: int, phase: int) -> int:
        """T_r of a phase r."""
        return max(-(-(self.kernel[axis] - phase) // self.strides[axis]), 0)

    def dropped(self, axis: int) -> tuple[int, int]:
        """How many m, in front and behind, yield nothing but what is cut off, and need no padding."""
        stride, least = self.strides[axis], self.taps(axis, self.strides[axis] - 1) - 1
        reach = (self.sizes[axis] - 1) * stride + self.kernel[axis]
        behind = reach - self.begins[axis] - self.results[axis]
        return min(self.begins[axis] // stride, least), min(behind // stride, least)

    def positions(self, axis: int) -> int:
        """How many m there are."""
        return self.sizes[axis] + self.taps(axis, 0) - 1 - sum(self.dropped(axis))


class SplitPhases(ir.passes.InPlacePass):
    """Rewrite every such transposed convolution over one axis or two."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _rewrite))


def is_transposed(node: ir.Node) -> bool:
    """True for a transposed convolution over two axes, or over one, which is one over rows of height 1 before."""
    return node.domain == "" and node.op_type == "ConvTranspose" and len(shape_of(node.outputs[0]) or ()) in (3, 4)


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    if not is_transposed(node):
        return False
    x, weight = node.inputs[0], constant_of(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    geometry = _geometry(node, weight)
    if x is None or weight is None or geometry is None:
        return False
    if not takes_few_values(weight.swapaxes(0, 1)) or (bias is not None and constant_of(bias) is None):
        return False
    (height, width), outputs = geometry.strides, weight.shape[1]
    phases = [(row, column) for row in range(height) for column in range(width)]
    filters = [_filters_of(weight, geometry, phase) for phase in phases]
    name = node.outputs[0].name or "transposed"
    is_one = len({one.shape for one in filters}) == 1
    # A filter's phases one after the other, as DepthToSpace can; of rows all filters of a phase, which a Reshape can.
    of_phase = 0 if height == 1 else 1
    if is_one:
        together = np.stack(filters, axis=of_phase)
        filters, phases = [together.reshape(-1, *together.shape[2:])], phases[:1]
    maps = []
    for index, (phase, own) in enumerate(zip(phases, filters, strict=True)):
        inputs = [x, new_constant(graph, own, f"{name}/phase_{index}/filters")]
        if bias is not None:
            shifts, count = np.asarray(constant_of(bias)), len(own) // outputs
            array = np.repeat(shifts, count) if of_phase else np.tile(shifts, count)
            inputs.append(new_constant(graph, array, f"{name}/phase_{index}/bias"))
        conv = ir.node("Conv", inputs, _attributes(geometry, phase))
        shape = (_batch(x), len(own), *(geometry.positions(axis) for axis in (0, 1)))
        title = unique_name(graph, f"{name}/phase_{index}")
        maps.append(insert(graph, conv, node, name=title, like=node.outputs[0], shape=shape))
    result = maps[0]
    if len(maps) > 1:
        shape = (_batch(x), outputs * len(maps), *(shape_of(result) or ())[2:])
        joined = ir.node("Concat", maps, {"axis": 1})
        result = insert(graph, joined, node, name=f"{name}/phases", like=node.outputs[0], shape=shape)
    result = _interleaved(graph, node, result, geometry, outputs, "CRD" if is_one and of_phase else "DCR")
    replace_by_layer(graph, node, maps[0] if is_one else result, result)
    return True


def _batch(x: ir.Value) -> int:
    return (shape_of(x) or (1,))[0]


def _geometry(node: ir.Node, weight: Filters | None) -> _Geometry | None:
    """None where an axis is dilated, its taps fewer than its stride, its output longer than the taps reach, or in
    groups.
    """
    x, result = node.inputs[0], shape_of(node.outputs[0])
    sizes = shape_of(x) if x is not None else None
    if weight is None or weight.ndim != 4 or sizes is None or result is None:
        return None
    automatic = "auto_pad" in node.attributes and node.attributes["auto_pad"].as_string() != "NOTSET"
    if automatic or "output_shape" in node.attributes:
        return None
    kernel = (weight.shape[2], weight.shape[3])
    read = ops.ConvGeometry.of(node, kernel, sizes[2:])
    strides, pads = read.strides, read.pads
    if read.group != 1 or read.dilations != (1, 1) or np.prod(strides) > MOST_PHASES or min(pads) < 0:
        return None
    for axis in (0, 1):
        reach = (sizes[2 + axis] - 1) * strides[axis] + kernel[axis]
        if kernel[axis] < strides[axis] or pads[axis] + result[2 + axis] > reach:
            return None
    return _Geometry((sizes[2], sizes[3]), (result[2], result[3]), kernel, strides, pads[:2])


def _filters_of(weight: Filters, geometry: _Geometry, phase: tuple[int, int]) -> Filters:
    """The turned taps of a phase, [O, I, T, T]."""
    (height, width), (row, column) = geometry.strides, phase
    taps = weight[:, :, row::height, column::width][:, :, ::-1, ::-1]
    return np.ascontiguousarray(taps.swapaxes(0, 1))


def _attributes(geometry: _Geometry, phase: tuple[int, int]) -> dict[str, Sequence[int]]:
    taps = [geometry.taps(axis, phase[axis]) for axis in (0, 1)]
    before = [taps[axis] - 1 - geometry.dropped(axis)[0] for axis in (0, 1)]
    behind = [geometry.taps(axis, 0) - 1 - geometry.dropped(axis)[1] for axis in (0, 1)]
    return {"kernel_shape": taps, "strides": (1, 1), "dilations": (1, 1), "pads": (*before, *behind)}


def _interleaved(
    graph: ir.Graph, node: ir.Node, maps: ir.Value, geometry: _Geometry, outputs: int, mode: str
) -> ir.Value:
    """The phases [N, s·s·O, H', W'], in the order that DepthToSpace's `mode` names, as one map [N, O, …], and of that
    what the node yields.
    """
    name, (height, width) = node.outputs[0].name or "transposed", geometry.strides
    batch, _, rows, columns = shape_of(maps) or (1, 0, 0, 0)
    shape = (batch, outputs, rows * height, columns * width)
    result = maps
    if height == width and height > 1:
        shuffle = ir.node("DepthToSpace", [maps], {"blocksize": height, "mode": mode})
        result = insert(graph, shuffle, node, name=f"{name}/whole", like=node.outputs[0], shape=shape)
    elif (height, width) != (1, 1):
        depth_first = (batch, height, width, outputs, rows, columns), (0, 3, 4, 1, 5, 2)
        channels_first = (batch, outputs, height, width, rows, columns), (0, 1, 4, 2, 5, 3)
        split, order = channels_first if mode == "CRD" else depth_first
        parts = insert_reshape(graph, maps, split, f"{name}/split", node)
        turn = ir.node("Transpose", [parts], {"perm": order})
        turned = [split[axis] for axis in order]
        parts = insert(graph, turn, node, name=f"{name}/turned", like=node.outputs[0], shape=turned)
        result = insert_reshape(graph, parts, shape, f"{name}/whole", node)
    begins = [geometry.begins[axis] - geometry.strides[axis] * geometry.dropped(axis)[0] for axis in (0, 1)]
    ends = [begin + size for begin, size in zip(begins, geometry.results, strict=True)]
    if any(begins) or tuple(ends) != shape[2:]:
        bounds = (begins, ends, (2, 3))
        inputs = [new_constant(graph, np.asarray(one, np.int64), f"{name}/crop") for one in bounds]
        crop = ir.node("Slice", [result, *inputs])
        size = shape_of(node.outputs[0])
        result = insert(graph, crop, node, name=f"{name}/cropped", like=node.outputs[0], shape=size)
    return result
