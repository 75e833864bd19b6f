"""Sums over axes: products of matrices, reductions, argmax, top k."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.precision import WeightsPrecision
from tests.conformance.elementwise import ACTIVATIONS
from tests.conformance.form import Form, brackets, floats, normal, typed

REDUCTIONS = (
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
)  # fmt: skip
# (shape, axes)
REDUCED = (
    ((7,), (0,)), ((4, 6), (0,)), ((4, 6), (1,)), ((2, 3, 5), (1,)), ((2, 3, 5), (0, 2)),
    ((2, 3, 5, 7), (2, 3)), ((2, 3, 5, 7), (1,)), ((2, 3, 5, 7), (0,)), ((2, 3, 5, 7), (3,)), ((2, 3, 5, 7), (1, 3)),
    ((2, 3, 5, 7), (1, 2, 3)), ((2, 3, 5, 7), (0, 1, 2, 3)), ((1, 5, 1, 1), (2, 3)), ((1, 5, 1, 1), (1,)),
    ((2, 3, 2, 5, 4), (1, 3)), ((2, 3, 2, 5, 4), (4,)), ((4, 6), (0, 1)), ((2, 3, 5), (0, 1, 2)), ((2, 3, 5), (2,)),
    ((2, 3, 2, 5, 4), (0, 1, 2, 3, 4)), ((2, 3, 2, 2, 4, 2), (0, 1, 2, 3, 4, 5)), ((2, 3, 2, 2, 4, 2), (2, 5)),
)  # fmt: skip
INDEXED = ((7,), (4, 6), (2, 3, 5), (2, 3, 5, 7), (1, 10), (2, 3, 2, 5, 4))
# Of a product of two computed operands.
MATRICES = (
    ((2, 3), (3, 4)), ((1, 3), (3, 1)), ((2, 5, 3), (2, 3, 4)), ((2, 5, 3), (3, 4)), ((1, 5, 3), (2, 3, 4)),
    ((2, 3, 5, 7), (2, 3, 7, 4)), ((2, 1, 5, 7), (1, 3, 7, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)),
    ((2, 2, 3, 5, 7), (2, 2, 3, 7, 4)), ((2, 1, 3, 5, 7), (2, 1, 7, 4)), ((2, 5, 3), (3,)), ((2, 3), (4, 3, 5)),
    ((4, 2, 3), (5, 4, 3, 6)), ((2, 3, 5, 7), (7, 4)), ((2, 3, 5, 7), (3, 7, 4)), ((2, 3, 5, 7), (7,)),
    ((3,), (2, 3, 4)), ((2, 3), (5, 4, 3, 6)),
)  # fmt: skip


def forms() -> Iterator[Form]:
    yield from _linear()
    yield from _matmul()
    yield from _normalization()
    yield from _reductions()
    yield from _indices()


def _linear() -> Iterator[Form]:
    for batch, (inside, outside) in product((1, 2, 5), ((1, 1), (3, 4), (33, 10), (64, 2))):
        constants = {"w": normal(outside, inside), "b": normal(outside, seed=2)}
        body = "y = Gemm <transB = 1> (x, w, b)"
        name = f"{brackets((batch, inside))} to {outside}"
        yield Form("Gemm", name, body, floats("x", batch, inside), constants=constants)
        constants = {"w": normal(inside, outside)}
        yield Form("MatMul", f"{name} constant", "y = MatMul (x, w)", floats("x", batch, inside), constants=constants)
    for activation, clip in ACTIVATIONS.items():
        constants = {"w": normal(4, 6), "b": normal(4, seed=2)}
        body = f"s = Gemm <transB = 1> (x, w, b) {clip}"
        yield Form("Gemm", activation, body, floats("x", 2, 6), constants=constants)
    for precision, batch, (inside, outside) in product(
        (WeightsPrecision.FLOAT16, WeightsPrecision.INT8), (1, 3), ((64, 32), (128, 10), (33, 40))
    ):
        constants = {"w": normal(outside, inside), "b": normal(outside, seed=2)}
        name = f"{precision.value} {brackets((batch, inside))} to {outside}"
        kinds = None if precision is WeightsPrecision.FLOAT16 else ("ordinary", "zeros")
        yield Form("Gemm", name, "y = Gemm <transB = 1> (x, w, b)", floats("x", batch, inside), constants=constants,
                   precision=precision, kinds=kinds)  # fmt: skip
    for precision, shape in product((WeightsPrecision.FLOAT16, WeightsPrecision.INT8), ((2, 5, 64), (1, 3, 128))):
        kinds = None if precision is WeightsPrecision.FLOAT16 else ("ordinary", "zeros")
        for name, tail in (("", "y = Identity (m)"), (" and a sum", "y = Add (m, b)")):
            constants = {"w": normal(shape[-1], 40), "b": normal(40, seed=2)}
            used = constants if "b)" in tail else {"w": constants["w"]}
            yield Form("MatMul", f"{precision.value} {brackets(shape)} to 40{name}", f"m = MatMul (x, w) {tail}",
                       floats("x", *shape), constants=used, precision=precision, kinds=kinds)  # fmt: skip
    for shape in ((2, 5, 6), (2, 3, 5, 6), (2, 3, 2, 5, 6), (1, 1, 6)):
        constants = {"w": normal(6, 4)}
        body = "y = MatMul (x, w)"
        yield Form("MatMul", f"{brackets(shape)} constant", body, floats("x", *shape), constants=constants)
    for first, second in product((0, 1), repeat=2):
        inputs = f"{floats('x', *((3, 2) if first else (2, 3)))}, {floats('z', *((4, 3) if second else (3, 4)))}"
        body = f"y = Gemm <transA = {first}, transB = {second}, alpha = 0.5, beta = 2.0> (x, z, b)"
        name = f"computed, transA {first} transB {second}"
        yield Form("Gemm", name, body, inputs, constants={"b": normal(2, 4)})
    flat = "f = Flatten (x) y = Gemm <transB = 1> (f, w, b)"
    constants = {"w": normal(4, 60), "b": normal(4, seed=2)}
    yield Form("Gemm", "behind Flatten", flat, floats("x", 2, 3, 4, 5), constants=constants)


def _matmul() -> Iterator[Form]:
    for left, right in MATRICES:
        inputs = f"{floats('x', *left)}, {floats('z', *right)}"
        yield Form("MatMul", f"{brackets(left)} {brackets(right)}", "y = MatMul (x, z)", inputs)
        name, constants = f"constant {brackets(left)} {brackets(right)}", {"c": normal(*left)}
        yield Form("MatMul", name, "y = MatMul (c, z)", floats("z", *right), constants=constants)


def _normalization() -> Iterator[Form]:
    for shape in ((2, 3), (2, 3, 5), (2, 3, 5, 7), (1, 3, 1, 1), (2, 3, 2, 5, 4)):
        constants = {"s": normal(3), "b": normal(3, seed=2), "m": normal(3, seed=3), "v": abs(normal(3, seed=4)) + 1}
        for tail in ("y = Identity (s1)", "y = Relu (s1)"):
            body = f"s1 = BatchNormalization (x, s, b, m, v) {tail}"
            name = f"{brackets(shape)}{' Relu' if 'Relu' in tail else ''}"
            yield Form("BatchNormalization", name, body, floats("x", *shape), constants=constants)


def _reductions() -> Iterator[Form]:
    for kind, (shape, axes), keep in product(REDUCTIONS, REDUCED, (0, 1)):
        body = f"a = Constant <value_ints = [{', '.join(map(str, axes))}]> () y = {kind} <keepdims = {keep}> (x, a)"
        name = f"{brackets(shape)} over {brackets(axes)}{' kept' if keep else ''}"
        exact = kind in ("ReduceMax", "ReduceMin")
        kinds = ("ordinary", "ties", "zeros") if kind == "ReduceProd" else None
        yield Form(kind, name, body, floats("x", *shape), exact=exact, kinds=kinds)
    for kind, (shape, axes) in product(("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"), REDUCED[4:8]):
        body = f"a = Constant <value_ints = [{', '.join(map(str, axes))}]> () y = {kind} (x, a)"
        name = f"int32 {brackets(shape)} over {brackets(axes)}"
        yield Form(kind, name, body, typed("int32", "x", *shape), exact=True)
    for kind, shape in product(
        ("GlobalAveragePool", "GlobalMaxPool"), ((2, 3, 5, 7), (1, 5, 1, 1), (2, 3, 9), (1, 4, 8, 8))
    ):
        yield Form(kind, brackets(shape), f"y = {kind} (x)", floats("x", *shape), exact=kind == "GlobalMaxPool")


def _indices() -> Iterator[Form]:
    for kind, shape in product(("ArgMax", "ArgMin"), INDEXED):
        for axis, keep in product(range(len(shape)), (0, 1)):
            body = f"y = {kind} <axis = {axis}, keepdims = {keep}> (x)"
            name = f"axis {axis} of {brackets(shape)}{' kept' if keep else ''}"
            yield Form(kind, name, body, floats("x", *shape), exact=True)
    for shape, count, largest in product(INDEXED, (1, 3), (0, 1)):
        for axis in sorted({0, len(shape) - 1}):
            if shape[axis] < count:
                continue
            body = f"y, i = TopK <axis = {axis}, largest = {largest}> (x, k)"
            name = f"{count} {'largest' if largest else 'smallest'} on axis {axis} of {brackets(shape)}"
            constants = {"k": _int64(count)}
            yield Form("TopK", name, body, floats("x", *shape), outputs="y, i", constants=constants, exact=True)


def _int64(*numbers: int) -> Array:
    return np.asarray(numbers, np.int64)
