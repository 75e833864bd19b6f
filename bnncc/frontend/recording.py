"""Record what a network computes in eager mode, as the sequence of operations at which a trace can be compared.

The operations are those at which rounding turns into a jump (sign, comparisons, rounding, the index of the largest),
and a few float ones that every engine computes in one piece (convolution, matrix product, batch norm).  They carry the
ONNX operator type that they are exported to, so that the k-th Sign of PyTorch is the k-th Sign of the graph.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bnncc.frontend.data_assignment import DATA_SET
from bnncc.frontend.flatten_outputs import FlattenOutputs
from bnncc.frontend.source import SourceLocation, location_in_stack
from bnncc.ir.evaluate import Array

# aten operator (with its overload where others differ) → ONNX operator.  A jump's output changes by a whole step where
# its input crosses a threshold; that of a choice, an index, where another element becomes the largest.
JUMPS = {
    "sign": "Sign", "sgn": "Sign", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less",
    "eq": "Equal", "round": "Round", "floor": "Floor", "ceil": "Ceil",
}  # fmt: skip
CHOICES = {
    "argmax": "ArgMax", "argmin": "ArgMin", "max.dim": "ArgMax", "min.dim": "ArgMin", "topk": "TopK", "sort": "TopK",
}  # fmt: skip
# The ONNX operators of both.
JUMPING = {*JUMPS.values(), *CHOICES.values()}
SMOOTH = {
    "convolution": "Conv", "addmm": "Gemm", "mm": "MatMul", "bmm": "MatMul",
    "native_batch_norm": "BatchNormalization", "_native_batch_norm_legit_no_training": "BatchNormalization",
}  # fmt: skip

# Arrays are equal only where so many first elements are.
_PREFIX = 64


@dataclass
class Operation:
    """One recorded operation.

    Attributes:
        kind: the ONNX operator type.
        kept: `output`, as int8 where that holds it: signs of weights are as large as the network.
        dtype: the type of `output`.
        inputs: for a jump its operands, broadcast against each other by NumPy's rules; for a choice, what it chooses
            from; else empty.
        source: the user's line that ran it.
        axis: of a choice, along which it chooses; None for all of the elements, flattened.
    """

    kind: str
    kept: Array
    dtype: np.dtype[Any]
    inputs: tuple[Array, ...]
    source: SourceLocation | None
    axis: int | None = None

    @property
    def output(self) -> Array:
        """Its result; for batch norm the first of its results, for a choice the indices."""
        return self.kept.astype(self.dtype, copy=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `output`."""
        return self.kept.shape


@dataclass
class Recording:
    """One eager run.

    Attributes:
        outputs: the network's tensors by name.
        operations: in the order in which they ran.
        data_assignments: the lines that assign to `.data`, each once.
    """

    outputs: dict[str, Array]
    operations: list[Operation] = field(default_factory=list)
    data_assignments: list[SourceLocation] = field(default_factory=list)


def record(network: FlattenOutputs, inputs: Sequence[Tensor], kept: Iterable[Tensor] = ()) -> Recording:
    """Run `network` on `inputs`, without gradients, and record it.

    Args:
        network: may change itself, so give a copy.
        kept: tensors that nobody changes while the recording lives, such as the original's parameters; values equal to
            one of them share its memory.
    """
    recording = Recording({})
    copies = _Copies(kept)
    with _DataAssignments(recording), _Operations(recording, copies):
        outputs = network.outputs(*inputs)
    recording.outputs = {name: copies.of(_view(tensor)) for name, tensor in outputs.items()}
    return recording


class _Copies:
    """Copies of tensors, because a later operation may work in place; equal contents share one copy.

    A binariser with a straight-through estimator compares the same operand five times, and all weights pass through
    one: without this a recording is several times as large as the network.
    """

    def __init__(self, kept: Iterable[Tensor]) -> None:
        self._arrays: defaultdict[object, list[Array]] = defaultdict(list)
        for tensor in kept:
            # Not every tensor is an array; weights, which are worth sharing, are plain ones.
            plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
            if plain and tensor.dtype == torch.float32 and tensor.device.type == "cpu":
                flat = _view(tensor).reshape(-1)
                self._arrays[self._key(flat)].append(flat)

    def of(self, array: Array) -> Array:
        """An array equal to `array`, bit for bit, that never changes."""
        flat = array.reshape(-1)
        candidates = self._arrays[self._key(flat)]
        for candidate in candidates:
            if np.array_equal(candidate.view(np.uint8), flat.view(np.uint8)):
                return candidate.reshape(array.shape)
        candidates.append(flat.copy())
        return candidates[-1].reshape(array.shape)

    @staticmethod
    def _key(flat: Array) -> object:
        return flat.dtype, flat.size, flat[:_PREFIX].tobytes()


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, recording: Recording, copies: _Copies) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recording = recording
        self._copies = copies

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_") if func.namespace == "aten" else ""
        chosen = CHOICES.get(name) or CHOICES.get(f"{name}.{func._overloadname}")
        kind = JUMPS.get(name) or SMOOTH.get(name) or chosen
        # Before the call, because it may work in place.
        read = args[:2] if name in JUMPS else args[:1] if chosen else ()
        operands = tuple(self._copies.of(_view(operand)) for operand in read)
        result = func(*args, **(kwargs or {}))
        output = result[-1 if chosen else 0] if isinstance(result, tuple | list) else result
        if kind and isinstance(output, Tensor):
            if name == "convolution" and args[6]:
                kind = "ConvTranspose"
            source = location_in_stack(sys._getframe(1))
            axis = _axis(func, args, kwargs or {}) if chosen else None
            array = _view(output)
            signs = array.astype(np.int8) if kind == "Sign" else array
            kept = self._copies.of(signs if np.array_equal(signs, array) else array)
            self._recording.operations.append(Operation(kind, kept, array.dtype, operands, source, axis))
        return result


def _axis(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """The `dim` of a call, given or by default."""
    for position, argument in enumerate(func._schema.arguments):
        if argument.name == "dim":
            given = args[position] if position < len(args) else kwargs.get("dim", argument.default_value)
            return None if given is None else int(given)
    return None


class _DataAssignments(TorchFunctionMode):
    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func == DATA_SET:
            source = location_in_stack(sys._getframe(1))
            if source is not None and source not in self._recording.data_assignments:
                self._recording.data_assignments.append(source)
        return func(*args, **(kwargs or {}))


def _view(value: Any) -> Array:
    """A tensor or a number as an array, of the same memory where that can be; bfloat16 becomes float32."""
    # torch.tensor() would go through the modes again.
    tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value)
    return tensor.to(torch.float32).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
