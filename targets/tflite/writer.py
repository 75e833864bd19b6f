"""Writes a TensorFlow Lite flatbuffer from tensors and operators, deterministically: the same calls give the same
bytes.

The schema classes are `ai_edge_litert.schema_py_generated`; this file adds what they leave open: operator codes,
sharing of equal constants, alignment of buffers, a signature, metadata.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from bnncc.targets.tflite.digest import seal

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
# The kernels read constants with vector loads: TensorFlow's schema forces this alignment, in bytes, on buffer data.
BUFFER_ALIGNMENT = 16
# Operator codes above this value do not fit the schema's original one-byte field, which then holds this placeholder.
LARGEST_ONE_BYTE_CODE = 127

# The output of the operator that `_end_safely` appends.
END = "end"

TENSOR_TYPES: dict[str, int] = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
}


@dataclass(frozen=True)
class Quantization:
    """What integers of few bits stand for: scales[o] · (q - zero_points[o]) at index o of `axis`, or one for all."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file: its index in the subgraph, its name, and shape and NumPy dtype as stored."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data starts at a multiple of BUFFER_ALIGNMENT, which the generated code does not ensure."""

    def Pack(self, builder: flatbuffers.Builder) -> int:
        data = None
        if self.data is not None:
            payload = self.data.tobytes()
            builder.StartVector(1, len(payload), BUFFER_ALIGNMENT)
            builder.head = builder.head - len(payload)
            builder.Bytes[builder.head : builder.head + len(payload)] = payload
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


class ModelWriter:
    """Collects one subgraph's tensors and operators in the order in which they are added."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._buffers = [schema.BufferT()]  # buffer 0 is empty by definition
        self._buffer_of: dict[bytes, int] = {}
        self._constant_of: dict[tuple[str, tuple[int, ...], int, Quantization | None], Tensor] = {}
        self._tensors: list[schema.TensorT] = []
        self._names: set[str] = set()
        self._codes: list[schema.OperatorCodeT] = []
        self._code_of: dict[tuple[int, str, int], int] = {}
        self._operators: list[schema.OperatorT] = []
        self._metadata: list[schema.MetadataT] = []
        self._replaced: set[int] = set()
        self._numbers: dict[int, int] = {}

    def tensor(
        self, name: str, shape: Sequence[int], dtype: npt.DTypeLike, quantization: Quantization | None = None
    ) -> Tensor:
        """Add an activation tensor.  `name` gets a suffix where it is taken; a dtype outside TENSOR_TYPES is a
        KeyError.
        """
        return self._add(name, tuple(int(size) for size in shape), np.dtype(dtype).name, 0, quantization)

    def constant(self, name: str, data: npt.NDArray[np.generic], quantization: Quantization | None = None) -> Tensor:
        """Add a constant tensor, or return the one that already holds the same data in the same shape, type and
        quantization.

        It is called "bias#12" for a `name` that ends in "/bias": the operator that reads it has a full name already.
        """
        data = np.ascontiguousarray(data).reshape(data.shape)
        buffer = self._buffer(data.reshape(-1).view(np.uint8) if data.size else np.zeros(0, np.uint8))
        key = (data.dtype.name, data.shape, buffer, quantization)
        if key not in self._constant_of:
            short = f"{name.rsplit('/', 1)[-1]}#{len(self._constant_of)}"
            self._constant_of[key] = self._add(short, data.shape, data.dtype.name, buffer, quantization)
        return self._constant_of[key]

    def replaced(self, constant: Tensor) -> None:
        """Another constant stands for this one, which the file needs no more unless an operator reads it."""
        self._replaced.add(constant.index)

    def operator(
        self,
        builtin: int,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        options: object | None = None,
        version: int = 1,
    ) -> None:
        """Add a built-in operator; `options` is an instance of the schema's `…OptionsT`; None inputs are absent
        (-1).
        """
        operator = self._operator(self._code(builtin, "", version), inputs, outputs)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options

    def custom(self, name: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], options: bytes) -> None:
        """Add a custom operator with FlexBuffer `options`."""
        operator = self._operator(self._code(schema.BuiltinOperator.CUSTOM, name, 1), inputs, outputs)
        operator.customOptions = np.frombuffer(options, np.uint8)

    def metadata(self, name: str, content: bytes) -> None:
        """Add a named metadata buffer."""
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, self._buffer(np.frombuffer(content, np.uint8))
        self._metadata.append(entry)

    def finish(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        input_names: Sequence[str],
        output_names: Sequence[str],
        append: Callable[[bytes], bytes] | None = None,
    ) -> bytes:
        """Return the file, without the RESHAPEs that nothing reads, and the constants that were `replaced`.

        The names are those of the signature `serving_default`.  append: puts further bytes behind the flatbuffer.
        """
        self._drop_unread({tensor.index for tensor in (*inputs, *outputs)})
        inputs, outputs = ([self._renumbered(tensor) for tensor in tensors] for tensors in (inputs, outputs))
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators, subgraph.name = self._tensors, self._operators, "main"
        subgraph.inputs = [tensor.index for tensor in inputs]
        subgraph.outputs = [tensor.index for tensor in outputs]
        signature = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs = [_tensor_map(*pair) for pair in zip(input_names, inputs, strict=True)]
        signature.outputs = [_tensor_map(*pair) for pair in zip(output_names, outputs, strict=True)]
        model = schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, self._description
        model.operatorCodes, model.subgraphs, model.buffers = self._codes, [subgraph], self._buffers
        model.metadata, model.signatureDefs = self._metadata, [signature]
        return pack(model, append)

    def _drop_unread(self, boundary: set[int]) -> None:
        """A RESHAPE of a RESHAPE reads what the first one reads, which may leave that one without a reader, and a
        RESHAPE of a constant is another constant; `boundary` are the graph's inputs and outputs.
        """
        read, kept = set(boundary), []
        for operator in reversed(self._operators):
            is_reshape = self._codes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.RESHAPE
            if not is_reshape or read & set(operator.outputs):
                kept.append(operator)
                read.update(operator.inputs)
        dropped = {index for operator in self._operators for index in operator.outputs} - {
            index for operator in kept for index in operator.outputs
        }
        dropped |= self._replaced - read
        self._operators = kept[::-1]
        self._numbers = {}
        for index in range(len(self._tensors)):
            if index not in dropped:
                self._numbers[index] = len(self._numbers)
        self._tensors = [self._tensors[index] for index in self._numbers]
        for operator in self._operators:
            operator.inputs = [self._numbers.get(index, -1) for index in operator.inputs]
            operator.outputs = [self._numbers[index] for index in operator.outputs]
        self._drop_unread_buffers()

    def _drop_unread_buffers(self) -> None:
        holders = (*self._tensors, *self._metadata)
        used = sorted({0, *(holder.buffer for holder in holders)})
        numbers = {buffer: number for number, buffer in enumerate(used)}
        self._buffers = [self._buffers[buffer] for buffer in used]
        for holder in holders:
            holder.buffer = numbers[holder.buffer]

    def _renumbered(self, tensor: Tensor) -> Tensor:
        return replace(tensor, index=self._numbers[tensor.index])

    def _add(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        buffer: int,
        quantization: Quantization | None = None,
    ) -> Tensor:
        unique, suffix = name, 1
        while unique in self._names:
            unique, suffix = f"{name}_{suffix}", suffix + 1
        self._names.add(unique)
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type, entry.buffer = unique, list(shape), TENSOR_TYPES[dtype], buffer
        entry.hasRank = True
        if quantization is not None:
            entry.quantization = quantization_parameters(quantization)
        self._tensors.append(entry)
        return Tensor(len(self._tensors) - 1, unique, shape, dtype, quantization)

    def _buffer(self, data: npt.NDArray[np.uint8]) -> int:
        digest = hashlib.sha256(data.tobytes()).digest()
        if digest not in self._buffer_of:
            buffer = _AlignedBuffer()
            buffer.data = data
            self._buffers.append(buffer)
            self._buffer_of[digest] = len(self._buffers) - 1
        return self._buffer_of[digest]

    def _code(self, builtin: int, custom: str, version: int) -> int:
        key = (builtin, custom, version)
        if key not in self._code_of:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = builtin, version
            code.deprecatedBuiltinCode = min(builtin, LARGEST_ONE_BYTE_CODE)
            code.customCode = custom or None
            self._codes.append(code)
            self._code_of[key] = len(self._codes) - 1
        return self._code_of[key]

    def _operator(self, code: int, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> schema.OperatorT:
        operator = schema.OperatorT()
        operator.opcodeIndex = code
        operator.inputs = [-1 if tensor is None else tensor.index for tensor in inputs]
        operator.outputs = [tensor.index for tensor in outputs]
        self._operators.append(operator)
        return operator


def quantization_parameters(quantization: Quantization) -> schema.QuantizationParametersT:
    """As a tensor of the schema has it."""
    entry = schema.QuantizationParametersT()
    entry.scale = np.asarray(quantization.scales, np.float32)
    entry.zeroPoint = np.asarray(quantization.zero_points, np.int64)
    entry.quantizedDimension = quantization.axis
    return entry


def pack(model: schema.ModelT, append: Callable[[bytes], bytes] | None = None) -> bytes:
    """Serialise a schema object tree, with every buffer's data aligned, and its digest if it has an entry for one, of
    what `append` puts behind it as well.
    """
    model = copy.copy(model)
    _end_safely(model)
    model.buffers = [_aligned(buffer) for buffer in model.buffers]
    builder = flatbuffers.Builder(sum(buffer.data.size for buffer in model.buffers if buffer.data is not None) + 65536)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    content = bytes(builder.Output())
    return seal(content if append is None else append(content))


def _end_safely(model: schema.ModelT) -> None:
    """Let no file end on an LceBconv2d: append a RESHAPE of one element that nothing reads.

    LCE 0.16's LceBconv2d adds a tensor to the interpreter while it is prepared, and keeps pointers.  TensorFlow Lite
    makes room for 16 further tensors before it prepares, and again before it runs, an operator; where the room runs
    out just behind the last preparation, the tensors move before the first run and LCE reads freed memory (seen with
    106 tensors and 7 convolutions).  Any operator behind the last convolution brings that move forward.
    """
    subgraph = model.subgraphs[0]
    last = model.operatorCodes[subgraph.operators[-1].opcodeIndex] if subgraph.operators else None
    if last is None or last.customCode not in ("LceBconv2d", b"LceBconv2d"):
        return
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    buffers: list[schema.BufferT] = []
    tensors: list[schema.TensorT] = []
    for name, dtype in (("end/value", "float32"), ("end/shape", "int32"), (END, "float32")):
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type, entry.buffer = name, [1], TENSOR_TYPES[dtype], 0
        tensors.append(entry)
        if name != END:
            entry.buffer = len(model.buffers) + len(buffers)
            buffer = schema.BufferT()
            buffer.data = np.ones(1, dtype).view(np.uint8)
            buffers.append(buffer)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes)
    first = len(subgraph.tensors)
    operator.inputs, operator.outputs = [first, first + 1], [first + 2]
    subgraph = copy.copy(subgraph)
    subgraph.tensors = [*subgraph.tensors, *tensors]
    subgraph.operators = [*subgraph.operators, operator]
    model.subgraphs = [subgraph]
    model.buffers, model.operatorCodes = [*model.buffers, *buffers], [*model.operatorCodes, code]


def unpack(content: bytes) -> schema.ModelT:
    """Parse a .tflite file into the schema's object tree (buffers as NumPy uint8 arrays)."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def _aligned(buffer: schema.BufferT) -> schema.BufferT:
    aligned = _AlignedBuffer()
    aligned.data = None if buffer.data is None else np.asarray(buffer.data, np.uint8)
    return aligned


def _tensor_map(name: str, tensor: Tensor) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor.index
    return entry
