"""A form's file with signs beside it, so that the delegate computes of it what it can.

The delegate takes LCE's operators, and of the others those that hang together with them (targets/runtime/claim.h):

    x ─ ADD ─ y      becomes      x ─┬─ ADD ─ y ─┬─ y
                                     └─ LceQuantize ─ a further output, which nobody looks at
                                                 └─ LceQuantize ─ another one
"""

from __future__ import annotations

import copy

from ai_edge_litert import schema_py_generated as schema

from bnncc.targets.tflite.bitpack import WORD_BITS
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import TENSOR_TYPES, Tensor, pack, unpack

# What LceQuantize reads.
_SIGNED = ("float32", "int8")


def with_signs(content: bytes) -> bytes | None:
    """The file, with the packed signs of its inputs and outputs as further outputs; None where no sign can be taken of
    any of them: not of scalars, constants and other types.
    """
    file = TfliteFile(content)
    model = unpack(content)
    subgraph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = "LceQuantize", 1
    number = len(model.operatorCodes)
    signed = {tensor.index: tensor for tensor in (*file.inputs, *file.outputs)}.values()
    signs = [_sign(subgraph, number, tensor) for tensor in signed if _has_signs(file, tensor)]
    if not signs:
        return None
    model.operatorCodes = [*model.operatorCodes, code]
    # Those of what nothing computes first: an execution plan is in order.
    computed = {index for operator in subgraph.operators for index in operator.outputs}
    first = [one for one in signs if one.inputs[0] not in computed]
    subgraph.operators = [*first, *subgraph.operators, *(one for one in signs if one not in first)]
    subgraph.outputs = [*subgraph.outputs, *(one.outputs[0] for one in signs)]
    model.signatureDefs = None
    return pack(model)


def _has_signs(file: TfliteFile, tensor: Tensor) -> bool:
    return tensor.dtype in _SIGNED and bool(tensor.shape) and file.data(tensor) is None


def _sign(subgraph: schema.SubGraphT, code: int, tensor: Tensor) -> schema.OperatorT:
    packed = copy.copy(subgraph.tensors[tensor.index])
    packed.name, packed.quantization = f"{tensor.name}/sign", None
    packed.type = TENSOR_TYPES["int32"]
    packed.shape = [*tensor.shape[:-1], -(-tensor.shape[-1] // WORD_BITS)]
    subgraph.tensors.append(packed)
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs, operator.outputs = [tensor.index], [len(subgraph.tensors) - 1]
    return operator
