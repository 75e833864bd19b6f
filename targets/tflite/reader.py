"""Reads a .tflite file back: its operators and tensors, and variants of it for looking inside.

LCE's interpreter exposes graph inputs and outputs only.  A *variant* of a file takes given inner tensors as inputs,
yields others as outputs, and keeps just the operators between them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from bnncc.errors import InputError
from bnncc.targets.tflite.writer import FILE_IDENTIFIER, TENSOR_TYPES, Tensor, pack, unpack

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
        """Raises InputError where `content` is no TensorFlow Lite file."""
        if content[4:8] != FILE_IDENTIFIER:
            raise InputError("this is no TensorFlow Lite file: the identifier TFL3 is missing")
        try:
            self._model = unpack(content)
            self._subgraph = self._model.subgraphs[0]
            self.tensors = tuple(self._tensor(index) for index in range(len(self._subgraph.tensors)))
            self.operators = tuple(self._operator(index) for index in range(len(self._subgraph.operators)))
        except Exception as error:
            # The schema's generated code indexes the raw bytes and raises whatever that leads to.
            raise InputError(f"the TensorFlow Lite file is damaged: {type(error).__name__}: {error}") from error
        self.by_name = {tensor.name: tensor for tensor in self.tensors}
        self.inputs = tuple(self.tensors[index] for index in self._subgraph.inputs)
        self.outputs = tuple(self.tensors[index] for index in self._subgraph.outputs)

    def data(self, tensor: Tensor) -> npt.NDArray[np.generic] | None:
        """The array of a constant tensor, None for an activation."""
        buffer = self._model.buffers[self._subgraph.tensors[tensor.index].buffer].data
        if buffer is None or len(buffer) == 0:
            return None
        return np.asarray(buffer, np.uint8).view(np.dtype(tensor.dtype)).reshape(tensor.shape)

    def options(self, operator: Operator) -> object | None:
        """The schema's options object of a built-in operator."""
        options: object | None = self._subgraph.operators[operator.index].builtinOptions
        return options

    def custom_options(self, operator: Operator) -> bytes:
        """The FlexBuffer of a custom operator."""
        options = self._subgraph.operators[operator.index].customOptions
        return b"" if options is None else bytes(np.asarray(options, np.uint8))

    def metadata(self) -> Mapping[str, bytes]:
        """The named metadata buffers."""
        entries = self._model.metadata or []
        return {entry.name.decode(): bytes(np.asarray(self._model.buffers[entry.buffer].data)) for entry in entries}

    def variant(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        constants: Mapping[int, npt.NDArray[np.generic]] | None = None,
    ) -> bytes:
        """The file between `inputs` and `outputs`, with the constants of the tensor indices in `constants`
        exchanged.
        """
        subgraph = copy.copy(self._subgraph)
        subgraph.inputs, subgraph.outputs = [t.index for t in inputs], [t.index for t in outputs]
        given = set(subgraph.inputs)
        needed = set(subgraph.outputs) - given
        kept = []
        for operator in reversed(self.operators):
            produced = {tensor.index for tensor in operator.outputs}
            if produced & needed:
                kept.append(self._subgraph.operators[operator.index])
                needed |= {tensor.index for tensor in operator.inputs if tensor is not None} - given
        subgraph.operators = kept[::-1]
        subgraph.tensors = list(subgraph.tensors)
        model = copy.copy(self._model)
        model.subgraphs, model.buffers = [subgraph], list(model.buffers)
        model.signatureDefs = None
        for index, array in (constants or {}).items():
            buffer = schema.BufferT()
            buffer.data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            model.buffers.append(buffer)
            tensor = copy.copy(subgraph.tensors[index])
            tensor.buffer = len(model.buffers) - 1
            subgraph.tensors[index] = tensor
        return pack(model)

    def _tensor(self, index: int) -> Tensor:
        entry = self._subgraph.tensors[index]
        shape = () if entry.shape is None else tuple(int(size) for size in entry.shape)
        return Tensor(index, entry.name.decode(), shape, TYPE_NAMES.get(entry.type, f"type {entry.type}"))

    def _operator(self, index: int) -> Operator:
        entry = self._subgraph.operators[index]
        code = self._model.operatorCodes[entry.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = code.customCode.decode() if code.customCode else BUILTIN_NAMES.get(builtin, f"operator {builtin}")
        inputs = () if entry.inputs is None else entry.inputs
        return Operator(
            index,
            name,
            tuple(None if i < 0 else self.tensors[i] for i in inputs),
            tuple(self.tensors[i] for i in entry.outputs),
        )
