"""An image as a small PNG within the page's own text."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

# Larger images are scaled down to so many pixels; the page shows them at up to half of that.
LARGEST_SIDE = 192


@dataclass(frozen=True)
class Thumbnail:
    """url: data:image/png;base64,…  width, height: of the PNG, in pixels."""

    url: str
    width: int
    height: int


def thumbnail(pixels: npt.NDArray[np.uint8]) -> Thumbnail:
    """pixels: uint8 [H, W], [H, W, 1] (grey) or [H, W, 3] (RGB).  Raises ValueError for another shape."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"a picture is uint8 [H, W], [H, W, 1] or [H, W, 3], not {pixels.dtype} {pixels.shape}")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/png;base64,{encoded}", image.width, image.height)
