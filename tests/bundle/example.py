"""The trained network of examples/fashion_mnist as a file, and what tests of bundles need beside it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import bnncc
from bnncc.data import Preprocessing
from bnncc.inference import Model
from bnncc.ir.modes import Padding
from bnncc.options import Options

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "fashion_mnist"
IMAGES = EXAMPLE / "test_images.npz"
CLASSES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@functools.cache
def content(padding: Padding = Padding.ONE_PADDED) -> bytes:
    """The network, compiled with classes and a preprocessing."""
    options = Options(
        padding=padding, classes=CLASSES, preprocessing=Preprocessing(resize=28, crop=(28, 28), pixels="0..255")
    )
    network = f"{EXAMPLE / 'net.py'}:make_net"
    return bnncc.compile(
        network, weights=EXAMPLE / "net.pth", input_shapes=["1x1x28x28"], target="raspberry-pi-4", options=options
    ).content


def write_model(folder: Path, padding: Padding = Padding.ONE_PADDED) -> Path:
    path = folder / "fashion.tflite"
    path.write_bytes(content(padding))
    return path


def model(padding: Padding = Padding.ONE_PADDED) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        return Model.read(write_model(Path(folder), padding))


def images() -> np.ndarray:
    """uint8 [1000, 1, 28, 28]."""
    return np.load(IMAGES)["images"]


def write_picture(path: Path, index: int = 0) -> Path:
    Image.fromarray(images()[index, 0]).save(path)
    return path
