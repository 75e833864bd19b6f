"""Record what a network computes in eager mode, as the sequence of operations at which a trace can be compared.

The operations are those at which rounding turns into a jump (sign, comparisons, rounding), and a few float ones that
every engine computes in one piece (convolution, matrix product, batch norm).  They carry the ONNX operator type that
they are exported to, so that the k-th Sign of PyTorch is the k-th Sign of the graph.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bnncc.evaluate import Array
from bnncc.frontend.data_assignment import DATA_SET
from bnncc.frontend.flatten_outputs import FlattenOutputs
from bnncc.frontend.source import SourceLocation, location_in_stack

# aten operator → ONNX operator.  A jump's output changes by a whole step where its input crosses a threshold.
JUMPS = {
    "sign": "Sign", "sgn": "Sign", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less",
    "eq": "Equal", "round": "Round", "floor": "Floor", "ceil": "Ceil",
}  # fmt: skip
SMOOTH = {
    "convolution": "Conv", "addmm": "Gemm", "mm": "MatMul", "bmm": "MatMul",
    "native_batch_norm": "BatchNormalization", "_native_batch_norm_legit_no_training": "BatchNormalization",
}  # fmt: skip


@dataclass
class Operation:
    """One recorded operation.

    Attributes:
        kind: the ONNX operator type.
        output: its result; for batch norm the first of its results.
        inputs: for a jump its operands, broadcast against each other by NumPy's rules; else empty.
        source: the user's line that ran it.
    """

    kind: str
    output: Array
    inputs: tuple[Array, ...]
    source: SourceLocation | None


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


def record(network: FlattenOutputs, inputs: Sequence[Tensor]) -> Recording:
    """Run `network` on `inputs`, without gradients, and record it.  `network` may change itself: give a copy."""
    recording = Recording({})
    with _DataAssignments(recording), _Operations(recording):
        outputs = network.outputs(*inputs)
    recording.outputs = {name: _array(tensor) for name, tensor in outputs.items()}
    return recording


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, recording: Recording) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recording = recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_") if func.namespace == "aten" else ""
        kind = JUMPS.get(name) or SMOOTH.get(name)
        # Copies, because a later operation may work in place; operands before, because this one may.
        operands = tuple(_array(operand) for operand in args[:2]) if kind and name in JUMPS else ()
        result = func(*args, **(kwargs or {}))
        output = result[0] if isinstance(result, tuple | list) else result
        if kind and isinstance(output, Tensor):
            if name == "convolution" and args[6]:
                kind = "ConvTranspose"
            source = location_in_stack(sys._getframe(1))
            self._recording.operations.append(Operation(kind, _array(output), operands, source))
        return result


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


def _array(value: Any) -> Array:
    # A copy of its own; torch.tensor() would go through the modes again.
    tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value)
    return tensor.to(torch.float32).numpy().copy() if tensor.dtype == torch.bfloat16 else tensor.numpy().copy()
