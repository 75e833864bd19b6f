"""Where a node of the graph comes from: the user's module path and source line.

The frontend writes them into four entries of `ir.Node.metadata_props`, which every pass copies to the nodes it creates:

    bnncc.module   module path, "blocks.3.conv3x3"; "" for the network itself
    bnncc.source   "reactnet.py:53 in forward: half = self.bn1(…)"
    bnncc.file, bnncc.line   the full path and the line number

`source_of` reads them back.  The line is the innermost frame that belongs neither to PyTorch nor to bnncc.
"""

from __future__ import annotations

import dis
import functools
import linecache
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import onnx
import onnx_ir as ir
import onnxscript
import torch

from bnncc.ir.graph import MODULE_KEY, SOURCE_KEY

FILE_KEY = "bnncc.file"
LINE_KEY = "bnncc.line"

_TORCH = str(Path(torch.__file__).parent)
# What PyTorch's exporters are made of.
_ONNX = tuple(str(Path(module.__file__ or "").parent) for module in (onnx, ir, onnxscript))
_BNNCC = str(Path(__file__).parent.parent)
_STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"]
# The file that calls the user's network: no frame outside of it belongs to the network.
_BOUNDARY = str(Path(__file__).with_name("flatten_outputs.py"))
# And the file in which PyTorch calls a module that the user has traced.
_TRACER = str(Path(torch.jit._trace.__file__))

_STACK_TRACE_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_DOC_STRING_FRAME = re.compile(r"^(?P<file>.+)\((?P<line>\d+)\): (?P<function>.+)$", re.MULTILINE)
_SCRIPT_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)\n(?P<listing>.*?)(?=File "|\Z)', re.DOTALL)
_SOURCE = re.compile(r"^.*:(?P<line>\d+) in (?P<function>\S+): (?P<text>.*)$", re.DOTALL)


@dataclass(frozen=True)
class SourceLocation:
    """One line of the user's code.  `str()` gives "reactnet.py:53 in forward: half = …"."""

    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line} in {self.function}: {self.text}"


@functools.cache
def _is_user_file(file: str) -> bool:
    if file.startswith("<") or file.startswith(_TORCH) or file.startswith((_BNNCC, *_ONNX)):
        return False
    return not file.startswith(_STANDARD_LIBRARY) or "site-packages" in file


def _innermost_user_frame(frames: Iterable[tuple[str, int, str]]) -> SourceLocation | None:
    """The first user frame of `frames` (file, line, function), which start at the innermost and end at the boundary."""
    for file, line, function in frames:
        if file in (_BOUNDARY, _TRACER):
            return None
        if _is_user_file(file):
            return SourceLocation(file, line, function, linecache.getline(file, line).strip())
    return None


def location_in_traceback(traceback: TracebackType | None) -> SourceLocation | None:
    """The user's line in which an exception was raised, or None where no user frame is in the traceback."""
    frames: list[tuple[str, int, str]] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append((code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return _innermost_user_frame(reversed(frames))


def raised_by_statement(traceback: TracebackType | None) -> bool:
    """Whether a `raise` in Python code raised an exception, and not an operator, an index or the like."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code.co_code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def location_in_stack(frame: FrameType | None) -> SourceLocation | None:
    """The user's line that is running, seen from `frame` outwards to the call of the network."""

    def outwards(inner: FrameType | None) -> Iterator[tuple[str, int, str]]:
        while inner is not None:
            yield inner.f_code.co_filename, inner.f_lineno, inner.f_code.co_name
            inner = inner.f_back

    return _innermost_user_frame(outwards(frame))


def location_in_stack_trace(text: str) -> SourceLocation | None:
    """The user's line in torch.export's stack trace (a Python traceback, innermost frame last)."""
    frames = [(m["file"], int(m["line"]), m["function"]) for m in _STACK_TRACE_FRAME.finditer(text)]
    return _innermost_user_frame(reversed(frames))


def location_in_doc_string(text: str) -> SourceLocation | None:
    """The user's line in the TorchScript exporter's doc_string: "file(line): function", innermost frame first.

    Of a scripted module it is an excerpt of the file, with the line before it.
    """
    frames = [(m["file"], int(m["line"]), m["function"]) for m in _DOC_STRING_FRAME.finditer(text)]
    for match in _SCRIPT_FRAME.finditer(text):
        function = re.search(r"def (\w+)\(", match["listing"])
        frames.append((match["file"], int(match["line"]), function[1] if function else "forward"))
    return _innermost_user_frame(frames)


def set_source(node: ir.Node, module: str, location: SourceLocation | None) -> None:
    """Make `module` and `location` the only metadata of `node`."""
    node.metadata_props.clear()
    node.metadata_props[MODULE_KEY] = module
    if location is not None:
        node.metadata_props[SOURCE_KEY] = str(location)
        node.metadata_props[FILE_KEY] = location.file
        node.metadata_props[LINE_KEY] = str(location.line)


def module_of(node: ir.Node) -> str:
    """The module path of `node`; "" where it is not known or is the network itself."""
    return node.metadata_props.get(MODULE_KEY, "")


def source_of(node: ir.Node) -> SourceLocation | None:
    """The user's source line that `node` was traced from; None where it is not known."""
    match = _SOURCE.match(node.metadata_props.get(SOURCE_KEY, ""))
    if match is None:
        return None
    file = node.metadata_props.get(FILE_KEY, "")
    return SourceLocation(file, int(match["line"]), match["function"], match["text"])
