"""The user's network in PyTorch: what names it, its inputs, and how to run it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bnncc.errors import InputError
from bnncc.frontend.checkpoint import WeightsChoice, load_weights
from bnncc.frontend.command_line import parse_input_shape
from bnncc.frontend.export import copy_of, silence
from bnncc.frontend.flatten_outputs import FlattenOutputs, forward_parameters
from bnncc.frontend.recording import Recording, record
from bnncc.frontend.user_code import UserCode, load_module
from bnncc.ir.evaluate import Array


@dataclass(frozen=True)
class InputSpec:
    """One input: the name of forward's parameter, and its shape in PyTorch's order (NCHW), batch included; float32."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class NetworkSource:
    """A network as the command line names it; another process can load it again from this.

    Attributes:
        source: "path/to/file.py:callable", "package.module:callable", or a path that ends in ".onnx".
        weights: a checkpoint, see `load_weights`.
        arguments: keywords for the callable.
        input_shapes: "1x3x224x224" or "name=1x3x224x224", one for each input; a .onnx file may need none.
        allow_partial_weights: keys that the checkpoint lacks, or has too many, are no error.
        weights_choice: which of the checkpoint's state_dicts, under which names.
    """

    source: str
    weights: Path | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)
    input_shapes: tuple[str, ...] = ()
    allow_partial_weights: bool = False
    weights_choice: WeightsChoice = field(default_factory=WeightsChoice)

    @property
    def name(self) -> str:
        """For a report: the source and its weights."""
        return self.source if self.weights is None else f"{self.source} with {self.weights}"

    @property
    def is_onnx_file(self) -> bool:
        """True for a .onnx file, which has its weights inside."""
        return self.source.endswith(".onnx")

    @property
    def shapes(self) -> list[tuple[str | None, tuple[int, ...]]]:
        """The input shapes, parsed.  Raises InputError."""
        return [parse_input_shape(text) for text in self.input_shapes]


@dataclass
class Network:
    """A PyTorch module, its inputs, and the surroundings that its code runs in."""

    module: nn.Module
    inputs: list[InputSpec]
    code: UserCode = field(default_factory=UserCode)

    def wrapped(self) -> FlattenOutputs:
        """A copy of the module that takes and returns a flat list of tensors."""
        return FlattenOutputs(copy_of(self.module), [spec.name for spec in self.inputs])

    def tensors(self, arrays: Sequence[Array]) -> list[torch.Tensor]:
        """The inputs as float32 tensors of their own."""
        return [torch.from_numpy(np.array(array, dtype=np.float32)) for array in arrays]

    def record(self, arrays: Sequence[Array]) -> Recording:
        """Run a fresh copy and keep its inner values."""
        with self.code.active(), silence():
            return record(self.wrapped(), self.tensors(arrays), [*self.module.parameters(), *self.module.buffers()])

    @cached_property
    def _evaluated(self) -> FlattenOutputs:
        """One copy that all of `run`'s inputs go through, as they would in the user's own evaluation."""
        return self.wrapped()

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """All tensor outputs, in order, for float32 arrays in NCHW, one for each input."""
        with self.code.active(), silence():
            outputs = self._evaluated.outputs(*self.tensors(arrays))
        return [tensor.detach().numpy() for tensor in outputs.values()]


def load_network(source: NetworkSource) -> tuple[Network, list[str]]:
    """Build the network, load its weights, match its inputs.  Returns it with warnings.

    Raises:
        InputError: the source, its arguments or shapes cannot be used.
        WeightsError: the checkpoint cannot.
    """
    module, code = load_module(source.source, source.arguments)
    warnings = []
    if source.weights is not None:
        with code.active():  # load hooks are the user's code
            warnings = load_weights(
                module, source.weights, allow_partial=source.allow_partial_weights, choice=source.weights_choice
            )
    with code.active():
        inputs = _match_inputs(module, source.shapes)
    return Network(module, inputs, code), warnings


def input_specs(module: nn.Module, input_shapes: Sequence[str]) -> list[InputSpec]:
    """The inputs of `module.forward` with the shapes "1x3x224x224" or "name=1x3x224x224" given for them.

    Raises:
        InputError: a shape cannot be read, names no input, or is missing.
    """
    return _match_inputs(module, [parse_input_shape(text) for text in input_shapes])


def _match_inputs(module: nn.Module, shapes: Sequence[tuple[str | None, tuple[int, ...]]]) -> list[InputSpec]:
    """The parameters of forward with the shapes given for them."""
    parameters = forward_parameters(module)
    names = [parameter.name for parameter in parameters]
    required = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    if not names:  # forward(*args)
        names = [f"input_{index}" for index in range(len(shapes))]
    if not shapes:
        example = "--input-shape 1x3x224x224" if len(required) < 2 else f"--input-shape {required[0]}=1x3x224x224"
        raise InputError(
            f"give the input's shape, batch first: {example} (forward takes {', '.join(names) or '*args'})"
        )
    chosen = shapes_by_name(names, shapes, "forward")
    missing = [name for name in required if name not in chosen]
    if missing:
        raise InputError(f"forward also needs {', '.join(missing)}: give --input-shape {missing[0]}=... as well")
    return [InputSpec(name, chosen[name]) for name in names if name in chosen]


def shapes_by_name(
    names: Sequence[str], shapes: Sequence[tuple[str | None, tuple[int, ...]]], owner: str
) -> dict[str, tuple[int, ...]]:
    """The shape of each of `names` that has one; shapes without a name go to the inputs that are left, in order."""
    chosen: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes:
        if name is None:
            continue
        if name not in names or name in chosen:
            problem = "given twice" if name in chosen else f"no input of {owner}, which takes {', '.join(names)}"
            raise InputError(f"--input-shape {name}={shape_text(shape)}: {name!r} is {problem}")
        chosen[name] = shape
    free = [name for name in names if name not in chosen]
    unnamed = [shape for name, shape in shapes if name is None]
    if len(unnamed) > len(free):
        raise InputError(f"{len(shapes)} input shapes are given, but {owner} takes {len(names)}: {', '.join(names)}")
    chosen.update(zip(free, unnamed, strict=False))
    return chosen


def shape_text(shape: Sequence[int]) -> str:
    """As the command line spells it: 1x3x224x224."""
    return "x".join(map(str, shape)) or "a scalar"
