"""Larq Compute Engine's operators, and moves of packed tensors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from bnncc.ir.evaluate import Array
from tests.conformance.form import Form, brackets, floats, normal, signs

CHANNELS = (1, 3, 31, 32, 33, 64, 100)
MAPS = ((1, 1), (2, 2), (3, 3), (5, 7), (8, 8))
# (kernel, stride, dilation, pads)
GEOMETRIES = (
    (1, 1, 1, (0, 0, 0, 0)), (1, 2, 1, (0, 0, 0, 0)), (3, 1, 1, (0, 0, 0, 0)), (3, 1, 1, (1, 1, 1, 1)),
    (3, 2, 1, (0, 0, 1, 1)), (3, 2, 1, (1, 1, 1, 1)), (5, 1, 1, (2, 2, 2, 2)), (2, 2, 1, (0, 0, 0, 0)),
    (3, 1, 2, (2, 2, 2, 2)),
)  # fmt: skip
# What LCE clips its sums to.
CLIPS = {"Relu": "sum_min = 0.0", "Relu6": "sum_min = 0.0, sum_max = 6.0", "ReluN1To1": "sum_min = -1.0, sum_max = 1.0"}
# The first with a Pad that goes round.
OPSET = 19
# A packed tensor is moved: Sign, the move, a 1x1 binary convolution that reads the bits.
MOVES = {
    "Pad by +1": ("t = Pad (s, p, v)", {"p": (0, 0, 1, 1, 0, 0, 1, 1), "v": 1.0}),
    "Pad by -1": ("t = Pad (s, p, v)", {"p": (0, 0, 1, 0, 0, 0, 2, 1), "v": -1.0}),
    "Pad reflect": ('t = Pad <mode = "reflect"> (s, p)', {"p": (0, 0, 1, 1, 0, 0, 1, 1)}),
    "Pad edge": ('t = Pad <mode = "edge"> (s, p)', {"p": (0, 0, 1, 0, 0, 0, 1, 2)}),
    "Pad wrap": ('t = Pad <mode = "wrap"> (s, p)', {"p": (0, 0, 1, 0, 0, 0, 1, 2)}),
    "Split": ("t, u = Split <axis = 2, num_outputs = 2> (s)", {}),
    "Split of channels": ("u, t = Split <axis = 1, num_outputs = 2> (s)", {}),
    "Reshape": ("t = Reshape (s, r)", {"r": (1, 64, 12, 2)}),
    "Slice": ("t = Slice (s, b, e, a, k)", {"b": (0, 0), "e": (4, 6), "a": (2, 3), "k": (2, 2)}),
    "Slice backwards": ("t = Slice (s, b, e, a, k)", {"b": (-1, -1), "e": (-100, -100), "a": (2, 3), "k": (-1, -1)}),
    "Slice of channels": ("t = Slice (s, b, e, a)", {"b": (32,), "e": (64,), "a": (1,)}),
    "Concat of rows": ("t = Concat <axis = 2> (s, s)", {}),
    "Concat of channels": ("t = Concat <axis = 1> (s, s)", {}),
    "Gather": ("t = Gather <axis = 2> (s, i)", {"i": (0, 2, 1)}),
    "Gather of channels": ("t = Gather <axis = 1> (s, i)", {"i": (*range(32, 64), *range(32))}),
    "Tile": ("t = Tile (s, r)", {"r": (1, 1, 2, 1)}),
    "Transpose": ("t = Transpose <perm = [0, 1, 3, 2]> (s)", {}),
    "SpaceToDepth": ("t = SpaceToDepth <blocksize = 2> (s)", {}),
    "DepthToSpace": ("u = Concat <axis = 1> (s, s) t = DepthToSpace <blocksize = 2> (u)", {}),
}


def forms() -> Iterator[Form]:
    yield from _signs()
    yield from _convolutions()
    yield from _clipped()
    yield from _pools()
    yield from _moves()


def _signs() -> Iterator[Form]:
    for channels, shape in product(CHANNELS, ((2, 1, 1), (1, 3, 5))):
        batch, height, width = shape
        whole = (batch, channels, height, width)
        yield Form("Sign", f"bnncc {brackets(whole)}", "y = bnncc.Sign (x)", floats("x", *whole), exact=True)
    for whole in ((2, 33), (2, 5, 64), (2, 64, 7)):
        yield Form("Sign", f"bnncc {brackets(whole)}", "y = bnncc.Sign (x)", floats("x", *whole), exact=True)


def _fits(size: tuple[int, int], kernel: int, dilation: int, pads: tuple[int, ...]) -> bool:
    extent = (kernel - 1) * dilation + 1
    return all(size[axis] + pads[axis] + pads[axis + 2] >= extent for axis in (0, 1))


def _attributes(kernel: int, stride: int, dilation: int, pads: tuple[int, ...], value: float) -> str:
    listed = ", ".join(map(str, pads))
    return (
        f"strides = [{stride}, {stride}], dilations = [{dilation}, {dilation}], group = 1, pads = [{listed}], "
        f"pad_value = {value}"
    )


def _convolutions() -> Iterator[Form]:
    for index, (size, (kernel, stride, dilation, pads), value) in enumerate(product(MAPS, GEOMETRIES, (0.0, 1.0))):
        if not _fits(size, kernel, dilation, pads) or (value and not any(pads)):
            continue
        if not value and any(pads) and min(size) < (kernel - 1) * dilation + 1:
            continue  # LCE is wrong there; `bnncc.passes.legalize` cuts the kernel, the emitter never sees it
        inside, outside = CHANNELS[index % 7], CHANNELS[(index + 3) % 7]
        shape = (1 + index % 2, inside, *size)
        attributes = _attributes(kernel, stride, dilation, pads, value)
        weight = signs(outside, inside, kernel, kernel)
        name = (
            f"{brackets(shape)} to {outside} kernel {kernel} stride {stride} dilation {dilation} pads {brackets(pads)} "
            f"of {value:+g}"
        )
        constants: dict[str, Array | float] = {"w": weight, "m": normal(outside), "b": normal(outside, seed=2)}
        body = f"s = bnncc.Sign (x) y = bnncc.BinaryConv <{attributes}> (s, w, m, b)"
        yield Form("BinaryConv", name, body, floats("x", *shape), constants=constants)
        if value or not any(pads):
            least = np.asarray(normal(outside, seed=3) * kernel * np.sqrt(inside), np.float32)
            least[::5], least[3::10] = np.inf, -np.inf
            body = f"s = bnncc.Sign (x) y = bnncc.BinaryConvSign <{attributes}> (s, w, a)"
            constants = {"w": weight, "a": least}
            yield Form("BinaryConvSign", name, body, floats("x", *shape), constants=constants, exact=True)


def _clipped() -> Iterator[Form]:
    """With a fused activation, which zero padding does not go with."""
    for (activation, clip), (pads, value), inside in product(
        CLIPS.items(), (((0, 0, 0, 0), 0.0), ((1, 1, 1, 1), 1.0), ((1, 0, 0, 1), 1.0)), (3, 64)
    ):
        attributes = f"{_attributes(3, 1, 1, pads, value)}, {clip}"
        constants: dict[str, Array | float] = {"w": signs(33, inside, 3, 3), "m": normal(33), "b": normal(33, seed=2)}
        name = f"{activation} [1,{inside},5,4] pads {brackets(pads)} of {value:+g}"
        body = f"s = bnncc.Sign (x) y = bnncc.BinaryConv <{attributes}> (s, w, m, b)"
        # LCE multiplies a count of products, and adds m·K + b to it, of K products.
        yield Form("BinaryConv", name, body, floats("x", 1, inside, 5, 4), constants=constants, reach=9.0 * inside)


def _pools() -> Iterator[Form]:
    for size, (kernel, stride, pads), channels in product(
        MAPS, ((2, 2, (0, 0, 0, 0)), (3, 2, (1, 1, 1, 1)), (3, 2, (0, 0, 1, 1)), (3, 1, (1, 1, 1, 1))), (3, 64)
    ):
        if not _fits(size, kernel, 1, pads):
            continue
        shape = (2, channels, *size)
        attributes = f"kernel_shape = [{kernel}, {kernel}], strides = [{stride}, {stride}], pads = {list(pads)}"
        name = f"{brackets(shape)} kernel {kernel} stride {stride} pads {brackets(pads)}"
        body = f"s = bnncc.Sign (x) y = bnncc.BinaryMaxPool <{attributes}> (s)"
        yield Form("BinaryMaxPool", name, body, floats("x", *shape), exact=True)


def _moves() -> Iterator[Form]:
    for name, (move, constants) in MOVES.items():
        for size in ((4, 6), (6, 4)):
            given: dict[str, Array | float] = {
                key: value if isinstance(value, float) else np.asarray(value, np.int64)
                for key, value in constants.items()
            }
            inside = {
                "Slice of channels": 32,
                "Split of channels": 32,
                "Concat of channels": 128,
                "SpaceToDepth": 256,
                "DepthToSpace": 32,
            }.get(name, 64)
            attributes = _attributes(1, 1, 1, (0, 0, 0, 0), 0.0)
            body = f"s = bnncc.Sign (x) {move} y = bnncc.BinaryConv <{attributes}> (t, w, m, c)"
            given |= {"w": signs(3, inside, 1, 1), "m": normal(3), "c": normal(3, seed=2)}
            shape = (1, 64, *size)
            title = f"behind {name} of {brackets(shape)}"
            yield Form("BinaryConv", title, body, floats("x", *shape), constants=given, opset=OPSET)
