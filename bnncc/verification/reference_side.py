"""What a file must compute: the network's side of a verification, run once for each input, whatever runs the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import onnx_ir as ir

from bnncc.inference.graph_runner import OrtRunner
from bnncc.ir import ops
from bnncc.ir.choices import result_of
from bnncc.ir.evaluate import Array, ancestors, constant_values, input_dependent, inputs_of, random_inputs
from bnncc.ir.graph import MODULE_KEY, ZERO_WEIGHTS_KEY, known_array, new_constant, shape_of
from bnncc.ir.value_facts import MOVES, cancels, granularity
from bnncc.model import CompiledModel
from bnncc.targets.tflite.bitpack import bitpack, signs_of
from bnncc.targets.tflite.emit import emit, stored_layouts
from bnncc.targets.tflite.layout import CHANNELS_LAST, Layout
from bnncc.targets.tflite.lowerings.lce import PACKED_SUFFIX
from bnncc.targets.tflite.modules import module_of, values_by_name
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor
from bnncc.verification.error_bounds import add_error_bounds
from bnncc.verification.integer_file import compare_integers
from bnncc.verification.reference import Correspondence, LayerReference, Meaning, as_stored, find_layers
from bnncc.verification.rounded_weights import compare
from bnncc.verification.steps import STEPS, Choice, Threshold, operands_of, results_of, threshold
from bnncc.verification.unvarying import fold_unvarying

# So many elements of float values are compared at a time: a map of 112 by 112 by 64 has 802,816.
LOCAL_ELEMENTS = 1 << 21


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
    """A packed tensor of the file whose bits the reference knows, and the operator that makes it."""

    module: str
    value: ir.Value
    correspondence: Correspondence
    operator: Operator
    tensor: Tensor
    layout: Layout

    @cached_property
    def is_exact(self) -> bool:
        """True where a 0 that it reads is one by design: of what is a multiple of one number, such as a sum of ±1, and
        of an element that meets itself, as in x - max(x).
        """
        operand = self.correspondence.operand_value
        if operand is None:
            return False
        return granularity(operand) is not None or cancels(operand)

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
        signs = self._shaped(self.correspondence.signs(values).astype(np.int8))
        return as_stored(self.value, signs, self.layout, negates=self.correspondence.traced is not None)

    def operand_in(self, values: dict[ir.Value, Array]) -> Array | None:
        """What the sign reads in the reference, as the file has it, where that is known."""
        operand = self.correspondence.operand(values)
        if operand is None:
            return None
        keeps = self.correspondence.keeps_operand
        return as_stored(self.value, self._shaped(operand), self.layout, negates=not keeps)

    def vanished_in(self, values: dict[ir.Value, Array]) -> Array | None:
        """Where a factor in front of the reference's sign, and not of the file's, underflows; None without such."""
        vanished = self.correspondence.vanished(values)
        return None if vanished is None else as_stored(self.value, self._shaped(vanished), self.layout, negates=False)

    def bound_in(self, values: dict[ir.Value, Array], bounds: dict[ir.Value, Array]) -> Array | None:
        """What rounding may amount to in `operand_in`, float64; None where the operand is not known."""
        bound = self.correspondence.operand_bound(values, bounds)
        return None if bound is None else as_stored(self.value, self._shaped(bound), self.layout, negates=False)

    def _shaped(self, array: Array) -> Array:
        """The rows of a Linear as the maps of one pixel that the graph holds."""
        shape = shape_of(self.value) or ()
        return array.reshape(shape) if array.shape != shape and array.size == np.prod(shape) else array


@dataclass(eq=False)
class Step:
    """A rounding, comparison or choice whose result the file has under the network's own name.

    traced: its node in the traced graph; result: its value there, clamped behind a rounding where the file clamps in
    front.  tensor: of the file; layout: how it is stored there.
    """

    module: str
    traced: ir.Node
    result: ir.Value
    value: ir.Value
    tensor: Tensor
    layout: Layout

    @property
    def operands(self) -> list[ir.Value]:
        """What it compares, rounds or chooses from."""
        return operands_of(self.traced)

    def stored(self, array: Array) -> Array:
        """The reference's value (or one of its shape) as the file has it, float64 as it is."""
        held = as_stored(self.value, np.asarray(array), self.layout, negates=False)
        return held if held.dtype == np.float64 else held.astype(self.tensor.dtype)


@dataclass(frozen=True)
class LocalPart:
    """Some float operators of the compiled graph, each between values of the file.

    given: what `runner` takes; values, and the bounds of those in `bounded`: what it yields.
    """

    runner: OrtRunner
    given: list[ir.Value]
    values: list[ir.Value]
    bounded: list[ir.Value]


@dataclass
class Expected:
    """What the file must compute on one input.  All other arrays are as the file stores them: channels last.

    arrays: the network's inputs in PyTorch's order; feeds: as the file stores them.
    outputs: the traced graph's; network_outputs: PyTorch's, where there is one, else the same.
    packed: the packed input of each binary layer, int32; sums: its integer sums; results: its result in ONNX Runtime.
    signs: of each point, int8; bits: the same, packed; zeros: how many of them are 0 for PyTorch; operands: what each
    sign reads, None where that is not known.
    steps: the value of each step; thresholds: where it jumps.
    output_bounds, operand_bounds: what rounding may amount to in `outputs` and `operands`.  vanished: where each sign
    reads a product that underflows, and the file's the other factor; None where it reads none.
    """

    arrays: list[Array]
    feeds: list[Array]
    outputs: list[Array]
    network_outputs: list[Array]
    packed: list[Array]
    sums: list[Array]
    results: list[Array]
    signs: list[Array]
    bits: list[Array]
    zeros: list[int]
    operands: list[Array | None]
    steps: list[Array]
    thresholds: list[Threshold | Choice]
    output_bounds: list[Array]
    operand_bounds: list[Array | None]
    vanished: list[Array | None]

    @property
    def fed(self) -> list[Array]:
        """What the file is fed layer by layer: the network's inputs, the bits, the steps."""
        return [*self.feeds, *self.bits, *self.steps]

    @property
    def at_points(self) -> tuple[list[Array], list[Array | None], list[Array | None], list[Array | None]]:
        """For each point: its signs, what they read, what rounding may amount to in that, where a factor vanishes."""
        return self.signs, self.operands, self.operand_bounds, self.vanished

    @property
    def at_steps(self) -> tuple[list[Array], list[Threshold | Choice]]:
        """For each step: its values, and where it jumps."""
        return self.steps, self.thresholds


class Reference:
    """The network, and how the file's tensors correspond to it.

    Attributes:
        file: what is verified.
        rounds: weights of float layers are rounded in it, or they run in int8.
        full: the float32 file of the same graph, emitted anew where the file is another, else `file`.
        comparison: how the two differ.
        layers: the binary convolutions.
        points: the packed tensors.
        steps: the roundings, comparisons and choices.
        floats: the float values of the compiled graph that `full` has, and its tensors that hold them.
        layer_inputs: the packed tensors that the binary layers read, each once.
    """

    def __init__(self, compiled: CompiledModel) -> None:
        self.compiled = compiled
        self.file = TfliteFile(compiled.content)
        integers = compiled.options.integers is not None
        self.rounds = integers or compiled.options.weights_precision is not WeightsPrecision.FLOAT32
        self.full = self.file
        if self.rounds:
            whole_groups = compiled.options.weights_precision is not WeightsPrecision.INT8
            content = emit(compiled.graph, channels_last=compiled.options.channels_last, whole_groups=whole_groups)
            self.full = TfliteFile(content)
        self.comparison = (compare_integers if integers else compare)(self.file, self.full)
        self._traced = compiled.traced.model.clone()
        self._values = values_by_name(compiled.graph.graph)
        self.layers = self._find_layers()
        self._layouts = stored_layouts(compiled.graph, channels_last=compiled.options.channels_last)
        self.points = self._find_points()
        self.steps = self._find_steps()
        self._count_zero_as_one()
        self._take_zero_weights_as_one()
        self.floats = self._find_floats()
        self.layer_inputs = list(dict.fromkeys(layer.packed for layer in self.layers))
        traced = self._traced.graph
        wanted = [layer.reference.traced_input for layer in self.layers]
        wanted += [value for point in self.points for value in point.correspondence.traced_values()]
        wanted += [value for step in self.steps for value in (step.result, *step.operands)]
        self._bounds = self._add_bounds()
        fold_unvarying(self._traced)
        wanted += list(self._bounds.values())
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
        """The packed tensors that bits are made in; of signs that a pass has put in front of what moves elements, and
        that are no traced value themselves, what is moved.
        """
        points = []
        traced = {value.name: value for node in self._traced.graph for value in node.outputs}
        traced.update({value.name: value for value in self._traced.graph.inputs})
        unknown = set[int]()
        for operator in self.file.operators:
            moves_unknown = any(tensor is not None and tensor.index in unknown for tensor in operator.inputs)
            if operator.name not in ("LceQuantize", "LceBconv2d", "LceBMaxPool2d") and not moves_unknown:
                continue
            for tensor in operator.outputs:
                if tensor.dtype != "int32" or not tensor.name.endswith(PACKED_SUFFIX):
                    continue
                value = self._values.get(tensor.name.removesuffix(PACKED_SUFFIX))
                correspondence = None
                if value is not None:
                    correspondence = Correspondence.of(value, traced) or _as_reshaped(value, traced)
                if value is None or correspondence is None:
                    unknown.add(tensor.index)
                    continue
                if correspondence.traced is None:  # the network's own sign is that of what is moved
                    unknown.add(tensor.index)
                producer = value.producer()
                module = producer.metadata_props.get(MODULE_KEY) if producer is not None else None
                layout = self._layouts.get(tensor.name, CHANNELS_LAST)
                points.append(Point(module or value.name or "", value, correspondence, operator, tensor, layout))
        return points

    def _find_steps(self) -> list[Step]:
        """What rounds or compares in the network, and is in the file, under one name: whatever operators make it."""
        steps = []
        for node in self._traced.graph:
            if node.domain != "" or node.op_type not in STEPS:
                continue
            found = ((one, self._values[one.name]) for one in results_of(node) if one.name in self._values)
            result, value = next(found, (None, None))
            if result is None or value is None:
                continue
            tensor, layout = self.file.by_name.get(value.name or ""), self._layouts.get(value.name or "")
            shape = shape_of(value)
            if tensor is None or layout is None or shape is None or self.file.data(tensor) is not None:
                continue
            if tensor.shape == layout.shape(shape) and shape == shape_of(result):
                module = node.metadata_props.get(MODULE_KEY) or value.name or ""
                steps.append(Step(module, node, result, value, tensor, layout))
        return steps

    def _add_bounds(self) -> Mapping[ir.Value, ir.Value]:
        """Let the traced network compute what rounding may amount to between the values that are given."""
        given = [point.correspondence.traced for point in self.points] + [step.result for step in self.steps]
        exact = {value: 0.0 for value in given if value is not None}
        for layer in self.layers:  # ±1 up to a residue that the passes cancel
            read, largest = layer.reference.traced_input, layer.reference.meaning.largest
            exact[read] = max(exact.get(read, 0.0), largest)
        operands = [point.correspondence.operand_value for point in self.points]
        operands += [value for step in self.steps for value in step.operands]
        wanted = [*self._traced.graph.outputs, *(value for value in operands if value is not None)]
        known = [point.correspondence for point in self.points]
        sizes = {one.traced: one.meaning.largest for one in known if one.traced is not None}
        return add_error_bounds(self._traced, wanted, exact, sizes)

    def _count_zero_as_one(self) -> None:
        """Let what reads a ±1 value of the reference read +1 where it is 0; the value itself is left as it is."""
        ternary = [p.correspondence for p in self.points if p.correspondence.meaning == Meaning()]
        found = [one for correspondence in ternary for one in _equal_signs(correspondence.traced)]
        found += [one for point in self.points for one in point.correspondence.ternary]
        moved = [p.correspondence for p in self.points if p.correspondence.traced is None]
        found += [one for c in moved if c.is_three_valued for one in self._signs_behind(c.operand_value)]
        halves = dict.fromkeys(found, np.array(0.5, np.float32))
        for point in self.points:
            traced, meaning = point.correspondence.traced, point.correspondence.meaning
            if traced is not None and meaning.pads and replace(meaning, pads=()) == Meaning():
                halves.update(dict.fromkeys(_equal_signs(traced), _inside(traced, meaning.pads)))
        for signs, half in halves.items():
            node = signs.producer()
            if node is None:
                continue
            shifted = ir.node("Add", [signs, new_constant(self._traced.graph, half, f"{signs.name}/half")])
            renewed = ir.node("Sign", [shifted.outputs[0]])
            for value, suffix in ((shifted.outputs[0], "shifted"), (renewed.outputs[0], "zero_is_one")):
                value.name, value.shape, value.type = f"{signs.name}/{suffix}", signs.shape, signs.type
            for user, index in list(signs.uses()):
                if user is not shifted:
                    user.replace_input_with(index, renewed.outputs[0])
            self._traced.graph.insert_after(node, [shifted, renewed])

    def _signs_behind(self, operand: ir.Value | None) -> Iterator[ir.Value]:
        """The traced signs that the bits of `operand` stand for: of `operand` itself, moved, pooled, clamped about 0,
        scaled and shifted; none that is a sign of three values in the file.
        """
        for use in () if operand is None else operand.uses():
            result = use.node.outputs[0]
            if _is_sign(use.node):
                held = self._values.get(result.name or "")
                producer = None if held is None else held.producer()
                if producer is None or not _is_sign(producer):
                    yield result
            elif self._carries_bits(use.node):
                yield from self._signs_behind(result)

    def _carries_bits(self, node: ir.Node) -> bool:
        """True where a pass may have put the sign of what follows `node` in front of it."""
        if node.domain != "":
            return False
        if node.op_type == "Clip":
            low, high = ([_number_in(value) for value in node.inputs[1:]] + [None, None])[:2]
            return low is not None and high is not None and bool(low < 0 < high)
        if node.op_type in ("Add", "Sub", "Mul", "Div"):
            return sum(value in self._varying for value in node.inputs) == 1
        return node.op_type in MOVES | {"BatchNormalization", "Neg", "Tanh"}

    @cached_property
    def _varying(self) -> set[ir.Value]:
        """The traced values that depend on an input."""
        return input_dependent(self._traced.graph)

    def _take_zero_weights_as_one(self) -> None:
        """Give the reference the weights that --zero-weights plus-one asked for: +α in place of an exact 0."""
        for layer in self.layers:
            weight = layer.reference.traced.inputs[1]
            if ZERO_WEIGHTS_KEY not in layer.reference.node.metadata_props or weight is None or weight.name is None:
                continue
            (filters,) = self._constants_among([weight])
            axes = tuple(axis for axis in range(filters.ndim) if axis != layer.reference.output_axis % filters.ndim)
            scale = np.abs(filters).max(axis=axes, keepdims=True)
            positive = np.where(filters == 0, scale, filters).astype(filters.dtype)
            layer.reference.traced.replace_input_with(1, new_constant(self._traced.graph, positive, weight.name))

    def _find_floats(self) -> dict[ir.Value, Tensor]:
        found = {}
        for node in self.compiled.graph.graph:
            value = node.outputs[0]
            tensor, layout = self.full.by_name.get(value.name or ""), self._layouts.get(value.name or "")
            if tensor is None or layout is None or tensor.dtype != "float32" or self.full.data(tensor) is not None:
                continue
            if ops.yields_signs(node) or (node.domain == "" and node.op_type in STEPS and result_of(node) is value):
                continue
            if value.dtype is ir.DataType.FLOAT and tensor.shape == layout.shape(shape_of(value) or ()):
                found[value] = tensor
        return found

    def _signs_of_weights(self) -> dict[tuple[ir.Value, str | None], Array]:
        """The signs of the reference's binary weights, int8, by weights and thresholds: constant, and as floats the
        largest thing here.
        """
        weights = list(dict.fromkeys(layer.reference.traced_weight for layer in self.layers))
        arrays = {weight: weight.const_value.numpy() for weight in weights if weight.const_value is not None}
        others = [weight for weight in weights if weight not in arrays]
        arrays.update(zip(others, self._constants_among(others), strict=True))
        references = {_filters_of(layer.reference): layer.reference for layer in self.layers}
        return {key: reference.signs_of(arrays[key[0]]) for key, reference in references.items()}

    def _constants_among(self, values: Sequence[ir.Value]) -> Sequence[Array]:
        """Values that are the same for all inputs, though some may be computed of one, times 0."""
        if input_dependent(self._traced.graph).isdisjoint(values):
            results = constant_values(self._traced, values) if values else {}
            return [results[value.name or ""] for value in values]
        runner = OrtRunner(self._traced, values)
        return runner.run(random_inputs(self._traced, seed=0))[len(self._traced.graph.outputs) :]

    def _load_parts(self) -> None:
        """The compiled graph's layers in ONNX Runtime, cut out of it."""
        self._local_parts = list(self._cut_locally())
        if self.layers:
            nodes = [layer.reference.node for layer in self.layers]
            inputs = [node.inputs[0] for node in nodes if node.inputs[0] is not None]
            self._layer_graph = OrtRunner.between(self.compiled.graph, inputs, [node.outputs[0] for node in nodes])

    def _cut_locally(self) -> Iterator[LocalPart]:
        """The float operators of the compiled graph, some at a time, each between values of the file."""
        whole = self.compiled.graph.clone()
        own = {value.name: value for value in (*whole.graph.inputs, *(v for n in whole.graph for v in n.outputs))}
        given = [*self.compiled.graph.graph.inputs, *(p.value for p in self.points), *(s.value for s in self.steps)]
        originals = {own[value.name]: value for value in (*given, *self.floats)}
        bounds = add_error_bounds(whole, [own[value.name] for value in self.floats], dict.fromkeys(originals, 0.0))
        fold_unvarying(whole)
        pending: list[ir.Value] = []
        # Binary convolutions are checked as whole layers.
        computed = [value for value in self.floats if (node := value.producer()) is not None and node.domain == ""]
        for index, value in enumerate(computed):
            pending.append(own[value.name])
            size = sum(int(np.prod(shape_of(one) or ())) for one in pending)
            if size < LOCAL_ELEMENTS and index < len(computed) - 1:
                continue
            bounded = [one for one in pending if one in bounds]
            outputs = [*pending, *(bounds[one] for one in bounded)]
            read = {one for node in ancestors(outputs, list(originals)) for one in inputs_of(node)}
            needed = [one for one in originals if one in read]
            runner = OrtRunner.between(whole, needed, outputs)
            parts = ([originals[one] for one in values] for values in (needed, pending, bounded))
            yield LocalPart(runner, *parts)
            pending = []

    def module_of(self, operator: Operator) -> str:
        """The module path of the layer that an operator of the file belongs to, else its output's name."""
        return module_of(operator, self._values)

    def title_of(self, node: ir.Node) -> str:
        """How a problem names a float operator: with weights, or the activation behind such, it is a layer."""
        before = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if node.op_type in ("Relu", "Clip") and before is not None and before.outputs[0] not in self.floats:
            node = before
        title = "layer" if node.op_type in ops.WEIGHTED else node.op_type
        return f"{title} '{node.metadata_props.get(MODULE_KEY) or node.outputs[0].name or ''}'"

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
        bounds = self._bounds_in(values)
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
            zeros=[point.correspondence.zeros(values) for point in self.points],
            operands=[point.operand_in(values) for point in self.points],
            steps=[step.stored(values[step.result]) for step in self.steps],
            thresholds=[
                threshold(step.traced, values, bounds, step.stored, step.layout.restore) for step in self.steps
            ],
            output_bounds=[self.compiled.as_stored(bounds[value]) for value in graph.outputs],
            operand_bounds=[point.bound_in(values, bounds) for point in self.points],
            vanished=[point.vanished_in(values) for point in self.points],
            arrays=list(arrays),
        )

    def _bounds_in(self, values: Mapping[ir.Value, Array]) -> dict[ir.Value, Array]:
        """What rounding may amount to in the outputs and in what signs and steps read, float64 of their shapes."""
        operands = [point.correspondence.operand_value for point in self.points]
        operands += [value for step in self.steps for value in step.operands]
        found = {}
        for value in (*self._traced.graph.outputs, *operands):
            if value is not None:
                bound = values[self._bounds[value]] if value in self._bounds else np.zeros(())
                found[value] = np.broadcast_to(bound.astype(np.float64), shape_of(value) or ())
        return found

    def _binary_layers(self, values: dict[ir.Value, Array]) -> tuple[list[Array], list[Array], list[Array]]:
        """(the packed tensors that the layers read, their integer sums, their results in ONNX Runtime)."""
        bits: dict[Tensor, Array] = {}
        given: dict[str, Array] = {}
        all_sums = []
        for layer in self.layers:
            signs, sums = layer.reference.compute(values, self._weight_signs[_filters_of(layer.reference)])
            bits.setdefault(layer.packed, layer.reference.packed(signs, layer.packed.shape))
            x = layer.reference.node.inputs[0]
            assert x is not None
            given.setdefault(x.name or "", layer.reference.in_graph(signs))
            all_sums.append(layer.reference.stored_sums(sums))
        if not self.layers:
            return [], [], []
        results = self._layer_graph.run([given[name] for name in self._layer_graph.input_names])
        return [bits[tensor] for tensor in self.layer_inputs], all_sums, [_channels_last(array) for array in results]

    def local(
        self, expected: Expected, floats: Sequence[Array]
    ) -> Iterator[tuple[ir.Value, Array, Array, Array | float]]:
        """The float values that the file has otherwise than ONNX Runtime, from the file's own values in front of each.

        Most operators round once, and then all programs agree to the bit.

        Args:
            floats: what the file has for each of `self.floats`, fed the reference's signs and steps.

        Yields:
            (the value; the file's array; ONNX Runtime's, both NCHW; what rounding may amount to in it).
        """
        held = dict(zip(self.floats, floats, strict=True))
        given: dict[ir.Value, Callable[[], Array]] = {
            value: partial(np.asarray, array)
            for value, array in zip(self.compiled.graph.graph.inputs, expected.arrays, strict=True)
        }
        for point, array in zip(self.points, expected.signs, strict=True):
            given[point.value] = partial(_restored_signs, point.layout, array)
        for step, array in zip(self.steps, expected.steps, strict=True):
            dtype = step.value.dtype.numpy() if step.value.dtype is not None else np.dtype(np.float32)
            given[step.value] = partial(_restored, step.layout, array, dtype)
        for value, array in held.items():
            given[value] = partial(_restored, self._layouts[value.name or ""], array, np.dtype(np.float32))
        for part in self._local_parts:
            fed = [given[value]() for value in part.given]
            count = len(part.values)
            pairs = zip(part.values, part.runner.run(fed, slice(count)), strict=True)
            different = [(value, given[value](), result) for value, result in pairs]
            different = [
                (value, array, result) for value, array, result in different if not np.array_equal(array, result)
            ]
            if different:
                bounds = dict(zip(part.bounded, part.runner.run(fed, slice(count, None)), strict=True))
                for value, array, result in different:
                    yield value, array, result, bounds.get(value, 0.0)


def _as_reshaped(value: ir.Value, traced: Mapping[str | None, ir.Value]) -> Correspondence | None:
    """What the Reshape of a binary value, its only reader, stands for."""
    readers = [use.node for use in value.uses()]
    if len(readers) != 1 or readers[0].domain != "" or readers[0].op_type != "Reshape" or value.is_graph_output():
        return None
    return Correspondence.of(readers[0].outputs[0], traced)


def _restored(layout: Layout, array: Array, dtype: np.dtype[np.generic]) -> Array:
    """A stored array in ONNX's order and type."""
    return layout.restore(array).astype(dtype, copy=False)


def _restored_signs(layout: Layout, array: Array) -> Array:
    return _without_zeros(layout.restore(array))


def network_outputs(compiled: CompiledModel, inputs: Sequence[Sequence[Array]]) -> list[list[Array] | None]:
    """What PyTorch yields on each input, as the file stores it; None for a .onnx file."""
    run_module = compiled.traced.run_module
    if run_module is None:
        return [None for _ in inputs]
    outputs: list[list[Array] | None] = [
        [compiled.as_stored(array) for array in run_module(list(arrays))] for arrays in inputs
    ]
    compiled.traced.forget_copy()
    return outputs


def first_input(operator: Operator) -> Tensor:
    """The tensor that an operator reads first, which is never left out."""
    tensor = operator.inputs[0]
    assert tensor is not None
    return tensor


def _filters_of(reference: LayerReference) -> tuple[ir.Value, str | None]:
    """What the signs of a layer's weights depend on."""
    return reference.traced_weight, reference.thresholds


def _equal_signs(signs: ir.Value | None) -> list[ir.Value]:
    """A traced value, and where it is a Sign all others of what it reads: one in the file stands for all."""
    if signs is None:
        return []
    node = signs.producer()
    if node is None or not _is_sign(node) or node.inputs[0] is None:
        return [signs]
    return [use.node.outputs[0] for use in node.inputs[0].uses() if _is_sign(use.node)]


def _number_in(value: ir.Value | None) -> Array | None:
    """The constant that a traced graph holds in a value, or has cast to the type of another."""
    node = None if value is None else value.producer()
    return known_array(value if node is None or node.op_type != "CastLike" else node.inputs[0])


def _inside(padded: ir.Value, pads: Sequence[int]) -> Array:
    """½ where `padded` is not what a Pad has added to its last axes, 0 where it is: what is padded with 0 stays so."""
    half = len(pads) // 2
    spatial = (shape_of(padded) or ())[-half:]
    kept = [size - begin - end for size, begin, end in zip(spatial, pads[:half], pads[half:], strict=True)]
    return np.pad(np.full(kept, 0.5, np.float32), list(zip(pads[:half], pads[half:], strict=True)))


def _is_sign(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type == "Sign"


def _without_zeros(signs: Array) -> Array:
    """float32, with a 0 of PyTorch's sign as +1."""
    return signs_of(signs < 0)


def _channels_last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if array.ndim > 2 else array
