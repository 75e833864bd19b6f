"""Runs a network that bnncc compiled.

    python -m bnncc_runtime net.tflite image.jpg …        print the classes with the largest logits
    python -m bnncc_runtime net.tflite video.mp4          print the class of each frame (with PyAV)
    python -m bnncc_runtime net.tflite --camera           of what a Raspberry Pi's camera sees (with picamera2)
    python -m bnncc_runtime net.tflite --bench            measure how long an image takes
    python -m bnncc_runtime net.tflite --check data.npz   run a file's `images`, and compare with its `labels`

The file says how pictures become its input, and what its classes are called.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bnncc_runtime.metadata import DamagedFileError, read_description
from bnncc_runtime.network import Network, Settings, add_options, end_with_reader, parse, run
from bnncc_runtime.opening import CHOICES, open_file


def read_settings(path: Path, content: bytes) -> Settings:
    """What the file says of pictures and classes; exits where it is damaged."""
    try:
        description: dict[str, Any] = read_description(content)
        labels = [str(name) for name in description.get("classes", [])]
        channels_first = description.get("input_layout", "NHWC") == "NCHW"
        yields_class = description.get("head") == "argmax"
        return Settings(dict(description.get("preprocessing", {})), channels_first, labels, yields_class)
    except (DamagedFileError, TypeError, ValueError) as error:
        sys.exit(f"{path}: {error}")


def open_network(path: Path, threads: int, choice: str) -> Network:
    """The network of the file `path`; exits with the cause where that cannot be."""
    try:
        if not path.is_file():  # opening a pipe would wait for who writes to it
            sys.exit(f"{path} is no file")
        content = path.read_bytes()
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}")
    settings = read_settings(path, content)
    try:
        return Network(open_file(content, threads, choice), settings)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"{path} does not run here: {error}")
    except (OSError, ImportError, AttributeError) as error:
        sys.exit(str(error))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m bnncc_runtime", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="the .tflite file")
    add_options(parser, None)
    parser.add_argument(
        "--interpreter", choices=CHOICES, default="auto",
        help="litert (or TensorFlow Lite) with the delegate, or bnncc's own; by default the first that is installed",
    )  # fmt: skip
    arguments = parse(parser)
    sys.exit(run(open_network(arguments.model, arguments.threads, arguments.interpreter), arguments))


if __name__ == "__main__":
    end_with_reader(main)
