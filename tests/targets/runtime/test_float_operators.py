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
from bnncc.targets.tflite.writer import ModelWriter
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
