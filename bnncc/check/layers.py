"""`--layers`: every binary layer of a file against the network, fed the network's own inputs, then free-running.

The file says how it was compiled (`recompile.py`).  Compiled again the same way, the network yields the graph whose
values the file's tensors are named after; the file's own bytes then take the place of what was compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from bnncc._version import __version__
from bnncc.errors import InputError
from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import Array
from bnncc.model import CompiledModel
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import Verification, verify_in


def with_content(compiled: CompiledModel, content: bytes, version: str) -> CompiledModel:
    """The network compiled as the file was, with the file's own content, which bnncc `version` made.

    Raises InputError where its operators are others.
    """
    if _structure(content) != _structure(compiled.content):
        raise InputError(
            f"--layers: bnncc {__version__} compiles this network to other operators than the file has, which bnncc "
            f"{version} made: compile it again, or check without --layers"
        )
    return replace(compiled, content=content)


def check_layers(
    compiled: CompiledModel,
    batches: Sequence[Sequence[Array]],
    runtimes: Sequence[Runtime],
    progress: Callable[[str, int, int], None] | None,
) -> list[Verification]:
    """`verify_in` these runtimes on these batches, told to `progress` as "layers"."""
    return verify_in(runtimes, compiled, batches, None if progress is None else partial(progress, "layers"))


def _structure(content: bytes) -> list[tuple[object, ...]]:
    """Operators with their outputs and every tensor's shape and type: all but the numbers."""
    file = TfliteFile(content)
    operators: list[tuple[object, ...]] = [
        (operator.name, *(tensor.name for tensor in operator.outputs)) for operator in file.operators
    ]
    return operators + [(tensor.name, tensor.shape, tensor.dtype) for tensor in file.tensors]
