"""Convolution geometry for property tests, and its sums from PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from hypothesis import strategies as st

from bnncc.ir.geometry import Window
from tests.passes.helpers import Array, build, normal, signs
from tests.windows import windows

CHANNELS, FILTERS = 3, 2


@dataclass(frozen=True)
class Geometry:
    """Height and width; pads are top, left, bottom, right."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    @classmethod
    def of(cls, rows: Window, columns: Window) -> Geometry:
        """Of one window along the height and one along the width."""
        return cls(
            size=(rows.size, columns.size),
            kernel=(rows.kernel, columns.kernel),
            strides=(rows.stride, columns.stride),
            dilations=(rows.dilation, columns.dilation),
            pads=(rows.begin, columns.begin, rows.end, columns.end),
        )

    @property
    def attributes(self) -> str:
        """In ONNX's text form."""
        return f"strides = {list(self.strides)}, dilations = {list(self.dilations)}, pads = {list(self.pads)}"

    @property
    def x(self) -> str:
        """The input in ONNX's text form."""
        return f"float[2, {CHANNELS}, {self.size[0]}, {self.size[1]}] x"


def geometries(largest_dilation: int = 3) -> st.SearchStrategy[Geometry]:
    """Maps from 1x1 on, kernels up to 7, any padding into which a window fits; small maps come first."""
    axis = windows(dilations=(1, largest_dilation))
    return st.builds(Geometry.of, axis, axis)


GEOMETRIES = geometries()


def weights(geometry: Geometry) -> Array:
    """±1 of both signs, unbalanced, so that border sums differ between filters."""
    return signs(FILTERS, CHANNELS, *geometry.kernel, seed=3)


def binary_conv_model(
    geometry: Geometry, *, pad_value: float = 0.0, multiplier: Array | None = None, bias: Array | None = None
) -> ir.Model:
    """x ─ bnncc.Sign ─ BinaryConv ─ y; multiplier 1 and bias 0 unless given, so that y holds the integer sums."""
    return build(
        "s = bnncc.Sign (x)\n"
        f"y = bnncc.BinaryConv <{geometry.attributes}, group = 1, pad_value = {pad_value}> (s, w, m, b)",
        geometry.x,
        w=weights(geometry),
        m=np.ones(FILTERS, np.float32) if multiplier is None else multiplier,
        b=np.zeros(FILTERS, np.float32) if bias is None else bias,
    )


def float_conv_model(geometry: Geometry) -> ir.Model:
    """x ─ Conv ─ y with the same weights."""
    return build(f"y = Conv <{geometry.attributes}> (x, w)", geometry.x, w=weights(geometry))


def torch_sums(geometry: Geometry, x: Array) -> Array:
    """The zero-padded convolution in float64."""
    top, left, bottom, right = geometry.pads
    padded = torch.nn.functional.pad(torch.from_numpy(x.astype(np.float64)), (left, right, top, bottom))
    weight = torch.from_numpy(weights(geometry).astype(np.float64))
    return torch.nn.functional.conv2d(padded, weight, None, geometry.strides, 0, geometry.dilations).numpy()


def some_scales() -> tuple[Array, Array]:
    """A multiplier of both signs and a bias."""
    return np.array([0.37, -1.9], np.float32), normal(FILTERS)
