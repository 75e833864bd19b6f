"""Convolutions and pools: kernels, strides, dilations, padding, groups, tiny and odd maps, weights' precisions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from bnncc.targets.tflite.precision import WeightsPrecision
from tests.conformance.elementwise import ACTIVATIONS
from tests.conformance.form import Form, brackets, floats, normal

MAPS = ((1, 1), (2, 2), (3, 3), (5, 7), (8, 8), (1, 9))
# (kernel, strides, dilations, pads)
GEOMETRIES = (
    ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0)), ((1, 1), (2, 2), (1, 1), (0, 0, 0, 0)),
    ((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), ((3, 3), (1, 1), (1, 1), (0, 0, 0, 0)),
    ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)), ((3, 3), (2, 2), (1, 1), (0, 0, 1, 1)),
    ((3, 3), (1, 1), (2, 2), (2, 2, 2, 2)), ((3, 3), (1, 1), (1, 2), (1, 2, 1, 2)),
    ((2, 2), (1, 1), (1, 1), (0, 0, 1, 1)), ((2, 2), (2, 2), (1, 1), (0, 0, 0, 0)),
    ((1, 3), (1, 1), (1, 1), (0, 1, 0, 1)), ((3, 1), (1, 2), (1, 1), (1, 0, 1, 0)),
    ((5, 5), (1, 1), (1, 1), (2, 2, 2, 2)), ((7, 7), (2, 2), (1, 1), (3, 3, 3, 3)),
    ((3, 3), (3, 3), (1, 1), (2, 0, 1, 2)), ((1, 3), (3, 2), (1, 1), (0, 1, 0, 1)),
    ((5, 2), (1, 4), (1, 1), (2, 0, 2, 0)),
)  # fmt: skip
# (channels in, channels out, groups)
CHANNELS = ((1, 1, 1), (3, 4, 1), (8, 16, 1), (4, 4, 4), (4, 8, 4), (4, 6, 2), (33, 5, 1))
POOLS = (
    ((2, 2), (2, 2), (0, 0, 0, 0)), ((2, 2), (1, 1), (0, 0, 0, 0)), ((3, 3), (2, 2), (1, 1, 1, 1)),
    ((3, 3), (1, 1), (1, 1, 1, 1)),
    ((3, 3), (2, 2), (0, 0, 1, 1)), ((1, 1), (2, 2), (0, 0, 0, 0)), ((2, 3), (1, 2), (1, 0, 0, 1)),
    ((1, 3), (1, 1), (0, 1, 0, 1)), ((3, 1), (1, 2), (1, 0, 1, 0)), ((1, 3), (3, 2), (0, 1, 0, 1)),
)  # fmt: skip
TRANSPOSED = (
    ((2, 2), (2, 2), (0, 0, 0, 0), (0, 0), (1, 1)), ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (1, 1)),
    ((3, 3), (1, 1), (1, 1, 1, 1), (0, 0), (1, 1)), ((3, 3), (1, 1), (0, 0, 0, 0), (0, 0), (1, 1)),
    ((4, 4), (2, 2), (1, 1, 1, 1), (0, 0), (1, 1)), ((1, 1), (2, 2), (0, 0, 0, 0), (1, 1), (1, 1)),
    ((3, 2), (2, 1), (0, 1, 1, 0), (0, 0), (1, 1)), ((3, 3), (1, 1), (2, 2, 2, 2), (0, 0), (2, 2)),
)  # fmt: skip


def _list(numbers: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, numbers))}]"


def forms() -> Iterator[Form]:
    yield from _convolutions()
    yield from _one_dimensional()
    yield from _fused()
    yield from _rounded()
    yield from _pools()
    yield from _transposed()


def _fits(size: tuple[int, int], kernel: tuple[int, ...], dilations: tuple[int, ...], pads: tuple[int, ...]) -> bool:
    return all(size[axis] + pads[axis] + pads[axis + 2] >= (kernel[axis] - 1) * dilations[axis] + 1 for axis in (0, 1))


def _convolutions() -> Iterator[Form]:
    for index, (size, geometry) in enumerate(product(MAPS, GEOMETRIES)):
        kernel, strides, dilations, pads = geometry
        if not _fits(size, kernel, dilations, pads):
            continue
        for offset in range(2):
            inside, outside, group = CHANNELS[(index + 3 * offset) % len(CHANNELS)]
            shape = (1 + index % 2, inside, *size)
            attributes = (
                f"strides = {_list(strides)}, dilations = {_list(dilations)}, pads = {_list(pads)}, group = {group}"
            )
            constants = {"w": normal(outside, inside // group, *kernel), "b": normal(outside, seed=2)}
            name = (
                f"{brackets(shape)} to {outside} kernel {brackets(kernel)} stride {brackets(strides)} "
                f"dilation {brackets(dilations)} pads {brackets(pads)} groups {group}"
            )
            yield Form("Conv", name, f"y = Conv <{attributes}> (x, w, b)", floats("x", *shape), constants=constants)


def _one_dimensional() -> Iterator[Form]:
    for group, stride, pad in product((1, 4), (1, 2), (0, 1)):
        constants = {"w": normal(4, 4 // group, 3)}
        body = f"y = Conv <strides = [{stride}], pads = [{pad}, {pad}], group = {group}> (x, w)"
        name = f"[2,4,9] of one axis, stride {stride} pad {pad} groups {group}"
        yield Form("Conv", name, body, floats("x", 2, 4, 9), constants=constants)


def _fused() -> Iterator[Form]:
    for (activation, clip), group in product(ACTIVATIONS.items(), (1, 2, 4)):
        constants = {"w": normal(4, 4 // group, 3, 3), "b": normal(4, seed=2)}
        body = f"s = Conv <pads = [1, 1, 1, 1], group = {group}> (x, w, b) {clip}"
        yield Form("Conv", f"{activation} groups {group}", body, floats("x", 1, 4, 6, 5), constants=constants)
        for pads in ((0, 0, 1, 1), (0, 0, 0, 0)):
            body = f"s = Conv <strides = [2, 2], pads = {_list(pads)}, group = {group}> (x, w, b) {clip}"
            name = f"{activation} stride 2 pads {brackets(pads)} groups {group}"
            yield Form("Conv", name, body, floats("x", 1, 4, 6, 8), constants=constants)
    for activation, clip in ACTIVATIONS.items():
        constants = {"w": normal(4, 1, 3, 3), "b": normal(4, seed=2)}
        body = f"s = Conv <strides = [2, 2]> (x, w, b) {clip}"
        name = f"{activation} of one channel, stride 2"
        yield Form("Conv", name, body, floats("x", 1, 1, 6, 8), constants=constants)
        for kind in ("MaxPool", "AveragePool"):
            body = f"s = {kind} <kernel_shape = [2, 2], strides = [2, 2]> (x) {clip}"
            yield Form(kind, activation, body, floats("x", 1, 3, 6, 4))
        body = f"s = ConvTranspose <strides = [2, 2]> (x, w, b) {clip}"
        constants = {"w": normal(3, 4, 2, 2), "b": normal(4, seed=2)}
        yield Form("ConvTranspose", activation, body, floats("x", 1, 3, 4, 3), constants=constants)


def _rounded() -> Iterator[Form]:
    """Weights in float16 and int8: of 1024 elements at least."""
    for precision, size in product((WeightsPrecision.FLOAT16, WeightsPrecision.INT8), ((4, 4), (7, 5), (1, 1))):
        for kernel, group, (inside, outside), dilation in (
            (1, 1, (32, 32), 1), (3, 1, (16, 32), 1), (3, 1, (16, 32), 2), (3, 128, (128, 128), 1),
            (5, 64, (64, 64), 1),
            (3, 2, (32, 64), 1), (3, 128, (128, 128), 2),
        ):  # fmt: skip
            constants = {"w": normal(outside, inside // group, kernel, kernel), "b": normal(outside, seed=2)}
            pad = dilation * (kernel // 2)
            attributes = f"pads = [{pad}, {pad}, {pad}, {pad}], dilations = [{dilation}, {dilation}], group = {group}"
            body = f"y = Conv <{attributes}> (x, w, b)"
            shape = (1, inside, *size)
            name = (
                f"{precision.value} {brackets(shape)} to {outside} kernel {kernel} dilation {dilation} groups {group}"
            )
            kinds = None if precision is WeightsPrecision.FLOAT16 else ("ordinary", "zeros")
            yield Form("Conv", name, body, floats("x", *shape), constants=constants, precision=precision, kinds=kinds)
    constants = {"w": normal(16, 16, 2, 2), "b": normal(16, seed=2)}
    for precision in (WeightsPrecision.FLOAT16, WeightsPrecision.INT8):
        body = "y = ConvTranspose <strides = [2, 2]> (x, w, b)"
        yield Form(
            "ConvTranspose", precision.value, body, floats("x", 1, 16, 4, 3), constants=constants, precision=precision
        )


def _pools() -> Iterator[Form]:
    for kind, (kernel, strides, pads), size in product(("MaxPool", "AveragePool"), POOLS, MAPS):
        if not _fits(size, kernel, (1, 1), pads):
            continue
        options = ("", ", ceil_mode = 1") if kind == "MaxPool" else ("", ", count_include_pad = 1", ", ceil_mode = 1")
        for option in options:
            shape = (2, 3, *size)
            attributes = f"kernel_shape = {_list(kernel)}, strides = {_list(strides)}, pads = {_list(pads)}{option}"
            name = (
                f"{brackets(shape)} kernel {brackets(kernel)} stride {brackets(strides)} pads {brackets(pads)}{option}"
            )
            yield Form(kind, name, f"y = {kind} <{attributes}> (x)", floats("x", *shape), exact=kind == "MaxPool")


def _transposed() -> Iterator[Form]:
    for (kernel, strides, pads, extra, dilations), size, (inside, outside, group) in product(
        TRANSPOSED, ((1, 1), (3, 3), (4, 7)), ((1, 1, 1), (3, 4, 1), (4, 4, 4), (4, 6, 2))
    ):
        shape = (1, inside, *size)
        sizes = [
            (size[axis] - 1) * strides[axis] - pads[axis] - pads[axis + 2] + dilations[axis] * (kernel[axis] - 1) + 1
            for axis in (0, 1)
        ]
        if min(sizes) < 1:
            continue
        attributes = (
            f"strides = {_list(strides)}, pads = {_list(pads)}, output_padding = {_list(extra)}, "
            f"dilations = {_list(dilations)}, group = {group}"
        )
        constants = {"w": normal(inside, outside // group, *kernel), "b": normal(outside, seed=2)}
        name = (
            f"{brackets(shape)} to {outside} kernel {brackets(kernel)} stride {brackets(strides)} "
            f"pads {brackets(pads)} extra {brackets(extra)} dilation {brackets(dilations)} groups {group}"
        )
        yield Form(
            "ConvTranspose",
            name,
            f"y = ConvTranspose <{attributes}> (x, w, b)",
            floats("x", *shape),
            constants=constants,
        )
