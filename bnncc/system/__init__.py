"""What bnncc asks of the operating system.  In reading order:

- `memory.py`  give memory that is no longer used back, refuse what does not fit
- `files.py`   files that are written whole or not at all, and read whole
- `names.py`   names that may be a stranger's, printed and written
- `arrays.py`  NumPy's files
- `onnx_runtime.py`  ONNX Runtime, told to keep no telemetry
"""
