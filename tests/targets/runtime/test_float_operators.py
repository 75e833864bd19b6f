"""The delegate's float convolutions and max pools beside LCE's operators, with every kernel this processor has.

The convolutions are compared with sums in float64: no two interpreters round a float sum in the same order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from bnncc.ir.evaluate import Array
from bnncc.runtime import LitertRunner, kernels
from bnncc.targets.tflite.bitpack import bitpack
from bnncc.targets.tflite.writer import ModelWriter, Tensor
from tests.targets.runtime.float_convolution import TOLERANCE, FloatConv, quantize
from tests.targets.runtime.models import SAME, VALID

Builtin = schema.BuiltinOperator


def signs(y: Array) -> Array:
    return bitpack(np.where(y < 0, -1.0, 1.0))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 20, 33])
def test_convolutions_are_sums_of_products(channels: int) -> None:
    rng = np.random.default_rng(channels)
    for _ in range(20):
        conv = FloatConv.draw(rng, channels)
        content, (x, _, _), (wanted, scale) = conv.file(), conv.arrays(), conv.expected()
        for kernel in kernels():
            one = LitertRunner(content, 1, kernel=kernel).run([x])
            assert one[0].shape == wanted.shape
            np.testing.assert_allclose(one[0], wanted, rtol=0, atol=TOLERANCE * scale, err_msg=f"{kernel} {conv}")
            np.testing.assert_array_equal(one[1], signs(one[0]), f"{kernel} {conv}")
            three = LitertRunner(content, 3, kernel=kernel).run([x])
            np.testing.assert_array_equal(three[0], one[0], f"{kernel} {conv}")


def test_a_convolution_s_outputs_do_not_depend_on_their_place() -> None:
    # Of a constant picture all pixels are the same, whatever tile of whatever size computes them, in the middle of a
    # line or at its end.
    for kernel in kernels():
        for width in range(20, 40):
            conv = FloatConv(1, (9, width), 3, 70, (3, 3), (1, 1), (1, 1), VALID, 0, True, 0)
            x = np.broadcast_to(conv.arrays()[0][:, :1, :1], (1, 9, width, 3))
            y = LitertRunner(conv.file(), 1, kernel=kernel).run([x])[0]
            np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], y.shape), f"{kernel} {width}")


def test_not_a_number_meets_only_its_own_pixels() -> None:
    conv = FloatConv(1, (12, 40), 3, 20, (3, 3), (2, 2), (1, 1), SAME, 1, True, 0)
    x = conv.arrays()[0].copy()
    x[0, 5, 20, 1] = np.nan
    (height, top), (width, left) = conv.windows()
    rows, columns = (np.arange(n)[:, None] * 2 - before + np.arange(3) for n, before in ((height, top), (width, left)))
    meets = (rows == 5).any(1)[:, None] & (columns == 20).any(1)
    for kernel in kernels():
        y = LitertRunner(conv.file(), 1, kernel=kernel).run([x])[0][0]
        np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(meets[..., None], y.shape), kernel)


def test_a_resized_network_computes_what_one_of_that_size_computes() -> None:
    conv = FloatConv(1, (8, 9), 3, 20, (7, 7), (2, 2), (1, 1), SAME, 0, True, 0)
    runner = LitertRunner(conv.file())
    for batch, size in [(2, (31, 50)), (1, (3, 3)), (1, (8, 9))]:
        resized = replace(conv, batch=batch, size=size)
        x = resized.arrays()[0]
        runner._interpreter.resize_tensor_input(0, x.shape)
        runner._interpreter.allocate_tensors()
        for found, wanted in zip(runner.run([x]), LitertRunner(resized.file()).run([x]), strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("channels", [1, 3, 8, 70])
def test_max_pools_are_litert_s(channels: int) -> None:
    rng = np.random.default_rng(channels)
    for _ in range(20):
        options = schema.Pool2DOptionsT()
        options.padding = int(rng.choice([SAME, VALID]))
        options.filterHeight, options.filterWidth = kernel = [int(k) for k in rng.integers(1, 5, 2)]
        options.strideH, options.strideW = strides = [int(s) for s in rng.integers(1, 4, 2)]
        size = [k + int(rng.integers(0, 9)) for k in kernel]
        shape = (int(rng.integers(1, 3)), *size, channels)
        pooled = [
            -(-n // s) if options.padding == SAME else (n - k) // s + 1
            for n, k, s in zip(size, kernel, strides, strict=True)
        ]
        writer = ModelWriter("test")
        x = writer.tensor("x", shape, np.float32)
        y = writer.tensor("y", (shape[0], *pooled, channels), np.float32)
        writer.operator(Builtin.MAX_POOL_2D, [x], [y], options)
        content = writer.finish([x], [y, quantize(writer, y)], ["x"], ["y", "bits"])
        given = rng.normal(size=shape).astype(np.float32)
        wanted = LitertRunner(content, fuse=False).run([given])
        for kernel_name in kernels():
            for threads in (1, 2):
                for found, expected in zip(
                    LitertRunner(content, threads, kernel=kernel_name).run([given]), wanted, strict=True
                ):
                    np.testing.assert_array_equal(found, expected, f"{kernel_name} {shape} {kernel} {strides}")


def stem(conv: FloatConv, rng: np.random.Generator, *, leaves: bool) -> bytes:
    """x ─ [PAD] ─ CONV_2D ─ [PADV2] ─ pool ─ y ─ LceQuantize ─ bits; `leaves`: what is in between is an output too."""
    writer = ModelWriter("test")
    code = rng.choice([Builtin.MAX_POOL_2D, Builtin.MAX_POOL_2D, Builtin.AVERAGE_POOL_2D])
    fill = float(rng.choice([-np.inf, np.finfo(np.float32).min, -0.25, -0.25, 0]))
    before, behind = rng.integers(0, 3, (2, 2))
    padded = tuple(int(n - a - b) for n, a, b in zip(conv.size, before, behind, strict=True))
    between = []

    def pad(x: Tensor, amounts: Array, *fill: float) -> Tensor:
        shape = [int(n + a) for n, a in zip(x.shape, amounts.sum(1), strict=True)]
        inputs = [x, writer.constant("p", amounts.astype(np.int32))]
        inputs += [writer.constant("f", np.array([number], np.float32)) for number in fill]
        between.append(writer.tensor("padded", tuple(shape), np.float32))
        options = schema.PadV2OptionsT() if fill else schema.PadOptionsT()
        writer.operator(Builtin.PADV2 if fill else Builtin.PAD, inputs, [between[-1]], options)
        return between[-1]

    x = writer.tensor("x", (conv.batch, *padded, conv.channels), np.float32)
    amounts = np.array([[0, 0], [before[0], behind[0]], [before[1], behind[1]], [0, 0]])
    between.append(conv.add(writer, pad(x, amounts)))
    amounts = np.array([[0, 0], rng.integers(0, 3, 2), rng.integers(0, 3, 2), [0, 0]])
    pooled = pad(between[-1], amounts, fill) if rng.integers(3) else between[-1]
    options = schema.Pool2DOptionsT()
    options.padding, size = VALID, pooled.shape[1:3]
    options.filterHeight, options.filterWidth = kernel = [
        min(int(k), n) for k, n in zip(rng.integers(2, 4, 2), size, strict=True)
    ]
    options.strideH, options.strideW = strides = [int(s) for s in rng.integers(1, 3, 2)]
    shape = [(n - k) // s + 1 for n, k, s in zip(size, kernel, strides, strict=True)]
    y = writer.tensor("y", (conv.batch, *shape, conv.filters), np.float32)
    writer.operator(code, [pooled], [y], options)
    outputs = [y, quantize(writer, y), *(between if leaves else [])]
    return writer.finish([x], outputs, ["x"], [f"output {i}" for i in range(len(outputs))])


@pytest.mark.parametrize("seed", range(40))
def test_what_makes_its_lines_on_demand_computes_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    conv = FloatConv.draw(rng, int(rng.choice([1, 3, 8])))
    conv = replace(conv, size=(int(rng.integers(50, 80)), 30), strides=(int(rng.integers(1, 3)), 2), activation=0)
    whole, fused = (stem(conv, np.random.default_rng(seed), leaves=leaves) for leaves in (True, False))
    for kernel in kernels():
        for threads in (1, 2, 3):
            runner = LitertRunner(whole, threads, kernel=kernel)
            x = rng.normal(0, 0.1, runner.input_shapes[0]).astype(np.float32)
            for found, wanted in zip(
                LitertRunner(fused, threads, kernel=kernel).run([x]), runner.run([x])[:2], strict=True
            ):
                np.testing.assert_array_equal(found, wanted, f"{kernel} {threads} {conv}")
