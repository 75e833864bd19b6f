"""Prepares malformed files, one after the other, and prints what became of each.  Run as a program of its own, so that
a crash is a failure and not the end of the tests.

    python malformed.py named | random SEED COUNT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bnncc.runtime import LitertRunner
from bnncc.targets.tflite.flexbuffer import pack_ints
from bnncc.targets.tflite.writer import pack, unpack
from tests.targets.runtime.models import Conv, pool_file, quantize_file

BASE = Conv(1, (5, 5), 64, 40, (3, 3), (1, 1), (1, 1), 1, 0, 1, 0, "float32", 0)
OPTIONS = {
    "channels_in": 64, "dilation_height_factor": 1, "dilation_width_factor": 1, "fused_activation_function": 0,
    "pad_values": 1, "padding": 0, "stride_height": 1, "stride_width": 1,
}  # fmt: skip
POOL = pool_file((1, 5, 5, 2), (2, 2), (1, 1), 1)
LARGEST = 2**31 - 1


def edited(content: bytes, edit: Callable[[schema.SubGraphT, schema.ModelT], None]) -> bytes:
    """The file with an edit of its schema objects."""
    model = unpack(content)
    edit(model.subgraphs[0], model)
    return pack(model)


def with_options(encoded: bytes, content: bytes | None = None) -> bytes:
    def edit(graph: schema.SubGraphT, _: schema.ModelT) -> None:
        graph.operators[0].customOptions = np.frombuffer(encoded, np.uint8) if encoded else None

    return edited(content or BASE.file(), edit)


def changed(**values: int) -> bytes:
    return with_options(pack_ints(**{**OPTIONS, **values}))


def without(key: str) -> bytes:
    return with_options(pack_ints(**{name: value for name, value in OPTIONS.items() if name != key}))


def shaped(position: int, shape: list[int], content: bytes | None = None) -> bytes:
    """With another shape of the operator's input `position`; its data stays."""

    def edit(graph: schema.SubGraphT, _: schema.ModelT) -> None:
        graph.tensors[graph.operators[0].inputs[position]].shape = shape

    return edited(content or BASE.file(), edit)


def filled(position: int, value: float) -> bytes:
    """With `value` in all of the operator's input `position`."""

    def edit(graph: schema.SubGraphT, model: schema.ModelT) -> None:
        buffer = model.buffers[graph.tensors[graph.operators[0].inputs[position]].buffer]
        buffer.data = np.full(len(buffer.data) // 4, value, np.float32).view(np.uint8)

    return edited(BASE.file(), edit)


def absent(position: int, content: bytes | None = None) -> bytes:
    def edit(graph: schema.SubGraphT, _: schema.ModelT) -> None:
        operator = graph.operators[0]
        operator.inputs = [-1 if i == position else tensor for i, tensor in enumerate(operator.inputs)]

    return edited(content or BASE.file(), edit)


def typed(position: int, kind: int) -> bytes:
    """With another type of the operator's input, or of its output (-1)."""

    def edit(graph: schema.SubGraphT, _: schema.ModelT) -> None:
        operator = graph.operators[0]
        graph.tensors[operator.outputs[0] if position < 0 else operator.inputs[position]].type = kind

    return edited(BASE.file(), edit)


def filters_as_input() -> bytes:
    def edit(graph: schema.SubGraphT, _: schema.ModelT) -> None:
        filters = graph.operators[0].inputs[1]
        graph.tensors[filters].buffer = 0
        graph.inputs = [*graph.inputs, filters]

    return edited(BASE.file(), edit)


def reads_its_own_output() -> bytes:
    def edit(graph: schema.SubGraphT, _: schema.ModelT) -> None:
        first, second = graph.operators[:2]
        first.inputs, second.outputs = [second.outputs[0]], [second.outputs[0]]

    return edited(quantize_file((2, 40), "float32"), edit)


def fewer_inputs() -> bytes:
    def edit(graph: schema.SubGraphT, _: schema.ModelT) -> None:
        graph.operators[0].inputs = graph.operators[0].inputs[:2]

    return edited(BASE.file(), edit)


NAMED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no options": (lambda: with_options(b""), "no FlexBuffer map"),
    "one byte of options": (lambda: with_options(b"\x01"), "no FlexBuffer map"),
    "options cut short": (lambda: with_options(pack_ints(**OPTIONS)[7:]), "missing"),
    "no stride": (lambda: without("stride_width"), "stride"),
    "no channels": (lambda: without("channels_in"), "channels_in"),
    "stride 0": (lambda: changed(stride_height=0), "stride"),
    "stride below 0": (lambda: changed(stride_height=-1), "stride"),
    "stride beyond 32 bits": (lambda: changed(stride_height=2**40), "stride"),
    "dilation 0": (lambda: changed(dilation_width_factor=0), "dilation"),
    "dilation beyond the map": (lambda: changed(dilation_width_factor=LARGEST, padding=1), "does not fit"),
    "unknown activation": (lambda: changed(fused_activation_function=4), "fused_activation_function"),
    "unknown padding": (lambda: changed(padding=2), "padding"),
    "unknown pad value": (lambda: changed(pad_values=2), "pad_values"),
    "zero padding with an activation": (lambda: changed(pad_values=0, fused_activation_function=1), "zeros"),
    "too few channels": (lambda: changed(channels_in=32), "words"),
    "too many channels": (lambda: changed(channels_in=LARGEST), "words"),
    "filters of rank 3": (lambda: shaped(1, [40, 9, 2]), "4 axes"),
    "filters of other depth": (lambda: shaped(1, [16, 3, 3, 5]), "words"),
    "filters without elements": (lambda: shaped(1, [0, 3, 3, 2]), ""),
    "input without elements": (lambda: shaped(0, [1, 0, 5, 2]), ""),
    "input of rank 3": (lambda: shaped(0, [5, 5, 2]), "feature map"),
    "input too large": (lambda: shaped(0, [30000, 30000, 30000, 2]), ""),
    "multiplier too short": (lambda: shaped(2, [1]), "multiplier"),
    "multiplier whose double is no float": (lambda: filled(2, 3e38), "multiplier 0 is too large"),
    "no multiplier": (lambda: absent(2), "multiplier"),
    "no bias": (lambda: absent(3), "bias"),
    "no filters": (lambda: absent(1), "absent"),
    "no input": (lambda: absent(0), "absent"),
    "filters that are no constant": (filters_as_input, "constant"),
    "two inputs": (fewer_inputs, "inputs"),
    "a float input": (lambda: typed(0, schema.TensorType.FLOAT32), "int32"),
    "packed output without thresholds": (lambda: typed(-1, schema.TensorType.INT32), "thresholds"),
    "int8 output without a scale": (lambda: typed(-1, schema.TensorType.INT8), "scale"),
    "int64 output": (lambda: typed(-1, schema.TensorType.INT64), "output"),
    "pool without options": (lambda: with_options(b"", POOL), "no FlexBuffer map"),
    "pool beyond the map": (lambda: shaped(0, [1, 1, 1, 2], POOL), "does not fit"),
    "a circle": (reads_its_own_output, ""),
}  # fmt: skip


def mutated(rng: np.random.Generator) -> bytes:
    """A file with random bytes in its options, or odd numbers in its shapes."""
    base = Conv.draw(rng)
    content = base.file()
    if rng.random() < 0.2:
        content = pool_file((1, 6, 6, 2), (2, 2), (1, 1), 0)

    def edit(graph: schema.SubGraphT, _: schema.ModelT) -> None:
        operator = graph.operators[0]
        for _ in range(int(rng.integers(1, 4))):
            if rng.random() < 0.6:
                encoded = np.array(operator.customOptions, np.uint8)
                place = int(rng.integers(encoded.size))
                encoded[place] = rng.choice([0, 1, 2, 4, 8, 127, 128, 255, rng.integers(256)])
                if rng.random() < 0.05 and encoded.size > 1:
                    encoded = encoded[: rng.integers(1, encoded.size)]
                operator.customOptions = encoded
            else:
                tensor = graph.tensors[int(rng.integers(len(graph.tensors)))]
                shape = [int(size) for size in tensor.shape]
                if shape:
                    shape[int(rng.integers(len(shape)))] = int(rng.choice([0, 1, 2, 3, 5, 33, 64, 100, 65536]))
                tensor.shape = shape

    return edited(content, edit)


def outcome(content: bytes) -> str:
    """The error's text, or "ran"."""
    try:
        runner = LitertRunner(content)
    except (RuntimeError, ValueError) as error:
        return str(error)
    if sum(int(np.prod(shape)) for shape in runner.input_shapes) < 10**7:
        runner.run([np.zeros(entry["shape"], entry["dtype"]) for entry in runner._inputs])
    return "ran"


def main() -> None:
    """Print one JSON object a line: what was prepared, and what came of it."""
    if sys.argv[1] == "named":
        for name, (make, _) in NAMED.items():
            print(json.dumps([name, outcome(make())]), flush=True)
        return
    rng = np.random.default_rng(int(sys.argv[2]))
    for index in range(int(sys.argv[3])):
        print(json.dumps([index, outcome(mutated(rng))]), flush=True)


if __name__ == "__main__":
    main()
