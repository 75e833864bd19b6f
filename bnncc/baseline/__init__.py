"""The float TensorFlow Lite file of the same network, to put the binary file beside.

    from bnncc.baseline import make_baseline
    baseline = make_baseline(compiled.traced)

It is made by onnx2tf and TensorFlow (`pip install 'bnncc[baseline]'`), which run in a process of their own: bnncc
itself never imports TensorFlow.  In reading order:

- `graph.py`    the network as a float ONNX graph: what onnx2tf is given
- `process.py`  run the converter in a temporary directory
- `convert.py`  the converter's process
- `check.py`    prove that its file computes what the graph computes
- `make.py`     the whole way
- `report.py`   what `bnncc baseline` prints
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnncc.baseline.make import Baseline, make_baseline

_LAZY = ("Baseline", "make_baseline")


def __getattr__(name: str) -> object:
    """Import PyTorch and ONNX Runtime when they are asked for: the converter's process needs neither."""
    if name in _LAZY:
        from bnncc.baseline import make

        return getattr(make, name)
    raise AttributeError(f"module 'bnncc.baseline' has no attribute '{name}'")


__all__ = ["Baseline", "make_baseline"]
