"""What a file must compute: the network's side of a verification, run once for each input, whatever runs the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnncc.inference.runners import OrtRunner
from bnncc.ir.evaluate import Array, run, skeleton, weights_of
from bnncc.ir.graph import MODULE_KEY, ZERO_WEIGHTS_KEY, new_constant, shape_of, sole_consumer
from bnncc.model import CompiledModel
from bnncc.targets.tflite.bitpack import bitpack
from bnncc.targets.tflite.emit import emit, packed_layouts
from bnncc.targets.tflite.layout import CHANNELS_LAST, Layout
from bnncc.targets.tflite.lowerings.lce import PACKED_SUFFIX
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor
from bnncc.verification.cancellation import cancellation_bounds
from bnncc.verification.reference import Correspondence, LayerReference, Meaning, as_stored, find_layers
from bnncc.verification.rounded_weights import compare
from bnncc.verification.tolerance import channel_scale

# Float layers that are compared one by one: those with weights.  4-D results have the channels last in the file.
WEIGHTED_RANKS = {"Conv": 4, "ConvTranspose": 4, "Gemm": 2, "MatMul": 2}

# An operator that is an activation itself, not one with an activation of its own.
CLIPS = ("RELU", "RELU6", "RELU_N1_TO_1", "MINIMUM", "MAXIMUM")


@dataclass(eq=False)
class BinaryLayer:
    """A binary convolution: its module path, its reference, its operator in the file."""

    module: str
    reference: LayerReference
    operator: Operator

    @property
    def packed(self) -> Tensor:
        """The packed tensor that the operator reads."""
        return first_input(self.operator)

    @property
    def channels(self) -> int:
        """Its output channels."""
        return self.reference.weight.shape[0]


@dataclass(eq=False)
class Point:
    """A packed tensor of the file whose bits the reference knows, and the operator that makes it.

    cancellation: of what the sign reads, see `bnncc.verification.cancellation`.
    """

    module: str
    value: ir.Value
    correspondence: Correspondence
    operator: Operator
    layout: Layout
    cancellation: Array

    def allowed(self, reference: Array) -> Array:
        """What rounding may amount to in each channel of what the sign reads, as the file has it."""
        bound = self.cancellation
        if bound.size != reference.shape[-1]:
            bound = np.max(bound, keepdims=True)
        return channel_scale(reference) + bound

    @property
    def quantized(self) -> bool:
        """True where an LceQuantize makes it, from a float."""
        return self.operator.name == "LceQuantize"

    @property
    def channels(self) -> int:
        """Its channels, unpacked."""
        shape = self.value.shape
        assert shape is not None
        return int(shape.numpy()[1])

    def signs_in(self, values: dict[ir.Value, Array]) -> Array:
        """The reference's signs as the file has them, int8: ±1, and 0 where PyTorch's sign is 0.

        Known by its operand alone, a sign is that operand's, whatever the value is negated against.
        """
        signs = self.correspondence.signs(values).astype(np.int8)
        return as_stored(self.value, signs, self.layout, negates=self.correspondence.traced is not None)

    def operand_in(self, values: dict[ir.Value, Array]) -> Array | None:
        """What the sign reads in the reference, as the file has it, where that is known."""
        operand = self.correspondence.operand(values)
        if operand is None:
            return None
        return as_stored(self.value, operand, self.layout, negates=not self.correspondence.keeps_operand)


@dataclass
class Expected:
    """What the file must compute on one input.  All arrays are as the file stores them: channels last.

    feeds: the network's inputs.
    outputs: the traced graph's; network_outputs: PyTorch's, where there is one, else the same.
    packed: the packed input of each binary layer, int32; sums: its integer sums; results: its result in ONNX Runtime.
    signs: of each point, int8; bits: the same, packed; operands: what each sign reads, None where that is not known.
    floats: the results of the float layers, computed from `signs`.
    """

    feeds: list[Array]
    outputs: list[Array]
    network_outputs: list[Array]
    packed: list[Array]
    sums: list[Array]
    results: list[Array]
    signs: list[Array]
    bits: list[Array]
    operands: list[Array | None]
    floats: list[Array]


class Reference:
    """The network, and how the file's tensors correspond to it.

    Attributes:
        file: what is verified.
        rounds: weights of float layers are rounded in it.
        full: the float32 file of the same graph, emitted anew where weights are rounded, else `file`.
        comparison: how the two differ.
        layers: the binary convolutions.
        points: the packed tensors.
        float_layers: the results of float layers with weights, and the tensors of `full` that hold them.
        layer_inputs: the packed tensors that the binary layers read, each once.
    """

    def __init__(self, compiled: CompiledModel) -> None:
        self.compiled = compiled
        self.file = TfliteFile(compiled.content)
        self.rounds = compiled.options.weights_precision is not WeightsPrecision.FLOAT32
        self.full = self.file
        if self.rounds:
            self.full = TfliteFile(emit(compiled.graph, channels_last=compiled.options.channels_last))
        self.comparison = compare(self.file, self.full)
        self._traced = compiled.traced.model.clone()
        self._values = {value.name: value for node in compiled.graph.graph for value in node.outputs}
        self.layers = self._find_layers()
        self.points = self._find_points()
        self._count_zero_as_one()
        self._take_zero_weights_as_one()
        self.float_layers = self._find_float_layers()
        self.layer_inputs = list(dict.fromkeys(layer.packed for layer in self.layers))
        traced = self._traced.graph
        wanted = [layer.reference.traced_input for layer in self.layers]
        wanted += [value for point in self.points for value in point.correspondence.traced_values()]
        fixed = set(traced.inputs) | set(traced.initializers.values())
        self._constants = {v: v.const_value.numpy() for v in wanted if v.const_value is not None}
        self._wanted = [value for value in dict.fromkeys(wanted) if value not in fixed]
        self._runner = OrtRunner(self._traced, self._wanted)
        self._weight_signs = self._signs_of_weights()
        self._load_parts()

    def _find_layers(self) -> list[BinaryLayer]:
        producers = {tensor.name: operator for operator in self.file.operators for tensor in operator.outputs}
        layers = []
        for reference in find_layers(self.compiled.graph.graph, self._traced.graph):
            name = reference.node.outputs[0].name or ""
            operator = producers.get(name + PACKED_SUFFIX) or producers[name]
            layers.append(BinaryLayer(reference.node.metadata_props.get(MODULE_KEY, ""), reference, operator))
        return layers

    def _find_points(self) -> list[Point]:
        points = []
        bounds = cancellation_bounds(self.compiled.graph.graph)
        layouts = packed_layouts(self.compiled.graph, channels_last=self.compiled.options.channels_last)
        traced = {value.name: value for node in self._traced.graph for value in node.outputs}
        traced.update({value.name: value for value in self._traced.graph.inputs})
        for operator in self.file.operators:
            if operator.name not in ("LceQuantize", "LceBconv2d", "LceBMaxPool2d"):
                continue
            name = operator.outputs[0].name
            if not name.endswith(PACKED_SUFFIX) or operator.outputs[0].dtype != "int32":
                continue
            value = self._values.get(name.removesuffix(PACKED_SUFFIX))
            correspondence = None if value is None else Correspondence.of(value, traced)
            if value is None or correspondence is None:
                continue
            producer = value.producer()
            module = producer.metadata_props.get(MODULE_KEY) if producer is not None else None
            read = producer.inputs[0] if producer is not None and producer.inputs else None
            bound = np.zeros(1) if read is None else bounds.get(read, np.zeros(1))
            layout = layouts.get(name, CHANNELS_LAST)
            points.append(Point(module or value.name or "", value, correspondence, operator, layout, bound))
        return points

    def _count_zero_as_one(self) -> None:
        """Let what reads a ±1 value of the reference read +1 where it is 0; the value itself is left as it is."""
        half = new_constant(self._traced.graph, np.array(0.5, np.float32), "half")
        ternary = [p.correspondence for p in self.points if p.correspondence.meaning == Meaning()]
        for signs in dict.fromkeys(correspondence.traced for correspondence in ternary):
            node = signs.producer() if signs is not None else None
            if signs is None or node is None:
                continue
            shifted = ir.node("Add", [signs, half])
            renewed = ir.node("Sign", [shifted.outputs[0]])
            for value, suffix in ((shifted.outputs[0], "shifted"), (renewed.outputs[0], "zero_is_one")):
                value.name, value.shape, value.type = f"{signs.name}/{suffix}", signs.shape, signs.type
            for user, index in list(signs.uses()):
                if user is not shifted:
                    user.replace_input_with(index, renewed.outputs[0])
            self._traced.graph.insert_after(node, [shifted, renewed])

    def _take_zero_weights_as_one(self) -> None:
        """Give the reference the weights that --zero-weights plus-one asked for: +α in place of an exact 0."""
        for layer in self.layers:
            weight = layer.reference.traced.inputs[1]
            if ZERO_WEIGHTS_KEY not in layer.reference.node.metadata_props or weight is None or weight.name is None:
                continue
            filters = run(skeleton(self._traced, [weight]), weights_of(self._traced))[weight.name]
            axes = tuple(axis for axis in range(filters.ndim) if axis != layer.reference.output_axis % filters.ndim)
            scale = np.abs(filters).max(axis=axes, keepdims=True)
            positive = np.where(filters == 0, scale, filters).astype(filters.dtype)
            layer.reference.traced.replace_input_with(1, new_constant(self._traced.graph, positive, weight.name))

    def _find_float_layers(self) -> dict[ir.Value, Tensor]:
        found = {}
        for node in self.compiled.graph.graph:
            if node.domain == "" and WEIGHTED_RANKS.get(node.op_type) == len(shape_of(node.outputs[0]) or ()):
                value = node.outputs[0]
                following = sole_consumer(self.compiled.graph.graph, value)
                if value.name not in self.full.by_name and following is not None:
                    value = following.outputs[0]  # an activation that the file's operator applies itself
                tensor = self.full.by_name.get(value.name or "")
                if tensor is not None and tensor.dtype == "float32" and self.full.data(tensor) is None:
                    found[value] = tensor
        return found

    def _signs_of_weights(self) -> dict[ir.Value, Array]:
        """The signs of the reference's binary weights, int8: constant, and as floats the largest thing here."""
        weights = list(dict.fromkeys(layer.reference.traced_weight for layer in self.layers))
        arrays = {weight: weight.const_value.numpy() for weight in weights if weight.const_value is not None}
        computed = [weight for weight in weights if weight not in arrays]
        if computed:
            results = run(skeleton(self._traced, computed), weights_of(self._traced))
            arrays.update({weight: results[weight.name or ""] for weight in computed})
        return {weight: np.sign(array).astype(np.int8) for weight, array in arrays.items()}

    def _load_parts(self) -> None:
        """The compiled graph's layers in ONNX Runtime, cut out of it."""
        graph = self.compiled.graph.graph
        if self.float_layers:
            given = [*graph.inputs, *(point.value for point in self.points)]
            self._float_graph = OrtRunner.between(self.compiled.graph, given, list(self.float_layers))
        if self.layers:
            nodes = [layer.reference.node for layer in self.layers]
            inputs = [node.inputs[0] for node in nodes if node.inputs[0] is not None]
            self._layer_graph = OrtRunner.between(self.compiled.graph, inputs, [node.outputs[0] for node in nodes])

    def module_of(self, operator: Operator) -> str:
        """The module path of the layer that an operator of the file belongs to, else its output's name."""
        name = operator.outputs[0].name
        value = self._values.get(name) or self._values.get(name.removesuffix(PACKED_SUFFIX))
        node = value.producer() if value is not None else None
        before = node.inputs[0].producer() if node is not None and node.inputs[0] is not None else None
        if node is not None and before is not None and node.op_type in ("Relu", "Clip") and operator.name not in CLIPS:
            node = before  # the operator applies the activation itself
        module = node.metadata_props.get(MODULE_KEY) if node is not None else None
        return module or name

    def on(self, arrays: Sequence[Array], network: Sequence[Array] | None) -> Expected:
        """Run the traced network on one input.

        Args:
            arrays: float32, NCHW, one for each graph input.
            network: what PyTorch yields, from `network_outputs`.
        """
        graph = self._traced.graph
        results = self._runner.run(arrays)
        outputs = [self.compiled.as_stored(array) for array in results[: len(graph.outputs)]]
        values = dict(self._constants)
        values.update(zip(graph.inputs, arrays, strict=True))
        values.update(zip(self._wanted, results[len(graph.outputs) :], strict=True))
        packed, sums, layer_results = self._binary_layers(values)
        signs = [point.signs_in(values) for point in self.points]
        return Expected(
            feeds=[self.compiled.as_stored(array) for array in arrays],
            outputs=outputs,
            network_outputs=outputs if network is None else list(network),
            packed=packed,
            sums=sums,
            results=layer_results,
            signs=signs,
            bits=[bitpack(_without_zeros(array)) for array in signs],
            operands=[point.operand_in(values) for point in self.points],
            floats=self._floats(arrays, signs),
        )

    def _binary_layers(self, values: dict[ir.Value, Array]) -> tuple[list[Array], list[Array], list[Array]]:
        """(the packed tensors that the layers read, their integer sums, their results in ONNX Runtime)."""
        bits: dict[Tensor, Array] = {}
        given: dict[str, Array] = {}
        all_sums = []
        for layer in self.layers:
            signs, sums = layer.reference.compute(values, self._weight_signs)
            bits.setdefault(layer.packed, layer.reference.packed(signs, layer.packed.shape))
            x = layer.reference.node.inputs[0]
            assert x is not None
            given.setdefault(x.name or "", layer.reference.in_graph(signs))
            all_sums.append(layer.reference.stored_sums(sums))
        if not self.layers:
            return [], [], []
        results = self._layer_graph.run([given[name] for name in self._layer_graph.input_names])
        return [bits[tensor] for tensor in self.layer_inputs], all_sums, [_channels_last(array) for array in results]

    def _floats(self, arrays: Sequence[Array], signs: Sequence[Array]) -> list[Array]:
        """The results of the float layers in ONNX Runtime, computed from these signs."""
        if not self.float_layers:
            return []
        feeds = dict(zip([value.name for value in self.compiled.graph.graph.inputs], arrays, strict=True))
        for point, array in zip(self.points, signs, strict=True):
            feeds[point.value.name] = _without_zeros(point.layout.restore(array))
        results = self._float_graph.run([feeds[name] for name in self._float_graph.input_names])
        return [_channels_last(array) for array in results]


def network_outputs(compiled: CompiledModel, inputs: Sequence[Sequence[Array]]) -> list[list[Array] | None]:
    """What PyTorch yields on each input, as the file stores it; None for a .onnx file."""
    run_module = compiled.traced.run_module
    if run_module is None:
        return [None for _ in inputs]
    return [[compiled.as_stored(array) for array in run_module(list(arrays))] for arrays in inputs]


def first_input(operator: Operator) -> Tensor:
    """The tensor that an operator reads first, which is never left out."""
    tensor = operator.inputs[0]
    assert tensor is not None
    return tensor


def _without_zeros(signs: Array) -> Array:
    """float32, with a 0 of PyTorch's sign as +1."""
    return np.where(signs < 0, np.float32(-1), np.float32(1))


def _channels_last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if array.ndim > 2 else array
