"""The lowerings, one small function an operator: `LOWERINGS` maps (domain, operator) to it.

A lowering takes an ONNX node and a `LoweringContext`, emits operators, and defines each output of the node.  It raises
`UnsupportedError` with the reason where this node has no exact form.

In reading order: `operands` (helpers; up to which rank kernels broadcast), `elementwise`, `comparison`, `activation`,
`moves` (data movement, of tensors of the file), `windows` (padding of convolutions and pools), `convolution`,
`pooling`, `reduction`, `linear`, `shape` (data movement, of ONNX values), `resize`, `quantization`; `lce` for the
operators of our own domain; `bit_moves` for data movement of packed values, which `emit` prefers to `shape` where
`bnncc.ir.bit_moves` allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from bnncc.ir import ops
from bnncc.targets.tflite.context import LoweringContext
from bnncc.targets.tflite.lowerings import (
    activation,
    comparison,
    convolution,
    elementwise,
    lce,
    linear,
    pooling,
    quantization,
    reduction,
    resize,
    shape,
)

Lowering = Callable[[ir.Node, LoweringContext], None]

_STANDARD_MODULES = (
    convolution,
    linear,
    pooling,
    reduction,
    activation,
    elementwise,
    comparison,
    quantization,
    shape,
    resize,
)

LOWERINGS: Mapping[tuple[str, str], Lowering] = {
    ("", op_type): lowering for module in _STANDARD_MODULES for op_type, lowering in module.LOWERINGS.items()
} | {(ops.DOMAIN, op_type): lowering for op_type, lowering in lce.LOWERINGS.items()}
