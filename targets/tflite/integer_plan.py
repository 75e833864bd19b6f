"""Which operators of a float32 file run in int8, and which of their tensors share a scale.

    x ─ CONV_2D ─ y ─ MAX_POOL_2D ─ z ─┬─ LceQuantize        becomes
                                       └─ ADD

    x ─ QUANTIZE ─ CONV_2D (int8) ─ MAX_POOL_2D (int8) ─┬─ LceQuantize, from int8
                                                        └─ DEQUANTIZE ─ z ─ ADD

*Layers* are float convolutions and FULLY_CONNECTEDs with constant weights: all of them, but for those that the user
keeps in float and those without an int8 kernel.

Between and behind them an operator runs in int8 where that saves a pass over memory and no sign is decided otherwise:

- what only moves elements, or takes the largest (MAX_POOL_2D), is the same to the bit in int8.  It does so where its
  input is int8 and nothing else reads that in float; moves also where nothing but int8 operators read their output;
- AVERAGE_POOL_2D, ADD and PRELU round once more.  They run in int8 where all that they read is int8 and nothing reads
  that in float, and where no sign, rounding or comparison reads the result: what is added in front of a sign is its
  threshold, which no step of a scale may move;
- LceQuantize reads int8 where its input is int8: x < 0 is q < z, to the bit.

All else stays float32: a sum of int8 and float is computed in float.  *Shortcuts*, maps that are read again behind the
binary layer that their signs go through, are kept in int8 meanwhile where that is asked for; what reads them at once,
the sign above all, reads floats (in int16 likewise, but for maps that are int8 anyway):

    x ─┬─ LceQuantize ─ LceBconv2d ─ ADD ─ y        becomes    x ─┬─ LceQuantize ─ LceBconv2d ─ ADD ─ y
       └────────────────────────────┘                             └─ QUANTIZE ─ DEQUANTIZE ────┘

A DEQUANTIZE of bytes (`--input-type`) is no operator of its own: int8 is what it is, uint8 is 128 more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from bnncc.targets.tflite.integers import FLOAT32, INT16, LOWEST, MOST_PRODUCTS
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Quantization, Tensor

# With weights [O, KH, KW, I], [1, KH, KW, O], [O, I]: the axis of the output channels.
LAYERS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
# Of which TensorFlow Lite 2.14 takes one scale for all channels only.
SHARING_SCALE = {"FULLY_CONNECTED"}
# Layers and products that have no int8 kernel, or none that takes constant weights.
WITHOUT_KERNEL = {
    "TRANSPOSE_CONV": "its int8 kernel is not used by bnncc",
    "BATCH_MATMUL": "both of its operands are computed",
}
MOVES = {"RESHAPE", "REVERSE_V2", "TRANSPOSE", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE"}
EXACT = MOVES | {"MAX_POOL_2D"}
ROUNDING = {"AVERAGE_POOL_2D", "ADD", "PRELU"}
# Their output has the scale of their input.
SAME_SCALE = EXACT | {"AVERAGE_POOL_2D"}
# Jump where what they read passes a threshold.
_JUMPS = {
    "LceQuantize", "SIGN", "ROUND", "FLOOR", "CEIL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL",
    "NOT_EQUAL", "ARG_MAX", "ARG_MIN", "TOPK_V2", "CAST", "FLOOR_MOD",
}  # fmt: skip
_CLAMPS = {
    ActivationFunctionType.NONE, ActivationFunctionType.RELU, ActivationFunctionType.RELU6,
    ActivationFunctionType.RELU_N1_TO_1,
}  # fmt: skip


@dataclass
class Plan:
    """What of a file runs in int8.

    layers: by index, those with weights; operators: all, layers among them.  signs: LceQuantizes that read int8.
    bytes: DEQUANTIZEs that int8 operators read through, by the index of their output.
    kept: float layers that stay float, and why.
    measured: the tensors, by the index of each int8 tensor, whose ranges give its scale.  fixed: the scales that the
    file says itself.
    shortcuts: by the index of a float tensor, the operators that read what int8, or int16, has kept of it.
    shorts: those of them that int16 keeps, by their index.
    divisors: the int8 tensors whose scale floats are divided by.
    """

    layers: set[int] = field(default_factory=set)
    operators: set[int] = field(default_factory=set)
    signs: set[int] = field(default_factory=set)
    bytes: dict[int, Operator] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)
    measured: dict[int, list[Tensor]] = field(default_factory=dict)
    fixed: dict[int, Quantization] = field(default_factory=dict)
    shortcuts: dict[int, set[int]] = field(default_factory=dict)
    shorts: dict[int, Tensor] = field(default_factory=dict)
    divisors: set[int] = field(default_factory=set)

    @property
    def tensors(self) -> list[Tensor]:
        """All whose ranges are to be measured for int8, each once."""
        found = {tensor.index: tensor for group in self.measured.values() for tensor in group}
        return [found[index] for index in sorted(found)]


def plan(file: TfliteFile, keep: Collection[int] = (), *, shortcuts: str = FLOAT32) -> Plan:
    """The plan of a float32 file.  keep: indices of the operators that stay as they are.  shortcuts: of binary layers,
    in which of SHORTCUTS they are kept.
    """
    return _Planner(file, keep).plan(shortcuts)


def weighted(file: TfliteFile) -> Iterator[Operator]:
    """The float operators of a file that have weights, those without an int8 kernel as well."""
    for operator in file.operators:
        if operator.name in LAYERS or operator.name in WITHOUT_KERNEL:
            yield operator


class _Planner:
    def __init__(self, file: TfliteFile, keep: Collection[int]) -> None:
        self._file = file
        self._keep = keep
        self._producer = {tensor.index: operator for operator in file.operators for tensor in operator.outputs}
        self._readers: dict[int, list[Operator]] = {}
        for operator in file.operators:
            for tensor in file.activations(operator):
                self._readers.setdefault(tensor.index, []).append(operator)
        self._outputs = {tensor.index for tensor in file.outputs}
        self._plan = Plan()
        self._behind = set[int]()
        self._before = set[int]()

    def plan(self, shortcuts: str) -> Plan:
        found = self._plan
        for operator in weighted(self._file):
            reason = self._why_float(operator)
            if reason is None:
                found.layers.add(operator.index)
            else:
                found.kept[operator.index] = reason
        self._find_operators()
        for operator in self._file.operators:
            if operator.name == "LceQuantize" and self._is_integer(operator.inputs[0]):
                found.signs.add(operator.index)
        if shortcuts != FLOAT32:
            found.shortcuts = self._find_shortcuts()
        if shortcuts == INT16:
            maps = (tensor for operator in self._file.operators for tensor in operator.outputs)
            found.shorts = {
                one.index: one for one in maps if one.index in found.shortcuts and not self._is_integer(one)
            }
        reading = (self._file.operators[index] for index in found.operators | found.signs)
        read = {tensor.index for operator in reading for tensor in self._file.activations(operator)}
        found.bytes = {
            index: operator for index, operator in self._producer.items() if index in read and self._is_bytes(operator)
        }
        self._find_scales(read)
        return found

    def _why_float(self, operator: Operator) -> str | None:
        """Why an operator with weights stays float; None where it need not."""
        if operator.index in self._keep:
            return "as asked for"
        if operator.name in WITHOUT_KERNEL:
            return WITHOUT_KERNEL[operator.name]
        x, weight, bias = (*operator.inputs, None)[:3]
        data = None if weight is None else self._file.data(weight)
        offset = None if bias is None else self._file.data(bias)
        if x is None or weight is None or data is None or (bias is not None and offset is None):
            return "its weights are computed"
        if {x.dtype, weight.dtype, operator.outputs[0].dtype} != {"float32"} or self._file.data(x) is not None:
            return "it is not one of floats"
        if not np.all(np.isfinite(data)) or (offset is not None and not np.all(np.isfinite(offset))):
            return "its weights are not finite"
        axis = LAYERS[operator.name]
        if data.size // data.shape[axis] > MOST_PRODUCTS:
            return "its sums could pass what an int32 holds"
        if not self._clamps(operator):
            return "its activation has no int8 form"
        return None

    def _clamps(self, operator: Operator) -> bool:
        """True where int8 has the activation that the operator applies to its own output."""
        options: Any = self._file.options(operator)
        return getattr(options, "fusedActivationFunction", ActivationFunctionType.NONE) in _CLAMPS

    def _find_operators(self) -> None:
        """The most operators for each of which the rules hold: begin with all, take out what breaks one.

        `_behind` are those that int8 layers or bytes feed, `_before` moves that feed nothing else than int8 layers: so
        that each has a layer, or bytes, for a reason.
        """
        may_run = {operator.index for operator in self._file.operators if self._may_run(operator)}
        self._behind = set(may_run)
        self._before = {index for index in may_run if self._file.operators[index].name in MOVES}
        changed = True
        while changed:
            self._plan.operators = self._plan.layers | self._behind | self._before
            behind = {index for index in self._behind if self._is_behind(self._file.operators[index])}
            before = {index for index in self._before if self._is_before(self._file.operators[index])}
            changed = (behind, before) != (self._behind, self._before)
            self._behind, self._before = behind, before

    def _may_run(self, operator: Operator) -> bool:
        """True for an operator of floats that has an int8 form, wherever it is."""
        if operator.name not in EXACT | ROUNDING or operator.index in self._keep or not self._clamps(operator):
            return False
        floats = [*operator.outputs, *self._file.activations(operator)]
        constants = [self._file.data(tensor) for tensor in operator.inputs[1:] if tensor is not None]
        if operator.name == "PRELU" and constants[0] is None:
            return False
        finite = all(data is None or np.all(np.isfinite(data)) for data in constants)
        return bool(self._file.activations(operator)) and finite and all(tensor.dtype == "float32" for tensor in floats)

    def _find_shortcuts(self) -> dict[int, set[int]]:
        """The float maps that an operator reads beside what a binary layer has made of them, and which operators."""
        before: dict[int, set[int]] = {}  # by tensor: all that it is computed from
        passed: dict[int, set[int]] = {}  # those of them that a binary layer lies between
        found: dict[int, set[int]] = {}
        for operator in self._file.operators:
            inputs = self._file.activations(operator)
            behind = set[int]().union(*(passed.get(tensor.index, set()) for tensor in inputs))
            for tensor in inputs:
                if tensor.index in behind and tensor.dtype == "float32" and not self._runs(operator):
                    found.setdefault(tensor.index, set()).add(operator.index)
            sources = set[int]().union(*(before.get(tensor.index, set()) | {tensor.index} for tensor in inputs))
            for tensor in operator.outputs:
                before[tensor.index] = sources
                passed[tensor.index] = sources if operator.name == "LceBconv2d" else behind
        return found

    def _is_behind(self, operator: Operator) -> bool:
        inputs, output = self._file.activations(operator), operator.outputs[0]
        producers = [self._producer.get(tensor.index) for tensor in inputs]
        fed = all(
            one is not None and (one.index in self._plan.layers | self._behind or self._is_bytes(one))
            for one in producers
        )
        if not fed or any(map(self._is_read_as_floats, inputs)):
            return False
        if operator.name in EXACT:
            return True
        readers = self._readers.get(output.index, [])
        feeds = output.index not in self._outputs and all(map(self._runs, readers))
        is_decided = any(reader.name in _JUMPS for reader in readers)
        return not is_decided and (feeds or any(map(self._is_of_layer, inputs)))

    def _is_before(self, operator: Operator) -> bool:
        output = operator.outputs[0]
        readers = self._readers.get(output.index, [])
        is_inner = bool(readers) and output.index not in self._outputs
        return is_inner and all(reader.index in self._plan.layers | self._before for reader in readers)

    def _runs(self, operator: Operator) -> bool:
        return operator.index in self._plan.operators

    def _is_integer(self, tensor: Tensor | None) -> bool:
        """True where int8 operators, or bytes, yield it."""
        producer = None if tensor is None else self._producer.get(tensor.index)
        return producer is not None and (self._runs(producer) or self._is_bytes(producer))

    def _is_of_layer(self, tensor: Tensor) -> bool:
        """True where a layer is in front of it, and only int8 operators between them."""
        producer = self._producer.get(tensor.index)
        if producer is None or not self._runs(producer):
            return False
        return producer.index in self._plan.layers or any(map(self._is_of_layer, self._file.activations(producer)))

    def _is_read_as_floats(self, tensor: Tensor) -> bool:
        readers = self._readers.get(tensor.index, [])
        is_output = tensor.index in self._outputs
        return is_output or not all(self._runs(reader) or reader.name == "LceQuantize" for reader in readers)

    def _is_bytes(self, operator: Operator) -> bool:
        """True for a DEQUANTIZE of an activation of 8-bit integers with one scale, which has its zero point in int8."""
        if operator.name != "DEQUANTIZE" or not self._file.activations(operator):
            return False
        (x,) = self._file.activations(operator)
        return (
            x.dtype in ("uint8", "int8")
            and operator.outputs[0].dtype == "float32"
            and x.quantization is not None
            and len(x.quantization.scales) == 1
        )

    def _find_scales(self, read: Iterable[int]) -> None:
        """Bring tensors together that have one scale, and name those whose ranges give it.

        Of a group these are the tensors that something else reads than what only moves elements or takes the largest:
        a MAX_POOL_2D drops the lowest values.
        """
        found, groups = self._plan, _Groups()
        integers = set(read) | {self._file.operators[index].outputs[0].index for index in found.operators}
        integers |= set(found.shortcuts) - set(found.shorts)
        inside = set[tuple[int, int]]()
        for index in found.operators:
            operator = self._file.operators[index]
            if operator.name in SAME_SCALE:
                (x,), y = self._file.activations(operator), operator.outputs[0]
                groups.join(x.index, y.index)
                if operator.name in EXACT:
                    inside.add((x.index, index))
        by_index = {tensor.index: tensor for tensor in self._file.tensors}
        members: dict[int, list[int]] = {}
        for tensor in sorted(integers):
            members.setdefault(groups.find(tensor), []).append(tensor)
        for group in members.values():
            fixed = [as_int8(found.bytes[index].inputs[0]) for index in group if index in found.bytes]
            ends = [
                index
                for index in group
                if index in self._outputs
                or any((index, reader.index) not in inside for reader in self._readers.get(index, []))
            ]
            if not all(self._is_integer(by_index[index]) for index in group):
                found.divisors |= set(group)
            for index in group:
                if fixed:
                    found.fixed[index] = fixed[0]
                else:
                    found.measured[index] = [by_index[end] for end in ends or group]


def as_int8(tensor: Tensor | None) -> Quantization:
    """What int8 has for the bytes of a tensor, which are 128 more where it is uint8."""
    assert tensor is not None
    assert tensor.quantization is not None
    (point,) = tensor.quantization.zero_points
    return Quantization(tensor.quantization.scales, (point + LOWEST if tensor.dtype == "uint8" else point,), 0)


class _Groups:
    """Disjoint sets of integers."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def find(self, member: int) -> int:
        while self._parent.get(member, member) != member:
            member = self._parent[member]
        return member

    def join(self, one: int, other: int) -> None:
        self._parent[self.find(other)] = self.find(one)
