"""Writes a float32 file again with some of its operators in int8, as `integer_plan` says.

A tensor "a" that is there as int8 is called "a/int8", as int16 "a/int16"; the float tensor keeps its name where it
still is, and what a DEQUANTIZE makes of a shortcut beside it is "a/int8/float32".
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator

from bnncc.targets.tflite.integer_plan import LAYERS, SHARING_SCALE, Plan
from bnncc.targets.tflite.integers import INT8, INT16, Range, parameters, quantized, quantized_layer, short_parameters
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import TENSOR_TYPES, Quantization, Tensor, pack, quantization_parameters, unpack

SUFFIX, SHORT = f"/{INT8}", f"/{INT16}"
KEPT, SHORT_KEPT = f"{SUFFIX}/float32", f"{SHORT}/float32"

# The first versions whose kernels take int8.
VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "MAX_POOL_2D": 2, "AVERAGE_POOL_2D": 2, "ADD": 2,
    "PRELU": 1, "RESHAPE": 1, "REVERSE_V2": 3, "TRANSPOSE": 2, "SPACE_TO_DEPTH": 2, "DEPTH_TO_SPACE": 2,
}  # fmt: skip
# Those that take int8 as well, or turn uint8 into it.
_QUANTIZE, _REQUANTIZE, _DEQUANTIZE, _DEQUANTIZE_SHORTS = 1, 2, 2, 3


def range_names(plan: Plan) -> list[str]:
    """Of all ranges that a plan's scales follow from: the tensors' names, of `plan.shorts` those in int16."""
    return [tensor.name for tensor in plan.tensors] + [tensor.name + SHORT for tensor in plan.shorts.values()]


def scales_of(plan: Plan, ranges: Mapping[str, Range]) -> dict[int, Quantization]:
    """Scale and zero point of each int8 tensor, by its index.  KeyError where a range is missing."""
    found = dict(plan.fixed)
    for index, tensors in plan.measured.items():
        lows, highs = zip(*(ranges[tensor.name] for tensor in tensors), strict=True)
        found[index] = parameters(min(lows), max(highs), multiplies=index in plan.divisors)
    return found


def as_integers(
    file: TfliteFile, plan: Plan, ranges: Mapping[str, Range], append: Callable[[bytes], bytes] | None = None
) -> bytes:
    """The file with the plan's operators in int8.

    ranges: by `range_names`.  append: what puts further bytes behind the flatbuffer.
    """
    shorts = {index: short_parameters(*ranges[tensor.name + SHORT]) for index, tensor in plan.shorts.items()}
    return _Rewriting(file, plan, scales_of(plan, ranges), shorts).finish(append)


class _Rewriting:
    def __init__(
        self, file: TfliteFile, plan: Plan, scales: Mapping[int, Quantization], short_scales: Mapping[int, Quantization]
    ) -> None:
        self._file, self._plan, self._scales = file, plan, scales
        self._short_scales = short_scales
        self._model = unpack(file.content)
        self._subgraph = self._model.subgraphs[0]
        self._entries = list(self._subgraph.tensors)
        self._buffers = list(self._model.buffers)
        self._codes: list[schema.OperatorCodeT] = []
        self._operators: list[schema.OperatorT] = []
        self._integers: dict[int, int] = {}
        self._shorts: dict[int, int] = {}
        self._constants: dict[tuple[bytes, tuple[int, ...], str, Quantization], int] = {}
        self._needed = self._read_as_floats()

    def finish(self, append: Callable[[bytes], bytes] | None) -> bytes:
        for operator in self._file.operators:
            if operator.index in self._plan.operators:
                self._run_in_int8(operator)
            elif operator.index in self._plan.signs:
                self._emit_copy(operator, [self._integer(operator.inputs[0])])
            elif operator.outputs[0].index in self._plan.bytes:
                self._read_bytes(operator)
            else:
                self._emit_copy(operator, self._with_shortcuts(operator))
            for tensor in operator.outputs:
                if tensor.index in self._plan.shortcuts:
                    self._keep(tensor)
        self._subgraph.operators = self._operators
        self._model.operatorCodes = self._codes
        self._drop_unread()
        return pack(self._model, append)

    def _read_as_floats(self) -> set[int]:
        """The tensors that something in the file reads as floats, or that it yields."""
        needed = {tensor.index for tensor in self._file.outputs}
        for operator in self._file.operators:
            if operator.index not in self._plan.operators | self._plan.signs:
                needed |= {tensor.index for tensor in operator.inputs if tensor is not None}
        return needed

    # Operators

    def _with_shortcuts(self, operator: Operator) -> list[int]:
        """The operator's inputs; of a shortcut, what integers have kept of it."""
        inputs = []
        for tensor in operator.inputs:
            if tensor is None or operator.index not in self._plan.shortcuts.get(tensor.index, ()):
                inputs.append(-1 if tensor is None else tensor.index)
                continue
            is_short = tensor.index in self._plan.shorts
            name = tensor.name + (SHORT_KEPT if is_short else KEPT)
            inputs.append(self._add(name, tensor.shape, "float32", 0, None))
            version = _DEQUANTIZE_SHORTS if is_short else _DEQUANTIZE
            options = schema.DequantizeOptionsT()
            self._emit(BuiltinOperator.DEQUANTIZE, version, self._keep(tensor), inputs[-1], options)
        return inputs

    def _keep(self, tensor: Tensor) -> int:
        """The tensor of integers that keeps a shortcut, quantized here where it is not there yet."""
        if tensor.index not in self._plan.shorts:
            return self._integer(tensor)
        if tensor.index not in self._shorts:
            scale = self._short_scales[tensor.index]
            self._shorts[tensor.index] = self._add(tensor.name + SHORT, tensor.shape, INT16, 0, scale)
            options = schema.QuantizeOptionsT()
            self._emit(BuiltinOperator.QUANTIZE, _QUANTIZE, tensor.index, self._shorts[tensor.index], options)
        return self._shorts[tensor.index]

    def _run_in_int8(self, operator: Operator) -> None:
        x = operator.inputs[0]
        inputs = [-1 if tensor is None else self._input(operator, tensor) for tensor in operator.inputs]
        if operator.name in LAYERS:
            assert x is not None
            inputs[1:] = self._weights(operator, self._scales[x.index])
        output = operator.outputs[0]
        self._emit_copy(operator, inputs, [self._define(output)], VERSIONS[operator.name])
        if output.index in self._needed:
            options = schema.DequantizeOptionsT()
            self._emit(BuiltinOperator.DEQUANTIZE, _DEQUANTIZE, self._integers[output.index], output.index, options)

    def _input(self, operator: Operator, tensor: Tensor) -> int:
        data = self._file.data(tensor)
        if data is None:
            return self._integer(tensor)
        if data.dtype != np.float32 or operator.name in LAYERS:
            return tensor.index
        scale = parameters(float(data.min(initial=0.0)), float(data.max(initial=0.0)))
        return self._constant(tensor.name, quantized(data, scale), scale)

    def _weights(self, operator: Operator, x: Quantization) -> list[int]:
        weight, bias = (*operator.inputs[1:], None)[:2]
        assert weight is not None
        data = self._file.data(weight)
        assert data is not None
        axis = LAYERS[operator.name]
        offsets = None if bias is None else self._file.data(bias)
        if offsets is None:
            offsets = np.zeros(data.shape[axis], np.float32)
        weights, scales, biases, bias_scales = quantized_layer(
            data.astype(np.float32), offsets.astype(np.float32), axis, x, operator.name in SHARING_SCALE
        )
        name = "bias" if bias is None else bias.name
        return [self._constant(weight.name, weights, scales), self._constant(name, biases, bias_scales)]

    def _read_bytes(self, operator: Operator) -> None:
        """Bytes as int8: what they are, or 128 less by a QUANTIZE; the DEQUANTIZE stays where floats are read."""
        x, output = operator.inputs[0], operator.outputs[0]
        assert x is not None
        if x.dtype == "int8":
            self._integers[output.index] = x.index
        else:
            options = schema.QuantizeOptionsT()
            self._emit(BuiltinOperator.QUANTIZE, _REQUANTIZE, x.index, self._define(output), options)
        if output.index in self._needed:
            self._emit_copy(operator)

    def _integer(self, tensor: Tensor | None) -> int:
        """The int8 tensor of an activation, quantized here where it is there as floats alone."""
        assert tensor is not None
        if tensor.index not in self._integers:
            options = schema.QuantizeOptionsT()
            self._emit(BuiltinOperator.QUANTIZE, _QUANTIZE, tensor.index, self._define(tensor), options)
        return self._integers[tensor.index]

    def _emit(self, builtin: int, version: int, source: int, target: int, options: object) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(builtin, version)
        operator.inputs, operator.outputs = [source], [target]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        operator.builtinOptions = options
        self._operators.append(operator)

    def _emit_copy(
        self,
        operator: Operator,
        inputs: Sequence[int] | None = None,
        outputs: Sequence[int] | None = None,
        version: int | None = None,
    ) -> None:
        """An operator of the file, with other inputs, outputs and version where they are given."""
        entry = copy.copy(self._subgraph.operators[operator.index])
        code = copy.copy(self._model.operatorCodes[entry.opcodeIndex])
        code.version = max(code.version, version or 1)
        entry.opcodeIndex = self._add_code(code)
        entry.inputs = list(entry.inputs if inputs is None else inputs)
        entry.outputs = list(entry.outputs if outputs is None else outputs)
        self._operators.append(entry)

    def _code(self, builtin: int, version: int) -> int:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version, code.customCode = version, None
        return self._add_code(code)

    def _add_code(self, code: schema.OperatorCodeT) -> int:
        for index, other in enumerate(self._codes):
            if vars(other) == vars(code):
                return index
        self._codes.append(code)
        return len(self._codes) - 1

    # Tensors

    def _define(self, tensor: Tensor) -> int:
        """A new int8 tensor for an activation."""
        self._integers[tensor.index] = self._add(
            tensor.name + SUFFIX, tensor.shape, "int8", 0, self._scales[tensor.index]
        )
        return self._integers[tensor.index]

    def _constant(self, name: str, array: npt.NDArray[np.generic], quantization: Quantization) -> int:
        data = np.asarray(array, order="C")
        key = (data.tobytes(), data.shape, data.dtype.name, quantization)
        if key not in self._constants:
            buffer = schema.BufferT()
            buffer.data = data.reshape(-1).view(np.uint8)
            self._buffers.append(buffer)
            name = f"{name}{SUFFIX}#{len(self._constants)}"
            self._constants[key] = self._add(name, data.shape, data.dtype.name, len(self._buffers) - 1, quantization)
        return self._constants[key]

    def _add(self, name: str, shape: Sequence[int], dtype: str, buffer: int, quantization: Quantization | None) -> int:
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type, entry.buffer = name, list(shape), TENSOR_TYPES[dtype], buffer
        entry.hasRank = True
        entry.quantization = None if quantization is None else quantization_parameters(quantization)
        self._entries.append(entry)
        return len(self._entries) - 1

    def _drop_unread(self) -> None:
        """Leave out tensors that no operator has, and buffers that no tensor has; number the others anew."""
        ends = [*self._subgraph.inputs, *self._subgraph.outputs]
        used = {index for operator in self._operators for index in (*operator.inputs, *operator.outputs)}
        kept = [index for index in range(len(self._entries)) if index in used | set(ends)]
        numbers = {-1: -1} | {index: number for number, index in enumerate(kept)}
        self._subgraph.tensors = [self._entries[index] for index in kept]
        for operator in self._operators:
            operator.inputs = [numbers[index] for index in operator.inputs]
            operator.outputs = [numbers[index] for index in operator.outputs]
        self._subgraph.inputs = [numbers[index] for index in self._subgraph.inputs]
        self._subgraph.outputs = [numbers[index] for index in self._subgraph.outputs]
        for signature in self._model.signatureDefs or ():
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = numbers[entry.tensorIndex]
        holders = (*self._subgraph.tensors, *(self._model.metadata or ()))
        buffers = sorted({0, *(holder.buffer for holder in holders)})
        places = {buffer: place for place, buffer in enumerate(buffers)}
        self._model.buffers = [self._buffers[buffer] for buffer in buffers]
        for holder in holders:
            holder.buffer = places[holder.buffer]
