"""The files that the delegate is tried with, their inputs, and what they should yield."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bnncc.ir.evaluate import Array
from bnncc.targets.tflite.bitpack import bitpack, words
from bnncc.targets.tflite.writer import ModelWriter, pack
from tests.bundle import example
from tests.targets.interpreter.native import InterpreterRunner
from tests.targets.runtime.models import VALID, Conv

# The convolution of the small files, and the inputs' shapes that it is given one after the other.
CONV = Conv(1, (9, 8), 40, 24, (3, 3), (1, 2), (1, 1), 1, VALID, 0, 0, "float32", 5)
SHAPES = ((1, (9, 8)), (3, (9, 8)), (2, (14, 5)), (1, (3, 3)), (1, (9, 8)))
# The signatures of `several_content`: the subgraph that calls the two others, and each of them.
KEYS = ("serving_default", "first", "second")
IMAGES = 4


def write_tasks(path: Path, rounds: int, *, network: bool = True, memory: bool = True) -> None:
    """What served.py reads, by the names that it knows: files, and lists of (input, output).

    rounds: how often everything is created and destroyed.  network: with the trained one, which takes seconds to
    compile.  memory: what stays in use is judged; a few rounds and an emulator's own memory say nothing.
    """
    small = conv_content(CONV), [pair(resized(batch, size)) for batch, size in SHAPES]
    tasks = {
        "network": (example.content(), network_pairs()) if network else (small[0], small[1][:1]),
        "resized": small,
        "several": (several_content(), several_pairs()),
        "stock": stock_content(),
        "rounds": rounds,
        "memory": memory,
    }
    path.write_bytes(pickle.dumps(tasks, 4))


def network_pairs() -> list[tuple[Array, Array]]:
    """Images of the trained network, and its logits as bnncc's own interpreter computes them."""
    runner = InterpreterRunner(example.content())
    found = []
    for image in example.images()[:IMAGES]:
        x = image.transpose(1, 2, 0)[np.newaxis].astype(np.float32) / np.float32(255)
        found.append((x, runner.run([x])[0].copy()))
    return found


def resized(batch: int, size: tuple[int, int]) -> Conv:
    """The same filters on another map."""
    return replace(CONV, batch=batch, size=size)


def conv_content(conv: Conv) -> bytes:
    """A sign of floats, a binary convolution, and a stock operator behind it."""
    writer = ModelWriter("test")
    x = writer.tensor("x", (conv.batch, *conv.size, conv.channels), np.float32)
    packed = writer.tensor("packed", (conv.batch, *conv.size, words(conv.channels)), np.int32)
    shape = (conv.batch, *(outputs for outputs, _ in conv.windows()), conv.filters)
    sums, y = writer.tensor("sums", shape, np.float32), writer.tensor("y", shape, np.float32)
    constants = conv.weights()
    names = {"w": bitpack(constants["signs"]), "m": constants["multiplier"], "b": constants["bias"]}
    filters = [writer.constant(name, data) for name, data in names.items()]
    writer.custom("LceQuantize", [x], [packed], b"")
    writer.custom("LceBconv2d", [packed, *filters, None], [sums], conv.options())
    writer.operator(schema.BuiltinOperator.SQUARE, [sums], [y])
    return writer.finish([x], [y], ["x"], ["y"])


def pair(conv: Conv) -> tuple[Array, Array]:
    """Floats, and what `conv_content` makes of them."""
    x = np.random.default_rng(conv.batch).normal(size=(conv.batch, *conv.size, conv.channels)).astype(np.float32)
    drawn = _Given(**vars(conv), signs=np.where(x < 0, -1.0, 1.0))
    return x, np.square(drawn.expected()).astype(np.float32)


def stock_content() -> bytes:
    """Two stock operators on the same input."""
    writer = ModelWriter("test")
    shape = CONV.batch, *CONV.size, CONV.channels
    tensors = [writer.tensor(name, shape, np.float32) for name in ("x", "square", "y")]
    for x, y in itertools.pairwise(tensors):
        writer.operator(schema.BuiltinOperator.SQUARE, [x], [y])
    return writer.finish(tensors[:1], tensors[-1:], ["x"], ["y"])


class _Given(Conv):
    """A convolution whose input is given."""

    def __init__(self, signs: Array, **fields: Any) -> None:
        super().__init__(**fields)
        object.__setattr__(self, "signs", signs)

    def input(self) -> Array:
        return bitpack(self.signs)  # type: ignore[attr-defined]


def several_content() -> bytes:
    """Subgraphs 1 and 2 are `conv_content` of two seeds; subgraph 0, of (a bool, x), is an IF of them.  Each has a
    signature.
    """
    model, second = (_load(conv_content(conv)) for conv in (CONV, _other()))
    _append_subgraph(model, second)
    main = schema.SubGraphT()
    main.name = "main"
    main.tensors = [_tensor("chosen", [1], schema.TensorType.BOOL), *(
        _tensor(name, _named(model.subgraphs[0], name).shape, schema.TensorType.FLOAT32) for name in "xy"
    )]  # fmt: skip
    main.inputs, main.outputs = [0, 1], [2]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.IF
    code.version = 1
    model.operatorCodes.append(code)
    choice = schema.OperatorT()
    choice.opcodeIndex, choice.inputs, choice.outputs = len(model.operatorCodes) - 1, [0, 1], [2]
    choice.builtinOptionsType, choice.builtinOptions = schema.BuiltinOptions.IfOptions, schema.IfOptionsT()
    choice.builtinOptions.thenSubgraphIndex, choice.builtinOptions.elseSubgraphIndex = 1, 2
    main.operators = [choice]
    model.subgraphs.insert(0, main)
    model.signatureDefs = [_signature(key, index, model.subgraphs[index]) for index, key in enumerate(KEYS)]
    return pack(model)


def several_pairs() -> list[tuple[str, dict[str, Array], Array]]:
    """(signature, its inputs by name, output)."""
    (x, first), (_, second) = pair(CONV), pair(_other())
    pairs: list[tuple[str, dict[str, Array], Array]] = [("first", {"x": x}, first), ("second", {"x": x}, second)]
    for chosen, y in ((True, first), (False, second), (True, first)):
        pairs.append(("serving_default", {"chosen": np.array([chosen]), "x": x}, y))
    return pairs


def _other() -> Conv:
    return replace(CONV, seed=6)


def _load(content: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _append_subgraph(model: Any, other: Any) -> None:
    """The subgraph of `other` behind that of `model`."""
    (subgraph,) = other.subgraphs
    for tensor in subgraph.tensors:
        tensor.buffer += len(model.buffers)
    for operator in subgraph.operators:
        operator.opcodeIndex += len(model.operatorCodes)
    model.buffers += other.buffers
    model.operatorCodes += other.operatorCodes
    model.subgraphs.append(subgraph)
    model.metadata = []


def _tensor(name: str, shape: Sequence[int], kind: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.hasRank = name, list(shape), kind, True
    return tensor


def _named(subgraph: Any, name: str) -> Any:
    return next(tensor for tensor in subgraph.tensors if _text(tensor.name) == name)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _signature(key: str, index: int, subgraph: Any) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, index
    signature.inputs, signature.outputs = (
        [_tensor_map(_text(subgraph.tensors[tensor].name), tensor) for tensor in tensors]
        for tensors in (subgraph.inputs, subgraph.outputs)
    )
    return signature


def _tensor_map(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry
