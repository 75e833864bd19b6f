"""Integers of 8 bits: at a file's border, and the operators that run in int8 (`--quantize int8`); and maps that wait in
int16 (`--shortcuts int16`).

    q (bytes) ─ DequantizeLinear ─ Conv ─ y      is in the file      q ─ CONV_2D (int8) ─ DEQUANTIZE ─ y

Weights are whole steps of a scale, so what is right is what the floats of the graph yield: an operator may be off by
half a step of what it yields, and kernels that multiply in fixed point by half a step more.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from bnncc.ir.evaluate import Array
from tests.conformance.elementwise import ACTIVATIONS
from tests.conformance.form import Form, brackets, floats, signs, typed

TYPES = {"uint8": (0.02, 117), "int8": (0.03, -11)}
SHAPES = ((7,), (2, 3), (2, 3, 5), (2, 3, 5, 7), (1, 1, 1, 1), (2, 3, 2, 2, 2))
MAPS = ((1, 1), (2, 2), (5, 7), (8, 8))
# (kernel, stride, dilation, pad)
GEOMETRIES = ((1, 1, 1, 0), (3, 1, 1, 1), (3, 1, 1, 0), (3, 2, 1, 1), (3, 1, 2, 2), (5, 1, 1, 2), (2, 2, 1, 0))
# (channels in, channels out, groups)
CHANNELS = ((1, 1, 1), (3, 8, 1), (8, 16, 1), (4, 4, 4), (3, 6, 3), (33, 5, 1), (1, 6, 1))
POOLS = ((2, 2, 0), (3, 2, 1), (3, 1, 1), (3, 2, 0))
_LARGEST = 127
# The oldest whose DequantizeLinear the reference evaluator has.
OPSET = 19
# The first whose QuantizeLinear has int16.
OF_SHORTS = 21
# What is there in front of the form: what its bytes stand for.
_BYTES = "x = DequantizeLinear (q, s, z) "


def forms() -> Iterator[Form]:
    yield from _borders()
    yield from _layers()
    yield from _linear()
    yield from _behind_layers()
    yield from _moves()
    yield from _signs()
    yield from _outputs()
    yield from _shorts()


def steps_of(shape: tuple[int, ...], dtype: str, seed: int = 1) -> Array:
    """Bytes, with the lowest and the highest among them where there is room."""
    bounds = np.iinfo(dtype)
    drawn = np.random.default_rng(seed).integers(bounds.min, bounds.max + 1, shape)
    drawn.reshape(-1)[:2] = (bounds.max, bounds.min)[: drawn.size]
    return drawn.astype(dtype)


def grid(*shape: int, axis: int | None = 0, seed: int = 1) -> Array:
    """Weights that int8 holds without rounding: ±127 steps at most, and once, of a scale for each index of `axis`."""
    generator = np.random.default_rng(seed)
    steps = generator.integers(-_LARGEST, _LARGEST + 1, shape)
    if axis is None:
        steps.reshape(-1)[0] = _LARGEST
        return np.asarray(steps * np.float32(2.0**-10), np.float32)
    first = np.moveaxis(steps, axis, 0)
    first.reshape(len(first), -1)[:, 0] = _LARGEST  # a view where `axis` is 0, as it is
    scales = 2.0 ** -generator.integers(8, 11, shape[axis]).astype(np.float64)
    return np.asarray(first * scales.reshape(-1, *[1] * (len(shape) - 1)), np.float32)


def _of_bytes(
    operator: str,
    name: str,
    body: str,
    shape: tuple[int, ...],
    dtype: str,
    constants: dict[str, Array | float] | None = None,
    outputs: str = "y",
    exact: bool = False,
) -> Form:
    scale, point = TYPES[dtype]
    return Form(
        operator,
        f"of {dtype}, {name}",
        _BYTES + body,
        typed(dtype, "q", *shape),
        outputs,
        {"s": float(scale), "z": np.asarray(point, dtype), **(constants or {})},
        exact=exact,
        given={"q": steps_of(shape, dtype)},
        opset=OPSET,
        integers=True,
    )


def _borders() -> Iterator[Form]:
    for dtype, shape in product(TYPES, SHAPES):
        scale, point = TYPES[dtype]
        constants: dict[str, Array | float] = {"s": float(scale), "z": np.asarray(point, dtype)}
        given, body = {"x": steps_of(shape, dtype)}, "y = DequantizeLinear (x, s, z)"
        yield Form("DequantizeLinear", f"{dtype} {brackets(shape)}", body, typed(dtype, "x", *shape),
                   constants=constants, given=given, opset=OPSET)  # fmt: skip
        yield Form("QuantizeLinear", f"{dtype} {brackets(shape)}", "y = QuantizeLinear (x, s, z)",
                   floats("x", *shape), constants=constants,
                   kinds=("ordinary", "ties", "zeros", "denormal", "largest", "infinite"), opset=OPSET)  # fmt: skip


def _layers() -> Iterator[Form]:
    for index, (size, (kernel, stride, dilation, pad)) in enumerate(product(MAPS, GEOMETRIES)):
        if min(size) + 2 * pad < (kernel - 1) * dilation + 1:
            continue
        for dtype, offset in zip(TYPES, (0, 3), strict=True):
            inside, outside, group = CHANNELS[(index + offset) % len(CHANNELS)]
            shape = (1 + index % 2, inside, *size)
            attributes = (
                f"strides = [{stride}, {stride}], dilations = [{dilation}, {dilation}], "
                f"pads = [{pad}, {pad}, {pad}, {pad}], group = {group}"
            )
            name = (
                f"{brackets(shape)} to {outside} kernel {kernel} stride {stride} dilation {dilation} pad {pad} "
                f"groups {group}"
            )
            constants = {"w": grid(outside, inside // group, kernel, kernel), "b": grid(outside, seed=2)}
            yield _of_bytes("Conv", name, f"y = Conv <{attributes}> (x, w, b)", shape, dtype, {**constants})
    for (activation, clip), group in product(ACTIVATIONS.items(), (1, 4)):
        constants = {"w": grid(4, 4 // group, 3, 3), "b": grid(4, seed=2)}
        body = f"s1 = Conv <pads = [1, 1, 1, 1], group = {group}> (x, w, b) {clip.replace('(s', '(s1')}"
        yield _of_bytes("Conv", f"{activation} groups {group}", body, (1, 4, 6, 5), "uint8", {**constants})


def _linear() -> Iterator[Form]:
    for batch, (inside, outside), dtype in product((1, 3), ((1, 1), (3, 4), (33, 10), (64, 32)), TYPES):
        constants = {"w": grid(outside, inside, axis=None), "b": grid(outside, seed=2)}
        name = f"{brackets((batch, inside))} to {outside}"
        yield _of_bytes("Gemm", name, "y = Gemm <transB = 1> (x, w, b)", (batch, inside), dtype, {**constants})
    for shape, outside in product(((2, 5, 6), (1, 3, 33)), (4, 10)):
        constants = {"w": grid(shape[-1], outside, axis=None), "b": grid(outside, seed=2)}
        for name, tail in (("", "y = Identity (m)"), (" and a sum", "y = Add (m, b)")):
            body = f"m = MatMul (x, w) {tail}"
            used = constants if "b)" in tail else {"w": constants["w"]}
            yield _of_bytes("MatMul", f"{brackets(shape)} to {outside}{name}", body, shape, "int8", {**used})
    constants = {"w": grid(4, 60, axis=None), "b": grid(4, seed=2)}
    flat = "f = Flatten (x) y = Gemm <transB = 1> (f, w, b)"
    yield _of_bytes("Gemm", "behind Flatten", flat, (2, 3, 4, 5), "uint8", {**constants})
    for activation, clip in ACTIVATIONS.items():
        constants = {"w": grid(4, 6, axis=None), "b": grid(4, seed=2)}
        body = f"s1 = Gemm <transB = 1> (x, w, b) {clip.replace('(s', '(s1')}"
        yield _of_bytes("Gemm", activation, body, (2, 6), "int8", {**constants})


def _behind_layers() -> Iterator[Form]:
    """Pools, sums and PReLUs between a layer and the output."""
    layer = "a = Conv (x, w, b) "
    constants: dict[str, Array | float] = {"w": grid(6, 3, 1, 1), "b": grid(6, seed=2)}
    for kind, (kernel, stride, pad), size in product(("MaxPool", "AveragePool"), POOLS, MAPS):
        if min(size) + 2 * pad < kernel:
            continue
        body = (
            f"y = {kind} <kernel_shape = [{kernel}, {kernel}], strides = [{stride}, {stride}], pads = {[pad] * 4}> (a)"
        )
        name = f"{brackets((2, 3, *size))} kernel {kernel} stride {stride} pad {pad}"
        yield _of_bytes(kind, name, layer + body, (2, 3, *size), "uint8", constants)
    # Along one axis alone.
    for kind, (kernel, stride, pad) in product(("MaxPool", "AveragePool"), POOLS):
        body = f"y = {kind} <kernel_shape = [1, {kernel}], strides = [1, {stride}], pads = {[0, pad] * 2}> (a)"
        name = f"kernel [1,{kernel}] stride [1,{stride}] pad {pad}"
        yield _of_bytes(kind, name, layer + body, (2, 3, 1, 9), "int8", constants)
    for group, stride, pad in product((1, 3), (1, 2), (0, 1)):
        body = f"y = Conv <strides = [1, {stride}], pads = {[0, pad] * 2}, group = {group}> (x, w, b)"
        given = {"w": grid(6, 3 // group, 1, 3), "b": grid(6, seed=2)}
        name = f"kernel [1,3] stride [1,{stride}] pad {pad} groups {group}"
        yield _of_bytes("Conv", name, body, (2, 3, 1, 9), "uint8", {**given})
    other = "c = Conv (x, v, b) "
    for size, (activation, clip) in product(MAPS, {"": "y = Identity (s1)", **ACTIVATIONS}.items()):
        body = f"{layer}{other}s1 = Add (a, c) {clip.replace('(s', '(s1') if activation else clip}"
        given = {**constants, "v": grid(6, 3, 1, 1, seed=3)}
        yield _of_bytes("Add", f"{activation} {brackets((2, 3, *size))}".strip(), body, (2, 3, *size), "int8", given)
    for size, shape in product(MAPS, ((6, 1, 1), (1,))):
        given = {**constants, "k": grid(*shape, axis=None, seed=3) * 4}
        name = f"a constant {brackets(shape)} to {brackets((2, 3, *size))}"
        yield _of_bytes("Add", name, f"{layer}y = Add (a, k)", (2, 3, *size), "uint8", given)
    for size, shape in product(MAPS, ((6, 1, 1), (1, 1, 1))):
        given = {**constants, "k": np.abs(grid(*shape, axis=None, seed=3)) * 4}
        name = f"{brackets((2, 3, *size))} slope {brackets(shape)}"
        yield _of_bytes("PRelu", name, f"{layer}y = PRelu (a, k)", (2, 3, *size), "uint8", given)


def _moves() -> Iterator[Form]:
    """What only moves elements between bytes and a layer."""
    layer = "y = Conv (t, w, b)"
    backwards = {name: np.asarray(numbers, np.int64) for name, numbers in
                 {"f": (-1, -1), "e": (-100, -100), "a": (2, 3), "k": (-1, -1)}.items()}  # fmt: skip
    for name, body, inside, extra in (
        ("Transpose", "t = Transpose <perm = [0, 1, 3, 2]> (x) ", 8, {}),
        ("Slice", "t = Slice (x, f, e, a, k) ", 8, backwards),
        ("SpaceToDepth", "t = SpaceToDepth <blocksize = 2> (x) ", 32, {}),
        ("DepthToSpace", "t = DepthToSpace <blocksize = 2> (x) ", 2, {}),
        ("Reshape", "t = Reshape (x, r) ", 4, {"r": np.asarray((2, 4, 8, 6), np.int64)}),
    ):
        for dtype in TYPES:
            constants = {"w": grid(5, inside, 1, 1), "b": grid(5, seed=2), **extra}
            yield _of_bytes(name, "in front of a convolution", body + layer, (2, 8, 4, 6), dtype, {**constants})


def _signs() -> Iterator[Form]:
    """LceQuantize reads int8."""
    for dtype, channels, size in product(TYPES, (1, 31, 32, 33, 64), ((1, 1), (3, 5))):
        shape = (2, channels, *size)
        body = "y = bnncc.Sign (x)"
        yield _of_bytes("Sign", f"bnncc {brackets(shape)}", body, shape, dtype, exact=True)
        attributes = "strides = [1, 1], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1], pad_value = 1.0"
        constants: dict[str, Array | float] = {
            "w": signs(5, channels, 3, 3), "m": grid(5), "c": grid(5, seed=2)
        }  # fmt: skip
        body = f"t = bnncc.Sign (x) y = bnncc.BinaryConv <{attributes}> (t, w, m, c)"
        yield _of_bytes("BinaryConv", f"of signs {brackets(shape)}", body, shape, dtype, constants)
    for dtype in TYPES:
        body = "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) y = bnncc.Sign (p)"
        yield _of_bytes("MaxPool", "in front of a sign", body, (2, 33, 4, 6), dtype, exact=True)


def _outputs() -> Iterator[Form]:
    """`--softmax`, `--argmax`, `--output-type`."""
    for dtype, shape in product(TYPES, ((1, 10), (3, 7))):
        constants: dict[str, Array | float] = {
            "s": 1 / 256, "z": np.asarray(np.iinfo(dtype).min, dtype),
        }  # fmt: skip
        body = "p = Softmax <axis = 1> (x) y = QuantizeLinear (p, s, z)"
        yield Form("Softmax", f"{dtype} {brackets(shape)}", body, floats("x", *shape), constants=constants,
                   kinds=("ordinary", "ties", "zeros"), opset=OPSET)  # fmt: skip


def _shorts() -> Iterator[Form]:
    """A map that waits in int16, in steps of a power of two, as `bnncc compile` writes it.

    Not of numbers whose steps no int32 holds: of them ONNX's evaluator makes the least integer.
    """
    for power, shape in product((-8, -14, 2), SHAPES):
        constants: dict[str, Array | float] = {"s": 2.0**power, "z": np.asarray(0, "int16")}
        body = "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z)"
        # In steps of 4 the ties of whole numbers are half-way as well, and ONNX rounds these to even.
        kinds = ("ordinary", "zeros", "denormal", "ties")[: 3 if power > 0 else 4]
        yield Form("QuantizeLinear", f"int16 of 2^{power} and back {brackets(shape)}", body, floats("x", *shape),
                   constants=constants, kinds=kinds, opset=OF_SHORTS)  # fmt: skip
