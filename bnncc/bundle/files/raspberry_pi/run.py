#!/usr/bin/env python3
"""Runs the network in this folder.

    python3 run.py image.jpg …           print the classes with the largest logits
    python3 run.py --bench               measure how long an image takes
    python3 run.py --check [images.npz]  compare with the computer that made this folder, or with the file's labels

Needs three packages.  64-bit: pip install ai-edge-litert numpy pillow
32-bit: pip install tflite-runtime==2.14.0 "numpy<2" pillow
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import numpy.typing as npt

    try:
        from ai_edge_litert.interpreter import Interpreter, load_delegate
    except ImportError:
        from tflite_runtime.interpreter import Interpreter, load_delegate  # type: ignore[import-not-found]
except ImportError as missing:
    sys.exit(f"{missing}\n\n{__doc__}")

HERE = Path(__file__).resolve().parent
try:
    SETTINGS: dict[str, Any] = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    PREPROCESSING: dict[str, Any] = SETTINGS["preprocessing"]
    DIGESTS: dict[str, str] = dict(SETTINGS.get("sha256", {}))
    FILES: list[str] = list(SETTINGS.get("files", []))
    LABELS = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines() if (HERE / "labels.txt").exists() else []
except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as damage:
    sys.exit(f"bundle.json or labels.txt of {HERE} is damaged ({damage}): copy the bundle again")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names of pictures with so many channels
WIDE_MODES = ("I", "F")  # those of more than 8 bits, which Pillow cuts off at 255
# By the class and the machine of an ELF file.
MACHINES = {(1, 40): "32-bit ARM", (2, 183): "64-bit ARM", (2, 62): "x86-64"}
WARM_UP = 5
LIBRARY = "libbnncc_runtime.so"
CHECK_FAILED = 3  # exit code: no other failure has it
# An image agrees where its outputs differ by so much at most, as a share of the largest output; a check passes where so
# large a share of the images agrees.  What is wrong differs on every image; but a float next to a sign's threshold may
# fall on its other side by rounding, and change a single image.
CLOSE = 1e-2
LEAST_AGREEMENT = 0.5


def require_whole(*names: str) -> None:
    """Exit where a file of this folder is not the one that the bundle was made with."""
    for name in names:
        try:
            content = (HERE / name).read_bytes()
        except OSError as error:
            sys.exit(f"{HERE / name} cannot be read: {error.strerror}")
        if hashlib.sha256(content).hexdigest() != DIGESTS.get(name):
            sys.exit(f"{HERE / name} is damaged: its SHA-256 is not that of bundle.json; copy the bundle again")


def load_library(path: Path) -> Any:
    """The delegate; exits with what the trouble is where it cannot be loaded."""
    try:
        header = path.read_bytes()[:20]
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}")
    # ELF: the class (1: 32 bits) and the machine.
    made_for = MACHINES.get((header[4], header[18])) if header[:4] == b"\x7fELF" and len(header) == 20 else None
    try:
        ctypes.CDLL(str(path))  # LiteRT would print a traceback of its own where that fails
        return load_delegate(str(path))
    except (OSError, ValueError) as error:
        what = "damaged" if made_for is None else f"for {made_for}"
        here = f"{32 if sys.maxsize < 2**32 else 64}-bit Python on {platform.machine()}"
        sys.exit(
            f"{path.name} is {what}, and does not load in this {here}: {error}\n"
            "Make the bundle for this device: bnncc targets lists them."
        )


class Network:
    """model.tflite in TensorFlow Lite, LCE's operators in the delegate beside it."""

    def __init__(self, threads: int) -> None:
        delegate = load_library(HERE / LIBRARY)
        try:
            self.interpreter = Interpreter(
                str(HERE / "model.tflite"), num_threads=threads, experimental_delegates=[delegate]
            )
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            sys.exit(f"model.tflite does not run here: {error}")
        (self.input,) = self.interpreter.get_input_details()
        self.outputs = self.interpreter.get_output_details()
        shape = tuple(int(size) for size in self.input["shape"])
        self.channels_first = SETTINGS["input_layout"] == "NCHW" and len(shape) == 4
        # Of one image, channels last.
        self.shape = (shape[2], shape[3], shape[1]) if self.channels_first else shape[1:]
        self.dtype = np.dtype(self.input["dtype"])
        self.takes_bytes = self.dtype != np.float32
        logits = self.outputs[0]
        self.is_classifier = len(logits["shape"]) == 2 and logits["shape"][1] > 1
        # The first output is the class itself.
        self.yields_class = SETTINGS.get("head") == "argmax"

    def set(self, image: npt.NDArray[Any]) -> None:
        """Give it an image, of its own type, channels last; a batch is filled with it."""
        if self.channels_first:
            image = image.transpose(2, 0, 1)
        batch = np.broadcast_to(image, tuple(self.input["shape"]))
        self.interpreter.set_tensor(self.input["index"], np.ascontiguousarray(batch, self.dtype))

    def prepare(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the network takes, of an image, channels last: its bytes, or as `normalize`."""
        if not self.takes_bytes:
            return normalize(image)
        if image.dtype == self.dtype:
            return image
        if image.dtype != np.uint8:
            sys.exit(f"the network takes pixels as they are decoded, uint8, and these are {image.dtype}")
        return (image.astype(np.int16) - 128).astype(np.int8)

    def scores(self, output: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the numbers of the first output stand for."""
        scale, zero_point = self.outputs[0]["quantization"]
        return scale * (output.astype(np.float64) - zero_point) if scale else output.astype(np.float64)

    def run(self, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Every output of one image."""
        self.set(image)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(output["index"])[0] for output in self.outputs]


def load_picture(path: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """uint8 pixels [height, width, channels] in the network's size: upright, torchvision's Resize and CenterCrop."""
    from PIL import Image, ImageOps

    if len(shape) != 3 or shape[2] not in MODES:
        sys.exit(f"the network takes {shape}, no pictures: give --check a .npz file")
    if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait for who writes to it
        sys.exit(f"{path} is no file")
    try:
        picture: Image.Image = Image.open(path)
        if PREPROCESSING.get("exif") != "ignore":
            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith(WIDE_MODES):
            sys.exit(f"{path}: its pixels have more than 8 bits ({picture.mode}): convert it to 8 bits a channel")
        picture = picture.convert(MODES[shape[2]])
    except Exception as error:  # Pillow's decoders raise errors of many types
        sys.exit(f"{path}: {error}")
    if "resize" in PREPROCESSING:
        width, height = picture.size
        resize, shorter = PREPROCESSING["resize"], min(width, height)
        size = (int(resize * width / shorter), int(resize * height / shorter))
        if size != (width, height):
            picture = picture.resize(size, getattr(Image.Resampling, PREPROCESSING["interpolation"].upper()))
    if "crop" in PREPROCESSING:
        (width, height), (rows, columns) = picture.size, PREPROCESSING["crop"]
        if rows > height or columns > width:
            sys.exit(f"{path} is {height}x{width}, smaller than the network's {rows}x{columns}")
        top, left = round((height - rows) / 2), round((width - columns) / 2)
        picture = picture.crop((left, top, left + columns, top + rows))
    pixels = np.asarray(picture, np.uint8)
    if pixels.shape[:2] != shape[:2]:
        sys.exit(f"{path} is {pixels.shape[0]}x{pixels.shape[1]}, and the network takes {shape[0]}x{shape[1]}")
    return pixels.reshape(shape)


def normalize(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """float32 from an image, channels last: uint8 pixels are normalised, floats are taken as they are."""
    if image.dtype != np.uint8:
        return image.astype(np.float32)
    if "mean" not in PREPROCESSING:
        if "pixels" not in PREPROCESSING:
            sys.exit("bundle.json does not say what pixels become: compile with --mean and --std, or --pixels")
        return image.astype(np.float32) / np.float32(255 if PREPROCESSING["pixels"] == "0..1" else 1)
    mean, std = (np.array(PREPROCESSING[name], np.float32) for name in ("mean", "std"))
    return (image.astype(np.float32) / np.float32(255) - mean) / std


def channels_last(image: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An image of an array, as the network takes it; it may come channels first, or without channels."""
    if image.shape == shape:
        return image
    if len(shape) == 3 and image.shape == (shape[2], *shape[:2]):
        return image.transpose(1, 2, 0)
    if len(shape) == 3 and image.shape == shape[:2] and shape[2] == 1:
        return image[:, :, np.newaxis]
    sys.exit(f"images of shape {image.shape} do not fit the network, which takes {shape}")


def classify(network: Network, paths: list[str], top: int) -> None:
    """Print the classes with the largest logits."""
    for path in paths:
        outputs = network.run(network.prepare(load_picture(path, network.shape)))
        print(path)
        if network.yields_class:
            print(f"{'':12}  {LABELS[outputs[0]] if outputs[0] < len(LABELS) else outputs[0]}")
            continue
        if not network.is_classifier:
            print("   ", ", ".join(f"{output.shape}: {output.min():g} to {output.max():g}" for output in outputs))
            continue
        scores = network.scores(outputs[0])
        for index in np.argsort(-scores, kind="stable")[:top]:
            print(f"{scores[index]:12.4f}  {LABELS[index] if index < len(LABELS) else index}")


def bench(network: Network, runs: int) -> None:
    """Print how long an image takes, on an input of random numbers."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, network.shape).astype(np.uint8)
    network.set(network.prepare(pixels) if network.takes_bytes else random.standard_normal(network.shape))
    milliseconds = []
    for run in range(WARM_UP + runs):
        started = time.perf_counter()
        network.interpreter.invoke()
        if run >= WARM_UP:
            milliseconds.append(1e3 * (time.perf_counter() - started))
    low, median, high = np.percentile(milliseconds, (10, 50, 90))
    print(f"latency           {median:.3f} ms, median of {runs} runs (10 % to 90 %: {low:.3f} to {high:.3f} ms)")


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a .npz file by name."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a broken file makes zipfile, zlib and NumPy raise errors of many types
        sys.exit(f"{path} is no readable .npz file of arrays: {error}")


def at_least_one(text: str) -> int:
    """A number of threads, runs or classes."""
    number = int(text)
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 100000")
    return number


def check(network: Network, path: Path) -> bool:
    """Run the file's `images`; print how many keep the class of its `outputs`, and are right by its `labels`."""
    arrays = load_arrays(path)
    if "images" not in arrays:
        sys.exit(f"{path} has no array called images")
    kinds = "fui" if network.takes_bytes else "fu"
    if arrays["images"].dtype.kind not in kinds or not len(arrays["images"].shape) or not len(arrays["images"]):
        sys.exit(f"{path}: images must be an array [count, …] of floats or uint8, of one image at least")
    for name in ("labels", "outputs"):
        if name in arrays and arrays[name].shape[:1] != arrays["images"].shape[:1]:
            sys.exit(f"{path}: {name} of shape {arrays[name].shape} for {len(arrays['images'])} images")
    outputs = [network.run(network.prepare(channels_last(image, network.shape))) for image in arrays["images"]]
    count = len(outputs)
    print(f"images            {count:,} of {path.name}")
    if "labels" in arrays and (network.is_classifier or network.yields_class):
        right = int(
            np.sum([row[0] if network.yields_class else row[0].argmax() for row in outputs] == arrays["labels"])
        )
        print(f"accuracy          {right / count:.2%} ({right:,} of {count:,})")
    if "outputs" not in arrays:
        return True
    found = np.array([np.concatenate([output.reshape(-1) for output in row]) for row in outputs], np.float32)
    if arrays["outputs"].shape != found.shape:
        sys.exit(f"{path}: outputs of shape {arrays['outputs'].shape}, and the network yields {found.shape}")
    wanted, error = arrays["outputs"], np.abs(found - arrays["outputs"])
    scale = np.abs(wanted).max()
    close = error.max(axis=1) <= CLOSE * scale
    passed = bool(close.mean() >= LEAST_AGREEMENT)
    print(f"compared with     {arrays.get('reference', path.name)}")
    if network.is_classifier:
        classes = network.outputs[0]["shape"][1]
        same = found[:, :classes].argmax(axis=1) == wanted[:, :classes].argmax(axis=1)
        print(f"same class        {int(same.sum()):,} of {count:,} images")
    print(f"same outputs      {int(close.sum()):,} of {count:,} images, to {CLOSE:.0%} of the largest output")
    print(f"largest error     {error.max():.1e} (the largest output is {scale:.3g})")
    print(f"check             {'passed' if passed else 'FAILED'}")
    return passed


def device() -> str:
    """What this device calls itself."""
    try:
        return Path("/proc/device-tree/model").read_text(encoding="utf-8").rstrip("\0\n")
    except OSError:
        return os.uname().machine


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", help="pictures")
    parser.add_argument("--top", type=at_least_one, default=5, help="how many classes to print (5)")
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count() or 1, help="threads (as many as cores)")
    parser.add_argument("--runs", type=at_least_one, default=50, help="how many runs --bench takes (50)")
    parser.add_argument("--bench", action="store_true", help="measure how long an image takes")
    parser.add_argument(
        "--check", nargs="?", const=HERE / "check.npz", type=Path, metavar="images.npz",
        help="run the images of a file, by default those of check.npz, and compare",
    )  # fmt: skip
    arguments = parser.parse_args()
    if not (arguments.images or arguments.bench or arguments.check):
        parser.error("name a picture, or give --check or --bench")
    require_whole("model.tflite", LIBRARY, *(FILES if arguments.check else []))
    network = Network(arguments.threads)
    classify(network, arguments.images, arguments.top)
    passed = True
    if arguments.check or arguments.bench:
        print(f"device            {device()}, {arguments.threads} threads")
    if arguments.check:
        passed = check(network, arguments.check)
    if arguments.bench:
        bench(network, arguments.runs)
    sys.exit(0 if passed else CHECK_FAILED)


if __name__ == "__main__":
    main()
