"""LCE files on a stock TensorFlow Lite or LiteRT: the delegate of `targets/runtime`, from Python.

In reading order: `build` (compiles the library for this machine or another one), `trust` (which libraries may be
loaded), `prebuilt` (the library of a wheel), `compiled_model` (the delegate in LiteRT's other interface), `library`
(finds or builds it), `runner` (runs a file with it), `interpreter` (runs a file with the wheel's library alone).
"""

from bnncc.runtime.build import BuildError, Platform, build
from bnncc.runtime.library import kernels, library_path, litert_environment, load_delegate
from bnncc.runtime.runner import LitertRunner

__all__ = [
    "BuildError",
    "LitertRunner",
    "Platform",
    "build",
    "kernels",
    "library_path",
    "litert_environment",
    "load_delegate",
]
