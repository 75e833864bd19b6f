"""The trained network of examples/fashion_mnist as a file, and what tests of bundles need beside it."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import bnncc
from bnncc.data import Preprocessing
from bnncc.inference import Model
from bnncc.ir.modes import Padding
from bnncc.options import Head, Options, ValueType

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "fashion_mnist"
IMAGES = EXAMPLE / "test_images.npz"
CLASSES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True)
class Ends:
    """What the file takes and yields."""

    input_type: str = "float32"
    head: str = "none"
    output_type: str = "float32"


PIXELS_TO_BYTES = Ends("uint8", "softmax", "uint8")
PIXELS_TO_CLASS = Ends("int8", "argmax")


@functools.cache
def content(padding: Padding = Padding.ONE_PADDED, ends: Ends = Ends()) -> bytes:
    """The network, compiled with classes and a preprocessing."""
    options = Options(
        padding=padding,
        classes=CLASSES,
        preprocessing=Preprocessing(resize=28, crop=(28, 28), pixels="0..255"),
        input_type=ValueType(ends.input_type),
        head=Head(ends.head),
        output_type=ValueType(ends.output_type),
    )
    network = f"{EXAMPLE / 'net.py'}:make_net"
    return bnncc.compile(
        network, weights=EXAMPLE / "net.pth", input_shapes=["1x1x28x28"], target="raspberry-pi-4", options=options
    ).content


@functools.cache
def integer_content() -> bytes:
    """The network with its float layers in int8, from bytes to floats."""
    options = Options(preprocessing=Preprocessing(pixels="0..255"), input_type=ValueType.UINT8)
    network = f"{EXAMPLE / 'net.py'}:make_net"
    return bnncc.compile(
        network,
        weights=EXAMPLE / "net.pth",
        input_shapes=["1x1x28x28"],
        target="raspberry-pi-4",
        options=options,
        calibrate=images()[:100],
        calibration="min-max",
    ).content


def write_model(folder: Path, padding: Padding = Padding.ONE_PADDED, ends: Ends = Ends()) -> Path:
    path = folder / "fashion.tflite"
    path.write_bytes(content(padding, ends))
    return path


def model(padding: Padding = Padding.ONE_PADDED, ends: Ends = Ends()) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        return Model.read(write_model(Path(folder), padding, ends))


def images() -> np.ndarray:
    """uint8 [1000, 1, 28, 28]."""
    return np.load(IMAGES)["images"]


def write_picture(path: Path, index: int = 0) -> Path:
    Image.fromarray(images()[index, 0]).save(path)
    return path
