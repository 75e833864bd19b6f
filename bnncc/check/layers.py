"""`--layers`: every binary layer of a file against the network, fed the network's own inputs, then free-running.

The file says how it was compiled.  Compiled again the same way, the network yields the graph whose values the file's
tensors are named after; the file's own bytes then take the place of what was compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from bnncc._version import __version__
from bnncc.compiler import compile_traced
from bnncc.errors import InputError
from bnncc.frontend import NetworkSource, trace_source
from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import Array
from bnncc.model import CompiledModel
from bnncc.options import FileMetadata
from bnncc.targets import find_target
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import Verification, verify_in


def recompile(
    content: bytes, metadata: FileMetadata, network: NetworkSource, inputs: Sequence[Sequence[Array]]
) -> CompiledModel:
    """The network compiled as the file was, with the file's own content.

    inputs: the first of the data, from which a file with frozen branches has them.

    Raises InputError where its operators are others: another version of bnncc made the file.
    """
    network = replace(network, freeze_branches=bool(metadata.frozen_branches))
    traced = trace_source(network, check_inputs=inputs[:1])
    if traced.frozen != metadata.frozen_branches:
        raise InputError(
            "--layers: other values are frozen in the file than these images lead to: check on the images that it was "
            "compiled with, or check without --layers"
        )
    compiled = compile_traced(traced, find_target(metadata.target), metadata.options)
    if _structure(content) != _structure(compiled.content):
        raise InputError(
            f"--layers: bnncc {__version__} compiles this network to other operators than the file has, which bnncc "
            f"{metadata.version} made: compile it again, or check without --layers"
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
