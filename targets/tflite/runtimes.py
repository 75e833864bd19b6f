"""The oldest runtime on which a file is right, and why.

What is said here of an operator's form is what `make conformance` found (docs/conformance.md): with an older runtime
the form is wrong, is refused, or ends the process.  A form that the emitter writes, and one that older versions of it
and other converters write, is judged alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bnncc.targets.released import NEWEST, ORDINARY, RUNTIMES, title
from bnncc.targets.tflite.claimed import claimed
from bnncc.targets.tflite.reader import Operator, TfliteFile

# For what is wrong in the newest one, too.
NONE = "none"

# Whose broadcasting kernel ends the process at a rank, without XNNPACK, and the first runtime in which it does not.
_ENDS_AT_RANK = {
    "ADD": ((5, "tflite-2.13"),),
    "SUB": ((6, "litert-1.0"),),
    "MUL": ((5, "litert-1.0"),),
    "DIV": ((6, "litert-2.2"),),
}
# The first whose XNNPACK misreads float16 weights of convolutions.
MISREADS_HALF = "litert-1.1"
_HALF_READERS = ("CONV_2D", "DEPTHWISE_CONV_2D")
# The value of the schema's Padding.
_SAME = 0


@dataclass(frozen=True)
class Need:
    """Operator `index` is right from `runtime` on, and in those older than `since`; `what` says what it is, "PRELU
    with one slope".  by_delegate: bnncc's delegate, which the file needs anyway, computes it itself.
    """

    runtime: str
    index: int
    what: str
    reason: str
    since: str = RUNTIMES[0]
    by_delegate: bool = False

    @property
    def oldest(self) -> str:
        """The runtime from which on the file is right here."""
        return ORDINARY if self.by_delegate else self.runtime

    def __str__(self) -> str:
        if self.by_delegate:
            return f"right by bnncc's delegate, which computes it itself: {self.what} (without it, {self.reason})"
        if self.runtime == NONE:
            return f"is right in no released runtime: {self.what} ({self.reason})"
        return f"needs {title(self.runtime)} or later: {self.what} ({self.reason})"


def needs(file: TfliteFile) -> list[Need]:
    """What in the file is not right in every runtime, in the file's order; one for each kind of form."""
    found: dict[tuple[str, str], Need] = {}
    by_delegate = claimed(file)
    for operator in file.operators:
        for need in _needs_of(file, operator):
            if operator.index in by_delegate and _age(need.runtime) > _age(ORDINARY):
                need = replace(need, by_delegate=True)
            found.setdefault((need.oldest, need.what), need)
    return list(found.values())


def oldest(found: Sequence[Need]) -> str:
    """The oldest runtime in which all of them are right."""
    return max((need.oldest for need in found), key=_age, default=RUNTIMES[0])


def beyond(found: Sequence[Need], runtime: str, newest: str = NEWEST) -> list[Need]:
    """Those that `runtime`, or one between it and `newest`, does not meet."""
    return [need for need in found if _age(need.oldest) > _age(runtime) and _age(need.since) <= _age(newest)]


def _age(runtime: str) -> int:
    return len(RUNTIMES) if runtime == NONE else RUNTIMES.index(runtime)


def _needs_of(file: TfliteFile, operator: Operator) -> Iterator[Need]:
    for said in (
        *_custom(operator),
        *_versions(file, operator),
        *_moves(file, operator),
        *_weights(file, operator),
        *_padding(file, operator),
        *_ranks(operator),
    ):
        runtime, what, reason, since = (*said, RUNTIMES[0])[:4]
        yield Need(runtime, operator.index, what, reason, since)


# (runtime, what, reason), and since when where it is not always.
Found = Iterator[tuple[str, ...]]


def _custom(operator: Operator) -> Found:
    if operator.name.startswith("Lce"):
        yield "tflite-2.14", "LCE's operators", "the delegate takes no older interpreter"


def _versions(file: TfliteFile, operator: Operator) -> Found:
    """What 2.11 refuses, and where 2.11 and 2.12 lose a NaN."""
    divisor = operator.inputs[1] if operator.name in ("DIV", "FLOOR_MOD") else None
    if divisor is not None and divisor.dtype == "float32" and file.data(divisor) is None:
        yield "tflite-2.13", f"{operator.name} by computed numbers", "XNNPACK of older ones loses the NaN of 0 / 0"
    reason = "older ones refuse it"
    first = operator.inputs[0] if operator.inputs else None
    if operator.name in ("ABS", "SIGN") and first is not None and first.dtype == "int32":
        yield "tflite-2.12", f"{operator.name} of int32", reason
    if operator.name == "TRANSPOSE" and first is not None and len(first.shape) > 5:
        yield "tflite-2.12", "TRANSPOSE of rank 6", reason
    if operator.name == "TRANSPOSE_CONV" and getattr(file.options(operator), "fusedActivationFunction", False):
        yield "tflite-2.12", "TRANSPOSE_CONV with an activation", reason


def _moves(file: TfliteFile, operator: Operator) -> Found:
    source = operator.inputs[0] if operator.name == "TRANSPOSE" else None
    has_delegate = any(other.name.startswith("Lce") for other in file.operators)
    if source is not None and source.dtype in ("int32", "bool") and has_delegate:
        yield "litert-1.0", f"TRANSPOSE of {source.dtype} beside the delegate", "XNNPACK of older ones refuses the file"
    axes = operator.inputs[1] if operator.name == "REVERSE_V2" else None
    if axes is not None and axes.shape not in ((), (1,)):
        yield "litert-1.0", "REVERSE_V2 of several axes", "older ones reverse one of them"


def _weights(file: TfliteFile, operator: Operator) -> Found:
    filters = operator.inputs[1] if len(operator.inputs) > 1 else None
    if filters is None:
        return
    if operator.name == "FULLY_CONNECTED" and filters.quantization is not None and len(filters.quantization.scales) > 1:
        yield "litert-1.0", "FULLY_CONNECTED with one int8 scale a channel", "older ones yield its bias alone"
    if operator.name == "PRELU" and len(filters.shape) > 1 and set(filters.shape) == {1}:
        yield "litert-1.0", "PRELU with one slope", "XNNPACK of older ones is wrong"
    if operator.name in _HALF_READERS and _is_half(file, filters.index):
        reason = "XNNPACK of LiteRT 1.1 to 1.3 misreads them"
        yield "litert-1.4", f"{operator.name} with float16 weights", reason, MISREADS_HALF


def _is_half(file: TfliteFile, index: int) -> bool:
    """True where the tensor is a float16 constant, dequantized."""
    return any(
        operator.name == "DEQUANTIZE"
        and operator.outputs[0].index == index
        and operator.inputs[0] is not None
        and operator.inputs[0].dtype == "float16"
        for operator in file.operators
    )


def _padding(file: TfliteFile, operator: Operator) -> Found:
    """SAME where an axis ends on positions that no window reads: (⌈n / s⌉ - 1)·s + K < n."""
    options: Any = file.options(operator)
    source = operator.inputs[0] if operator.inputs else None
    if source is None or len(source.shape) != 4 or getattr(options, "padding", None) != _SAME:
        return
    if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D") and operator.inputs[1] is not None:
        kernel = operator.inputs[1].shape[1:3]
        dilations = (options.dilationHFactor, options.dilationWFactor)
    elif operator.name in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        kernel, dilations = (options.filterHeight, options.filterWidth), (1, 1)
    else:
        return
    strides = (options.strideH, options.strideW)
    reached = [
        (-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size
        for size, stride, taps, dilation in zip(source.shape[1:3], strides, kernel, dilations, strict=True)
    ]
    if operator.name == "CONV_2D" and tuple(kernel) == source.shape[1:3] and 0 <= min(reached) < max(reached) + 1 == 2:
        yield NONE, "CONV_2D, padded, with a kernel of the map's size", "wrong with several threads without XNNPACK"
    if min(reached) < 0 < max(reached):
        yield "litert-2.2", f"{operator.name}, padded, that leaves positions unread", "XNNPACK of older ones is wrong"


def _ranks(operator: Operator) -> Found:
    shapes = [tensor.shape for tensor in operator.inputs if tensor is not None]
    rank = max(map(len, shapes), default=0)
    if len(set(shapes)) > 1:
        for least, runtime in _ENDS_AT_RANK.get(operator.name, ()):
            if rank >= least:
                yield (
                    runtime,
                    f"{operator.name} of rank {rank}, broadcast",
                    "older ones end the process without XNNPACK",
                )
