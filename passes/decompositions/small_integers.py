"""Arithmetic on integers of 8 bits in int32: to TensorFlow Lite's kernels such tensors are quantised numbers.

Before:  a, b ─ Add ─ y                                    uint8
After:   a, b ─ Cast(int32) ─ Add ─ Cast(uint8) ─ y        both wrap around modulo 2⁸
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from bnncc.passes.decompositions.builder import Builder, NotDecomposableError

SMALL = {ir.DataType.INT8, ir.DataType.UINT8}
ARITHMETIC = ("Abs", "Add", "Div", "Max", "Min", "Mod", "Mul", "Neg", "Relu", "Sign", "Sub", "Sum")
COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")


def in_int32(build: Builder) -> Sequence[ir.Value | None]:
    """The same operator between casts."""
    dtype, node = build.input(0).dtype, build.origin
    if dtype not in SMALL:
        raise NotDecomposableError
    wide = [build.cast(build.input(index), ir.DataType.INT32) for index in range(len(node.inputs))]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    result = build.op(node.op_type, *wide, **attributes)
    return [result if node.op_type in COMPARISONS else build.cast(result, dtype)]


def is_small(node: ir.Node) -> bool:
    """True where the first operand is of such integers."""
    return bool(node.inputs) and node.inputs[0] is not None and node.inputs[0].dtype in SMALL


DECOMPOSITIONS = dict.fromkeys((*ARITHMETIC, *COMPARISONS), in_int32)
