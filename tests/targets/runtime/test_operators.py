"""The delegate's operators against LCE's own interpreter, bit for bit, with every kernel this processor has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bnncc.inference.runners import LceRunner
from bnncc.ir.evaluate import Array
from bnncc.runtime import LitertRunner, kernels
from bnncc.targets.tflite.bitpack import bitpack
from tests.targets.runtime.models import (
    CLAMPS,
    INT8_SCALE,
    INT8_ZERO_POINT,
    SAME,
    VALID,
    Conv,
    pool_file,
    quantize_file,
)

CONVOLUTIONS = 300  # of each seed; each with every kernel
SHORT_CONVOLUTIONS = 200
SEEDS = range(4)
# int8 results are rounded floats: a sum this close to a half may go to either side.
NEAR_HALF = 1e-3

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-30, -1e-30, 1.0, -1.0], np.float32)


def assert_same(found: Array, wanted: Array, message: object) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if not np.array_equal(found, wanted):
        difference = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max()
        raise AssertionError(f"{message}: {(found != wanted).sum()} of {found.size} differ, by {difference} at most")


def settle_halves(found: Array, wanted: Array, conv: Conv) -> Array:
    """`wanted`, with `found` where the value before rounding lies between the two, as near to a half as floats tell."""
    constants = conv.weights()
    sums = np.clip(conv.sums(), *CLAMPS[conv.activation])
    value = (sums * constants["multiplier"] + constants["bias"]) / INT8_SCALE + INT8_ZERO_POINT
    middle = (found.astype(np.float64) + wanted) / 2
    settled = (np.abs(found.astype(int) - wanted) == 1) & (np.abs(value - middle) < NEAR_HALF)
    return np.where(settled, found, wanted)


def assert_is_lce_s(conv: Conv) -> None:
    content, x = conv.file(), conv.input()
    (wanted,) = LceRunner(content, fastest=conv.groups > 1).run([x])
    for kernel in kernels():
        (found,) = LitertRunner(content, 1, kernel=kernel).run([x])
        expected = settle_halves(found, wanted, conv) if conv.output == "int8" else wanted
        assert_same(found, expected, (kernel, conv))


@pytest.mark.parametrize("seed", SEEDS)
def test_convolutions_are_lce_s_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(CONVOLUTIONS):
        assert_is_lce_s(Conv.draw(rng))


def test_convolutions_of_few_words_are_lce_s_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(SHORT_CONVOLUTIONS):
        assert_is_lce_s(Conv.draw_short(rng))


# Counts fit a byte as far as 224 channels, and 16 bits as far as 65504.
@pytest.mark.parametrize(("channels", "size"), [(128, 48), (224, 48), (256, 48), (512, 48), (65504, 3), (65536, 3)])
def test_a_patch_that_differs_everywhere_from_a_filter_is_counted(channels: int, size: int) -> None:
    draw = Conv.draw_short(np.random.default_rng(0))
    conv = replace(
        draw, batch=1, size=(size, size), channels=channels, filters=16, kernel=(1, 1), padding=VALID, activation=0,
        output="float32",
    )  # fmt: skip
    signs = conv.weights()["signs"][:, 0, 0]
    x = -signs[np.arange(size * size) % 16].reshape(1, size, size, channels)
    (wanted,) = LceRunner(conv.file()).run([bitpack(x)])
    for kernel in kernels():
        assert_same(LitertRunner(conv.file(), 1, kernel=kernel).run([bitpack(x)])[0], wanted, (kernel, channels))


def test_a_resized_convolution_computes_what_one_of_that_size_computes() -> None:
    conv = replace(Conv.draw_short(np.random.default_rng(0)), batch=1, filters=32, channels=32, output="float32")
    for kernel in kernels():
        runner = LitertRunner(conv.file(), 1, kernel=kernel)
        for size in [(48, 48), (5, 3), (48, 48)]:
            resized = replace(conv, size=size)
            runner._interpreter.resize_tensor_input(0, resized.input().shape)
            runner._interpreter.allocate_tensors()
            (wanted,) = LceRunner(resized.file()).run([resized.input()])
            assert_same(runner.run([resized.input()])[0], wanted, (kernel, size))


def test_zero_padding_on_both_sides_at_once_is_right_where_lce_s_is_wrong() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        conv = Conv.draw(rng, tiny=True)
        expected = conv.expected()
        for kernel in kernels():
            (found,) = LitertRunner(conv.file(), 1, kernel=kernel).run([conv.input()])
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * conv.products)


def test_several_threads_compute_the_same() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        conv = Conv.draw(rng)
        (one,) = LitertRunner(conv.file(), 1).run([conv.input()])
        several = LitertRunner(conv.file(), 3)
        for _ in range(5):
            assert_same(several.run([conv.input()])[0], one, conv)


def test_pools_are_lce_s() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
        strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        size = (kernel[0] + int(rng.integers(0, 8)), kernel[1] + int(rng.integers(0, 8)))
        shape = (int(rng.integers(1, 3)), *size, int(rng.integers(1, 9)))
        content = pool_file(shape, kernel, strides, int(rng.choice([SAME, VALID])))
        x = (rng.integers(-(2**31), 2**31, shape) | rng.integers(-(2**31), 2**31, shape)).astype(np.int32)
        assert_same(LitertRunner(content).run([x])[0], LceRunner(content).run([x])[0], (shape, kernel, strides))


@pytest.mark.parametrize("dtype", ["float32", "int8", "bool"])
def test_signs_are_packed_and_unpacked_as_lce_does_it(dtype: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        shape = (*map(int, rng.integers(1, 6, rng.integers(0, 4))), int(rng.integers(1, 140)))
        content = quantize_file(shape, dtype)
        x = rng.normal(size=shape).astype(np.float32)
        if dtype == "float32":
            x = np.where(rng.random(shape) < 0.3, rng.choice(SPECIAL, shape), x)
        elif dtype == "int8":
            x = np.clip(np.round(x * 3), -128, 127).astype(np.int8)
        else:
            x = x > 0
        wanted = LceRunner(content).run([x])
        for kernel in kernels():
            for found, expected in zip(LitertRunner(content, 1, kernel=kernel).run([x]), wanted, strict=True):
                assert_same(found, expected, (shape, kernel))


def test_minus_zero_and_nan_are_plus_one() -> None:
    x = SPECIAL.reshape(1, -1)
    for kernel in kernels():
        _, signs = LitertRunner(quantize_file(x.shape, "float32"), kernel=kernel).run([x])
        assert signs.tolist() == [[1, 1, 1, -1, 1, 1, 1, -1, 1, -1]]
