"""PyTorch's two exporters, each called once, silently, on its own copy of the network."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from bnncc.errors import ExportError
from bnncc.frontend.copying import copy_of
from bnncc.frontend.flatten_outputs import FlattenOutputs, one_thread
from bnncc.frontend.known_numbers import KnownNumbers, Numbers
from bnncc.frontend.source import location_in_stack_trace, location_in_traceback
from bnncc.frontend.without_onnx_form import replace_operators
from bnncc.system.memory import without_collections

# The lowest opset in which the exporter of torch.export is written.
OPSET = 18

# torch's messages go on for pages of hints; the first lines hold the cause.
_QUOTED_LINES = 3


# What the exporter says of an operator that it does not know.
_NOT_FOUND = re.compile(
    r"No ONNX function found for <OpOverload\(op='(?P<operator>[\w.]+)', overload='(?P<overload>\w+)'"
)


class NoOnnxFormError(ExportError):
    """The network has an operator that PyTorch's exporter does not know."""


def export_with_torch_export(network: FlattenOutputs, inputs: Sequence[Tensor], input_names: Sequence[str]) -> ir.Model:
    """torch.export (non-strict) and the ONNX exporter on top of it, without its optimiser."""
    with torch.no_grad():
        program = replace_operators(torch.export.export(network, tuple(inputs), strict=False))
        try:
            result = torch.onnx.export(
                program,
                tuple(inputs),
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                verbose=False,
                input_names=input_names,
            )
        except Exception as error:
            unknown = _without_onnx_form(program, error)
            if unknown is None:
                raise
            raise NoOnnxFormError(f"torch.export: {unknown}") from error
    assert result is not None
    return result.model


def _without_onnx_form(program: torch.export.ExportedProgram, error: BaseException) -> str | None:
    """The operator that the exporter did not find, and the user's line; None where `error` says something else."""
    cause: BaseException | None = error
    while cause is not None and (found := _NOT_FOUND.search(str(cause))) is None:
        cause = cause.__cause__
    if cause is None or found is None:
        return None
    # The exporter looks for `prims.nextafter` where the program calls `aten.nextafter`.
    name = found["operator"].partition(".")[2]
    called = [node for node in program.graph.nodes if str(node.target).split(".")[1:2] == [name]]
    called = [node for node in called if str(node.target).split(".")[2:] == [found["overload"]]] or called
    # What the exporter made of an operator of the program, as of `aten.cumprod` a `prims.prod`, has another name.
    called = called or translated_nodes(error)
    locations = [location_in_stack_trace(node.meta.get("stack_trace") or "") for node in called]
    lines = dict.fromkeys(f"\n    at {location}" for location in locations if location is not None)
    return f"PyTorch's exporter has no ONNX form for {found['operator']}" + "".join(lines)


def translated_nodes(error: BaseException) -> list[torch.fx.Node]:
    """The node that the exporter translated when it failed, which its own frames hold; empty where none is told."""
    found = []
    for one in _chain(error):
        for frame, _ in traceback.walk_tb(one.__traceback__):
            found += [value for value in frame.f_locals.values() if isinstance(value, torch.fx.Node)]
    return [node for node in found[-1:] if node.op == "call_function"]


def export_with_torchscript(network: FlattenOutputs, inputs: Sequence[Tensor], input_names: Sequence[str]) -> ir.Model:
    """torch.jit.trace and the older ONNX exporter.  `verbose` makes it write source lines into doc_string."""
    content = io.BytesIO()
    with torch.no_grad(), _file_descriptor_silenced(1):
        traced = _traced(network, inputs) if has_torchscript(network) else network
        torch.onnx.export(
            traced,
            tuple(inputs),
            content,  # type: ignore[arg-type]  # PyTorch takes a buffer for this exporter, and says otherwise.
            dynamo=False,
            do_constant_folding=False,
            opset_version=OPSET,
            verbose=True,
            input_names=input_names,
        )
    return ir.from_proto(onnx.load_from_string(content.getvalue()))


def _traced(network: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """The exporter's own trace stops at modules that are TorchScript already; this one goes through them."""
    traced: nn.Module = torch.jit.trace(network, tuple(inputs), check_trace=False)  # type: ignore[no-untyped-call]
    return traced


def has_torchscript(network: nn.Module) -> bool:
    """Whether a part of `network` was traced or scripted, which torch.export does not take."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())


TORCHSCRIPT = "TorchScript"
EXPORTERS: dict[str, Callable[[FlattenOutputs, Sequence[Tensor], Sequence[str]], ir.Model]] = {
    "torch.export": export_with_torch_export,
    TORCHSCRIPT: export_with_torchscript,
}


def export(
    exporter: str,
    network: nn.Module,
    inputs: Sequence[Tensor],
    input_names: Sequence[str],
    numbers: Numbers = MappingProxyType({}),
) -> ir.Model:
    """Export a copy of `network` with one of `EXPORTERS`.

    Args:
        exporter: "torch.export" or "TorchScript".
        inputs: example inputs, in the order of `input_names`.
        numbers: what forward reads from parameters and buffers.

    Returns:
        The exporter's own graph: neither named nor shaped as the rest of bnncc expects.

    Raises:
        ExportError: quotes the cause and the user's line.
    """
    wrapped = FlattenOutputs(copy_of(network), input_names).eval()
    try:
        with silence(), one_thread(), without_collections(), KnownNumbers(numbers):
            return EXPORTERS[exporter](wrapped, inputs, input_names)
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"{exporter}: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """The cause of `error` in a few lines, and the user's line where one is in the traceback."""
    chain = _chain(error)
    root = chain[-1]
    locations = [location_in_traceback(one.__traceback__) for one in reversed(chain)]
    locations += [location_in_stack_trace(node.meta.get("stack_trace") or "") for node in translated_nodes(error)]
    location = next((one for one in locations if one is not None), None)
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(root))
    lines = [line.rstrip() for line in text.split("\n\n")[0].strip().splitlines() if line.strip()]
    quoted = "\n    ".join(lines[:_QUOTED_LINES])
    return f"{type(root).__name__}: {quoted}" + (f"\n    at {location}" if location else "")


def _chain(error: BaseException) -> list[BaseException]:
    """`error`, what caused it, and so on to the first cause."""
    chain = [error]
    while (below := chain[-1].__cause__) is not None and below not in chain:
        chain.append(below)
    return chain


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Hold back warnings, log records and prints, the user's forward's included."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)


@contextlib.contextmanager
def _file_descriptor_silenced(descriptor: int) -> Iterator[None]:
    """Hold back what C++ code writes to `descriptor`."""
    saved = os.dup(descriptor)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), descriptor)
            yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
