"""Prove that a compiled file computes what the network computes.

Two float programs that are both right differ by rounding, and near zero a rounding flips a sign, which then spreads.
So the file is looked at in four ways, all in LCE's own interpreter, or all in LiteRT with our delegate:

1. *Sums.*  Every LceBconv2d of the file, with its bits, strides and padding as they are but multiplier 1 and bias 0,
   is fed the reference's own input.  What it yields are the integer sums; they must equal the reference's, all of them.
2. *Layers.*  The same operators as they are, against the BinaryConv of the ONNX graph in ONNX Runtime: the multipliers
   and biases by rounding, the thresholds to the bit.
3. *Layer by layer.*  The file's packed tensors are fed the reference's own signs.  Then no flip can spread: every float
   layer, every float that a sign reads, and every output may be off by rounding only, and a sign may differ only where
   |x| < ε.
4. *Free-running.*  The file as a user runs it: largest error of the outputs, agreement of the classes.

Where the weights of float layers are rounded (`--weights-precision`), the file is not the network, and 3. shall not
hide a fault behind a wide tolerance.  So 1. and 2. take the file; 3. takes the float32 file of the same graph, emitted
anew; and the file must be that one with each weight rounded to the nearest step, all else equal to the bit
(`bnncc.rounded_weights`).  What then remains is what int8 kernels do to their inputs at run time: each is fed the
float32 file's own input, and must be within the bound that `bnncc.targets.tflite.precision` derives of a float kernel
with the same rounded weights.  How many signs the rounding flips is counted and reported: fed the reference's signs,
and free-running.

The reference is the traced network in ONNX Runtime, which the frontend has compared with PyTorch, and PyTorch itself.
A bit cannot say 0, which is PyTorch's sign of 0.  Such zeros are counted, and 1. to 3. take the network in which the
sign of 0 is +1, so that zeros hide nothing else; 4. compares with PyTorch as it is.

How a value of the file corresponds to one of the traced network is told by its name and metadata (`bnncc.graph`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bnncc.cancellation import cancellation_bounds
from bnncc.compiler import CompiledModel
from bnncc.evaluate import Array, run, skeleton, weights_of
from bnncc.graph import MODULE_KEY, ZERO_WEIGHTS_KEY, new_constant, shape_of, sole_consumer
from bnncc.memory import release_unused
from bnncc.reference import Correspondence, LayerReference, Meaning, as_stored, find_layers
from bnncc.rounded_weights import RoundedOperator, compare
from bnncc.rounding import ROUNDING
from bnncc.runners import OrtRunner, Runtime
from bnncc.targets.tflite import WeightsPrecision, emit, packed_layouts
from bnncc.targets.tflite.bitpack import bitpack, unpack
from bnncc.targets.tflite.layout import CHANNELS_LAST, Layout
from bnncc.targets.tflite.lowerings.lce import PACKED_SUFFIX
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor

# Float layers that are compared one by one: those with weights.  4-D results have the channels last in the file.
WEIGHTED_RANKS = {"Conv": 4, "ConvTranspose": 4, "Gemm": 2, "MatMul": 2}

# An operator that is an activation itself, not one with an activation of its own.
CLIPS = ("RELU", "RELU6", "RELU_N1_TO_1", "MINIMUM", "MAXIMUM")

# The largest share of exact zeros at a sign that counts as chance.  Sums of K products of ±1 that nothing shifts are 0
# in √(2/πK) of all cases: 3 % for K = 576, 9 % for K = 72.  More comes from a ReLU or an empty background, and such a
# layer is not binary.
CHANCE_OF_ZERO = 0.1

# Told with the outcome of each input: (how many are done, how many there are).
Progress = Callable[[int, int], None]

# So many channels with wrong sums are named.
LISTED_CHANNELS = 4

# The part of the largest magnitude of a whole tensor that rounding may leave in a channel of small values.
CANCELLATION = 1e-5


@dataclass
class LayerCheck:
    """One LceBconv2d.

    sums: how many integer sums were compared; wrong: how many differ; largest_error: by how much at most.  error: of
    its float output against ONNX Runtime, relative to the channel's largest magnitude; for a packed output the share
    of bits that differ.  where: channels, rows and columns of wrong sums, on the first input on which there are any.
    """

    module: str
    sums: int = 0
    wrong: int = 0
    largest_error: float = 0.0
    error: float = 0.0
    where: str = ""


@dataclass
class SignCheck:
    """One binary value of the file, compared with the reference's own values upstream.

    signs: how many; flipped: those that differ; explained: of those, where |x| < ε in the reference.
    largest_flip: the largest |x| of a flipped sign, relative to its channel's largest.  zeros: inputs that are exactly
    0, where PyTorch's sign is 0 and a bit says +1.  error: the largest error of x, relative to its channel's largest
    magnitude.  free_running_flips: signs that differ when the file runs by itself; started: of those, the ones on
    inputs on which no sign before this one differed.
    Of a file with rounded weights, fed the reference's signs: rounded_flips, signs that differ; largest_rounded_flip,
    the largest |x| of those, relative to its channel's largest.
    """

    module: str
    signs: int = 0
    flipped: int = 0
    explained: int = 0
    largest_flip: float = 0.0
    zeros: int = 0
    error: float = 0.0
    free_running_flips: int = 0
    started: int = 0
    rounded_flips: int = 0
    largest_rounded_flip: float = 0.0


@dataclass
class RoundedCheck:
    """One float operator with rounded weights.

    weights: how many, of type `dtype`.  error: of its output against a float operator with the same rounded weights,
    relative to what is allowed.
    """

    module: str
    dtype: str
    weights: int
    error: float = 0.0


@dataclass
class Verification:
    """What was found.  All counts are over all inputs.

    output_error: largest error of the outputs fed the reference's signs, relative to their largest magnitude.
    free_error: the same, free-running, against PyTorch itself (ONNX Runtime for a .onnx file).
    agreeing: inputs of which both name the same classes (None where the first output is no row of logits).
    rounded: float operators with float16 or int8 weights.  rounded_error: as output_error, of the file with these
    weights (output_error is then the float32 file's).
    problems: what rounding does not explain, one sentence each.  runtime: what ran the file.
    """

    inputs: int = 0
    layers: list[LayerCheck] = field(default_factory=list)
    signs: list[SignCheck] = field(default_factory=list)
    rounded: list[RoundedCheck] = field(default_factory=list)
    rounded_error: float = 0.0
    output_error: float = 0.0
    free_error: float = 0.0
    agreeing: int | None = None
    problems: list[str] = field(default_factory=list)
    runtime: Runtime = Runtime.LCE

    @property
    def passed(self) -> bool:
        """True where the file is proven on these inputs."""
        return not self.problems

    @property
    def most_flipped(self) -> SignCheck | None:
        """The sign that differs most when the file runs by itself, as a share of its signs; None where none does."""
        flipped = [sign for sign in self.signs if sign.free_running_flips]
        return max(flipped, key=lambda sign: sign.free_running_flips / sign.signs, default=None)


def verify(
    compiled: CompiledModel,
    inputs: Sequence[Sequence[Array]],
    progress: Progress | None = None,
    *,
    runtime: Runtime = Runtime.LCE,
) -> Verification:
    """Compare the file with the reference on each of `inputs` (one float32 array for each graph input, NCHW).

    runtime: what runs the file and the parts of it.
    """
    verifier = _Verifier(compiled, runtime)
    if verifier.is_refused():
        return verifier.result
    release_unused()
    for index, arrays in enumerate(inputs):
        verifier.check(arrays)
        if progress is not None:
            progress(index + 1, len(inputs))
    verifier.check_zeros()
    return verifier.result


@dataclass
class _Layer:
    """A binary convolution: its reference, its operator in the file, the packed tensor it reads."""

    reference: LayerReference
    operator: Operator
    check: LayerCheck

    @property
    def packed(self) -> Tensor:
        return _first(self.operator)

    @property
    def channels(self) -> int:
        return self.reference.weight.shape[0]


@dataclass
class _Rounded:
    """An operator with rounded weights, and what was found."""

    found: RoundedOperator
    check: RoundedCheck


@dataclass
class _Point:
    """A packed tensor of the file whose bits the reference knows, and the operator that makes it.

    cancellation: of what the sign reads, see `bnncc.cancellation`.
    """

    value: ir.Value
    correspondence: Correspondence
    operator: Operator
    check: SignCheck
    layout: Layout
    cancellation: Array

    def allowed(self, reference: Array) -> Array:
        """What rounding may amount to in each channel of what the sign reads, as the file has it."""
        bound = self.cancellation
        if bound.size != reference.shape[-1]:
            bound = np.max(bound, keepdims=True)
        return _channel_scale(reference) + bound

    def stored_signs(self, signs: Array) -> Array:
        """The reference's signs as the file has them.

        Known by its operand alone, a sign is that operand's, whatever the value is negated against.
        """
        return as_stored(self.value, signs, self.layout, negates=self.correspondence.traced is not None)

    def stored_operand(self, values: dict[ir.Value, Array]) -> Array | None:
        """What the sign reads in the reference, as the file has it, where that is known."""
        operand = self.correspondence.operand(values)
        if operand is None:
            return None
        return as_stored(self.value, operand, self.layout, negates=not self.correspondence.keeps_operand)

    @property
    def quantized(self) -> bool:
        return self.operator.name == "LceQuantize"


class _Verifier:
    def __init__(self, compiled: CompiledModel, runtime: Runtime = Runtime.LCE) -> None:
        self.compiled = compiled
        self.runtime = runtime
        self.file = TfliteFile(compiled.content)
        self.result = Verification(runtime=runtime)
        # Where no weights are rounded, the float32 file is the file.
        self.rounds = compiled.options.weights_precision is not WeightsPrecision.FLOAT32
        self.full = self.file
        if self.rounds:
            self.full = TfliteFile(emit(compiled.graph, channels_last=compiled.options.channels_last))
        self.comparison = compare(self.file, self.full)
        self.traced = compiled.traced.model.clone()
        self.values = {value.name: value for node in compiled.graph.graph for value in node.outputs}
        self.rounded = [
            _Rounded(entry, RoundedCheck(self._module_of(entry.operator), entry.dtype, entry.weight.size))
            for entry in self.comparison.rounded
        ]
        self.result.rounded = [entry.check for entry in self.rounded]
        self.layers = self._find_layers()
        self.points = self._find_points()
        self._count_zero_as_one()
        self._take_zero_weights_as_one()
        self.float_layers = self._find_float_layers()
        self.faulty: set[ir.Value] = set()
        traced = self.traced.graph
        wanted = [layer.reference.traced_input for layer in self.layers]
        wanted += [value for point in self.points for value in point.correspondence.traced_values()]
        fixed = set(traced.inputs) | set(traced.initializers.values())
        self.constants = {v: v.const_value.numpy() for v in wanted if v.const_value is not None}
        self.wanted = [value for value in dict.fromkeys(wanted) if value not in fixed]
        self.reference = OrtRunner(self.traced, self.wanted)
        self.weight_signs = self._weight_signs()

    def _find_layers(self) -> list[_Layer]:
        producers = {tensor.name: operator for operator in self.file.operators for tensor in operator.outputs}
        layers = []
        for reference in find_layers(self.compiled.graph.graph, self.traced.graph):
            name = reference.node.outputs[0].name or ""
            operator = producers.get(name + PACKED_SUFFIX) or producers[name]
            check = LayerCheck(reference.node.metadata_props.get(MODULE_KEY, ""))
            self.result.layers.append(check)
            layers.append(_Layer(reference, operator, check))
        return layers

    def _weight_signs(self) -> dict[ir.Value, Array]:
        """The signs of the reference's binary weights, int8: they are constant, and as floats the largest thing
        here.
        """
        weights = list(dict.fromkeys(layer.reference.traced_weight for layer in self.layers))
        arrays = {weight: weight.const_value.numpy() for weight in weights if weight.const_value is not None}
        computed = [weight for weight in weights if weight not in arrays]
        if computed:
            results = run(skeleton(self.traced, computed), weights_of(self.traced))
            arrays.update({weight: results[weight.name or ""] for weight in computed})
        return {weight: np.sign(array).astype(np.int8) for weight, array in arrays.items()}

    def _find_points(self) -> list[_Point]:
        points = []
        bounds = cancellation_bounds(self.compiled.graph.graph)
        layouts = packed_layouts(self.compiled.graph, channels_last=self.compiled.options.channels_last)
        traced = {value.name: value for node in self.traced.graph for value in node.outputs}
        traced.update({value.name: value for value in self.traced.graph.inputs})
        for operator in self.file.operators:
            if operator.name not in ("LceQuantize", "LceBconv2d", "LceBMaxPool2d"):
                continue
            name = operator.outputs[0].name
            if not name.endswith(PACKED_SUFFIX) or operator.outputs[0].dtype != "int32":
                continue
            value = self.values.get(name.removesuffix(PACKED_SUFFIX))
            correspondence = None if value is None else Correspondence.of(value, traced)
            if value is None or correspondence is None:
                continue
            producer = value.producer()
            module = producer.metadata_props.get(MODULE_KEY) if producer is not None else None
            check = SignCheck(module or value.name or "")
            self.result.signs.append(check)
            read = producer.inputs[0] if producer is not None and producer.inputs else None
            bound = np.zeros(1) if read is None else bounds.get(read, np.zeros(1))
            layout = layouts.get(name, CHANNELS_LAST)
            points.append(_Point(value, correspondence, operator, check, layout, bound))
        return points

    def _take_zero_weights_as_one(self) -> None:
        """Give the reference the weights that --zero-weights plus-one asked for: +α in place of an exact 0."""
        for layer in self.layers:
            weight = layer.reference.traced.inputs[1]
            if ZERO_WEIGHTS_KEY not in layer.reference.node.metadata_props or weight is None or weight.name is None:
                continue
            filters = run(skeleton(self.traced, [weight]), weights_of(self.traced))[weight.name]
            axes = tuple(axis for axis in range(filters.ndim) if axis != layer.reference.output_axis % filters.ndim)
            scale = np.abs(filters).max(axis=axes, keepdims=True)
            positive = np.where(filters == 0, scale, filters).astype(filters.dtype)
            layer.reference.traced.replace_input_with(1, new_constant(self.traced.graph, positive, weight.name))

    def _count_zero_as_one(self) -> None:
        """Let what reads a ±1 value of the reference read +1 where it is 0; the value itself is left as it is."""
        half = new_constant(self.traced.graph, np.array(0.5, np.float32), "half")
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
            self.traced.graph.insert_after(node, [shifted, renewed])

    def _find_float_layers(self) -> dict[ir.Value, Tensor]:
        """The results of the float layers with weights, and the file's tensors that hold them."""
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

    def is_refused(self) -> bool:
        """True, with the problem, where the runtime does not take the file or yields other shapes."""
        if self.comparison.structural is not None:
            self._problem(f"the weights are rounded, and {self.comparison.structural}")
            return True
        for operator, difference in self.comparison.problems:
            self._problem(f"layer '{self._module_of(operator)}': {operator.name}: {difference}")
        try:
            self._prepare_variants()
            declared = [tensor.shape for tensor in self.layer_by_layer_outputs]
            if self.layer_by_layer.output_shapes == declared:
                return False
            reason = "other shapes than declared"
        except RuntimeError as error:
            reason = str(error).strip()
        misshapen = [problem for operator in self.file.operators if (problem := self._misshapen(operator))]
        self._problem(f"{self.runtime.title} does not take the file: {'; '.join(misshapen) or reason}")
        return True

    def _misshapen(self, operator: Operator) -> str | None:
        """How the shapes that the interpreter gives one operator's outputs differ from those in the file."""
        inputs = [tensor for tensor in operator.inputs if tensor is not None and self.file.data(tensor) is None]
        name = f"{operator.name} '{operator.outputs[0].name}'"
        try:
            found = self.runtime.load(self.file.variant(list(dict.fromkeys(inputs)), operator.outputs)).output_shapes
        except RuntimeError as error:
            return f"{name}: {str(error).strip()}"
        declared = [tensor.shape for tensor in operator.outputs]
        return None if found == declared else f"{name} yields {found[0]}, not {declared[0]}"

    def _module_of(self, operator: Operator) -> str:
        """The module path of the layer that an operator of the file belongs to, else its output's name."""
        name = operator.outputs[0].name
        value = self.values.get(name) or self.values.get(name.removesuffix(PACKED_SUFFIX))
        node = value.producer() if value is not None else None
        before = node.inputs[0].producer() if node is not None and node.inputs[0] is not None else None
        if node is not None and before is not None and node.op_type in ("Relu", "Clip") and operator.name not in CLIPS:
            node = before  # the operator applies the activation itself
        module = node.metadata_props.get(MODULE_KEY) if node is not None else None
        return module or name

    def _prepare_variants(self) -> None:
        tensors = [point.operator.outputs[0] for point in self.points]
        floats = [_first(point.operator) for point in self.points if point.quantized]
        others = [point.operator.outputs[0] for point in self.points if not point.quantized]
        inputs, outputs = list(self.file.inputs), list(self.file.outputs)
        exposed = [*floats, *outputs]
        in_full, others_in_full = self._in_full(exposed), self._in_full(others)
        self.rounded_inputs = list(dict.fromkeys(_activation(entry.found.twin) for entry in self.rounded))
        exposed_in_full = [*in_full, *self.float_layers.values(), *self.rounded_inputs]
        self.layer_by_layer_outputs = [*exposed_in_full, *others_in_full]
        fed = self._in_full([*inputs, *tensors])
        self.layer_by_layer = self.runtime.load(self.full.variant(fed, exposed_in_full, split=others_in_full))
        if self.rounds:
            self.layer_by_layer_rounded = self.runtime.load(
                self.file.variant([*inputs, *tensors], exposed, split=others)
            )
        if self.rounded:
            # The same operators twice, on the same inputs: as they are, and as float operators with the same weights.
            twins = {entry.found.twin: entry.found.weight for entry in self.rounded}
            own = list(dict.fromkeys(_activation(entry.found.operator) for entry in self.rounded))
            results = [entry.found.operator.outputs[0] for entry in self.rounded]
            self.rounded_operators = self.runtime.load(self.file.variant(own, (), split=results))
            self.float_operators = self.runtime.load(self.full.weights_variant(self.rounded_inputs, twins))
        if self.float_layers:
            given = [*self.compiled.graph.graph.inputs, *(point.value for point in self.points)]
            self.float_graph = OrtRunner.between(self.compiled.graph, given, list(self.float_layers))
        self.free_running = self.runtime.load(self.file.variant(inputs, [*outputs, *floats, *others]))
        if not self.layers:
            return
        packed = list(dict.fromkeys(layer.packed for layer in self.layers))
        self.layer_inputs = packed
        results = [layer.operator.outputs[0] for layer in self.layers]
        operators = [layer.operator for layer in self.layers]
        self.sums = self.runtime.load(self.file.sums_variant(packed, operators))
        # A layer's packed output may be another's input, which is fed: the layer's own result is wanted as well.
        self.whole_layers = self.runtime.load(self.file.variant(packed, (), split=results))
        nodes = [layer.reference.node for layer in self.layers]
        inputs_of_layers = [node.inputs[0] for node in nodes if node.inputs[0] is not None]
        self.layer_graph = OrtRunner.between(self.compiled.graph, inputs_of_layers, [node.outputs[0] for node in nodes])

    def _in_full(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The float32 file's tensors for the file's own."""
        return [self.comparison.tensors[tensor.index] for tensor in tensors]

    # One input

    def check(self, arrays: Sequence[Array]) -> None:
        """Run the reference and the variants on one input."""
        self.result.inputs += 1
        graph = self.traced.graph
        # PyTorch before anything that takes memory is kept.
        module = self._run_module(arrays)
        results = self.reference.run(arrays)
        outputs = [self.compiled.as_stored(array) for array in results[: len(graph.outputs)]]
        if module is not None and max(map(_relative, outputs, module)) > ROUNDING:
            # PyTorch may flip signs against ONNX Runtime, too; then it must do so by rounding alone.
            self.compiled.traced.check_against_module([list(arrays)])
        values = dict(self.constants)
        values.update(zip(graph.inputs, arrays, strict=True))
        values.update(zip(self.wanted, results[len(graph.outputs) :], strict=True))
        if self.layers:
            self._check_layers(values)
        stored = [point.stored_signs(point.correspondence.signs(values)) for point in self.points]
        feeds = [self.compiled.as_stored(array) for array in arrays]
        self._check_layer_by_layer(arrays, feeds, stored, outputs, values)
        self._check_free_running(feeds, stored, outputs, outputs if module is None else module, values)

    def _run_module(self, arrays: Sequence[Array]) -> list[Array] | None:
        """The network's outputs in PyTorch, as stored; None for a .onnx file."""
        run = self.compiled.traced.run_module
        return None if run is None else [self.compiled.as_stored(array) for array in run(list(arrays))]

    def _check_layers(self, values: dict[ir.Value, Array]) -> None:
        """The integer sums against the reference's, then the whole operators against ONNX Runtime."""
        bits: dict[Tensor, Array] = {}
        given: dict[str, Array] = {}
        expected_sums = []
        for layer in self.layers:
            signs, sums = layer.reference.compute(values, self.weight_signs)
            bits.setdefault(layer.packed, layer.reference.packed(signs, layer.packed.shape))
            x = layer.reference.node.inputs[0]
            assert x is not None
            given.setdefault(x.name or "", layer.reference.in_graph(signs))
            expected_sums.append(layer.reference.stored_sums(sums))
        feeds = [bits[tensor] for tensor in self.layer_inputs]
        for layer, found, expected in zip(self.layers, self.sums.run(feeds), expected_sums, strict=True):
            check = layer.check
            wrong = int(np.count_nonzero(found != expected))
            check.sums += found.size
            if wrong:
                check.wrong += wrong
                check.largest_error = max(check.largest_error, float(np.max(np.abs(found - expected))))
                check.where = check.where or _place(found != expected)
                self._problem(f"layer '{check.module}': its integer sums differ from the reference's ({check.where})")
        wholes = self.layer_graph.run([given[name] for name in self.layer_graph.input_names])
        for layer, found, whole in zip(self.layers, self.whole_layers.run(feeds), wholes, strict=True):
            expected = np.ascontiguousarray(np.moveaxis(whole, 1, -1))
            if found.dtype == np.int32:
                error = float(np.mean(unpack(found, layer.channels) != expected))
                what = "its thresholds"
                wrong_affine = error > 0
            else:
                error = _channel_error(found, expected)
                what = "its multipliers or biases"
                wrong_affine = error > 1
            if wrong_affine or layer.check.wrong:
                self.faulty.add(layer.reference.node.outputs[0])
            layer.check.error = max(layer.check.error, error if found.dtype == np.int32 else error * ROUNDING)
            if wrong_affine:
                self._problem(f"layer '{layer.check.module}': {what} are not those of the network")

    def _check_layer_by_layer(
        self,
        arrays: Sequence[Array],
        feeds: Sequence[Array],
        stored: Sequence[Array],
        outputs: Sequence[Array],
        values: dict[ir.Value, Array],
    ) -> None:
        bits = [_pack(array) for array in stored]
        results = self.layer_by_layer.run([*feeds, *bits])
        floats = sum(point.quantized for point in self.points)
        end = floats + len(self.file.outputs)
        last = end + len(self.float_layers)
        packed = last + len(self.rounded_inputs)
        found = self._by_point(results[:floats], results[packed:])
        for point, array, expected in zip(self.points, found, stored, strict=True):
            self._check_sign(point, array, expected, values)
        self._check_float_layers(results[end:last], arrays, stored)
        names = [value.name for value in self.compiled.graph.graph.outputs]
        for name, array, expected in zip(names, results[floats:end], outputs, strict=True):
            error = _relative(array, expected)
            self.result.output_error = max(self.result.output_error, error)
            if error > ROUNDING:
                self._problem(f"output '{name}' is off by {error:.2g} of its largest magnitude")
        if self.rounded:
            self._check_rounded_operators(results[last:packed])
        if self.rounds:
            self._count_rounded_flips([*feeds, *bits], stored, outputs, values)

    def _check_rounded_operators(self, inputs: Sequence[Array]) -> None:
        """Each operator with rounded weights against a float operator with the same weights, on the same input."""
        given = dict(zip(self.rounded_inputs, inputs, strict=True))
        found, expected = self.rounded_operators.run(inputs), self.float_operators.run(inputs)
        for entry, array, reference in zip(self.rounded, found, expected, strict=True):
            allowed = _channel_scale(reference) + entry.found.input_error(given[_activation(entry.found.twin)])
            error = float(np.max(np.abs(array.astype(np.float64) - reference) / allowed, initial=0.0))
            entry.check.error = max(entry.check.error, float("inf") if np.isnan(error) else error)
            if not error <= 1:
                self._problem(
                    f"layer '{entry.check.module}': with {entry.check.dtype} weights it is off by {error:.2g} times "
                    "what rounding its input explains"
                )

    def _count_rounded_flips(
        self, feeds: Sequence[Array], stored: Sequence[Array], outputs: Sequence[Array], values: dict[ir.Value, Array]
    ) -> None:
        """What rounded weights do to signs and outputs, fed the reference's signs: counted, no problem."""
        results = self.layer_by_layer_rounded.run(feeds)
        floats = sum(point.quantized for point in self.points)
        end = floats + len(outputs)
        by_point = self._by_point(results[:floats], results[end:])
        for point, array, expected in zip(self.points, by_point, stored, strict=True):
            flipped = (array < 0) != (expected < 0)
            if not flipped.any():
                continue
            point.check.rounded_flips += int(np.count_nonzero(flipped))
            operand = point.stored_operand(values)
            if operand is not None:
                near = np.abs(operand)
                largest = near.max(axis=tuple(range(near.ndim - 1)), keepdims=True)
                distance = float((near / np.where(largest == 0, 1, largest))[flipped].max())
                point.check.largest_rounded_flip = max(point.check.largest_rounded_flip, distance)
        error = max(map(_relative, results[floats:end], outputs))
        self.result.rounded_error = max(self.result.rounded_error, error)
        if not np.isfinite(error):
            self._problem("with rounded weights the outputs are no numbers")

    def _check_float_layers(self, found: Sequence[Array], arrays: Sequence[Array], stored: Sequence[Array]) -> None:
        """Compare with ONNX Runtime from the same signs, and name where an error starts: not where it spreads to."""
        if not self.float_layers:
            return
        signs = [point.layout.restore(array) for point, array in zip(self.points, stored, strict=True)]
        given = [np.where(np.signbit(array), np.float32(-1), np.float32(1)) for array in signs]
        feeds = dict(zip([value.name for value in self.compiled.graph.graph.inputs], arrays, strict=True))
        feeds.update({point.value.name: array for point, array in zip(self.points, given, strict=True)})
        expected = self.float_graph.run([feeds[name] for name in self.float_graph.input_names])
        pairs = dict(zip(self.float_layers, zip(found, expected, strict=True), strict=True))
        points = {point.value for point in self.points}
        spread = set(self.faulty)
        module = ""
        for node in self.compiled.graph.graph:
            value = node.outputs[0]
            spreads = any(source in spread for source in node.inputs)
            module = node.metadata_props.get(MODULE_KEY, "") if node.op_type in WEIGHTED_RANKS else module
            if value in pairs:
                array, reference = pairs[value]
                reference = np.moveaxis(reference, 1, -1) if reference.ndim > 2 else reference
                error = _channel_error(array, np.ascontiguousarray(reference))
                if error > 1 and not spreads:
                    self._problem(f"layer '{module}': its floats are off by {error * ROUNDING:.2g}")
                spreads = error > 1
            if spreads and value not in points:
                spread.add(value)

    def check_zeros(self) -> None:
        """More zeros at a sign than chance explains are a problem."""
        for check in self.result.signs:
            if check.zeros > CHANCE_OF_ZERO * check.signs:
                self._problem(
                    f"sign '{check.module}': {check.zeros:,} of {check.signs:,} values are exactly 0, where PyTorch's "
                    "sign is 0 and a bit says +1"
                )

    def _by_point(self, floats: Sequence[Array], packed: Sequence[Array]) -> list[Array]:
        """What the file has at each point, channels last: the float that a sign reads, or ±1 from bits."""
        from_floats, from_bits = iter(floats), iter(packed)
        return [
            next(from_floats) if point.quantized else unpack(next(from_bits), _channels(point.value))
            for point in self.points
        ]

    def _check_sign(self, point: _Point, array: Array, expected: Array, values: dict[ir.Value, Array]) -> None:
        check = point.check
        check.signs += expected.size
        check.zeros += int(np.count_nonzero(expected == 0))
        flipped = (array < 0) != (expected < 0)
        operand = point.stored_operand(values)
        near = array if operand is None else operand
        if point.quantized and operand is not None and point.correspondence.keeps_operand:
            error = _largest_error(array, near, point.allowed(near))
            check.error = max(check.error, error * ROUNDING)
            if error > 1:
                producer = point.value.producer()
                self.faulty.update(value for value in (producer.inputs if producer is not None else ()) if value)
                self._problem(f"sign '{check.module}': the values that it reads are off by {error * ROUNDING:.2g}")
        count = int(np.count_nonzero(flipped))
        if not count:
            return
        check.flipped += count
        distance = (np.abs(near) / point.allowed(near))[flipped]
        check.largest_flip = max(check.largest_flip, float(distance.max()) * ROUNDING)
        explained = int(np.count_nonzero(distance <= 1))
        check.explained += explained
        if explained < count:
            self._problem(f"sign '{check.module}': flipped signs are not explained by rounding")

    def _check_free_running(
        self,
        feeds: Sequence[Array],
        stored: Sequence[Array],
        outputs: Sequence[Array],
        expected_outputs: Sequence[Array],
        values: dict[ir.Value, Array],
    ) -> None:
        """The file by itself, against the traced graph's `outputs` and the network's, `expected_outputs`."""
        results = self.free_running.run(feeds)
        found_outputs = results[: len(outputs)]
        floats = len(outputs) + sum(point.quantized for point in self.points)
        any_flips = False
        for point, array, expected in zip(
            self.points, self._by_point(results[len(outputs) : floats], results[floats:]), stored, strict=True
        ):
            flipped = (array < 0) != (expected < 0)
            count = int(np.count_nonzero(flipped))
            # Rounded weights move every float: how far is known for each operator, not for all of them together.
            if count and not any_flips and not self.rounds:
                operand = point.stored_operand(values)
                near = array if operand is None else operand
                if np.any((np.abs(near) / point.allowed(near))[flipped] > 1):
                    self._problem(
                        f"sign '{point.check.module}': the first signs to flip free-running are not near zero"
                    )
            point.check.started += 0 if any_flips else count
            point.check.free_running_flips += count
            any_flips |= bool(count)
        against_graph = max(map(_relative, found_outputs, outputs))
        if against_graph > ROUNDING and not any_flips and not self.rounds:
            self._problem(f"free-running outputs are off by {against_graph:.2g}, and no sign flipped on the way")
        self.result.free_error = max(self.result.free_error, *map(_relative, found_outputs, expected_outputs))
        if expected_outputs[0].ndim == 2 and expected_outputs[0].shape[1] > 1:
            same = np.argmax(found_outputs[0], axis=1) == np.argmax(expected_outputs[0], axis=1)
            self.result.agreeing = (self.result.agreeing or 0) + int(np.all(same))

    def _problem(self, text: str) -> None:
        if text not in self.result.problems:
            self.result.problems.append(text)


def _pack(signs: Array) -> Array:
    """Bits of stored signs; a 0 of PyTorch's sign is +1."""
    return bitpack(np.where(signs < 0, np.float32(-1), np.float32(1)))


def _channels(value: ir.Value) -> int:
    shape = value.shape
    assert shape is not None
    return int(shape.numpy()[1])


def _channel_scale(reference: Array) -> Array:
    """What rounding may amount to, for each channel of a stored (channels last) array."""
    magnitude = np.abs(reference.astype(np.float64))
    axes = tuple(range(magnitude.ndim - 1))
    scale: Array = ROUNDING * magnitude.max(axis=axes, keepdims=True) + CANCELLATION * magnitude.max(initial=0.0)
    return np.where(scale == 0, np.finfo(np.float64).tiny, scale)


def _channel_error(array: Array, reference: Array) -> float:
    """The largest error in units of what rounding may amount to in its channel."""
    return _largest_error(array, reference, _channel_scale(reference))


def _largest_error(array: Array, reference: Array, allowed: Array) -> float:
    """The largest error in units of what is allowed."""
    error = float(np.max(np.abs(array.astype(np.float64) - reference) / allowed, initial=0.0))
    return float("inf") if np.isnan(error) else error


def _place(wrong: Array) -> str:
    """Where a stored array [N, H, W, O] or [N, O] of bool is true."""
    *positions, channels = (np.unique(indices) for indices in np.nonzero(wrong))
    listed = ", ".join(map(str, channels[:LISTED_CHANNELS])) + (", …" if len(channels) > LISTED_CHANNELS else "")
    places = [f"{'channel' if len(channels) == 1 else 'channels'} {listed}"]
    if len(positions) == 3:
        for name, index in zip(("rows", "columns"), positions[1:], strict=True):
            places.append(f"{name} {index[0]} to {index[-1]}")
    return "; ".join(places)


def _relative(array: Array, reference: Array) -> float:
    scale = float(np.max(np.abs(reference), initial=0.0))
    difference = float(np.max(np.abs(array - reference), initial=0.0))
    if np.isnan(difference):
        return float("inf")
    return difference / scale if scale else difference


def _activation(operator: Operator) -> Tensor:
    """What an operator with weights reads: TRANSPOSE_CONV's comes behind its output's shape and its weights."""
    tensor = operator.inputs[2 if operator.name == "TRANSPOSE_CONV" else 0]
    assert tensor is not None
    return tensor


def _first(operator: Operator) -> Tensor:
    tensor = operator.inputs[0]
    assert tensor is not None
    return tensor
