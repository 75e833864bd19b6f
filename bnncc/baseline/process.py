"""Run the converter: another process, in a temporary directory that is gone afterwards, whatever happens."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path

import onnx_ir as ir

from bnncc.baseline.convert import RESULT, SOURCE
from bnncc.errors import BnnccError, InputError
from bnncc.ir.graph import describe

PACKAGES = ("onnx2tf", "tensorflow")
# So many lines of what the converter says are shown: exceptions of TensorFlow go on with all arguments of a call.
MESSAGE_LINES = 3
NODE_PREFIX = "ERROR: onnx_op_name:"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class ConversionError(BnnccError):
    """onnx2tf cannot convert the network."""


def check_installed() -> None:
    """Raise InputError where the extra `baseline` is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        where = "; for this Python there is no TensorFlow: use 3.13" if sys.version_info >= (3, 14) else ""
        raise InputError(f"the float baseline needs {' and '.join(missing)}: pip install 'bnncc[baseline]'{where}")


def convert(model: ir.Model) -> bytes:
    """The float .tflite file that onnx2tf makes of `model`.

    Raises ConversionError with what onnx2tf says where it fails.  Its output is not shown otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="bnncc-baseline-") as name:
        directory = Path(name)
        ir.external_data.load_to_model(model)
        ir.save(model, directory / SOURCE)
        log = directory / "log.txt"
        status = _run(directory, log)
        result = directory / RESULT
        if status != 0 or not result.exists():
            reason = _reason(model, status, log.read_text(errors="replace"))
            raise ConversionError(f"onnx2tf cannot convert the network{reason}")
        return result.read_bytes()


def _run(directory: Path, log: Path) -> int:
    """The exit status of the converter's process.  It does not outlive this call."""
    command = [sys.executable, "-m", "bnncc.baseline.convert", str(directory)]
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    # Conversion is no work for a GPU, and TensorFlow would take all of its memory.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # onnx2tf starts processes as well: together they are one group
        )
        try:
            return process.wait()
        except BaseException:  # Ctrl-C
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _reason(model: ir.Model, status: int, log: str) -> str:
    """Where the converter stopped, and what it says: its exception, or else its own error lines."""
    if status < 0:
        return f": it was ended by signal {-status}"
    lines = [line.rstrip() for line in _COLOUR.sub("", log).splitlines() if line.strip()]
    stops = [line.removeprefix(NODE_PREFIX).strip() for line in lines if line.startswith(NODE_PREFIX)]
    nodes = [describe(node) for node in model.graph if node.name in stops]
    said = _exception(lines) or [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    return "".join(f"\n  {line.strip()}" for line in [*nodes, *said[:MESSAGE_LINES]])


def _exception(lines: Sequence[str]) -> list[str]:
    """The message of the last exception whose traceback is among `lines`."""
    starts = [index for index, line in enumerate(lines) if line.startswith("Traceback ")]
    frames = lines[starts[-1] + 1 :] if starts else []
    return list(dropwhile(lambda line: line.startswith(" "), frames))
