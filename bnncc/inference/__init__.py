"""A .tflite file on this machine: what `bnncc run` and `bnncc bench` do, and `bnncc bundle` with a bundle's images.

In reading order:

- `graph_runner.py`  a graph in ONNX Runtime
- `lce.py`           LCE's interpreter, here or as a program of another Python
- `lce_process.py`   that program, from here
- `runners.py`       a file in either interpreter
- `classes.py`       which outputs name a class
- `model.py`         the file as its user meets it
- `inputs.py`        the images that it is given
- `interpreters.py`  what runs it
- `timing.py`        how long it takes
"""

from bnncc.inference.inputs import open_input
from bnncc.inference.interpreters import open_lce, open_litert
from bnncc.inference.model import Model

__all__ = ["Model", "open_input", "open_lce", "open_litert"]
