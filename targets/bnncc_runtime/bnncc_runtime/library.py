"""The delegate's library, which the wheel brings."""

from __future__ import annotations

import contextlib
import importlib
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from bnncc_runtime.compiled_model import accelerated_environment

NAMES = {"darwin": "libbnncc_runtime.dylib", "win32": "bnncc_runtime.dll"}


def library_path() -> Path:
    """The library for this machine.  FileNotFoundError where this installation has none."""
    path = Path(__file__).with_name(NAMES.get(sys.platform, "libbnncc_runtime.so"))
    if not path.is_file():
        raise FileNotFoundError(
            f"this installation of bnncc-runtime has no library for {sys.platform} {platform.machine()}: "
            "pip install --force-reinstall bnncc-runtime"
        )
    return path


def tensorflow_lite() -> ModuleType | None:
    """LiteRT's module `interpreter`, or TensorFlow Lite's; None where neither is installed."""
    for package in ("ai_edge_litert", "tflite_runtime"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(f"{package}.interpreter")
    return None


def load_delegate(threads: int = 0, *, kernel: str = "auto", fuse: bool = True) -> Any:
    """The delegate, for `experimental_delegates` of the Interpreter of ai-edge-litert or tflite-runtime.

    threads: how many it uses; 0 for as many as the interpreter.  kernel: the name of one instead of the fastest.
    fuse: also run the float operators between LCE's operators, in one go over memory; the results are the same.
    A ValueError says which option does not fit.  ImportError where neither package is installed, FileNotFoundError as
    of `library_path`.
    """
    module = tensorflow_lite()
    if module is None:
        raise ImportError("neither ai-edge-litert nor tflite-runtime is installed: pip install ai-edge-litert")
    options = {"threads": str(threads), "kernel": kernel, "fuse": str(int(fuse))}
    return module.load_delegate(str(library_path()), options)


def litert_environment() -> Any:
    """An environment of LiteRT, for `environment` of ai-edge-litert's CompiledModel, whose models run in the delegate.

    ImportError where LiteRT 2.2 or later is not installed, FileNotFoundError as of `library_path`.
    """
    return accelerated_environment(library_path())
