"""A network compiled again as a file says that it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnncc.compiler import compile_traced
from bnncc.errors import InputError
from bnncc.frontend import NetworkSource, trace_source
from bnncc.ir.evaluate import Array
from bnncc.model import CompiledModel
from bnncc.options import FileMetadata
from bnncc.targets import find_target


def recompile(metadata: FileMetadata, network: NetworkSource, inputs: Sequence[Sequence[Array]]) -> CompiledModel:
    """The network compiled by this version of bnncc with the file's options, for its target.

    inputs: the first of the data, from which a file with frozen branches has them.

    Raises InputError where these lead to other branches; ExportError and the like as `bnncc.compile` does.
    """
    network = replace(network, freeze_branches=bool(metadata.frozen_branches))
    traced = trace_source(network, check_inputs=inputs[:1])
    if traced.frozen != metadata.frozen_branches:
        raise InputError(
            "the file has values frozen in it, and others than these images lead to: check on the images that it was "
            "compiled with"
        )
    return compile_traced(traced, find_target(metadata.target), metadata.options)
