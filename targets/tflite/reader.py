"""Reads a .tflite file back: its operators and tensors, and variants of it for looking inside.

LCE's interpreter exposes graph inputs and outputs only.  A *variant* of a file takes given inner tensors as inputs,
yields others as outputs, and keeps just the operators between them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from bnncc.errors import InputError
from bnncc.system.files import read_whole
from bnncc.targets.tflite.digest import is_damaged
from bnncc.targets.tflite.flexbuffer import pack_ints, unpack_ints
from bnncc.targets.tflite.writer import FILE_IDENTIFIER, TENSOR_TYPES, Quantization, Tensor, pack, unpack

BUILTIN_NAMES = {
    code: name
    for name, code in vars(schema.BuiltinOperator).items()
    if isinstance(code, int) and not name.startswith("_")
}
TYPE_NAMES = {code: name for name, code in TENSOR_TYPES.items()}


@dataclass(frozen=True)
class Operator:
    """An operator of the file: `name` is the custom name or the schema's; absent inputs are None."""

    index: int
    name: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]


class TfliteFile:
    """A parsed .tflite file of one subgraph."""

    def __init__(self, content: bytes) -> None:
        """Raises InputError where `content`, the file's bytes, is no TensorFlow Lite file."""
        self.content = content
        if content[4:8] != FILE_IDENTIFIER:
            raise InputError("this is no TensorFlow Lite file: the identifier TFL3 is missing")
        try:
            self._model = unpack(content)
            self._subgraph = self._model.subgraphs[0]
            self.tensors = tuple(self._tensor(index) for index in range(len(self._subgraph.tensors)))
            self.operators = tuple(self._operator(index) for index in range(len(self._subgraph.operators)))
            self.inputs = tuple(self._tensor_at(index) for index in self._subgraph.inputs)
            self.outputs = tuple(self._tensor_at(index) for index in self._subgraph.outputs)
            self._metadata = {
                entry.name.decode(): bytes(np.asarray(self._buffer(entry.buffer), np.uint8))
                for entry in self._model.metadata or []
            }
            for tensor in self.tensors:
                self.data(tensor)
        except InputError:
            raise
        except Exception as error:
            # The schema's generated code indexes the raw bytes and raises whatever that leads to.
            raise InputError(f"the TensorFlow Lite file is damaged: {type(error).__name__}: {error}") from error
        self.by_name = {tensor.name: tensor for tensor in self.tensors}

    @classmethod
    def open(cls, path: Path) -> TfliteFile:
        """Read a file.  Raises InputError, which names it, where it cannot be read, is no TensorFlow Lite file, or not
        the one whose digest it carries.
        """
        content = read_whole(path)
        try:
            file = cls(content)
            if is_damaged(file.content):
                raise InputError(
                    "the file is damaged, or another program changed it: its bytes are not those of the digest that "
                    "it carries; copy or compile it again"
                )
            return file
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def activations(self, operator: Operator) -> list[Tensor]:
        """What an operator reads that is computed, in order."""
        return [tensor for tensor in operator.inputs if tensor is not None and self.data(tensor) is None]

    def data(self, tensor: Tensor) -> npt.NDArray[np.generic] | None:
        """The array of a constant tensor, None for an activation."""
        index = self._subgraph.tensors[tensor.index].buffer
        buffer = self._buffer(index)
        if tensor.dtype not in TENSOR_TYPES:
            return None
        if buffer is None or len(buffer) == 0:
            # An activation has buffer 0; the shape of a scalar is a constant of no elements with a buffer of its own.
            return np.zeros(tensor.shape, tensor.dtype) if index and 0 in tensor.shape else None
        try:
            return np.asarray(buffer, np.uint8).view(np.dtype(tensor.dtype)).reshape(tensor.shape)
        except ValueError as error:
            raise InputError(
                f"the TensorFlow Lite file is damaged: the tensor {tensor.index} '{tensor.name}', {tensor.dtype} "
                f"{tensor.shape}, has {len(buffer):,} bytes"
            ) from error

    def options(self, operator: Operator) -> object | None:
        """The schema's options object of a built-in operator."""
        options: object | None = self._subgraph.operators[operator.index].builtinOptions
        return options

    def custom_options(self, operator: Operator) -> bytes:
        """The FlexBuffer of a custom operator."""
        options = self._subgraph.operators[operator.index].customOptions
        return b"" if options is None else bytes(np.asarray(options, np.uint8))

    @property
    def subgraph_count(self) -> int:
        """How many graphs the file has; the first one is what is read."""
        return len(self._model.subgraphs)

    def signatures(self) -> list[tuple[object, ...]]:
        """Of each signature: its name, and the names that it gives the graph's inputs and outputs, with their number.

        What it names and is neither has the number -1.
        """
        places = [{tensor.index: place for place, tensor in enumerate(side)} for side in (self.inputs, self.outputs)]
        return [
            (
                signature.signatureKey,
                signature.subgraphIndex,
                *(
                    sorted((entry.name, place.get(entry.tensorIndex, -1)) for entry in side or ())
                    for side, place in zip((signature.inputs, signature.outputs), places, strict=True)
                ),
            )
            for signature in self._model.signatureDefs or ()
        ]

    def metadata(self) -> Mapping[str, bytes]:
        """The named metadata buffers."""
        return self._metadata

    def variant(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], split: Sequence[Tensor] = ()) -> bytes:
        """The file between `inputs` and `outputs`.

        split: tensors among the inputs whose own operators run as well; what they yield comes behind the outputs.
        """
        edit = _Edit(self)
        copies = [edit.redirect(tensor) for tensor in split]
        return edit.finish([t.index for t in inputs], [*(t.index for t in outputs), *copies])

    def weights_variant(self, inputs: Sequence[Tensor], weights: Mapping[Operator, npt.NDArray[np.float32]]) -> bytes:
        """Float operators with weights (CONV_2D and its like) between `inputs` and their outputs, each with other
        weights than the file's.
        """
        edit = _Edit(self)
        for operator, array in weights.items():
            edit.replace_input(operator, 1, array)
        copies = [edit.redirect(operator.outputs[0]) for operator in weights]
        return edit.finish([t.index for t in inputs], copies)

    def sums_variant(self, inputs: Sequence[Tensor], convolutions: Sequence[Operator]) -> bytes:
        """The LceBconv2d operators `convolutions` between `inputs` and their integer sums, as float32.

        Bits, padding, strides and dilations are the file's; multiplier 1, bias 0, no thresholds and no activation
        take the place of what follows the sums.
        """
        edit = _Edit(self)
        return edit.finish([t.index for t in inputs], [edit.expose_sums(operator) for operator in convolutions])

    def _tensor(self, index: int) -> Tensor:
        entry = self._subgraph.tensors[index]
        shape = () if entry.shape is None else tuple(int(size) for size in entry.shape)
        dtype = TYPE_NAMES.get(entry.type, f"type {entry.type}")
        return Tensor(index, entry.name.decode(), shape, dtype, _quantization(entry.quantization))

    def _operator(self, index: int) -> Operator:
        entry = self._subgraph.operators[index]
        code = self._model.operatorCodes[entry.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = code.customCode.decode() if code.customCode else BUILTIN_NAMES.get(builtin, f"operator {builtin}")
        inputs = () if entry.inputs is None else entry.inputs
        return Operator(
            index,
            name,
            tuple(None if i == -1 else self._tensor_at(i) for i in inputs),
            tuple(self._tensor_at(i) for i in entry.outputs),
        )

    def _tensor_at(self, index: int) -> Tensor:
        """Raises InputError where there is none; Python would count negative ones from the end."""
        if not 0 <= index < len(self.tensors):
            raise InputError(f"the TensorFlow Lite file is damaged: there is no tensor {index}")
        return self.tensors[index]

    def _buffer(self, index: int) -> npt.NDArray[np.uint8] | None:
        """Raises InputError where there is none."""
        if not 0 <= index < len(self._model.buffers):
            raise InputError(f"the TensorFlow Lite file is damaged: there is no buffer {index}")
        data: npt.NDArray[np.uint8] | None = self._model.buffers[index].data
        return data


def _quantization(entry: schema.QuantizationParametersT | None) -> Quantization | None:
    if entry is None or entry.scale is None or len(entry.scale) == 0:
        return None
    points = [0] * len(entry.scale) if entry.zeroPoint is None else entry.zeroPoint
    return Quantization(tuple(map(float, entry.scale)), tuple(map(int, points)), int(entry.quantizedDimension))


def _without_activation(options: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """The options of an LceBconv2d with no fused activation."""
    values = unpack_ints(bytes(np.asarray(options, np.uint8)))
    return np.frombuffer(pack_ints(**{**values, "fused_activation_function": 0}), np.uint8)


class _Edit:
    """A copy of a file's subgraph that is changed and written; the file itself stays as it is."""

    def __init__(self, file: TfliteFile) -> None:
        self._model = copy.copy(file._model)
        self._model.buffers = list(file._model.buffers)
        self._model.signatureDefs = None
        self._subgraph = copy.copy(file._subgraph)
        self._subgraph.tensors = list(file._subgraph.tensors)
        self._subgraph.operators = [copy.copy(operator) for operator in file._subgraph.operators]
        self._producer = {index: operator for operator in self._subgraph.operators for index in operator.outputs}

    def redirect(self, tensor: Tensor) -> int:
        """Let the operator that makes `tensor` write to a copy of it; returns the copy's index."""
        operator = self._producer[tensor.index]
        index = self._copy_of(tensor.index)
        operator.outputs = [index if output == tensor.index else output for output in operator.outputs]
        return index

    def replace_input(self, operator: Operator, index: int, array: npt.NDArray[np.generic]) -> None:
        """Let `operator` read a constant instead of its input `index`."""
        entry = self._subgraph.operators[operator.index]
        entry.inputs = [self._constant(array) if i == index else old for i, old in enumerate(entry.inputs)]

    def expose_sums(self, convolution: Operator) -> int:
        """Let an LceBconv2d yield its integer sums; returns the index of the tensor that holds them."""
        operator = self._subgraph.operators[convolution.index]
        filters = convolution.inputs[1]
        assert filters is not None
        output = self._copy_of(convolution.outputs[0].index)
        entry = self._subgraph.tensors[output]
        channels = filters.shape[0]
        entry.type, entry.shape = TENSOR_TYPES["float32"], [*list(entry.shape)[:-1], channels]
        ones, zeros = (self._constant(np.full(channels, fill, np.float32)) for fill in (1, 0))
        operator.inputs = [*list(operator.inputs)[:2], ones, zeros, -1]
        operator.customOptions = _without_activation(operator.customOptions)
        operator.outputs = [output]
        return output

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The bytes, with just the operators that the outputs need."""
        given = set(inputs)
        needed = set(outputs) - given
        kept = []
        for operator in reversed(self._subgraph.operators):
            if needed & set(operator.outputs):
                kept.append(operator)
                needed |= {int(index) for index in operator.inputs if index >= 0} - given
        subgraph = copy.copy(self._subgraph)
        subgraph.operators, subgraph.inputs, subgraph.outputs = kept[::-1], list(inputs), list(outputs)
        model = copy.copy(self._model)
        model.subgraphs = [subgraph]
        return pack(model)

    def _copy_of(self, index: int) -> int:
        entry = copy.copy(self._subgraph.tensors[index])
        entry.name = f"copy {len(self._subgraph.tensors)}"
        self._subgraph.tensors.append(entry)
        return len(self._subgraph.tensors) - 1

    def _constant(self, array: npt.NDArray[np.generic]) -> int:
        buffer = schema.BufferT()
        buffer.data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._model.buffers.append(buffer)
        entry = schema.TensorT()
        entry.name, entry.shape = f"constant {len(self._subgraph.tensors)}", list(array.shape)
        entry.type, entry.buffer = TENSOR_TYPES[array.dtype.name], len(self._model.buffers) - 1
        self._subgraph.tensors.append(entry)
        return len(self._subgraph.tensors) - 1
