"""Arithmetic, tests and products that a few elementwise operators make: Einsum, Dropout, IsNaN, Tan, …"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of
from bnncc.ir.value_facts import MOVES, data_inputs
from bnncc.passes.decompositions.builder import Builder, NotDecomposableError

LARGEST = float(np.finfo(np.float32).max)


def einsum(build: Builder) -> Sequence[ir.Value | None]:
    """Einstein's sum: each operand joins the product by one MatMul over [shared, its own, summed] axes."""
    terms, _, result = build.text("equation", "").replace(" ", "").partition("->")
    operands = [build.input(index) for index in range(len(build.origin.inputs))]
    labels = [
        _labels(term, len(build.shape(operand))) for term, operand in zip(terms.split(","), operands, strict=True)
    ]
    everything = "".join(labels)
    if "->" in build.text("equation", ""):
        widest = max((sum(label.isdigit() for label in own) for own in labels), default=0)
        wanted = result.replace("...", "".join(map(str, range(10 - widest, 10))))
    else:
        # Digits, the ellipsis, sort before letters.
        wanted = "".join(sorted(c for c in set(everything) if everything.count(c) == 1 or c.isdigit()))
    if any(len(set(own)) != len(own) for own in labels):
        raise NotDecomposableError("a diagonal")
    product, own = operands[0], labels[0]
    for index in range(1, len(operands)):
        later = wanted + "".join(labels[index + 1 :])
        product, own = _contract(build, product, own, operands[index], labels[index], later)
    summed = [axis for axis, label in enumerate(own) if label not in wanted]
    if summed:
        product = build.reduce("ReduceSum", product, summed, keep=False)
        own = "".join(label for label in own if label in wanted)
    return [build.transpose(product, [own.index(label) for label in wanted])]


def _labels(term: str, rank: int) -> str:
    """One label an axis; those of an ellipsis are the digits up to 9, from its right end."""
    count = rank - len(term.replace("...", ""))
    return term.replace("...", "".join(map(str, range(10 - count, 10))))


def _contract(
    build: Builder, left: ir.Value, left_labels: str, right: ir.Value, right_labels: str, later: str
) -> tuple[ir.Value, str]:
    """The product of two operands, summed over the labels that nothing later needs."""
    sizes = dict(zip(left_labels, build.shape(left), strict=True))
    for label, size in zip(right_labels, build.shape(right), strict=True):
        if sizes.setdefault(label, size) != size:
            raise NotDecomposableError("axes of size 1 that broadcast")
    shared = [label for label in left_labels if label in right_labels]
    batch = [label for label in shared if label in later]
    summed = [label for label in shared if label not in later]
    first = [label for label in left_labels if label not in shared]
    second = [label for label in right_labels if label not in shared]

    def arranged(value: ir.Value, labels: str, *groups: list[str]) -> ir.Value:
        """`value` as [batch…, rows, columns]."""
        order = [labels.index(label) for group in (batch, *groups) for label in group]
        products = [int(np.prod([sizes[label] for label in group])) for group in groups]
        return build.reshape(build.transpose(value, order), [*(sizes[label] for label in batch), *products])

    a = arranged(left, left_labels, first, summed)
    b = arranged(right, right_labels, summed, second)
    labels = [*batch, *first, *second]
    return build.reshape(build.op("MatMul", a, b), [sizes[label] for label in labels]), "".join(labels)


def log_sum_exp(build: Builder) -> Sequence[ir.Value | None]:
    """log Σ eˣ = m + log Σ e^(x - m) with m = max x, which does not overflow as ONNX's function body does."""
    x = build.input(0)
    rank = len(build.shape(x))
    axes = build.array(1, "axes").reshape(-1).tolist() if build.optional(1) is not None else build.integers("axes", ())
    if not axes and build.integer("noop_with_empty_axes", 0):
        return [build.op("Identity", x)]
    axes = [axis % rank for axis in axes] or list(range(rank))
    if 0 in build.shape(x):
        raise NotDecomposableError("a tensor without elements")
    largest = build.reduce("ReduceMax", x, axes)
    total = build.reduce("ReduceSum", build.op("Exp", build.op("Sub", x, largest)), axes)
    y = build.op("Add", build.op("Log", total), largest)
    return [y if build.integer("keepdims", 1) else build.op("Squeeze", y, build.ints(axes))]


def dropout(build: Builder) -> Sequence[ir.Value | None]:
    """In inference the input, and a mask that lets everything through."""
    if build.optional(2) is not None and constant_of(build.optional(2)) != np.False_:
        raise NotDecomposableError("training_mode, which is random")
    x = build.input(0)
    return [x, build.constant(np.ones(build.shape(x), bool))]


def is_nan(build: Builder) -> Sequence[ir.Value | None]:
    """x ≠ x; never where x is one of a few numbers, as a sign is."""
    x = build.input(0)
    if _is_finite(x):
        return [build.constant(np.zeros(build.shape(x), bool))]
    return [build.op("Not", build.op("Equal", x, x))]


def is_inf(build: Builder) -> Sequence[ir.Value | None]:
    """Beyond the largest float, on the sides asked for."""
    x = build.input(0)
    if _is_finite(x):
        return [build.constant(np.zeros(build.shape(x), bool))]
    above, below = bool(build.integer("detect_positive", 1)), bool(build.integer("detect_negative", 1))
    if above and below:
        return [build.op("Greater", build.op("Abs", x), build.scalar(LARGEST, x))]
    if above:
        return [build.op("Greater", x, build.scalar(LARGEST, x))]
    if below:
        return [build.op("Less", x, build.scalar(-LARGEST, x))]
    return [build.constant(np.zeros(build.shape(x), bool))]


def _is_finite(value: ir.Value) -> bool:
    """True where every element is a finite number whatever the input is: a choice of constants, an integer as a float,
    a sign, moved about."""
    array = constant_of(value)
    if array is not None:
        return bool(np.all(np.isfinite(array)))
    node = value.producer()
    if node is None or node.domain != "":
        return node is not None and ops.yields_signs(node)
    if node.op_type == "Cast":
        kind = None if node.inputs[0] is None else node.inputs[0].dtype
        return kind is not None and (kind.is_integer() or kind == ir.DataType.BOOL)
    if node.op_type == "Where":
        return all(_is_finite(operand) for operand in node.inputs[1:] if operand is not None)
    keeps = (MOVES - {"MaxPool"}) | {"Neg", "Abs"}
    return node.op_type in keeps and all(_is_finite(source) for source in data_inputs(node))


def tangent(build: Builder) -> Sequence[ir.Value | None]:
    """sin x / cos x."""
    x = build.input(0)
    return [build.op("Div", build.op("Sin", x), build.op("Cos", x))]


def hyperbolic(build: Builder) -> Sequence[ir.Value | None]:
    """cosh x = (eˣ + e⁻ˣ) / 2; sinh x = tanh x · cosh x, which does not cancel around 0."""
    x = build.input(0)
    both = build.op("Add", build.op("Exp", x), build.op("Exp", build.op("Neg", x)))
    cosh = build.op("Mul", both, build.scalar(0.5, x))
    return [cosh if build.origin.op_type == "Cosh" else build.op("Mul", build.op("Tanh", x), cosh)]


def power(build: Builder) -> Sequence[ir.Value | None]:
    """An exponent of another type than the base: cast, where every power is exact or both are floats."""
    x, exponent = build.input(0), build.input(1)
    array = constant_of(exponent)
    if x.dtype == exponent.dtype:
        raise NotDecomposableError
    if x.dtype != ir.DataType.FLOAT:
        raise NotDecomposableError("an exponent of another type than the base")
    if array is None:
        return [build.op("Pow", x, build.cast(exponent, ir.DataType.FLOAT))]
    return [build.op("Pow", x, build.constant(array.astype(np.float32)))]


DECOMPOSITIONS = {
    "Einsum": einsum,
    "ReduceLogSumExp": log_sum_exp,
    "Dropout": dropout,
    "IsNaN": is_nan,
    "IsInf": is_inf,
    "Tan": tangent,
    "Cosh": hyperbolic,
    "Sinh": hyperbolic,
    "Pow": power,
}
