"""Compute a grouped binary convolution as one binary convolution a group.

    Before:  S [N, C, H, W] ─ BinaryConv(group = G) ─ y
    After:   S ─ Split ─┬─ BinaryConv ─┐
                        ├─ BinaryConv ─ Concat ─ y
                        └─ …

LCE's default kernel takes no groups.  Where a group has a multiple of 32 channels, its part is whole words of the
packed tensor.  Where it has not, and S = Sign(u), the float u is split and each part packed on its own:

    Before:  u ─ Sign ─ BinaryConv(group = G) ─ y
    After:   u ─ Split ─┬─ Sign ─ BinaryConv ─┐
                        ├─ Sign ─ BinaryConv ─ Concat ─ y

A word is computed whole however few of its bits are used, so with few channels a group the float convolution may be
faster; the target's cost model decides, and the layer goes back to float with that reason.  A target whose kernel takes
groups keeps those of a multiple of 32 channels as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import (
    CONV_KEY,
    INPUT_CHANNELS_KEY,
    LAYER_INPUT_KEY,
    NEGATED_KEY,
    OUTPUT_CHANNELS_KEY,
    TRACED_KEY,
    constant_of,
    inherit_source,
    new_constant,
    replace_node,
    shape_of,
    take_over,
)
from bnncc.ir.left_in_float import Reason, leave_in_float
from bnncc.passes.cost import FLOAT_BYTES, WORD, CostModel
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.traced import OF_THE_WEIGHTS, hand_on, negated_channels, set_negated_channels, traced_channels

# The opset in which Split got the attribute num_outputs.
NUM_OUTPUTS_SINCE = 18


class SplitGroups(ir.passes.InPlacePass):
    """Split every BinaryConv with more than one group.

    cost: the target's, by which a layer may go back to float; None splits all.  grouped_kernel: the target's kernel
    takes groups of a multiple of 32 channels.
    """

    def __init__(self, cost: CostModel | None = None, grouped_kernel: bool = False) -> None:
        super().__init__()
        self.cost = cost
        self.grouped_kernel = grouped_kernel

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, self._split))

    def _split(self, graph: ir.Graph, node: ir.Node) -> bool:
        layer = _Grouped.of(node) if ops.is_binary_conv(node) else None
        if layer is None or (self.grouped_kernel and layer.channels % WORD == 0):
            return False
        if self.cost is not None and layer.is_faster_in_float(self.cost):
            layer.return_to_float(graph)
        else:
            layer.split(graph)
        return True


@dataclass
class _Grouped:
    """A grouped BinaryConv.  weight [O, C/G, KH, KW]; channels = C/G; filters = O/G."""

    node: ir.Node
    x: ir.Value
    group: int
    weight: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
    shape: tuple[int, ...]
    result: tuple[int, ...]

    @classmethod
    def of(cls, node: ir.Node) -> _Grouped | None:
        x, weight, group = node.inputs[0], constant_of(node.inputs[1]), int(node.attributes["group"].as_int())
        if group == 1 or x is None or weight is None:
            return None
        shape, result = shape_of(x), shape_of(node.outputs[0])
        return None if shape is None or result is None else cls(node, x, group, weight, shape, result)

    @property
    def channels(self) -> int:
        return int(self.weight.shape[1])

    @property
    def filters(self) -> int:
        return self.weight.shape[0] // self.group

    def is_faster_in_float(self, cost: CostModel) -> bool:
        macs = int(np.prod(self.result)) * int(np.prod(self.weight.shape[1:]))
        words = -(-self.channels // WORD)
        size = FLOAT_BYTES * int(np.prod(self.result))
        # Repacking splits the floats; the outputs are joined by a copy.
        repacked = 0 if self.channels % WORD == 0 else 2 * FLOAT_BYTES * int(np.prod(self.shape))
        binary = cost(
            binary_macs=macs * words * WORD // self.channels,
            moved_bytes=3 * size + repacked,
            operators=3 * self.group + 1,
        )
        return cost(float_macs=macs, moved_bytes=size, operators=1) < binary

    def split(self, graph: ir.Graph) -> None:
        node, y = self.node, self.node.outputs[0]
        multiplier, bias = (constant_of(node.inputs[index]) for index in (2, 3))
        assert multiplier is not None
        assert bias is not None
        parts = self._parts(graph)
        results = []
        inputs = traced_channels(node, INPUT_CHANNELS_KEY, self.shape[1])
        outputs = traced_channels(node, OUTPUT_CHANNELS_KEY, self.weight.shape[0])
        for index in range(self.group):
            reads = slice(index * self.channels, (index + 1) * self.channels)
            rows = slice(index * self.filters, (index + 1) * self.filters)
            name = f"{y.name}/group{index}"
            geometry = ops.ConvGeometry.of(node, self.weight.shape[2:], self.shape[2:])
            single = ops.ConvGeometry(geometry.strides, geometry.dilations, geometry.pads)
            pad_value = node.attributes["pad_value"].as_float()
            part = ops.binary_conv(
                parts[index],
                new_constant(graph, self.weight[rows], f"{name}/weight"),
                new_constant(graph, multiplier[rows], f"{name}/multiplier"),
                new_constant(graph, bias[rows], f"{name}/bias"),
                single,
                pad_value=pad_value,
            )
            hand_on(node, part, (CONV_KEY, LAYER_INPUT_KEY, TRACED_KEY, *OF_THE_WEIGHTS))
            part.metadata_props[INPUT_CHANNELS_KEY] = json.dumps(inputs[reads])
            part.metadata_props[OUTPUT_CHANNELS_KEY] = json.dumps(outputs[rows])
            inherit_source([part], node)
            result = part.outputs[0]
            result.name, result.type = name, y.type
            result.shape = ir.Shape((self.result[0], self.filters, *self.result[2:]))
            graph.insert_before(node, part)
            results.append(result)
        joined = ir.node("Concat", results, {"axis": 1})
        inherit_source([joined], node)
        graph.insert_before(node, joined)
        take_over(y, joined.outputs[0])
        joined.outputs[0].metadata_props.update(y.metadata_props)
        graph.remove(node, safe=True)
        sign = self.x.producer()
        if ops.is_sign(sign) and not self.x.uses() and self.x not in graph.outputs and sign is not None:
            graph.remove(sign, safe=True)

    def _parts(self, graph: ir.Graph) -> list[ir.Value]:
        """The binary values of the groups, shared with other convolutions of the same groups."""
        x, sign = self.x, self.x.producer()
        repacks = self.channels % WORD != 0 and ops.is_sign(sign) and self._only_grouped(graph)
        if not repacks or sign is None:
            return self._split_value(graph, x, self.node)
        assert sign.inputs[0] is not None
        parts = []
        for index, part in enumerate(self._split_value(graph, sign.inputs[0], sign)):
            readers = [use.node for use in part.uses() if ops.is_sign(use.node)]
            if readers:
                parts.append(readers[0].outputs[0])
                continue
            packed = ops.sign(part)
            value = packed.outputs[0]
            value.name = f"{x.name}/group{index}"
            value.metadata_props.update(x.metadata_props)
            value.metadata_props.setdefault(TRACED_KEY, json.dumps({"value": x.name, "scale": 1.0, "offset": 0.0}))
            first = index * self.channels
            value.metadata_props[INPUT_CHANNELS_KEY] = json.dumps([*range(first, first + self.channels)])
            self._hand_on_negated(value, index)
            inherit_source([packed], sign)
            graph.insert_before(sign, packed)
            parts.append(value)
        return parts

    def _split_value(self, graph: ir.Graph, source: ir.Value, before: ir.Node) -> list[ir.Value]:
        """`source` cut into the channels of the groups, once."""
        for use in source.uses():
            if use.node.op_type == "Split" and use.node.domain == "" and len(use.node.outputs) == self.group:
                axis = use.node.attributes["axis"].as_int() if "axis" in use.node.attributes else 0
                if axis == 1 and all(shape_of(value) == self._part_shape for value in use.node.outputs):
                    return list(use.node.outputs)
        # Opset 13 counts the outputs, 18 wants to be told.
        attributes = {"axis": 1}
        if graph.opset_imports.get("", NUM_OUTPUTS_SINCE) >= NUM_OUTPUTS_SINCE:
            attributes["num_outputs"] = self.group
        cut = ir.node("Split", [source], attributes, num_outputs=self.group)
        for index, value in enumerate(cut.outputs):
            value.name, value.type = f"{source.name}/split{index}", source.type
            value.shape = ir.Shape(self._part_shape)
            if source is self.x:
                self._hand_on_negated(value, index)
        inherit_source([cut], before)
        graph.insert_before(before, cut)
        return list(cut.outputs)

    def _hand_on_negated(self, part: ir.Value, index: int) -> None:
        """Tell which of the channels of the `index`-th group are held negated."""
        first = index * self.channels
        negated = negated_channels(self.x)
        own = [channel - first for channel in negated if first <= channel < first + self.channels]
        part.metadata_props.pop(NEGATED_KEY, None)
        if own:
            set_negated_channels(part, own)

    @property
    def _part_shape(self) -> tuple[int, ...]:
        return (self.shape[0], self.channels, *self.shape[2:])

    def _only_grouped(self, graph: ir.Graph) -> bool:
        """True where every user of the signs is a convolution of the same groups: then the whole is packed for none."""
        same = all(
            ops.is_binary_conv(use.node) and use.node.attributes["group"].as_int() == self.group
            for use in self.x.uses()
        )
        return same and self.x not in graph.outputs

    def return_to_float(self, graph: ir.Graph) -> None:
        node, name = self.node, self.node.outputs[0].name
        multiplier, bias = (constant_of(node.inputs[index]) for index in (2, 3))
        assert multiplier is not None
        assert bias is not None
        filters = self.weight.astype(np.float64) * multiplier.astype(np.float64).reshape(-1, 1, 1, 1)
        geometry = ops.ConvGeometry.of(node, self.weight.shape[2:], self.shape[2:])
        x, pad_value = self.x, node.attributes["pad_value"].as_float()
        if pad_value != 0.0 and any(geometry.pads):
            top, left, bottom, right = geometry.pads
            amounts = new_constant(graph, np.array([0, 0, top, left, 0, 0, bottom, right], np.int64), f"{name}/pads")
            fill = new_constant(graph, np.array(pad_value, np.float32), f"{name}/pad_value")
            pad = ir.node("Pad", [x, amounts, fill])
            padded = pad.outputs[0]
            padded.name, padded.type = f"{name}/padded", x.type
            height, width = self.shape[2] + top + bottom, self.shape[3] + left + right
            padded.shape = ir.Shape((*self.shape[:2], height, width))
            inherit_source([pad], node)
            graph.insert_before(node, pad)
            x = padded
            geometry = ops.ConvGeometry(geometry.strides, geometry.dilations, group=geometry.group)
        weight = new_constant(graph, filters.astype(np.float32), f"{name}/float_weight")
        conv = ir.node("Conv", [x, weight, new_constant(graph, bias, f"{name}/bias")], dict(geometry.attributes()))
        reason = (
            f"it has {self.group} groups of {self.channels} channels, for which float is estimated to be faster on the "
            "target: bits are multiplied in words of 32 channels"
        )
        leave_in_float(conv, Reason("small-groups", reason))
        hand_on(node, conv, (CONV_KEY,))
        conv.outputs[0].metadata_props.update(node.outputs[0].metadata_props)
        replace_node(graph, node, conv)
