"""What only moves data: reshape, transpose, join, cut, pad, gather, repeat, resize; floats, integers, booleans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product

import numpy as np

from bnncc.ir.evaluate import Array
from tests.conformance.form import Form, brackets, floats, typed

RESHAPES = (
    ((2, 3, 5, 7), (2, 105)), ((2, 3, 5, 7), (6, 35)), ((2, 12), (2, 3, 2, 2)), ((2, 3, 5, 7), (210,)), ((12,), (3, 4)),
    ((12,), (2, 3, 2)), ((12,), (1, 3, 2, 2)), ((6, 4), (2, 3, 4)), ((2, 3, 4), (6, 4)), ((2, 3, 4), (24,)),
    ((2, 3, 4), (4, 3, 2)), ((6, 4), (4, 6)), ((2, 3, 4, 5), (2, 3, 2, 2, 5)), ((2, 3, 2, 5, 4), (2, 6, 5, 4)),
    ((2, 3, 4), (2, 3, 2, 2)), ((1, 3, 1, 1), (3,)), ((2, 3, 5, 7), (2, 3, 35)), ((2, 3, 2, 5, 4), (6, 2, 20)),
)  # fmt: skip
TYPES = ("float", "int32", "bool", "int8", "uint8")
# bnncc's own interpreter has no more.
MOST_AXES = 8
NUMPY = {"float": np.float32, "int32": np.int32}
# (shape, begin, end, step) along all axes.
SLICES = (
    ((7,), (1,), (6,), (2,)), ((7,), (6,), (-100,), (-1,)), ((7,), (5,), (0,), (-2,)), ((4, 6), (1, 0), (3, 6), (1, 1)),
    ((4, 6), (3, 5), (-100, -100), (-1, -1)), ((2, 3, 5), (0, 2, 0), (2, -100, 5), (1, -1, 1)),
    ((2, 3, 5), (0, 0, 4), (2, 3, -100), (1, 1, -1)), ((2, 3, 5), (1, 2, 4), (-100, -100, -100), (-1, -1, -1)),
    ((2, 3, 5), (0, 0, 1), (2, 3, 4), (1, 2, 1)),
    ((2, 3, 5, 7), (0, 0, 0, 0), (2, 3, 5, 7), (1, 1, 2, 2)), ((2, 3, 5, 7), (0, 0, 1, 1), (2, 3, 5, 7), (1, 1, 2, 2)),
    ((2, 3, 5, 7), (0, 1, 0, 0), (2, 3, 5, 7), (1, 1, 1, 1)),
    ((2, 3, 5, 7), (1, 2, 4, 6), (-100, -100, -100, -100), (-1, -1, -1, -1)),
    ((2, 3, 5, 7), (0, 0, 4, 0), (2, 3, -100, 7), (1, 1, -1, 1)),
    ((2, 3, 5, 7), (0, 0, 4, 6), (2, 3, -100, -100), (1, 1, -1, -1)),
    ((2, 3, 5, 7), (0, 2, 0, 0), (2, -100, 5, 7), (1, -1, 1, 1)),
    ((2, 3, 5, 7), (0, 2, 0, 0), (1, -100, 5, 5), (1, -2, 2, 1)),
    ((2, 3, 2, 5, 4), (0, 1, 0, 1, 0), (2, 3, 2, 5, 4), (1, 1, 1, 2, 1)),
    ((1, 1, 1, 1), (0, 0, 0, 0), (1, 1, 1, 1), (1, 1, 1, 1)),
    ((2, 3, 2, 5, 4), (0, 0, 1, 4, 0), (2, 3, -100, -100, 4), (1, 1, -1, -1, 1)),
)  # fmt: skip
PADS = (
    ((7,), (2, 1)), ((4, 6), (0, 1, 2, 0)), ((2, 3, 5), (0, 1, 0, 0, 0, 2)), ((2, 3, 5, 7), (0, 0, 1, 1, 0, 0, 1, 1)),
    ((2, 3, 5, 7), (0, 0, 0, 0, 0, 0, 1, 2)), ((2, 3, 5, 7), (0, 1, 0, 0, 0, 2, 0, 0)),
    ((2, 3, 5, 7), (1, 0, 2, 3, 0, 0, 1, 0)),
    ((2, 3, 5, 7), (0, 0, -1, -2, 0, 0, 0, 1)), ((1, 1, 2, 2), (0, 0, 1, 1, 0, 0, 1, 1)),
    ((2, 3, 2, 5, 4), (0, 0, 0, 1, 1, 0, 0, 0, 1, 1)),
)  # fmt: skip
SCALES = ((2, 2), (3, 2), (1, 2), (0.5, 0.5), (2, 0.5), (1.5, 1.5))
TRANSFORMATIONS = ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
ROUNDINGS = ("floor", "round_prefer_floor", "ceil", "round_prefer_ceil")


def _int64(numbers: object) -> Array:
    return np.asarray(numbers, np.int64)


def forms() -> Iterator[Form]:
    yield from _orders()
    yield from _joins()
    yield from _cuts()
    yield from _pads()
    yield from _gathers()
    yield from _repeats()
    yield from _blocks()
    yield from _resizes()


def _move(
    operator: str,
    name: str,
    body: str,
    shape: tuple[int, ...],
    dtype: str = "float",
    outputs: str = "y",
    **constants: Array,
) -> Form:
    """Everything here is exact, of any element type."""
    named = name if dtype == "float" else f"{dtype} {name}"
    return Form(operator, named, body, typed(dtype, "x", *shape), outputs, constants, exact=True)


def _orders() -> Iterator[Form]:
    for (shape, target), dtype in product(RESHAPES, TYPES):
        yield _move(
            "Reshape", f"{brackets(shape)} to {brackets(target)}", "y = Reshape (x, t)", shape, dtype, t=_int64(target)
        )
    for dtype in TYPES:
        axes = _int64((0, 2))
        yield _move("Squeeze", "[1,3,1,5]", "y = Squeeze (x, a)", (1, 3, 1, 5), dtype, a=axes)
        yield _move("Unsqueeze", "[3,5]", "y = Unsqueeze (x, a)", (3, 5), dtype, a=axes)
    orders = [((2, 3), (1, 0)), ((2, 1), (1, 0)), ((2, 3, 2, 5, 4), (0, 2, 3, 4, 1)),
              ((2, 3, 2, 5, 4), (4, 3, 2, 1, 0)),
              ((2, 3, 2, 2, 3, 2), (0, 3, 1, 4, 2, 5)), ((1, 4, 1, 1), (0, 2, 3, 1))]  # fmt: skip
    orders += [((2, 3, 5), order) for order in permutations(range(3))]
    orders += [((2, 3, 5, 7), order) for order in permutations(range(4))]
    for index, (shape, order) in enumerate(orders):
        for dtype in TYPES if index % 3 == 0 else ("float",):
            # Behind an Abs and before a Neg, or it would be no operator but a name for a layout.
            listed = f"[{', '.join(map(str, order))}]"
            if dtype == "float":
                body = f"a = Abs (x) y = Transpose <perm = {listed}> (a)"
            else:
                body = f"y = Transpose <perm = {listed}> (x)"
            yield _move("Transpose", f"{brackets(shape)} by {brackets(order)}", body, shape, dtype)


def _joins() -> Iterator[Form]:
    for shape, dtype in product(((7,), (4, 6), (2, 3, 5), (2, 3, 5, 7), (1, 1, 1, 1), (2, 3, 2, 5, 4)), TYPES):
        for axis in range(len(shape)):
            for count in (2, 5) if dtype == "float" else (2,):
                body = f"y = Concat <axis = {axis}> ({', '.join(['x', *['z'] * (count - 1)])})"
                name = f"{count} of {brackets(shape)} on axis {axis}"
                inputs = f"{typed(dtype, 'x', *shape)}, {typed(dtype, 'z', *shape)}"
                named = name if dtype == "float" else f"{dtype} {name}"
                yield Form("Concat", named, body, inputs, exact=True)

    for shape, dtype in product(((7,), (4, 6), (2, 3, 5), (2, 3, 5, 7)), TYPES[:2]):
        constants = {"c": np.random.default_rng(1).integers(-5, 6, shape).astype(NUMPY[dtype])}
        for name, body in (("before", "y = Concat <axis = 0> (c, x)"), ("behind", "y = Concat <axis = 0> (x, c)")):
            named = f"{dtype} constant {name} {brackets(shape)}"
            yield Form("Concat", named, body, typed(dtype, "x", *shape), constants=constants, exact=True)


def _cuts() -> Iterator[Form]:
    for shape, axis, sizes in (
        ((8,), 0, (4, 4)), ((8,), 0, (1, 7)), ((6,), 0, (2, 2, 2)), ((8,), 0, (1, 2, 3, 2)),
        ((4, 6), 1, (2, 4)), ((4, 6), 1, (2, 2, 2)), ((4, 6), 1, (1, 2, 3)), ((4, 6), 0, (2, 2)),
        ((2, 4, 5, 7), 1, (2, 2)), ((2, 4, 5, 7), 1, (1, 1, 1, 1)), ((2, 4, 5, 7), 1, (3, 1)),
        ((2, 4, 6, 7), 2, (3, 3)),
        ((2, 4, 6, 7), 3, (5, 2)), ((2, 4, 6, 7), 0, (1, 1)), ((2, 4, 6), 1, (1, 3)), ((2, 4, 2, 5, 4), 1, (2, 2)),
    ):  # fmt: skip
        for dtype in TYPES[:2]:
            names = [f"y{index}" for index in range(len(sizes))]
            body = f"{', '.join(names)} = Split <axis = {axis}> (x, s)"
            name = f"{brackets(shape)} on axis {axis} into {brackets(sizes)}"
            yield _move("Split", name, body, shape, dtype, ", ".join(names), s=_int64(sizes))
    for (shape, begins, ends, steps), dtype in product(SLICES, TYPES):
        constants = {"b": _int64(begins), "e": _int64(ends), "a": _int64(range(len(shape))), "s": _int64(steps)}
        name = f"{brackets(shape)} from {brackets(begins)} to {brackets(ends)} by {brackets(steps)}"
        yield _move("Slice", name, "y = Slice (x, b, e, a, s)", shape, dtype, **constants)


def _pads() -> Iterator[Form]:
    for (shape, amounts), dtype, fill in product(PADS, ("float", "int32"), (0, 3)):
        value = np.asarray(fill, np.float32 if dtype == "float" else np.int32)
        name = f"{brackets(shape)} by {brackets(amounts)} with {fill}"
        yield _move("Pad", name, "y = Pad (x, p, v)", shape, dtype, p=_int64(amounts), v=value)
    for (shape, amounts), mode in product(PADS, ("reflect", "edge", "wrap")):
        body = f'y = Pad <mode = "{mode}"> (x, p)'
        if min(amounts) < 0:
            continue
        yield Form("Pad", f"{mode} {brackets(shape)} by {brackets(amounts)}", body, floats("x", *shape),
                   constants={"p": _int64(amounts)}, exact=True, opset=19)  # fmt: skip


def _gathers() -> Iterator[Form]:
    for shape, dtype in product(((7,), (4, 6), (2, 3, 5), (3, 4, 5, 7), (2, 3, 2, 5, 4)), TYPES):
        for axis in range(len(shape)):
            size = shape[axis]
            for indices in (1, [size - 1, 0], [-1], [[0, 1], [1, 0]]):
                if np.ndim(indices) == 2 and len(shape) > 3:
                    continue
                name = (
                    f"{brackets(shape)} axis {axis} at {indices}".replace(" ", "")
                    .replace("axis", " axis ")
                    .replace("at", " at ")
                )
                yield _move("Gather", name, f"y = Gather <axis = {axis}> (x, i)", shape, dtype, i=_int64(indices))
    for shape, axis, signed in product(((4, 6), (3, 4, 5, 7)), (0, 1), (False, True)):
        given = np.array([[1, 0], [2, -1 if signed else 1]], np.int64)
        inputs = f"{floats('x', *shape)}, {typed('int64', 'i', 2, 2)}"
        name = f"{brackets(shape)} axis {axis} at computed indices{', negative ones too' if signed else ''}"
        yield Form("Gather", name, f"y = Gather <axis = {axis}> (x, i)", inputs, given={"i": given}, exact=True)

    shapes, counts = ((7,), (4, 6), (5, 2, 3)), (
        (3,), (2, 2), (2, 2, 3), (2, 1, 2, 3), (2, 1, 2, 1, 3), (2, 1, 2, 1, 1, 3), (2, 1, 2, 1, 1, 1, 3),
    )  # fmt: skip
    for shape, indices, dtype in product(shapes, counts, TYPES[:2]):
        if len(shape) + len(indices) - 1 > MOST_AXES:
            continue
        generator = np.random.default_rng(1)
        table = (5 * generator.standard_normal(shape)).astype(NUMPY[dtype])
        given = generator.integers(0, shape[0], indices)
        name = f"{dtype} {brackets(shape)} at {brackets(indices)}"
        computed, operand = typed("int64", "i", *indices), typed(dtype, "x", *shape)
        yield Form("Gather", f"computed, of a constant {name}", "y = Gather <axis = 0> (t, i)", computed,
                   constants={"t": table}, given={"i": given}, exact=True)  # fmt: skip
        yield Form("Gather", f"computed, of {name}", "y = Gather <axis = 0> (x, i)", f"{operand}, {computed}",
                   given={"i": given}, exact=True)  # fmt: skip
        yield Form("Gather", f"constant, of {name}", "y = Gather <axis = 0> (x, t)", operand,
                   constants={"t": _int64(given)}, exact=True)  # fmt: skip


def _repeats() -> Iterator[Form]:
    for (shape, repeats), dtype in product(
        (((7,), (3,)), ((4, 6), (2, 1)), ((4, 6), (1, 3)), ((2, 3, 5), (1, 2, 2)), ((2, 3, 5, 7), (1, 2, 1, 2)),
         ((2, 3, 5, 7), (2, 1, 1, 1)), ((1, 1, 1, 1), (2, 2, 2, 2)), ((2, 3, 2, 5, 4), (1, 2, 1, 1, 2))), TYPES
    ):  # fmt: skip
        yield _move(
            "Tile", f"{brackets(shape)} by {brackets(repeats)}", "y = Tile (x, r)", shape, dtype, r=_int64(repeats)
        )
    for (shape, target), dtype in product(
        (((1,), (7,)), ((4, 1), (4, 6)), ((1, 6), (4, 6)), ((2, 1, 5), (2, 3, 5)),
         ((3, 1), (2, 3, 5)), ((3, 1, 1), (2, 3, 5, 7)), ((2, 3, 1, 1), (2, 3, 5, 7)),
         ((1, 3, 5, 7), (2, 3, 5, 7)), ((2, 1, 5, 1), (2, 3, 5, 7)), ((7,), (2, 3, 5, 7)),
         ((2, 3, 1, 5, 1), (2, 3, 2, 5, 4)),
         ((1, 3, 1, 5, 1, 2), (2, 3, 2, 5, 4, 2))), TYPES
    ):  # fmt: skip
        yield _move(
            "Expand", f"{brackets(shape)} to {brackets(target)}", "y = Expand (x, t)", shape, dtype, t=_int64(target)
        )


def _blocks() -> Iterator[Form]:
    for shape, block in (((2, 8, 3, 5), 2), ((1, 9, 2, 2), 3), ((1, 4, 1, 1), 2), ((2, 16, 2, 3), 4)):
        for mode in ("DCR", "CRD"):
            body = f'y = DepthToSpace <blocksize = {block}, mode = "{mode}"> (x)'
            yield _move("DepthToSpace", f"{mode} {block} of {brackets(shape)}", body, shape)
    for shape, block in (((2, 3, 4, 6), 2), ((1, 2, 3, 3), 3), ((1, 1, 2, 2), 2), ((2, 4, 8, 4), 4)):
        yield _move(
            "SpaceToDepth", f"{block} of {brackets(shape)}", f"y = SpaceToDepth <blocksize = {block}> (x)", shape
        )


# The reference multiplies what a position does not take by 0, and 0 · ∞ is NaN.
RESIZE_KINDS = ("ordinary", "ties", "zeros", "denormal", "largest")


def _resizes() -> Iterator[Form]:
    for form in _resize_forms():
        yield replace(form, kinds=RESIZE_KINDS)


def _resize_forms() -> Iterator[Form]:
    for size, (rows, columns), transformation in product(((3, 4), (1, 1), (4, 6)), SCALES, TRANSFORMATIONS):
        shape = (2, 3, *size)
        if min(int(size[0] * rows), int(size[1] * columns)) < 1 or (size == (3, 4) and 0.5 in (rows, columns)):
            continue
        scales = np.asarray([1, 1, rows, columns], np.float32)
        where = f"{transformation} {brackets(shape)} by {rows:g}x{columns:g}"
        whole = all(float(part * scale).is_integer() for part, scale in zip(size, scales[2:], strict=True))
        if transformation == "align_corners" and not whole:
            continue  # ONNX's reference takes a length that is none
        body = f'y = Resize <mode = "linear", coordinate_transformation_mode = "{transformation}"> (x, , s)'
        yield Form("Resize", f"linear {where}", body, floats("x", *shape), constants={"s": scales})
        for rounding in ROUNDINGS if (rows, columns) in ((2, 2), (3, 2)) else ROUNDINGS[:2]:
            body = (
                f'y = Resize <mode = "nearest", coordinate_transformation_mode = "{transformation}", '
                f'nearest_mode = "{rounding}"> (x, , s)'
            )
            yield Form(
                "Resize", f"nearest {rounding} {where}", body, floats("x", *shape), constants={"s": scales}, exact=True
            )
    for shape, scales in (((2, 3, 5), (1, 1, 2)), ((2, 3, 2, 4, 3), (1, 1, 2, 1, 2)), ((2, 3, 4, 6), (1, 2, 1, 1))):
        constants = {"s": np.asarray(scales, np.float32)}
        body = 'y = Resize <mode = "linear"> (x, , s)'
        yield Form(
            "Resize", f"linear {brackets(shape)} by {brackets(scales)}", body, floats("x", *shape), constants=constants
        )
