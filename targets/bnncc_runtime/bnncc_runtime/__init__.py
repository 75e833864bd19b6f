"""Networks compiled by bnncc, on the device: a delegate gives Larq Compute Engine's operators to TensorFlow Lite.

    from ai_edge_litert.interpreter import Interpreter
    from bnncc_runtime import load_delegate

    interpreter = Interpreter("net.tflite", experimental_delegates=[load_delegate()])

In reading order: `compiled_model` (the delegate in LiteRT's other interface), `library` (the delegate), `metadata`
(what a file says of itself), `interpreter` (runs a file where there is no TensorFlow Lite), `opening` (which of both
runs a file), `network` (pictures and classes), `__main__` (the command line: `python -m bnncc_runtime net.tflite
image.jpg`).
"""

from bnncc_runtime._version import __version__
from bnncc_runtime.library import library_path, litert_environment, load_delegate

__all__ = ["__version__", "library_path", "litert_environment", "load_delegate"]
