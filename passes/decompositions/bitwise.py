"""Bitwise operators by arithmetic that is exact in two's complement, for which targets have no operators.

    a & m  =  (a mod 2ʰ) - (a mod 2ˡ)       for a mask m of the bits l … h - 1; of several runs of bits their sum
    a & b  =  Σₖ min(a & 2ᵏ, b & 2ᵏ)
    a | b  =  a + (b - (a & b))             a ^ b  =  (a - (a & b)) + (b - (a & b))             ~a  =  -1 - a

`mod` is that of ONNX, which has the divisor's sign.  No step overflows: each subtraction takes bits away that are
there, each sum joins bits that are not.  What is only 0 or 1 is joined as booleans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from bnncc.ir.graph import constant_of
from bnncc.ir.value_facts import is_lowest_bit
from bnncc.passes.decompositions.builder import Builder, NotDecomposableError

Decomposition = Callable[[Builder], Sequence[ir.Value | None]]

SIGNED = {ir.DataType.INT8: 8, ir.DataType.INT16: 16, ir.DataType.INT32: 32, ir.DataType.INT64: 64}
UNSIGNED = {ir.DataType.UINT8: 8}
BITS = {**SIGNED, **UNSIGNED}
# Two computed operands are joined bit by bit up to this type.
MOST_BITS = 8
# Moduli are numbers of int32, which int64 is in a file.
HIGHEST_MODULUS = 30


def bitwise(logical: str, joined: Callable[[Builder, ir.Value, ir.Value, ir.Value], ir.Value]) -> Decomposition:
    """The operator that is `logical` of booleans, and `joined` of two operands and what both have in common."""

    def decompose(build: Builder) -> Sequence[ir.Value | None]:
        left, right = build.input(0), build.input(1)
        dtype = _known(left)
        if _is_bit(left) and _is_bit(right):
            bits = (_boolean(build, value) for value in (left, right))
            return [build.cast(build.op(logical, *bits), dtype)]
        left, right = _wide(build, left), _wide(build, right)
        return [build.cast(joined(build, left, right, _common(build, left, right, BITS[dtype])), dtype)]

    return decompose


def invert(build: Builder) -> Sequence[ir.Value | None]:
    """~a."""
    x = build.input(0)
    dtype = _known(x)
    wide = _wide(build, x)
    last = 2 ** UNSIGNED[dtype] - 1 if dtype in UNSIGNED else -1
    return [build.cast(build.op("Sub", build.scalar(last, wide), wide), dtype)]


def shift(build: Builder) -> Sequence[ir.Value | None]:
    """A shift of unsigned numbers by a constant."""
    x, amounts = build.input(0), build.array(1, "the amount of the shift")
    dtype = x.dtype
    if dtype not in UNSIGNED:
        raise NotDecomposableError
    wide = _wide(build, x)
    powers = build.constant(2 ** np.minimum(amounts.astype(np.int64), BITS[dtype]), np.int32)
    operator = "Mul" if build.text("direction", "") == "LEFT" else "Div"
    return [build.cast(build.op(operator, wide, powers), dtype)]


def _known(value: ir.Value) -> ir.DataType:
    if value.dtype not in BITS:
        raise NotDecomposableError
    return value.dtype


def _wide(build: Builder, value: ir.Value) -> ir.Value:
    """In int32 at least, which holds the moduli."""
    array = constant_of(value)
    if value.dtype in (ir.DataType.INT32, ir.DataType.INT64):
        return value
    return build.constant(array, np.int32) if array is not None else build.cast(value, ir.DataType.INT32)


def _is_bit(value: ir.Value) -> bool:
    """True where each element is 0 or 1: a boolean's number, what remains of a division by 2."""
    array = constant_of(value)
    if array is not None:
        return bool(np.all((array == 0) | (array == 1)))
    node = value.producer()
    if node is None or node.domain != "" or node.inputs[0] is None:
        return False
    if node.op_type == "Cast":
        return node.inputs[0].dtype == ir.DataType.BOOL or _is_bit(node.inputs[0])
    return is_lowest_bit(node)


def _boolean(build: Builder, value: ir.Value) -> ir.Value:
    """A bit as a boolean: the one whose number it is, where it is one's."""
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Cast" else None
    return source if source is not None and source.dtype == ir.DataType.BOOL else build.cast(value, ir.DataType.BOOL)


def _common(build: Builder, left: ir.Value, right: ir.Value, bits: int) -> ir.Value:
    """left & right."""
    for value, other in ((left, right), (right, left)):
        mask = constant_of(other)
        if mask is not None and mask.size and np.all(mask == mask.reshape(-1)[0]):
            if len(build.shape(other)) > len(build.shape(value)):
                break
            return _masked(build, value, int(mask.reshape(-1)[0]))
    if bits > MOST_BITS:
        raise NotDecomposableError(f"both operands are computed numbers of {bits} bits")
    return build.sum(
        [build.op("Min", *(_run(build, value, bit, bit + 1) for value in (left, right))) for bit in range(bits)]
    )


def _masked(build: Builder, x: ir.Value, mask: int) -> ir.Value:
    """x & mask, a number."""
    if mask < 0:
        return build.op("Sub", x, _masked(build, x, ~mask))
    if mask == 0:
        return build.op("Mul", x, build.scalar(0, x))
    if mask.bit_length() > HIGHEST_MODULUS:
        raise NotDecomposableError(f"the mask {mask:#x} has bits behind the {HIGHEST_MODULUS}th")
    runs, low = list[ir.Value](), 0
    while mask >> low:
        high = low
        while mask >> high & 1:
            high += 1
        if high > low:
            runs.append(_run(build, x, low, high))
        low = high + 1
    return build.sum(runs)


def _run(build: Builder, x: ir.Value, low: int, high: int) -> ir.Value:
    """The bits `low` … `high` - 1 of x."""
    below = build.op("Mod", x, build.scalar(2**high, x))
    return build.op("Sub", below, build.op("Mod", x, build.scalar(2**low, x))) if low else below


def _or(build: Builder, left: ir.Value, right: ir.Value, common: ir.Value) -> ir.Value:
    return build.op("Add", left, build.op("Sub", right, common))


def _xor(build: Builder, left: ir.Value, right: ir.Value, common: ir.Value) -> ir.Value:
    return build.op("Add", build.op("Sub", left, common), build.op("Sub", right, common))


DECOMPOSITIONS: dict[str, Decomposition] = {
    "BitwiseAnd": bitwise("And", lambda build, left, right, common: common),
    "BitwiseOr": bitwise("Or", _or),
    "BitwiseXor": bitwise("Xor", _xor),
    "BitwiseNot": invert,
    "BitShift": shift,
}
