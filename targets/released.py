"""The interpreters that were released, which a device may have, from the oldest to the newest."""

from __future__ import annotations

from bnncc.errors import InputError

# TensorFlow Lite's package tflite-runtime, then its successor ai-edge-litert.
RUNTIMES = (
    "tflite-2.11", "tflite-2.12", "tflite-2.13", "tflite-2.14", "litert-1.0", "litert-1.1", "litert-1.2", "litert-1.3",
    "litert-1.4", "litert-2.0", "litert-2.1", "litert-2.2", "litert-2.3",
)  # fmt: skip
NEWEST = RUNTIMES[-1]
# The oldest one that takes the delegate: what a file's metadata do not say.
ORDINARY = "tflite-2.14"

# Of each the version in which every form, and every network, was run: docs/conformance.md.
PROVEN = {
    "tflite-2.11": "2.11.0", "tflite-2.12": "2.12.0", "tflite-2.13": "2.13.0", "tflite-2.14": "2.14.0",
    "litert-1.0": "1.0.1", "litert-1.1": "1.1.2", "litert-1.2": "1.2.0", "litert-1.3": "1.3.0", "litert-1.4": "1.4.0",
    "litert-2.0": "2.0.3", "litert-2.1": "2.1.0", "litert-2.2": "2.2.0", "litert-2.3": "2.3.0",
}  # fmt: skip
_PACKAGES = {"tflite": "tflite-runtime", "litert": "ai-edge-litert"}


def package(runtime: str) -> tuple[str, str]:
    """The package in Python's index that has it, and the version of `PROVEN`."""
    return _PACKAGES[runtime.partition("-")[0]], PROVEN[runtime]


def title(runtime: str) -> str:
    """As people call it: "LiteRT 1.4", "TensorFlow Lite 2.14"."""
    package, _, version = runtime.partition("-")
    return f"{'TensorFlow Lite' if package == 'tflite' else 'LiteRT'} {version}"


def span_text(runtimes: tuple[str, str]) -> str:
    """The oldest and the newest of some: "LiteRT 2.1 to LiteRT 2.3", or the only one."""
    return " to ".join(dict.fromkeys(map(title, runtimes)))


def check_name(runtime: str) -> str:
    """`runtime`, where it is one of RUNTIMES.  Raises InputError, with all of them, where it is none."""
    if runtime not in RUNTIMES:
        raise InputError(f"no runtime is called '{runtime}'; those whose results are known: {', '.join(RUNTIMES)}")
    return runtime
