"""The user's network in PyTorch: what names it, its inputs, and how to run it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bnncc.errors import BnnccError, InputError
from bnncc.frontend.checkpoint import WeightsChoice, load_weights
from bnncc.frontend.command_line import GivenShape, parse_input_range, parse_input_shape
from bnncc.frontend.copying import copy_of
from bnncc.frontend.dataflow import observing
from bnncc.frontend.export import describe_error, silence
from bnncc.frontend.flatten_outputs import FlattenOutputs
from bnncc.frontend.frozen_values import FrozenValue, replay
from bnncc.frontend.input_types import IndexRanges, annotated_type, find_types
from bnncc.frontend.plain_module import plain_module, unwrapped
from bnncc.frontend.recording import Recording, record
from bnncc.frontend.signature import EMPTY, VAR_KEYWORD, VAR_POSITIONAL, numbered, root_of, signature_of
from bnncc.frontend.user_code import UserCode, load_module
from bnncc.ir.evaluate import Array
from bnncc.ir.input_spec import InputSpec, shape_text


@dataclass(frozen=True)
class NetworkSource:
    """A network as the command line names it; another process can load it again from this.

    Attributes:
        source: "path/to/file.py:callable", "package.module:callable", or a path that ends in ".onnx".
        weights: a checkpoint, see `load_weights`.
        arguments: keywords for the callable.
        input_shapes: "1x3x224x224", "name=1x3x224x224" or "name=1x128:int64", one for each input; a .onnx file may need
            none.
        input_ranges: "0:100" or "name=0:100", of the random values of an input.
        allow_partial_weights: keys that the checkpoint lacks, or has too many, are no error.
        weights_choice: which of the checkpoint's state_dicts, under which names.
        freeze_branches: Python values that forward reads from its input and decides by are kept as the traced input
            has them, where they are an error otherwise.
    """

    source: str
    weights: Path | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)
    input_shapes: tuple[str, ...] = ()
    input_ranges: tuple[str, ...] = ()
    allow_partial_weights: bool = False
    weights_choice: WeightsChoice = field(default_factory=WeightsChoice)
    freeze_branches: bool = False

    @property
    def name(self) -> str:
        """For a report: the source and its weights."""
        return self.source if self.weights is None else f"{self.source} with {self.weights}"

    @property
    def files(self) -> tuple[str, ...]:
        """The names of what is read, as far as they are known before: the code or the .onnx file, the checkpoint."""
        source = self.source if self.is_onnx_file else self.source.rpartition(":")[0]
        return (source, *(() if self.weights is None else (str(self.weights),)))

    @property
    def is_onnx_file(self) -> bool:
        """True for a .onnx file, which has its weights inside."""
        return self.source.endswith(".onnx")

    @property
    def shapes(self) -> list[GivenShape]:
        """The input shapes, parsed.  Raises InputError."""
        return [parse_input_shape(text) for text in self.input_shapes]

    @property
    def ranges(self) -> list[tuple[str | None, tuple[float, float]]]:
        """The input ranges, parsed.  Raises InputError."""
        return [parse_input_range(text) for text in self.input_ranges]


@dataclass
class Network:
    """A PyTorch module, its inputs, and the surroundings that its code runs in.

    frozen: Python values that `run` and `record` keep as they were, because the graph does.
    known: inputs, and what `run` yields for them.
    """

    module: nn.Module
    inputs: list[InputSpec]
    code: UserCode = field(default_factory=UserCode)
    frozen: tuple[FrozenValue, ...] = ()
    known: list[tuple[Sequence[Array], list[Array]]] = field(default_factory=list, init=False, repr=False)

    def wrapped(self) -> FlattenOutputs:
        """A copy of the module that takes and returns a flat list of tensors."""
        return FlattenOutputs(copy_of(self.module), [spec.name for spec in self.inputs])

    def tensors(self, arrays: Sequence[Array]) -> list[torch.Tensor]:
        """The inputs as tensors of their own, each of its type."""
        return [
            torch.from_numpy(np.array(array, dtype=spec.dtype)) for spec, array in zip(self.inputs, arrays, strict=True)
        ]

    def record(self, arrays: Sequence[Array]) -> Recording:
        """Run a fresh copy and keep its inner values."""
        network, tensors = self.wrapped(), self.tensors(arrays)
        with self.code.active(), silence(), self._as_frozen(network, tensors):
            return record(network, tensors, [*self.module.parameters(), *self.module.buffers()])

    @cached_property
    def _evaluated(self) -> FlattenOutputs:
        """One copy that all of `run`'s inputs go through, as they would in the user's own evaluation."""
        return self.wrapped()

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """All tensor outputs, in order, for arrays in NCHW, one for each input.

        Raises InputError where forward fails on their values, as an index without a row does.
        """
        for given, known in self.known if not self.frozen else ():
            if all(map(_same_bytes, given, arrays)):
                return list(known)
        tensors = self.tensors(arrays)
        with values_explained(), self.code.active(), silence(), self._as_frozen(self._evaluated, tensors):
            outputs = self._evaluated.outputs(*tensors)
        return [as_array(tensor) for tensor in outputs.values()]

    def forget_copy(self) -> None:
        """Give back the memory of the copy that `run` keeps; it makes another one where it is called again."""
        self.__dict__.pop("_evaluated", None)

    def _as_frozen(
        self, network: FlattenOutputs, tensors: Sequence[torch.Tensor]
    ) -> contextlib.AbstractContextManager[object]:
        """While active, what forward reads from its inputs is what is frozen."""
        return observing(network, tensors, replay(self.frozen)) if self.frozen else contextlib.nullcontext()

    def as_written(self) -> Network:
        """The network with nothing frozen."""
        return replace(self, frozen=())

    def complete_inputs(self) -> list[str]:
        """Find the types and ranges of inputs that the user has not given; returns warnings that name them.

        Nothing changes where forward takes floats, or fails for other reasons.
        """
        found = find_types(self.inputs, self._try)
        warnings = []
        if found is not None:
            before, (self.inputs, complaint) = self.inputs, found
            changed = [spec for spec, old in zip(self.inputs, before, strict=True) if spec != old]
            spelt = " ".join(f"--input-shape {spec.name}={shape_text(spec.shape)}:{spec.dtype}" for spec in changed)
            warnings.append(
                f"{', '.join(f'{spec.name} is taken as {spec.dtype}' for spec in changed)}: of floats forward says "
                f'"{str(complaint).splitlines()[0]}" ({spelt})'
            )
        if any(not spec.is_float and spec.range is None for spec in self.inputs):
            warnings += self._find_ranges()
        return warnings

    def _find_ranges(self) -> list[str]:
        tensors = self.tensors([spec.zeros() for spec in self.inputs])
        ranges = IndexRanges(tensors)
        try:
            with self.code.active(), silence(), ranges:
                self.wrapped().outputs(*tensors)
        except Exception:  # the first run with values will say it
            return []
        warnings = []
        for number, spec in enumerate(self.inputs):
            if spec.is_float or spec.range is not None:
                continue
            if number in ranges.limits:
                self.inputs[number] = replace(spec, range=(0, ranges.limits[number]))
            elif np.dtype(spec.dtype).itemsize > 1:
                warnings.append(
                    f"the random values of {spec.name} are 0 and 1: give the range of its values, "
                    f"--input-range {spec.name}=0:100"
                )
        return warnings

    def _try(self, specs: Sequence[InputSpec]) -> None:
        with self.code.active(), silence():
            self.wrapped().outputs(*(torch.from_numpy(spec.zeros()) for spec in specs))


@contextlib.contextmanager
def values_explained() -> Iterator[None]:
    """Raise InputError for what forward says of the values that it gets."""
    try:
        yield
    except BnnccError:
        raise
    except Exception as error:
        raise InputError(f"forward fails on these inputs:\n  {describe_error(error)}") from error


def load_network(source: NetworkSource) -> tuple[Network, list[str]]:
    """Build the network, load its weights, match its inputs.  Returns it with warnings.

    Raises:
        InputError: the source, its arguments or shapes cannot be used.
        WeightsError: the checkpoint cannot.
    """
    module, code = load_module(source.source, source.arguments)
    module, warnings = unwrapped(module), []
    if source.weights is not None:
        with code.active():  # load hooks are the user's code
            warnings = load_weights(
                module, source.weights, allow_partial=source.allow_partial_weights, choice=source.weights_choice
            )
    with code.active():
        module, converted = plain_module(module)
        warnings += converted
        inputs = _match_inputs(module, source.shapes, source.ranges)
    return Network(module, inputs, code), warnings


def input_specs(module: nn.Module, input_shapes: Sequence[str], input_ranges: Sequence[str] = ()) -> list[InputSpec]:
    """The inputs of `module.forward` with the shapes and ranges given for them, as `NetworkSource` has them.

    Raises:
        InputError: one cannot be read, names no input, or is missing.
    """
    shapes, ranges = map(parse_input_shape, input_shapes), map(parse_input_range, input_ranges)
    return _match_inputs(unwrapped(module), list(shapes), list(ranges))


def _match_inputs(
    module: nn.Module, shapes: Sequence[GivenShape], ranges: Sequence[tuple[str | None, tuple[float, float]]]
) -> list[InputSpec]:
    """The parameters of forward with the shapes given for them."""
    parameters = signature_of(module)
    names, required, annotated = _input_names(parameters, shapes)
    if not shapes:
        example = "--input-shape 1x3x224x224" if len(required) < 2 else f"--input-shape {required[0]}=1x3x224x224"
        raise InputError(
            f"give the input's shape, batch first: {example} (forward takes {', '.join(names) or '*args'})"
        )
    chosen = shapes_by_name(names, shapes, "forward")
    missing = [name for name in required if name not in {root_of(key) for key in chosen}]
    if missing:
        problem = f"forward also needs {', '.join(missing)}: give --input-shape {missing[0]}=... as well"
        kind = next(p.annotation for p in parameters if p.name == missing[0])
        if kind in (bool, int, float, str, "bool", "int", "float", "str"):
            problem = f"forward needs a value for {missing[0]}, which is no tensor: give it a default in forward"
        raise InputError(problem)
    specs = [
        InputSpec(name, chosen[name].shape, chosen[name].dtype or annotated.get(name) or "float32")
        for name in names
        if name in chosen
    ]
    return with_ranges(specs, ranges, "forward")


def _input_names(
    parameters: Sequence[inspect.Parameter], shapes: Sequence[GivenShape]
) -> tuple[list[str], list[str], dict[str, str]]:
    """(the inputs that forward may have, those that it needs, the types that annotations say).

    The parts of a dict or list stand in its place, in the order given; `*args` takes what is left over, `**kwargs` any
    name.
    """
    given = [shape.name for shape in shapes if shape.name is not None]
    names: list[str] = []
    required: list[str] = []
    annotated: dict[str, str] = {}
    for parameter in parameters:
        if parameter.kind is VAR_POSITIONAL:
            count = len(shapes) - len(names)
            # A network that takes nothing else has no better name for its inputs.
            base = "input" if len(parameters) == 1 else parameter.name
            names += [numbered(base, index) for index in range(max(count, 0))]
        elif parameter.kind is VAR_KEYWORD:
            names += [name for name in given if name not in names]
        else:
            names += [name for name in given if root_of(name) == parameter.name != name] or [parameter.name]
            dtype = annotated_type(parameter)
            if dtype is not None:
                annotated[parameter.name] = dtype
            if parameter.default is EMPTY:
                required.append(parameter.name)
    return names, required, annotated


def with_ranges(
    specs: Sequence[InputSpec], ranges: Sequence[tuple[str | None, tuple[float, float]]], owner: str
) -> list[InputSpec]:
    """The inputs with the ranges given for them; one without a name goes to the only input, or the only integer one.

    Raises InputError where it names none, or its numbers do not fit the type.
    """
    found = {spec.name: spec for spec in specs}
    for name, within in ranges:
        if name is None:
            integers = [spec.name for spec in specs if not spec.is_float]
            candidates = integers if len(integers) == 1 else list(found)
            if len(candidates) != 1:
                raise InputError(f"--input-range: say which input: {', '.join(f'{key}=0:100' for key in found)}")
            name = candidates[0]
        if name not in found:
            raise InputError(f"--input-range {name}: no such input of {owner}, which takes {', '.join(found)}")
        spec = found[name]
        low, high = within
        if not spec.is_float:
            kind = np.dtype(spec.dtype)
            least, most = (0, 1) if kind == np.bool_ else (np.iinfo(kind).min, np.iinfo(kind).max)
            if not (low.is_integer() and high.is_integer() and least <= low and high <= most + 1):
                raise InputError(f"--input-range {name}={low:g}:{high:g}: these are no values of {spec.dtype}")
        found[name] = replace(spec, range=within)
    return list(found.values())


def shapes_by_name(names: Sequence[str], shapes: Sequence[GivenShape], owner: str) -> dict[str, GivenShape]:
    """The shape of each of `names` that has one; shapes without a name go to the inputs that are left, in order."""
    chosen: dict[str, GivenShape] = {}
    for shape in shapes:
        name = shape.name
        if name is None:
            continue
        if name not in names or name in chosen:
            problem = "given twice" if name in chosen else f"no input of {owner}, which takes {', '.join(names)}"
            raise InputError(f"--input-shape {name}={shape_text(shape.shape)}: {name!r} is {problem}")
        chosen[name] = shape
    free = [name for name in names if name not in chosen]
    unnamed = [shape for shape in shapes if shape.name is None]
    if len(unnamed) > len(free):
        parts = f"; parts of a list or tuple are {free[-1]}.0=…, {free[-1]}.1=…" if owner == "forward" and free else ""
        raise InputError(
            f"{len(shapes)} input shapes are given, but {owner} takes {len(names)}: {', '.join(names)}{parts}"
        )
    chosen.update(zip(free, unnamed, strict=False))
    return chosen


def _same_bytes(one: Array, other: Array) -> bool:
    """True also of what is no number, and not of 0 and -0."""
    same_form = (one.shape, one.dtype) == (other.shape, other.dtype)
    return same_form and one.tobytes() == other.tobytes()


def as_array(tensor: torch.Tensor) -> Array:
    """An output as an array; bfloat16, which NumPy lacks, becomes float32."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
