"""LCE's packed form of a ±1 tensor: 32 channels to an int32 word, little end first, bit 0 for +1 and bit 1 for -1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

WORD_BITS = 32


def words(channels: int) -> int:
    """How many int32 words hold one pixel of `channels` channels."""
    return -(-channels // WORD_BITS)


def bitpack(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    """Pack the last axis: [..., C] of ±1 (any dtype; negative is -1) to int32 [..., ⌈C / 32⌉].

    Channel c is bit c mod 32 of word c div 32; the unused bits of the last word are 0.
    """
    bits = np.signbit(values)
    padding = words(bits.shape[-1]) * WORD_BITS - bits.shape[-1]
    bits = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, padding)])
    packed = np.packbits(bits, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<i4").astype(np.int32, copy=False)


def unpack(packed: npt.NDArray[np.int32], channels: int) -> npt.NDArray[np.float32]:
    """The ±1 values, float32 [..., channels], of packed int32 [..., ⌈channels / 32⌉]."""
    contiguous = np.ascontiguousarray(packed).astype("<i4", copy=False)
    bits = np.unpackbits(contiguous.view(np.uint8), axis=-1, bitorder="little")[..., :channels]
    return signs_of(bits)


def signs_of(negative: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """float32: -1 where `negative`, of bool or 0 and 1, says so, else +1.

    np.where of two scalars takes ten times as long.
    """
    signs = negative.astype(np.float32)
    signs *= -2
    signs += 1
    return signs
