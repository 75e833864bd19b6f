"""Activations: clips, slopes, exponentials, softmax over every axis."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.conformance.elementwise import SHAPES
from tests.conformance.form import Form, brackets, floats, normal

SMOOTH = {
    "LeakyRelu": ("<alpha = 0.1>", "<alpha = 0.0>", "<alpha = 1.5>", "<alpha = -0.5>"),
    "Elu": ("", "<alpha = 0.5>"),
    "Selu": ("",),
    "Celu": ("<alpha = 0.5>",),
    "Softplus": ("",),
    "Softsign": ("",),
    "Mish": ("",),
    "Erf": ("",),
    "HardSigmoid": ("", "<alpha = 0.16666667>"),
    "Relu": ("",),
}
CLIPS = ((0, 6), (-1, 1), (0, 1), (-0.7, 2.5), (0, None), (None, 2.0), (-3.0, None), (None, None))
# (x, slope)
SLOPES = (
    ((2, 3, 5, 7), (3, 1, 1)), ((2, 3, 5, 7), (1, 3, 1, 1)), ((2, 3, 5, 7), (1,)), ((2, 3, 5, 7), (1, 1, 1)),
    ((2, 3, 5, 7), (7,)), ((2, 3, 5, 7), (5, 1)), ((2, 3, 5, 7), (3, 5, 7)), ((1, 1, 5, 7), (1, 1, 1)),
    ((1, 3, 1, 1), (3, 1, 1)), ((4, 6), (6,)), ((4, 6), (1,)), ((2, 3, 5), (3, 1)), ((6,), (6,)),
    ((2, 3, 2, 5, 4), (3, 1, 1, 1)), ((1, 64, 4, 4), (64, 1, 1)), ((2, 3, 5), (5,)), ((2, 3, 2, 5, 4), (4,)),
)  # fmt: skip
SOFTMAX = ((7,), (1,), (4, 6), (1, 1), (2, 3, 5), (2, 3, 5, 7), (1, 10, 1, 1), (2, 3, 2, 5, 4))


def forms() -> Iterator[Form]:
    for kind, attributes in SMOOTH.items():
        for attribute, shape in product(attributes, SHAPES):
            name = f"{attribute} {brackets(shape)}".strip()
            yield Form(kind, name, f"y = {kind} {attribute} (x)", floats("x", *shape), exact=kind == "Relu")
    for shape, approximate in product(SHAPES, ("none", "tanh")):
        body = f'y = Gelu <approximate = "{approximate}"> (x)'
        yield Form("Gelu", f"{approximate} {brackets(shape)}", body, floats("x", *shape), opset=20)
    for (low, high), shape in product(CLIPS, ((7,), (4, 6), (2, 3, 5), (2, 3, 5, 7), (2, 3, 2, 2, 2))):
        constants = {name: float(bound) for name, bound in (("low", low), ("high", high)) if bound is not None}
        names = f"{'low' if low is not None else ''}, {'high' if high is not None else ''}"
        body = f"y = Clip (x, {names})" if high is not None else f"y = Clip (x{', low' if low is not None else ''})"
        bounds = f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
        name = f"{bounds} {brackets(shape)}"
        yield Form("Clip", name, body, floats("x", *shape), constants=constants, exact=True)
    for x, slope in SLOPES:
        name = f"{brackets(x)} slope {brackets(slope)}"
        yield Form("PRelu", name, "y = PRelu (x, s)", floats("x", *x), constants={"s": normal(*slope)})
    yield Form("PRelu", "computed slope", "y = PRelu (x, s)", f"{floats('x', 2, 3, 5, 7)}, {floats('s', 3, 1, 1)}")
    for kind, shape in product(("Softmax", "LogSoftmax"), SOFTMAX):
        for axis in range(len(shape)):
            body = f"y = {kind} <axis = {axis}> (x)"
            yield Form(kind, f"axis {axis} of {brackets(shape)}", body, floats("x", *shape))
