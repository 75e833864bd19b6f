"""Value by value: one operand, two with every way of broadcasting, comparisons, logic, Where, Cast."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from tests.conformance.form import Form, brackets, floats, normal, typed

# (left, right): equal shapes of every rank, then what is broadcast.
PAIRS = (
    ((1,), (1,)), ((7,), (7,)), ((2, 3), (2, 3)), ((2, 3, 5), (2, 3, 5)), ((2, 3, 5, 7), (2, 3, 5, 7)),
    ((1, 1, 1, 1), (1, 1, 1, 1)), ((2, 3, 2, 5, 4), (2, 3, 2, 5, 4)), ((2, 3, 2, 5, 4, 2), (2, 3, 2, 5, 4, 2)),
    ((2, 3, 5, 7), (1,)), ((2, 3, 5, 7), (7,)), ((2, 3, 5, 7), (5, 1)), ((2, 3, 5, 7), (3, 1, 1)),
    ((2, 3, 5, 7), (1, 3, 1, 1)), ((2, 3, 5, 7), (2, 1, 1, 1)), ((2, 3, 5, 7), (1, 1, 1, 1)),
    ((2, 1, 5, 1), (1, 3, 1, 7)), ((1, 3, 1, 1), (2, 3, 5, 7)), ((2, 3), (5, 2, 3)), ((4, 1), (1, 6)),
    ((2, 3, 2, 5, 4), (3, 1, 1, 4)), ((2, 3, 1, 5, 4), (3, 2, 1, 1)), ((1, 2, 3, 5, 7), (2, 3, 5, 7)),
    ((2, 3, 5, 1, 4, 2), (3, 1, 6, 4, 1)), ((2, 3, 2, 5, 1, 4, 2), (3, 1, 1, 6, 4, 1)),
)  # fmt: skip
# Of every two ranks up to 3.
RANKS = (
    ((7,), (1,)), ((4, 6), (6,)), ((4, 6), (4, 1)), ((2, 3, 5), (5,)), ((2, 3, 5), (3, 1)), ((2, 3, 5), (2, 3, 1)),
)  # fmt: skip
# One number for all, as it comes of a sum, and as a constant.
SCALARS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((7,), ()), ((4, 6), ()), ((2, 3, 5), ()), ((2, 3, 5, 7), ()),
)  # fmt: skip
# What one of is a constant: equal shapes, and what is broadcast; also the smaller one, which is none.
CONSTANTS = (*PAIRS[1:5], *PAIRS[8:15], *RANKS, *SCALARS, ((6,), (4, 6)), ((4, 6), (2, 3, 4, 6)))
# Fewer, where the kernel is the same one.
FEW = tuple(PAIRS[index] for index in (1, 4, 8, 11, 15, 19, 22))
SHAPES = ((1,), (7,), (2, 3), (2, 3, 5), (2, 3, 5, 7), (1, 1, 1, 1), (1, 33, 3, 3), (2, 3, 2, 2, 2), (2, 1, 2, 2, 3, 2))
ACTIVATIONS = {
    "Relu": "y = Relu (s)",
    "Relu6": "low = Constant <value_float = 0.0> () high = Constant <value_float = 6.0> () y = Clip (s, low, high)",
    "ReluN1To1": "low = Constant <value_float = -1.0> () high = Constant <value_float = 1.0> () "
    "y = Clip (s, low, high)",
}
ARITHMETIC = ("Add", "Sub", "Mul", "Div")
EXTREMES = ("Max", "Min")
COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
UNARY = {
    "Abs": True, "Neg": True, "Floor": True, "Ceil": True, "Round": True, "Sign": True,
    "Exp": False, "Sin": False, "Cos": False, "Sigmoid": False, "Tanh": False, "HardSwish": False, "Reciprocal": False,
}  # fmt: skip
TYPES = {"float": np.float32, "int32": np.int32, "bool": np.bool_, "int8": np.int8, "uint8": np.uint8}


def forms() -> Iterator[Form]:
    yield from _pairs()
    yield from _constants()
    yield from _fused()
    yield from _integers()
    yield from _unary()
    yield from _variadic()
    yield from _where()
    yield from _casts()


def _pairs() -> Iterator[Form]:
    for kind, (left, right) in product((*ARITHMETIC, *EXTREMES, *COMPARISONS), (*PAIRS, *RANKS)):
        inputs = f"{floats('x', *left)}, {floats('z', *right)}"
        exact = kind in EXTREMES or kind in COMPARISONS
        yield Form(kind, f"{brackets(left)} {brackets(right)}", f"y = {kind} (x, z)", inputs, exact=exact)
    for kind, (left, right) in product(("And", "Or", "Xor"), (*PAIRS[1:4], *FEW[1:], *RANKS)):
        inputs = f"{typed('bool', 'x', *left)}, {typed('bool', 'z', *right)}"
        yield Form(kind, f"{brackets(left)} {brackets(right)}", f"y = {kind} (x, z)", inputs, exact=True)
    for left, right in (*FEW, *PAIRS[2:4], *RANKS):
        inputs = f"{floats('x', *left)}, {floats('z', *right)}"
        names = f"{brackets(left)} {brackets(right)}"
        yield Form("Pow", names, "y = Pow (x, z)", inputs, domain="positive", kinds=("ordinary", "ties", "zeros"))
        for sign in (0, 1):
            if sign:
                yield Form("Mod", f"fmod {names}", "y = Mod <fmod = 1> (x, z)", inputs, domain="positive")
            else:
                integers = f"{typed('int32', 'x', *left)}, {typed('int32', 'z', *right)}"
                yield Form("Mod", f"int32 {names}", "y = Mod (x, z)", integers, exact=True, domain="nonzero")


def _constants() -> Iterator[Form]:
    for kind, (left, right) in product((*ARITHMETIC, *EXTREMES, *COMPARISONS), CONSTANTS):
        exact = kind not in ARITHMETIC
        constants = {"c": normal(*right)}
        name = f"{brackets(left)} constant {brackets(right)}"
        yield Form(kind, name, f"y = {kind} (x, c)", floats("x", *left), constants=constants, exact=exact)
        name = f"constant {brackets(right)} {brackets(left)}"
        yield Form(kind, name, f"y = {kind} (c, x)", floats("x", *left), constants=constants, exact=exact)
    for kind, (shape, _) in product((*ARITHMETIC, *EXTREMES, *COMPARISONS, "Pow"), SCALARS):
        inputs, domain = f"{floats('x', *shape)}, {floats('z', 3)}", "positive" if kind == "Pow" else "any"
        # The larger one of 0 and -0 is either.
        kinds = ("ordinary", "ties", "zeros") if kind == "Pow" else ("ordinary", "ties") if kind == "Div" else None
        for name, body in (("x, z", f"y = {kind} (x, r)"), ("z, x", f"y = {kind} (r, x)")):
            titled = f"{name} of {brackets(shape)}, one number"
            exact = kind in EXTREMES or kind in COMPARISONS
            body = f"r = ReduceMax <keepdims = 0> (z) {body}"
            yield Form(kind, titled, body, inputs, exact=exact, domain=domain, kinds=kinds)
    for kind in ARITHMETIC:
        inputs, kinds = f"{floats('x', 5)}, {floats('z', 3)}", ("ordinary", "ties") if kind == "Div" else None
        numbers = "q = ReduceMax <keepdims = 0> (x) r = ReduceMax <keepdims = 0> (z)"
        yield Form(kind, "two numbers", f"{numbers} y = {kind} (q, r)", inputs, kinds=kinds)
        body = f"q = ReduceMax <keepdims = 0> (x) y = {kind} (q, c)"
        yield Form(kind, "a number and a constant", body, floats("x", 5), constants={"c": 0.75}, kinds=kinds)
    for kind in (*ARITHMETIC, *EXTREMES):
        # One row of channels for a whole map.
        inputs = f"{floats('x', 1, 3, 5, 7)}, {floats('z', 1, 3)}"
        body, constants = f"r = Reshape (z, t) y = {kind} (x, r)", {"t": np.asarray((1, 3, 1, 1), np.int64)}
        yield Form(kind, "[1,3,5,7] and a row [1,3]", body, inputs, constants=constants, exact=kind in EXTREMES)
    for left, right in CONSTANTS:
        yield Form(
            "Pow", f"{brackets(left)} constant {brackets(right)}", "y = Pow (x, c)", floats("x", *left),
            constants={"c": normal(*right)}, domain="positive", kinds=("ordinary", "ties"),
        )  # fmt: skip
    for exponent, shape in product((2.0, 3.0, -1.0, 0.5, 0.0, 1.7), ((7,), (4, 6), (2, 3, 5), (2, 3, 5, 7))):
        body, kinds = "y = Pow (x, c)", ("ordinary", "ties", "zeros", "largest", "denormal")
        yield Form(
            "Pow", f"{brackets(shape)} to {exponent:g}", body, floats("x", *shape), constants={"c": exponent},
            domain="positive", kinds=kinds,
        )  # fmt: skip


def _fused() -> Iterator[Form]:
    for kind, (activation, clip), (left, right) in product(
        ARITHMETIC, ACTIVATIONS.items(), (PAIRS[4], PAIRS[11], PAIRS[19])
    ):
        inputs = f"{floats('x', *left)}, {floats('z', *right)}"
        name = f"{activation} {brackets(left)} {brackets(right)}"
        yield Form(kind, name, f"s = {kind} (x, z) {clip}", inputs)
    for kind, (activation, clip), (left, right) in product(
        ARITHMETIC, ACTIVATIONS.items(), (PAIRS[2], PAIRS[4], PAIRS[11], RANKS[0])
    ):
        name = f"{activation} {brackets(left)} constant {brackets(right)}"
        constants = {"c": normal(*right)}
        yield Form(kind, name, f"s = {kind} (x, c) {clip}", floats("x", *left), constants=constants)


def _integers() -> Iterator[Form]:
    for kind, (left, right) in product((*ARITHMETIC, *EXTREMES, *COMPARISONS), (*FEW, *PAIRS[2:4], *RANKS)):
        inputs = f"{typed('int32', 'x', *left)}, {typed('int32', 'z', *right)}"
        domain = "nonzero" if kind == "Div" else "any"
        name = f"int32 {brackets(left)} {brackets(right)}"
        yield Form(kind, name, f"y = {kind} (x, z)", inputs, exact=True, domain=domain)
        constants = {"c": np.random.default_rng(1).integers(1, 6, right).astype(np.int32)}
        one = typed("int32", "x", *left)
        for name, body in (
            (f"int32 {brackets(left)} constant {brackets(right)}", f"y = {kind} (x, c)"),
            (f"int32 constant {brackets(right)} {brackets(left)}", f"y = {kind} (c, x)"),
        ):
            yield Form(kind, name, body, one, constants=constants, exact=True, domain=domain)
    for kind, shape in product(("Abs", "Neg", "Sign", "Relu"), ((7,), (2, 3, 5, 7), (2, 3, 2, 2, 2))):
        inputs = typed("int32", "x", *shape)
        yield Form(kind, f"int32 {brackets(shape)}", f"y = {kind} (x)", inputs, exact=True)
    for shape in SHAPES:
        yield Form("Not", brackets(shape), "y = Not (x)", typed("bool", "x", *shape), exact=True)


def _unary() -> Iterator[Form]:
    for (kind, exact), shape in product(UNARY.items(), SHAPES):
        yield Form(kind, brackets(shape), f"y = {kind} (x)", floats("x", *shape), exact=exact)
    for kind, shape in product(("Sqrt", "Log"), SHAPES):
        yield Form(kind, brackets(shape), f"y = {kind} (x)", floats("x", *shape), domain="positive")


def _variadic() -> Iterator[Form]:
    for kind, activation in product(("Max", "Min", "Sum", "Mean"), ("", "Relu")):
        inputs = ", ".join((floats("x", 2, 3, 1, 7), floats("z", 3, 1, 1), floats("w", 5, 7)))
        tail = ACTIVATIONS[activation] if activation else "y = Identity (s)"
        yield Form(kind, f"of three {activation}".strip(), f"s = {kind} (x, z, w) {tail}", inputs)


def _where() -> Iterator[Form]:
    for dtype, (left, right) in product(("float", "int32", "bool"), (*PAIRS[::2], *PAIRS[1:4:2])):
        for condition in {(1,), left}:
            inputs = ", ".join((typed("bool", "c", *condition), typed(dtype, "x", *left), typed(dtype, "z", *right)))
            name = f"{dtype} {brackets(condition)} {brackets(left)} {brackets(right)}"
            yield Form("Where", name, "y = Where (c, x, z)", inputs, exact=True)
    for shape in ((7,), (4, 6), (2, 3, 5), (2, 3, 5, 7)):
        condition, operand = typed("bool", "c", *shape), floats("x", *shape)
        inputs = f"{condition}, {operand}, {floats('z', 3)}"
        body = "r = ReduceMax <keepdims = 0> (z) y = Where (c, r, x)"
        yield Form("Where", f"one number, else {brackets(shape)}", body, inputs, exact=True)
        constants = {"b": normal(*shape, seed=3) > 0}
        inputs = f"{operand}, {floats('z', *shape)}"
        name = f"by a constant of {brackets(shape)}"
        yield Form("Where", name, "y = Where (b, x, z)", inputs, constants=constants, exact=True)
    constants, inputs = {"k": normal(2, 3, 4, 6)}, f"{typed('bool', 'c', 4, 6)}, {floats('x', 2, 3, 4, 6)}"
    name = "by a matrix, a constant, else [2,3,4,6]"
    yield Form("Where", name, "y = Where (c, k, x)", inputs, constants=constants, exact=True)
    for (shape, constant), dtype in product(CONSTANTS, ("float", "int32")):
        numbers = TYPES[dtype]
        constants = {name: normal(*constant, seed=seed).astype(numbers) for name, seed in (("k", 1), ("l", 2))}
        constants["b"] = normal(*shape, seed=3) > 0
        condition, operand = typed("bool", "c", *shape), typed(dtype, "x", *shape)
        for name, body, inputs in (
            ("two constants", "y = Where (c, k, l)", condition),
            ("a constant, else", "y = Where (c, k, x)", f"{condition}, {operand}"),
            ("else a constant", "y = Where (c, x, k)", f"{condition}, {operand}"),
            ("by a constant", "y = Where (b, x, k)", operand),
            ("by a constant, a constant, else", "y = Where (b, k, x)", operand),
        ):
            titled = f"{dtype} {name} {brackets(constant)} of {brackets(shape)}"
            used = {name: array for name, array in constants.items() if f" {name}" in body or f"({name}" in body}
            yield Form("Where", titled, body, inputs, constants=used, exact=True)


def _casts() -> Iterator[Form]:
    numbers = {"float": 1, "int32": 6, "bool": 9, "int8": 3, "uint8": 2}
    for (before, after), shape in product(product(TYPES, TYPES), ((7,), (4, 6), (2, 3, 5), (2, 3, 5, 7))):
        if before != after:
            body = f"y = Cast <to = {numbers[after]}> (x)"
            # To an integer, only what it holds has a meaning.
            kinds = None if after == "bool" else ("ordinary", "ties", "zeros", "denormal")
            domain = "positive" if after == "uint8" else "any"
            name = f"{before} to {after} {brackets(shape)}"
            yield Form("Cast", name, body, typed(before, "x", *shape), exact=True, domain=domain,
                       kinds=kinds if before == "float" else None)  # fmt: skip
