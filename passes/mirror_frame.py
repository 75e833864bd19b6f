"""Rotate every feature map by 180°, so that PyTorch's padding at stride 2 becomes TensorFlow's.

    Before:  x ─ Conv(W, pads 1, stride 2) ─ … ─ GlobalAveragePool ─ y
    After:   x ─ Slice(step -1 on H and W) ─ Conv(W rotated, pads (0, 0, 1, 1), stride 2) ─ … ─ GlobalAveragePool ─ y

With padding 1, kernel 3 and stride 2 on an even size, PyTorch's windows reach one position before the data and none
after it: the split (1, 0).  TensorFlow's SAME puts the smaller half first: (0, 1).  In the rotated frame the windows
of every convolution and pool are `Window.mirrored()`, derived there, and (1, 0) becomes (0, 1): no Pad is left.
Elementwise operators do not notice, global pools undo the rotation, a spatial output is rotated back.

A window that skips the last positions of an even size (a 1x1 convolution at stride 2, `x[::2]`) starts at the other end
in the rotated frame: a Slice drops the first positions there, and does the striding too where the kernel is 1x1.
An operator that is not known to commute with the rotation gets its inputs rotated back.

The rotated values keep their names and are marked by the metadata `bnncc.mirrored`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from bnncc.ir.graph import CROPPED_KEY, MIRRORED_KEY, constant_of, inherit_source, new_constant, shape_of
from bnncc.passes.rotated_operators import (
    FIRST_INPUT_HOLDS_MAP,
    SPATIAL_AXES,
    is_global,
    rotate_operator,
    varies_over_map,
)
from bnncc.passes.traced import negated_channels, set_negated_channels
from bnncc.passes.windows import is_windowed, windows_of


class MirrorFrame(ir.passes.InPlacePass):
    """Rotate every four-dimensional graph input, and with it all that follows."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        if any(value.metadata_props.get(MIRRORED_KEY) for node in model.graph for value in node.outputs):
            return ir.passes.PassResult(model, modified=False)
        frame = _Frame(model.graph)
        return ir.passes.PassResult(model, modified=frame.rotate())


class _Frame:
    """The state of one rotation: which values are rotated, and the turned-back copies made so far."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.rotated: set[ir.Value] = set()
        self.turned: dict[ir.Value, ir.Value] = {}

    def rotate(self) -> bool:
        nodes = list(self.graph)
        for value in self.graph.inputs:
            if _has_map(value):
                self._rotate_input(value)
        for node in nodes:
            if any(value in self.rotated for value in node.inputs if value is not None):
                self._visit(node)
        for index, value in enumerate(self.graph.outputs):
            if value in self.rotated:
                self._restore_output(index, value)
        return bool(self.turned)

    def _rotate_input(self, value: ir.Value) -> None:
        uses = list(value.uses())
        if not uses:
            return
        node = _reversal(self.graph, value, f"{value.name}/mirrored")
        first = next(candidate for candidate in self.graph if any(use.node is candidate for use in uses))
        self.graph.insert_before(first, node)
        for use in uses:
            use.node.replace_input_with(use.idx, node.outputs[0])
        self._mark(node.outputs)
        self.turned[node.outputs[0]] = value

    def _visit(self, node: ir.Node) -> None:
        """Adapt one node that reads a rotated value."""
        if is_global(node):
            return
        commutes = self._rotate_windows(node) if is_windowed(node) else rotate_operator(self.graph, node)
        if not commutes:
            for index, value in enumerate(node.inputs):
                if value in self.rotated and value is not None:
                    node.replace_input_with(index, self._turn(value, node))
            return
        if not is_windowed(node) and node.op_type not in FIRST_INPUT_HOLDS_MAP:
            for index, value in enumerate(node.inputs):
                if value is not None and value not in self.rotated and varies_over_map(value):
                    node.replace_input_with(index, self._rotated_operand(value, node))
        self._mark(node.outputs)

    def _rotated_operand(self, value: ir.Value, node: ir.Node) -> ir.Value:
        array = constant_of(value)
        if array is None:
            return self._turn(value, node)
        axes = tuple(range(max(array.ndim - 2, 0), array.ndim))
        return new_constant(self.graph, np.flip(array, axes), f"{value.name}/mirrored")

    def _rotate_windows(self, node: ir.Node) -> bool:
        windows = windows_of(node)
        x = node.inputs[0]
        if windows is None or x is None or len(node.outputs) > 1:  # a MaxPool's indices count positions of the map
            return False
        is_conv = node.op_type in ("Conv", ops.BINARY_CONV, ops.BINARY_CONV_SIGN)
        filters = constant_of(node.inputs[1]) if is_conv else None
        if is_conv and filters is None:
            return False
        if node.op_type == "AveragePool" and _counts_padding(node) and _reaches_past_padding(node, windows):
            return False
        if not is_conv and any(window.reached_end >= window.kernel for window in windows):
            return False  # in ceil_mode a window may lie wholly behind the data; in front, ONNX Runtime takes none
        mirrored = [window.mirrored() for window in windows]
        if any(-window.begin >= window.size for window in mirrored):
            return False  # every window lies in the padding: a crop would leave nothing to read
        strides = [window.stride for window in windows]
        if x not in self.rotated:
            x = self._turn(x, node)
        if any(window.begin < 0 for window in mirrored):
            pointwise = all(window.kernel == 1 and window.begin <= 0 and window.end <= 0 for window in mirrored)
            x = self._crop(x, node, mirrored, strides if pointwise else [1, 1])
            strides = [1, 1] if pointwise else strides
            mirrored = [
                Window(window.size, window.kernel, window.stride, window.dilation, max(window.begin, 0), window.end)
                for window in mirrored
            ]
        node.replace_input_with(0, x)
        pads = [max(window.begin, 0) for window in mirrored] + [max(window.end, 0) for window in mirrored]
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        node.attributes["strides"] = ir.AttrInt64s("strides", strides)
        node.attributes.pop("auto_pad", None)
        if node.op_type in ("MaxPool", "AveragePool"):
            node.attributes["ceil_mode"] = ir.AttrInt64("ceil_mode", 0)
        elif filters is not None and (filters.shape[2] > 1 or filters.shape[3] > 1):
            turned = new_constant(self.graph, filters[:, :, ::-1, ::-1], f"{node.outputs[0].name}/mirrored_weight")
            node.replace_input_with(1, turned)
        return True

    def _crop(self, x: ir.Value, node: ir.Node, windows: list[Window], steps: list[int]) -> ir.Value:
        """Drop the first positions of `x` that no window reads (and stride, where steps are not 1)."""
        starts = [max(-window.begin, 0) for window in windows]
        sizes = [-(-(window.size - start) // step) for window, start, step in zip(windows, starts, steps, strict=True)]
        ends = [window.size for window in windows]
        crop = _slice(self.graph, x, starts, ends, steps, f"{node.outputs[0].name}/cropped")
        shape = shape_of(x)
        assert shape is not None
        crop.outputs[0].shape = ir.Shape((*shape[:2], *sizes))
        crop.outputs[0].metadata_props[CROPPED_KEY] = json.dumps({"start": starts, "step": steps})
        inherit_source([crop], node)
        self.graph.insert_before(node, crop)
        self._mark(crop.outputs)
        return crop.outputs[0]

    def _turn(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """The other orientation of `value`, made once, in front of its first reader."""
        if value not in self.turned:
            node = _reversal(self.graph, value, f"{value.name}/{'upright' if value in self.rotated else 'mirrored'}")
            inherit_source([node], before)
            self.graph.insert_before(before, node)
            self.turned[value] = node.outputs[0]
            self.turned[node.outputs[0]] = value
            if negated_channels(value):
                set_negated_channels(node.outputs[0], negated_channels(value))
            if value not in self.rotated:
                self._mark(node.outputs)
        return self.turned[value]

    def _restore_output(self, index: int, value: ir.Value) -> None:
        """Rotate a graph output back; the upright value takes the output's name."""
        upright = self.turned.get(value)
        if upright is None or upright.producer() is None:
            node = _reversal(self.graph, value, f"{value.name}/upright")
            self.graph.append(node)
            upright = node.outputs[0]
            self.turned[value] = upright
        name = value.name
        value.name, upright.name = f"{name}/mirrored", name
        self.graph.outputs[index] = upright

    def _mark(self, values: Iterable[ir.Value]) -> None:
        for value in values:
            if _has_map(value):
                self.rotated.add(value)
                value.metadata_props[MIRRORED_KEY] = "1"


def _has_map(value: ir.Value) -> bool:
    """True for [N, C, H, W] with more than one position: only there a rotation shows."""
    shape = shape_of(value)
    return shape is not None and len(shape) == 4 and shape[2] * shape[3] > 1


def _reversal(graph: ir.Graph, value: ir.Value, name: str) -> ir.Node:
    """A Slice that reverses H and W."""
    lowest = np.iinfo(np.int64).min + 1
    node = _slice(graph, value, [-1, -1], [lowest, lowest], [-1, -1], name)
    node.outputs[0].shape = value.shape
    return node


def _slice(
    graph: ir.Graph, value: ir.Value, starts: list[int], ends: list[int], steps: list[int], name: str
) -> ir.Node:
    constants = [np.asarray(entries, np.int64) for entries in (starts, ends, SPATIAL_AXES, steps)]
    node = ir.node("Slice", [value, *(new_constant(graph, array, f"{name}/slice") for array in constants)])
    node.outputs[0].name, node.outputs[0].type = name, value.type
    return node


def _counts_padding(node: ir.Node) -> bool:
    return "count_include_pad" in node.attributes and node.attributes["count_include_pad"].as_int() == 1


def _reaches_past_padding(node: ir.Node, windows: tuple[Window, Window]) -> bool:
    """True where ceil_mode lets windows reach beyond the padding, where nothing is counted."""
    pads = node.attributes["pads"].as_ints() if "pads" in node.attributes else (0, 0, 0, 0)
    return any(window.reached_end > pad for window, pad in zip(windows, pads[2:], strict=True))
