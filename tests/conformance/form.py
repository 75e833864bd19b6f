"""One form of an operator: a graph as small as it can be, and the file that the emitter makes of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.integer_file import as_integers
from bnncc.targets.tflite.integer_plan import LAYERS, ROUNDING, plan
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.targets.tflite.reader import TfliteFile
from tests.conformance.reference import Reference
from tests.passes.helpers import build
from tests.targets.tflite.compare import node_model

# What a file says beside float32 weights: the input is quantised at run time, to 255 steps.
INT8_TOLERANCE = 0.03
FLOAT16_TOLERANCE = 2e-3
FLOAT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Form:
    """A graph in ONNX's text form, as `tests.passes.helpers.build` takes it.

    operator: of ONNX's names, what the form is about.  name: what distinguishes it, unique within the operator.
    exact: it only moves, compares or rounds: no runtime has a reason to differ by a bit.
    domain: "any", "positive" or "nonzero"; kinds: those of `values.KINDS` that have a meaning here, None for all.
    given: inputs that are no random numbers (indices), by name.
    integers: the file's layers, and what is between them, run in int8, in the ranges of `given`.
    reach: how much larger than what it yields the numbers are that it adds.
    """

    operator: str
    name: str
    body: str
    inputs: str
    outputs: str = "y"
    constants: Mapping[str, Array | float] = field(default_factory=dict)
    exact: bool = False
    domain: str = "any"
    kinds: tuple[str, ...] | None = None
    given: Mapping[str, Array] = field(default_factory=dict)
    precision: WeightsPrecision = WeightsPrecision.FLOAT32
    opset: int = 18
    integers: bool = False
    reach: float = 1.0

    @property
    def title(self) -> str:
        """For a table: `Add [2,3,5,7] + [3,1,1]`."""
        return f"{self.operator} {self.name}".strip()

    @property
    def tolerance(self) -> float:
        """How far a right result may be off, relative to the largest one."""
        return (
            self.reach
            * {
                WeightsPrecision.FLOAT32: FLOAT_TOLERANCE,
                WeightsPrecision.FLOAT16: FLOAT16_TOLERANCE,
                WeightsPrecision.INT8: INT8_TOLERANCE,
            }[self.precision]
        )

    def model(self) -> ir.Model:
        """The graph, in NCHW, its shapes known."""
        if "bnncc." in self.body:
            return build(self.body, self.inputs, self.outputs, opset=self.opset, **self.constants)
        constants = {name: np.asarray(array, _dtype(array)) for name, array in self.constants.items()}
        outputs = self.outputs.replace(",", " ")
        return node_model(self.body, self.inputs, constants=constants, opset=self.opset, outputs=outputs)


@dataclass(frozen=True)
class EmittedForm:
    """A form with its graph and its file."""

    form: Form
    model: ir.Model
    content: bytes

    @functools.cached_property
    def operators(self) -> tuple[str, ...]:
        """Of the file, in its order."""
        return tuple(operator.name for operator in TfliteFile(self.content).operators)

    @property
    def needs_lce(self) -> bool:
        """True where a stock interpreter needs the delegate."""
        return any(name.startswith("Lce") for name in self.operators)

    @functools.cached_property
    def types(self) -> frozenset[tuple[str, str]]:
        """(operator, type of what it yields, or of what it reads if that has 8 bits or is int16)."""
        found = set()
        for operator in TfliteFile(self.content).operators:
            dtypes = [tensor.dtype for tensor in (*operator.outputs, *operator.inputs[:1]) if tensor is not None]
            found.add((operator.name, next((one for one in dtypes if one in ("int8", "uint8", "int16")), dtypes[0])))
        return frozenset(found)

    @functools.cached_property
    def steps(self) -> tuple[float, float]:
        """(half a step of what the file yields, how far it may be off) where its layers run in int8: each operator that
        rounds by half a step, and by half a step more where it multiplies in fixed point.  Of the forms here none makes
        an error in front of it larger.
        """
        file = TfliteFile(self.content)
        last, allowed = 0.0, 0.0
        for operator in file.operators if self.form.integers else ():
            scale = operator.outputs[0].quantization
            if scale is None or operator.outputs[0].dtype != "int8":
                continue
            last = scale.scales[0]
            constants = [tensor for tensor in operator.inputs[1:] if tensor is not None and operator.name not in LAYERS]
            beside = [tensor.quantization.scales[0] for tensor in constants if tensor.quantization is not None]
            if operator.name in ROUNDING or operator.name in LAYERS:
                allowed += last + sum(beside) / 2
        return last / 2, allowed


def emitted(form: Form) -> EmittedForm:
    """Build the graph and emit it.  UnsupportedOperatorsError where the emitter refuses it: then it is no form."""
    model = form.model()
    content = emit(model, precision=form.precision)
    return EmittedForm(form, model, _in_int8(form, model, content) if form.integers else content)


def _in_int8(form: Form, model: ir.Model, content: bytes) -> bytes:
    """The file with its layers in int8, in the ranges that the reference takes."""
    file = TfliteFile(content)
    found = plan(file)
    values = Reference(model).values(form.given)
    # A PAD of the emitter's own adds zeros, which are in every range.
    ranges = {tensor.name: values[tensor.name.removesuffix("/pad")] for tensor in found.tensors}
    return as_integers(file, found, {name: (float(array.min()), float(array.max())) for name, array in ranges.items()})


def floats(name: str, *shape: int) -> str:
    """An input of a graph, as ONNX's text has it."""
    return typed("float", name, *shape)


def typed(dtype: str, name: str, *shape: int) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}] {name}"


def brackets(shape: Sequence[int]) -> str:
    """A shape, for a name."""
    return f"[{','.join(map(str, shape))}]"


def normal(*shape: int, seed: int = 1) -> Array:
    """Reproducible float32 constants."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)


def signs(*shape: int, seed: int = 1) -> Array:
    """Reproducible ±1."""
    return np.where(np.random.default_rng(seed).random(shape) < 0.5, np.float32(-1), np.float32(1))


def _dtype(array: Array | float) -> np.dtype[np.generic]:
    return np.dtype(np.float32) if isinstance(array, float) else array.dtype
