"""bnncc compiles PyTorch binary neural networks to TensorFlow Lite files with Larq Compute Engine operators.

    import bnncc
    compiled = bnncc.compile("net.py:make_net", weights="net.pth", input_shapes=["1x3x224x224"])
    compiled.save("net.tflite")

In reading order: `ir` (the graph's own things), `frontend` (from PyTorch to a checked ONNX graph), `passes`, `targets`
(devices, and the writer of the file), `options`, `model` (what is compiled), `compiler` (the whole way), `verification`
(the proof); `data` and `check` (accuracy on the user's images), `baseline` (the float file to compare with), `runtime`
(the delegate), `inference` (a file on this machine), `inspect` and `report`, `bundle` and `deploy` (on the device),
`cli`; `system` is what all may ask of the operating system.  `docs/architecture.md` says who may import whom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnncc._version import __version__
from bnncc.errors import (
    BnnccError,
    ExportError,
    FrozenValueError,
    InputError,
    PassError,
    TraceMismatchError,
    UnsupportedOperatorsError,
    VerificationError,
    WeightsError,
)

if TYPE_CHECKING:
    from bnncc.compiler import compile
    from bnncc.data import Preprocessing
    from bnncc.model import CompiledModel
    from bnncc.options import Options
    from bnncc.verification import Verification, verify

_LAZY = {
    "CompiledModel": "bnncc.model",
    "Options": "bnncc.options",
    "Preprocessing": "bnncc.data",
    "compile": "bnncc.compiler",
    "Verification": "bnncc.verification",
    "verify": "bnncc.verification",
}


def __getattr__(name: str) -> object:
    """Import what needs PyTorch when it is first asked for: `bnncc --help` should not wait for it."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'bnncc' has no attribute '{name}'")


__all__ = [
    "BnnccError",
    "CompiledModel",
    "ExportError",
    "FrozenValueError",
    "InputError",
    "Options",
    "PassError",
    "Preprocessing",
    "TraceMismatchError",
    "UnsupportedOperatorsError",
    "Verification",
    "VerificationError",
    "WeightsError",
    "__version__",
    "compile",
    "verify",
]
