"""What stands between the inputs and outputs of the file and those of the network: bytes, and what apps want of logits.

    network:    x [N, C, H, W] float32 ─ … ─ logits
    file:       x bytes ─ Cast ─ Div(255) ─ Sub(mean) ─ Div(std) ─ … ─ logits ─ Softmax ─ QuantizeLinear ─ logits

`with_boundary` adds this to the traced network, before any pass: so the passes treat it as what the network itself
computes, the file is proven with it, and the reference is PyTorch on the preprocessed picture.  `Boundary` does the
same to arrays, to the bit what `Preprocessing.normalize` does, where the network runs in PyTorch.

An int8 is the byte less 128, as TensorFlow Lite's int8 inputs are.

An output is quantized where the network bounds it: TensorFlow Lite fixes the scale 1/256 for probabilities, and a clip
or a tanh says its own range.  What logits reach only data can tell; their scale is not guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from bnncc.data.preprocessing import MODES, UNSAID, Preprocessing
from bnncc.errors import InputError
from bnncc.frontend import InputSpec, TracedModel
from bnncc.inference.classes import class_count
from bnncc.ir.evaluate import Array
from bnncc.ir.graph import QUANTIZED_KEY, constant_of, known_array, new_constant, shape_of
from bnncc.ir.input_spec import shape_text
from bnncc.ir.value_facts import MOVES, data_inputs
from bnncc.options import Head, Options, ValueType
from bnncc.targets.tflite.reader import TfliteFile

LARGEST_BYTE = 255
# In the model's metadata: it has its boundary already.
_DONE_KEY = "bnncc.boundary"

_DTYPES = {"uint8": ir.DataType.UINT8, "int8": ir.DataType.INT8}
# Steps from the lowest value to the highest: the highest of functions that come close to it saturates, which leaves the
# scale a power of two.
_ALL_STEPS, _STEPS_WITHIN = 256, 255
# What these yield lies between the first two numbers.
_RANGES = {
    **dict.fromkeys(("Softmax", "Sigmoid", "HardSigmoid"), (0.0, 1.0, _ALL_STEPS)),
    "Tanh": (-1.0, 1.0, _ALL_STEPS),
}
# A mean lies where the values do.
_MEANS = ("AveragePool", "GlobalAveragePool", "ReduceMean")

Run = Callable[[Sequence[Array]], list[Array]]


@dataclass(frozen=True)
class Scale:
    """q, of type `dtype`, stands for scale · (q − zero_point)."""

    scale: float
    zero_point: int
    dtype: str

    @property
    def as_json(self) -> str:
        """For `QUANTIZED_KEY`."""
        return json.dumps({"scale": self.scale, "zero_point": self.zero_point})

    def quantize(self, array: Array) -> Array:
        """As ONNX's QuantizeLinear: rounded to the nearest, ties to even, saturated."""
        bounds = np.iinfo(self.dtype)
        steps = np.rint(array / np.float32(self.scale)) + self.zero_point
        return np.asarray(np.clip(steps, bounds.min, bounds.max).astype(self.dtype))


@dataclass(frozen=True)
class Boundary:
    """inputs: of which the file takes bytes.  outputs: how each is quantized; None for those that are not."""

    inputs: tuple[bool, ...]
    outputs: tuple[Scale | None, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    head: Head = Head.NONE

    @classmethod
    def of_file(cls, file: TfliteFile, specs: Sequence[InputSpec], options: Options) -> Boundary:
        """That of a file that was compiled with `options` from a network with the inputs `specs`."""
        outputs = []
        for tensor in file.outputs:
            found = tensor.quantization
            is_scaled = options.output_type is not ValueType.FLOAT32 and found is not None
            outputs.append(Scale(found.scales[0], found.zero_points[0], tensor.dtype) if is_scaled and found else None)
        inputs = tuple(spec.name in _byte_inputs(specs, options) for spec in specs)
        return cls(inputs, tuple(outputs), options.preprocessing, options.head)

    def network_inputs(self, arrays: Sequence[Array]) -> list[Array]:
        """What the network takes [N, C, …], of what the file takes."""
        return [
            self._normalized(array) if is_bytes else array for array, is_bytes in zip(arrays, self.inputs, strict=True)
        ]

    def file_outputs(self, outputs: Sequence[Array]) -> list[Array]:
        """What the file yields, of what the network yields."""
        found = list(outputs)
        if self.head is Head.ARGMAX:
            found[0] = found[0].argmax(axis=1)
        elif self.head is Head.SOFTMAX:
            powers = np.exp(found[0] - found[0].max(axis=1, keepdims=True))
            found[0] = powers / powers.sum(axis=1, keepdims=True)
        scales = self.outputs or (None,) * len(found)
        return [array if scale is None else scale.quantize(array) for array, scale in zip(found, scales, strict=True)]

    def around(self, run: Run) -> Run:
        """The network `run` with this around it."""
        return lambda arrays: self.file_outputs(run(self.network_inputs(arrays)))

    def _normalized(self, array: Array) -> Array:
        pixels = (array.astype(np.int16) + _offset(array.dtype.name)).astype(np.uint8)
        return np.stack([self.preprocessing.normalize(image) for image in pixels])


def with_specs(specs: Sequence[InputSpec], options: Options) -> tuple[InputSpec, ...]:
    """The inputs of the file, of those of the network.  Raises InputError where there are no such inputs."""
    chosen = _byte_inputs(specs, options)
    dtype = options.input_type.value
    return tuple(
        replace(spec, dtype=dtype, is_bytes=True, range=None) if spec.name in chosen else spec for spec in specs
    )


def with_boundary(traced: TracedModel, options: Options) -> TracedModel:
    """The traced network as the file is to be; itself where that is the same.

    Raises InputError where an input or output is not what the options are about.
    """
    _require_as_many(options.classes, traced.model.graph.outputs[0])
    asked = (options.input_type, options.output_type) != (ValueType.FLOAT32,) * 2 or options.head is not Head.NONE
    if not asked or _DONE_KEY in traced.model.metadata_props:
        return traced
    specs = with_specs(traced.inputs, options)
    model = traced.model.clone()
    model.metadata_props[_DONE_KEY] = "1"
    for index, spec in enumerate(specs):
        if spec.is_bytes:
            _take_bytes(model.graph, index, spec, options.preprocessing)
    if options.head is not Head.NONE:
        _add_head(model.graph, options.head)
    outputs = [_quantize_output(model.graph, index, options) for index in range(len(model.graph.outputs))]
    boundary = Boundary(tuple(spec.is_bytes for spec in specs), tuple(outputs), options.preprocessing, options.head)
    module, written, check = traced.run_module, traced.run_as_written, traced.check_against_module
    return replace(
        traced,
        model=model,
        inputs=list(specs),
        run_module=None if module is None else boundary.around(module),
        run_as_written=None if written is None else boundary.around(written),
        check_against_module=lambda inputs: check([boundary.network_inputs(arrays) for arrays in inputs]),
    )


# Inputs


def _byte_inputs(specs: Sequence[InputSpec], options: Options) -> set[str]:
    """The names of the inputs of which the file takes bytes."""
    if options.input_type is ValueType.FLOAT32:
        if options.byte_inputs:
            raise InputError(f"--input-type: {', '.join(options.byte_inputs)} take float32 as it is")
        return set()
    word = f"--input-type {options.input_type.value}"
    names = {spec.name: spec for spec in specs}
    unknown = [name for name in options.byte_inputs if name not in names]
    if unknown:
        raise InputError(f"{word}: the network has no input '{unknown[0]}'; it takes {', '.join(names)}")
    chosen = [names[name] for name in options.byte_inputs] or [spec for spec in specs if _is_picture(spec)]
    if not chosen:
        inputs = ", ".join(spec.text for spec in specs)
        integers = all(not spec.is_float for spec in specs)
        reason = "these are integers already" if integers else "pictures have 1, 3 or 4 channels, [N, C, H, W]"
        advice = (
            "" if integers else f"; --input-type {specs[0].name}={options.input_type.value} takes bytes all the same"
        )
        raise InputError(f"{word}: the network takes no pictures but {inputs}: {reason}{advice}")
    for spec in chosen:
        if not (spec.is_float or spec.is_bytes):
            raise InputError(f"{word}: the input '{spec.name}' takes {spec.dtype} already")
        if len(spec.shape) < 2:
            raise InputError(f"{word}: the input '{spec.name}' takes {spec.text}, no [N, C, …]")
    if not options.preprocessing.says_pixels:
        raise InputError(f"{word}: {UNSAID}")
    counts = len(options.preprocessing.mean)
    for spec in chosen:
        if counts not in (0, 1, spec.shape[1]):
            raise InputError(f"--mean has {counts} values, and the input '{spec.name}' has {spec.shape[1]} channels")
    return {spec.name for spec in chosen}


def _is_picture(spec: InputSpec) -> bool:
    return (spec.is_float or spec.is_bytes) and len(spec.shape) == 4 and spec.shape[1] in MODES


def _offset(dtype: str) -> int:
    """What an element of this type is less than its byte."""
    return -int(np.iinfo(dtype).min)


def _take_bytes(graph: ir.Graph, index: int, spec: InputSpec, preprocessing: Preprocessing) -> None:
    """Let graph input `index` be bytes, and compute of it what it was."""
    floats = graph.inputs[index]
    name = floats.name or ""
    taken = ir.Value(name=name, type=ir.TensorType(_DTYPES[spec.dtype]), shape=floats.shape)
    # What the bytes stand for: light from 0 to 1, or what the network takes.
    unit = np.float32(1 if preprocessing.pixels == "0..255" else 1 / np.float32(LARGEST_BYTE))
    offset = _offset(spec.dtype)
    taken.metadata_props[QUANTIZED_KEY] = Scale(float(unit), -offset, spec.dtype).as_json
    graph.inputs[index] = taken
    floats.name = f"{name}/floats"
    steps: list[tuple[str, Array | float]] = [("Add", offset)] if offset else []
    if preprocessing.pixels != "0..255":
        steps.append(("Div", LARGEST_BYTE))
    if preprocessing.mean:
        along = (1, -1, *(1,) * (len(spec.shape) - 2))
        steps += [
            (operator, np.array(numbers, np.float32).reshape(along))
            for operator, numbers in (("Sub", preprocessing.mean), ("Div", preprocessing.std))
        ]
    nodes = [ir.node("Cast", [taken], {"to": int(ir.DataType.FLOAT)})]
    for count, (operator, numbers) in enumerate(steps):
        constant = new_constant(graph, np.asarray(numbers, np.float32), f"{name}/{operator.lower()}{count}")
        nodes.append(ir.node(operator, [nodes[-1].outputs[0], constant]))
    for count, node in enumerate(nodes):
        node.outputs[0].name = f"{name}/normalized{count}"
        node.name = f"{name}/normalize{count}"
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), floats.shape
    floats.replace_all_uses_with(nodes[-1].outputs[0], replace_graph_outputs=True)
    first = next(iter(graph), None)
    if first is None:
        graph.extend(nodes)
    else:
        graph.insert_before(first, nodes)


# Outputs


def _require_as_many(classes: Sequence[str], logits: ir.Value) -> None:
    """Raise InputError where these are not the names of all classes: those behind a missing one would be shifted."""
    count = class_count(shape_of(logits) or ())
    if classes and count is not None and len(classes) != count:
        raise InputError(
            f"--classes: {len(classes)} names, and the network has {count} classes: name every class, one a line, in "
            f"the order of the output '{logits.name}'"
        )


def _add_head(graph: ir.Graph, head: Head) -> None:
    """Softmax or the index of the largest, of the first output."""
    logits = graph.outputs[0]
    shape = shape_of(logits) or ()
    if class_count(shape) is None or logits.dtype is not ir.DataType.FLOAT:
        raise InputError(
            f"--{head.value}: the first output '{logits.name}' is {shape_text(shape)}, no row of logits [N, classes]"
        )
    if head is Head.SOFTMAX and _bounds(logits) == _RANGES["Softmax"]:
        raise InputError(f"--softmax: the first output '{logits.name}' is from 0 to 1 already, and no logits")
    if head is Head.SOFTMAX:
        node = ir.node("Softmax", [logits], {"axis": 1})
        _append(graph, 0, node, "logits", ir.DataType.FLOAT, shape)
    else:
        node = ir.node("ArgMax", [logits], {"axis": 1, "keepdims": 0})
        _append(graph, 0, node, "logits", ir.DataType.INT64, shape[:1])


def _quantize_output(graph: ir.Graph, index: int, options: Options) -> Scale | None:
    if options.output_type is ValueType.FLOAT32:
        return None
    value, dtype = graph.outputs[index], options.output_type.value
    if value.dtype is not ir.DataType.FLOAT:
        raise InputError(f"--output-type {dtype}: the output '{value.name}' is of integers already")
    bounds = _bounds(value)
    if bounds is None:
        raise InputError(
            f"--output-type {dtype}: nothing bounds the output '{value.name}', as a softmax, a sigmoid, a tanh or a "
            "clip does, and how large it becomes only data can tell: give --softmax, or keep it float32"
        )
    scale = _scale_of(bounds, dtype)
    graph_constants = [
        new_constant(graph, np.array(scale.scale, np.float32), f"{value.name}/scale"),
        new_constant(graph, np.array(scale.zero_point, dtype), f"{value.name}/zero_point"),
    ]
    node = ir.node("QuantizeLinear", [value, *graph_constants])
    _append(graph, index, node, "floats", _DTYPES[dtype], shape_of(value) or ())
    node.outputs[0].metadata_props[QUANTIZED_KEY] = scale.as_json
    return scale


def _append(graph: ir.Graph, index: int, node: ir.Node, suffix: str, dtype: ir.DataType, shape: Sequence[int]) -> None:
    """Let what `node` makes of graph output `index` be that output, in its name."""
    value, output = graph.outputs[index], node.outputs[0]
    output.type, output.shape = ir.TensorType(dtype), ir.Shape(shape)
    output.name = value.name
    node.name = value.name = f"{value.name}/{suffix}"
    graph.append(node)
    graph.outputs[index] = output


def _scale_of(bounds: tuple[float, float, int], dtype: str) -> Scale:
    """So many steps from the one bound to the other, of which 0 is one."""
    low, high, steps = min(bounds[0], 0.0), max(bounds[1], 0.0), bounds[2]
    scale = np.float32((high - low) / steps)
    return Scale(float(scale), round(int(np.iinfo(dtype).min) - low / float(scale)), dtype)


def _constant(value: ir.Value | None) -> Array | None:
    """The array of a constant, by way of the casts that exporters put behind them."""
    node = None if value is None else value.producer()
    if node is not None and node.domain == "" and node.op_type in ("Cast", "CastLike", "Identity"):
        return _constant(node.inputs[0])
    return known_array(value)


def _bounds(value: ir.Value) -> tuple[float, float, int] | None:
    """What a value lies between, by the operator that makes it; None where nothing bounds it."""
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type in _RANGES:
        return _RANGES[node.op_type]
    if node.op_type == "Clip":
        limits = [_constant(one) for one in [*node.inputs[1:], None, None][:2]]
        if any(limit is None or limit.size != 1 for limit in limits):
            return None
        low, high = (float(limit.reshape(-1)[0]) for limit in limits if limit is not None)
        return (low, high, _STEPS_WITHIN) if np.isfinite([low, high]).all() and low < high else None
    if node.op_type in (*MOVES, *_MEANS) and all(constant_of(one) is None for one in data_inputs(node)):
        found = {_bounds(one) for one in data_inputs(node)}
        return found.pop() if len(found) == 1 else None
    return None
