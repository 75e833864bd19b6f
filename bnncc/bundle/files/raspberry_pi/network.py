"""A network on pictures, frames and arrays: what `run.py` of a bundle and the package `bnncc-runtime` share.

Runs on the device, with NumPy and Pillow alone.  What is wrong ends the program, with the cause.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names of pictures with so many channels
WIDE_MODES = ("I", "F")  # those of more than 8 bits, which Pillow cuts off at 255
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
CAMERA_SIZE = (640, 480)  # width, height: with the sensors' own shape, so that nothing of their view is cut off
RATE_FRAMES = 30  # over so many of the last ones the frames a second are counted
WARM_UP = 5
CHECK_FAILED = 3  # exit code: no other failure has it
READER_LEFT = 141  # exit code, as that of a program that the system ends
# An image agrees where its outputs differ by so much at most, as a share of the largest output; a check passes where so
# large a share of the images agrees.  What is wrong differs on every image; but a float next to a sign's threshold may
# fall on its other side by rounding, and change a single image.
CLOSE = 1e-2
LEAST_AGREEMENT = 0.5

# picamera2 is built for the NumPy of the system: another one in the environment would take its place.
PICAMERA2 = """\
picamera2 is a package of Raspberry Pi OS, seen in an environment with the system's packages:

    sudo apt install python3-picamera2 python3-venv python3-numpy python3-pil
    python3 -m venv --system-site-packages .venv
    .venv/bin/pip install -r requirements.txt    # or the wheel of bnncc-runtime; no NumPy of pip's"""
PYAV = """\
Videos are read by PyAV 14.1 or later:

    .venv/bin/pip install 'av>=14.1'"""


@dataclass(frozen=True)
class Settings:
    """What a network's file cannot say to an interpreter.

    preprocessing: how pictures become the input, as bnncc writes it.  channels_first: of 4-D inputs.  labels: the
    classes' names.  yields_class: the first output is the class itself.
    """

    preprocessing: dict[str, Any] = field(default_factory=dict)
    channels_first: bool = False
    labels: list[str] = field(default_factory=list)
    yields_class: bool = False


class Network:
    """A network that an interpreter has loaded: TensorFlow Lite's, or one that is used like it."""

    def __init__(self, interpreter: Any, settings: Settings) -> None:
        self.interpreter = interpreter
        self.settings = settings
        inputs = interpreter.get_input_details()
        if len(inputs) != 1:
            sys.exit(f"the network takes {len(inputs)} inputs, not one image")
        self.input = inputs[0]
        self.outputs = interpreter.get_output_details()
        shape = tuple(int(size) for size in self.input["shape"])
        self.channels_first = settings.channels_first and len(shape) == 4
        # Of one image, channels last.
        self.shape = (shape[2], shape[3], shape[1]) if self.channels_first else shape[1:]
        self.dtype = np.dtype(self.input["dtype"])
        self.takes_bytes = self.dtype != np.float32
        self.is_classifier = len(self.outputs[0]["shape"]) == 2 and self.outputs[0]["shape"][1] > 1

    def load(self, path: str) -> npt.NDArray[Any]:
        """A picture as the network takes it."""
        return self.prepare(load_picture(path, self.shape, self.settings.preprocessing))

    def load_frame(self, frame: Image) -> npt.NDArray[Any]:
        """A frame of a video or a camera, treated as a picture, as the network takes it."""
        return self.prepare(picture_pixels(frame, "a frame", self.shape, self.settings.preprocessing))

    def prepare(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image of an array, as the network takes it: its bytes, or as `normalize`."""
        image = channels_last(image, self.shape)
        if not self.takes_bytes:
            return normalize(image, self.settings.preprocessing)
        if image.dtype == self.dtype:
            return image
        if image.dtype != np.uint8:
            sys.exit(f"the network takes pixels as they are decoded, uint8, and these are {image.dtype}")
        return (image.astype(np.int16) - 128).astype(np.int8)

    def scores(self, output: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the numbers of the first output stand for."""
        scale, zero_point = self.outputs[0]["quantization"]
        return scale * (output.astype(np.float64) - zero_point) if scale else output.astype(np.float64)

    def set(self, image: npt.NDArray[Any]) -> None:
        """Give it an image, of its own type, channels last; a batch is filled with it."""
        if self.channels_first:
            image = image.transpose(2, 0, 1)
        batch = np.broadcast_to(image, tuple(self.input["shape"]))
        self.interpreter.set_tensor(self.input["index"], np.ascontiguousarray(batch, self.dtype))

    def run(self, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Every output of one image."""
        self.set(image)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(output["index"])[0] for output in self.outputs]


def require_pictures(shape: tuple[int, ...]) -> None:
    """Exit where an input of this shape, channels last, is no picture's."""
    if len(shape) != 3 or shape[2] not in MODES:
        sys.exit(f"the network takes {shape}, no pictures: give --check a .npz file")


def require_file(path: str) -> None:
    """Exit where it is something else: opening a pipe would wait for who writes to it."""
    if Path(path).exists() and not Path(path).is_file():
        sys.exit(f"{path} is no file")


def load_picture(path: str, shape: tuple[int, ...], preprocessing: dict[str, Any]) -> npt.NDArray[Any]:
    """The pixels of a file, as `picture_pixels`."""
    from PIL import Image

    require_pictures(shape)
    require_file(path)
    try:
        picture = Image.open(path)
    except Exception as error:  # Pillow's decoders raise errors of many types
        sys.exit(f"{path}: {error}")
    return picture_pixels(picture, path, shape, preprocessing)


def picture_pixels(
    picture: Image, name: str, shape: tuple[int, ...], preprocessing: dict[str, Any]
) -> npt.NDArray[Any]:
    """uint8 pixels [height, width, channels] in the network's size: upright, torchvision's Resize and CenterCrop.

    name: what messages call the picture.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    try:
        if preprocessing.get("exif") != "ignore":
            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith(WIDE_MODES):
            sys.exit(f"{name}: its pixels have more than 8 bits ({picture.mode}): convert it to 8 bits a channel")
        picture = picture.convert(MODES[shape[2]])
    except Exception as error:  # Pillow's decoders raise errors of many types
        sys.exit(f"{name}: {error}")
    if "resize" in preprocessing:
        width, height = picture.size
        resize, shorter = preprocessing["resize"], min(width, height)
        size = (int(resize * width / shorter), int(resize * height / shorter))
        if size != (width, height):
            picture = picture.resize(size, getattr(Resampling, preprocessing["interpolation"].upper()))
    if "crop" in preprocessing:
        (width, height), (rows, columns) = picture.size, preprocessing["crop"]
        if rows > height or columns > width:
            sys.exit(f"{name} is {height}x{width}, smaller than the network's {rows}x{columns}")
        top, left = round((height - rows) / 2), round((width - columns) / 2)
        picture = picture.crop((left, top, left + columns, top + rows))
    pixels = np.asarray(picture, np.uint8)
    if pixels.shape[:2] != shape[:2]:
        sys.exit(f"{name} is {pixels.shape[0]}x{pixels.shape[1]}, and the network takes {shape[0]}x{shape[1]}")
    return pixels.reshape(shape)


def camera_frames(shape: tuple[int, ...], preprocessing: dict[str, Any]) -> Generator[Image, None, None]:
    """What a Raspberry Pi's camera sees, without end: RGB, in the network's own size where nothing resizes it."""
    from PIL import Image

    try:
        from picamera2 import Picamera2
    except (ImportError, ValueError) as error:  # ValueError: of a library that is built for another NumPy
        sys.exit(f"--camera: {error}\n\n{PICAMERA2}")
    try:
        camera = Picamera2()
    except Exception as error:  # IndexError where there is none, RuntimeError where another program has it
        sys.exit(f"--camera: no camera can be opened ({error}): rpicam-hello --list-cameras shows which there are")
    size = CAMERA_SIZE if "resize" in preprocessing else (shape[1], shape[0])
    try:
        # Red comes first in the arrays of "BGR888", and last in those of "RGB888".  The colours of a preview are full
        # range, as those of pictures in files; a video's are not.
        camera.configure(camera.create_preview_configuration(main={"format": "BGR888", "size": size}))
        camera.start()
        while True:
            yield Image.fromarray(camera.capture_array("main"))
    except Exception as error:  # of a size that the camera cannot have, of a cable that is pulled
        sys.exit(f"--camera: {error}")
    finally:
        camera.close()


def video_frames(path: str, every: int, preprocessing: dict[str, Any]) -> Generator[Image, None, None]:
    """The first of each `every` frames of a video: RGB, upright as its file says, where pictures are turned as well."""
    from PIL import Image

    try:
        import av
    except ImportError as error:
        sys.exit(f"{path}: {error}\n\n{PYAV}")
    require_file(path)
    try:
        with av.open(path) as container:
            for frame in islice(container.decode(video=0), 0, None, every):
                picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                if preprocessing.get("exif") != "ignore":
                    if not hasattr(frame, "rotation"):
                        sys.exit(f"{path}: PyAV {av.__version__} cannot say which way is up\n\n{PYAV}")
                    picture = picture.rotate(frame.rotation, expand=True)
                yield picture
    except Exception as error:  # of many types, as Pillow's
        sys.exit(f"{path}: {error}")


def normalize(image: npt.NDArray[Any], preprocessing: dict[str, Any]) -> npt.NDArray[Any]:
    """float32 from an image, channels last: uint8 pixels are normalised, floats are taken as they are."""
    if image.dtype != np.uint8:
        return image.astype(np.float32)
    if "mean" not in preprocessing:
        if "pixels" not in preprocessing:
            sys.exit("the network does not say what pixels become: compile with --mean and --std, or --pixels")
        return image.astype(np.float32) / np.float32(255 if preprocessing["pixels"] == "0..1" else 1)
    mean, std = (np.array(preprocessing[name], np.float32) for name in ("mean", "std"))
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


def classes(network: Network, outputs: list[npt.NDArray[Any]], top: int) -> list[str]:
    """A line for each of the classes with the largest logits; for other outputs their ranges."""
    labels = network.settings.labels
    if network.settings.yields_class:
        return [f"{'':12}  {labels[outputs[0]] if outputs[0] < len(labels) else outputs[0]}"]
    if not network.is_classifier:
        return ["    " + ", ".join(f"{output.shape}: {output.min():g} to {output.max():g}" for output in outputs)]
    scores = network.scores(outputs[0])
    order = np.argsort(-scores, kind="stable")[:top]
    return [f"{scores[index]:12.4f}  {labels[index] if index < len(labels) else index}" for index in order]


def classify(network: Network, path: str, top: int) -> None:
    """Print the classes of a picture."""
    outputs = network.run(network.load(path))
    print(path)
    for line in classes(network, outputs, top):
        print(line)


def watch(network: Network, name: str, frames: Generator[Image, None, None], most: int | None) -> None:
    """Print the class of each frame and how many a second are done, on a terminal in the same line; Ctrl-C ends it.

    name: of the video or camera.  most: frames at most.
    """
    require_pictures(network.shape)
    on_terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size().columns - 1
    count, first = 0, 0.0
    last: deque[float] = deque(maxlen=RATE_FRAMES)  # when they were done
    print(name)
    try:
        for frame in islice(frames, most):
            (line,) = classes(network, network.run(network.load_frame(frame)), 1)
            last.append(time.perf_counter())
            first = first or last[0]
            count += 1
            if count > 1:
                line += f"   {(len(last) - 1) / (last[-1] - last[0]):.1f} frames/s"
            print(
                f"\r{line[:columns]:<{columns}}" if on_terminal else line, end="" if on_terminal else "\n", flush=True
            )
    except KeyboardInterrupt:
        pass
    finally:
        frames.close()
    if on_terminal:
        print()
    if not count:
        sys.exit(f"{name}: there was no frame")
    seconds = last[-1] - first
    print(f"frames            {count:,}" + (f", {(count - 1) / seconds:.1f} a second" if count > 1 else ""))


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


def require_classes(network: Network, path: Path, labels: npt.NDArray[Any]) -> None:
    """Exit where labels are no indices of the network's classes: none of them would be right."""
    if labels.ndim != 1 or labels.dtype.kind not in "fui":
        sys.exit(
            f"{path}: labels of shape {labels.shape} and type {labels.dtype}; give the index of each image's class"
        )
    count = network.outputs[0]["shape"][1] if network.is_classifier else len(network.settings.labels)
    if not count:  # the file yields a class, and has no names
        return
    wrong = labels[~np.isin(labels, np.arange(count))]
    if len(wrong):
        sys.exit(f"{path}: there is the label {wrong[0]}, and the network has the classes 0 to {count - 1}")


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
    if arrays["images"].dtype.kind == "f" and not np.isfinite(arrays["images"]).all():
        sys.exit(f"{path}: images hold NaN or infinity")
    if has_classes := "labels" in arrays and (network.is_classifier or network.settings.yields_class):
        require_classes(network, path, arrays["labels"])
    outputs = [network.run(network.prepare(image)) for image in arrays["images"]]
    count = len(outputs)
    print(f"images            {count:,} of {path.name}")
    if has_classes:
        yields_class = network.settings.yields_class
        right = int(np.sum([row[0] if yields_class else row[0].argmax() for row in outputs] == arrays["labels"]))
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
        return platform.machine()


def end_with_reader(main: Callable[[], None]) -> None:
    """Run the program; who reads its output may leave, as head does, and it then ends without a word.

    Where the output's disk is full, it says so; where there is no output (`>&-`), it goes without.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        try:
            main()
        finally:
            sys.stdout.flush()
    except OSError as error:
        # Python writes what is left once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_LEFT if isinstance(error, BrokenPipeError) else str(error))


def add_options(parser: argparse.ArgumentParser, check: Path | None) -> None:
    """The options of the command line; check: the arrays of --check without a name."""
    parser.add_argument("images", nargs="*", help="pictures, or videos (with PyAV)")
    parser.add_argument("--camera", action="store_true", help="classify what a Raspberry Pi's camera sees, till Ctrl-C")
    parser.add_argument(
        "--every", type=at_least_one, default=1, metavar="N", help="of a video every Nth frame alone (1)"
    )
    parser.add_argument("--frames", type=at_least_one, metavar="N", help="end a camera or a video after N frames")
    parser.add_argument("--top", type=at_least_one, default=5, help="how many classes to print (5)")
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count() or 1, help="threads (as many as cores)")
    parser.add_argument("--runs", type=at_least_one, default=50, help="how many runs --bench takes (50)")
    parser.add_argument("--bench", action="store_true", help="measure how long an image takes")
    by_default = "" if check is None else ", by default those of check.npz,"
    parser.add_argument(
        "--check", nargs=None if check is None else "?", const=check, type=Path, metavar="images.npz",
        help=f"run the images of a file{by_default} and compare",
    )  # fmt: skip


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line; exits where it asks for nothing."""
    arguments = parser.parse_args()
    if not (arguments.images or arguments.camera or arguments.bench or arguments.check):
        parser.error("name a picture or a video, or give --camera, --check or --bench")
    return arguments


def run(network: Network, arguments: argparse.Namespace) -> int:
    """Do what the command line says; the exit code."""
    preprocessing = network.settings.preprocessing
    for path in arguments.images:
        if path.lower().endswith(VIDEOS):
            watch(network, path, video_frames(path, arguments.every, preprocessing), arguments.frames)
        else:
            classify(network, path, arguments.top)
    if arguments.camera:
        watch(network, "--camera", camera_frames(network.shape, preprocessing), arguments.frames)
    passed = True
    if arguments.check or arguments.bench:
        print(f"device            {device()}, {arguments.threads} threads")
    if arguments.check:
        passed = check(network, arguments.check)
    if arguments.bench:
        bench(network, arguments.runs)
    return 0 if passed else CHECK_FAILED
