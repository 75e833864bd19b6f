"""LCE files on a stock TensorFlow Lite or LiteRT: the delegate of `targets/runtime`, from Python.

In reading order: `build` (compiles the library for this machine or another one), `trust` (which
libraries may be loaded), `library` (finds it), `runner` (runs a
file with it).
"""

from bnncc.runtime.build import BuildError, Platform, build
from bnncc.runtime.library import kernels, library_path, load_delegate
from bnncc.runtime.runner import LitertRunner

__all__ = ["BuildError", "LitertRunner", "Platform", "build", "kernels", "library_path", "load_delegate"]
