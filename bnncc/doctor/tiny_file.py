"""A .tflite file of LCE's operators, small enough to check by hand, and what it must yield."""

from __future__ import annotations

import numpy as np

from bnncc.ir.arrays import Array
from bnncc.targets.tflite.bitpack import bitpack
from bnncc.targets.tflite.flexbuffer import pack_ints
from bnncc.targets.tflite.writer import ModelWriter

CHANNELS, FILTERS, SIZE = 64, 8, 4
# LCE's number of no padding.
VALID = 1


def tiny_file() -> tuple[bytes, Array, Array]:
    """(the file, an input, its output): x ─ LceQuantize ─ LceBconv2d(1x1) ─ y, NHWC float32, y of integers.

    y[n, h, w, o] = Σ_c sign(x[n, h, w, c]) · weights[o, c]
    """
    generator = np.random.default_rng(0)
    weights = np.where(generator.random((FILTERS, 1, 1, CHANNELS)) < 0.5, np.float32(-1), np.float32(1))
    x = generator.standard_normal((1, SIZE, SIZE, CHANNELS)).astype(np.float32)
    writer = ModelWriter("bnncc doctor")
    given = writer.tensor("x", x.shape, np.float32)
    packed = writer.tensor("packed", (*x.shape[:-1], CHANNELS // 32), np.int32)
    result = writer.tensor("y", (*x.shape[:-1], FILTERS), np.float32)
    writer.custom("LceQuantize", [given], [packed], b"")
    options = pack_ints(
        channels_in=CHANNELS,
        dilation_height_factor=1,
        dilation_width_factor=1,
        fused_activation_function=0,
        pad_values=0,
        padding=VALID,
        stride_height=1,
        stride_width=1,
    )
    ones, zeros = np.ones(FILTERS, np.float32), np.zeros(FILTERS, np.float32)
    constants = [writer.constant(name, data) for name, data in (("multiplier", ones), ("bias", zeros))]
    writer.custom(
        "LceBconv2d", [packed, writer.constant("bits", bitpack(weights)), *constants, None], [result], options
    )
    expected = np.where(x >= 0, 1, -1) @ weights[:, 0, 0].T
    return writer.finish([given], [result], ["x"], ["y"]), x, expected.astype(np.float32)
