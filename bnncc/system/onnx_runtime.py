"""ONNX Runtime without telemetry.

Its wheels for Linux (1.31) write an identifier to TMPDIR and a database of events to the home folder as soon as they
are imported, unless the environment says otherwise before.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
