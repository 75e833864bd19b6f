"""What runs a file here: LiteRT with bnncc's delegate, and LCE's interpreter."""

from __future__ import annotations

from bnncc.errors import InputError
from bnncc.inference.model import Model
from bnncc.inference.runners import FileRunner, LceRunner, Runtime
from bnncc.runtime import LitertRunner, kernels


def open_litert(model: Model, threads: int, kernel: str = "auto") -> FileRunner:
    """The file in LiteRT with the delegate.  Raises InputError where one of them does not take it."""
    if kernel != "auto" and kernel not in kernels():
        raise InputError(f"--kernel: this processor has {', '.join(kernels())}, not {kernel!r}")
    try:
        return load(Runtime.LITERT, model.content, threads, kernel)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{model.path}: LiteRT does not take it: {str(error).strip()}") from error


def open_lce(model: Model, threads: int) -> FileRunner | None:
    """The file in LCE's interpreter at its best setting; None where it is not on this machine, or refuses the file."""
    if not Runtime.LCE.is_available:
        return None
    try:
        return load(Runtime.LCE, model.content, threads)
    except RuntimeError:
        return None


def load(runtime: Runtime, content: bytes, threads: int, kernel: str = "auto") -> FileRunner:
    """A file at the runtime's best setting; `kernel`: of the delegate.

    RuntimeError or ValueError where the runtime does not take it, ImportError where it is not installed.
    """
    if runtime is Runtime.LCE:
        return LceRunner(content, threads, fastest=True)
    return LitertRunner(content, threads, kernel=kernel)
