"""Is a .onnx file what it says it is?  What the libraries behind would answer with an exception of their own, or with
memory that is not theirs, is found here and named: file, place and cause."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import onnx
from onnx import TensorProto

from bnncc.errors import InputError
from bnncc.frontend.qonnx import DOMAINS as QONNX_DOMAINS

# TensorFlow Lite's shapes, and sizes in bytes, are signed 32-bit integers.
LARGEST_SIZE = 2**31 - 1
# No network has so many.
MOST_NODES = 1_000_000
# Bits of an element in raw_data.
_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.DOUBLE: 64,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.INT8: 8,
    TensorProto.INT16: 16,
    TensorProto.INT32: 32,
    TensorProto.INT64: 64,
    TensorProto.UINT8: 8,
    TensorProto.UINT16: 16,
    TensorProto.UINT32: 32,
    TensorProto.UINT64: 64,
    TensorProto.BOOL: 8,
}
_TYPED_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.UINT32: "uint64_data",
}


def check_structure(model: onnx.ModelProto, path: Path) -> None:
    """Names, order, sizes; external data exists.  Dimensions of inputs that are 0 or less become unknown ones.

    Raises:
        InputError: names the file, the node or tensor, and what is wrong.
    """
    try:
        if not model.graph.node and not model.graph.output:
            raise InputError(f"{path} holds no graph: it is truncated, or no ONNX model")
        if not model.graph.output:
            raise InputError(f"{path}: its graph has no outputs")
        for info in model.graph.input:
            _check_input(info, path)
        _check_graph(model.graph, set(), path)
        _check_domains(model, path)
        _check_functions(model, path)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is damaged: a name in it is not UTF-8 ({error.reason} in {error.object!r})"
        ) from error


def _check_input(info: onnx.ValueInfoProto, path: Path) -> None:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise InputError(f"{path}: the input {info.name!r} is no tensor ({kind or 'of no type'})")
    for dimension in info.type.tensor_type.shape.dim:
        if dimension.HasField("dim_value") and dimension.dim_value <= 0:
            dimension.dim_param = str(dimension.dim_value)  # --input-shape says what it is
        elif dimension.dim_value > LARGEST_SIZE:
            raise InputError(
                f"{path}: the input {info.name!r} has a dimension of {dimension.dim_value}; "
                f"a .tflite file's are at most {LARGEST_SIZE}"
            )


def _check_graph(graph: onnx.GraphProto, outer: Collection[str], path: Path) -> None:
    known = set(outer)
    own: set[str] = set()
    for name in [entry.name for entry in graph.input]:
        _define(name, own, path, "the graph's inputs")
    tensors = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
    own.update(tensor.name for tensor in tensors)
    for tensor in graph.initializer:
        check_tensor(tensor, f"initializer {tensor.name!r}", path)
    known |= own
    produced = {name: node for node in graph.node for name in node.output if name}
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                _refuse_order(node, name, produced, path)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                check_tensor(attribute.t, f"{attribute.name} of {describe(node)}", path)
            for subgraph in _subgraphs(attribute):
                _check_graph(subgraph, known, path)
        for name in node.output:
            if name:
                _define(name, own, path, describe(node))
        known |= own
    for entry in graph.output:
        if entry.name not in known:
            raise InputError(f"{path}: nothing computes the output {entry.name!r}")
    for info in graph.value_info:
        for dimension in info.type.tensor_type.shape.dim:
            if dimension.dim_value < 0 or dimension.dim_value > LARGEST_SIZE:
                raise InputError(f"{path}: the value {info.name!r} has a dimension of {dimension.dim_value}")


def _check_domains(model: onnx.ModelProto, path: Path) -> None:
    """Of which version an operator is, the file has to say."""
    imported = {entry.domain for entry in model.opset_import} | {"", "ai.onnx", *QONNX_DOMAINS}
    for node in model.graph.node:
        if node.domain not in imported:
            raise InputError(
                f"{path}: {describe(node)} is of the domain {node.domain!r}, of which no version is imported"
            )


def _check_functions(model: onnx.ModelProto, path: Path) -> None:
    """Functions that call functions may stand for more nodes than can be counted.  A cycle is left to ONNX."""
    bodies = {(function.domain, function.name): function.node for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size_of(nodes: Iterable[onnx.NodeProto], above: frozenset[tuple[str, str]]) -> int:
        total = 0
        for node in nodes:
            name = (node.domain, node.op_type)
            if name in bodies and name not in above:
                if name not in sizes:
                    sizes[name] = size_of(bodies[name], above | {name})
                total += sizes[name]
            total += 1
            for attribute in node.attribute:
                total += sum(size_of(graph.node, above) for graph in _subgraphs(attribute))
        return total

    if size_of(model.graph.node, frozenset()) > MOST_NODES:
        raise InputError(f"{path}: its functions call each other, and stand for more than {MOST_NODES:,} nodes")


def _subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _define(name: str, own: set[str], path: Path, where: str) -> None:
    if name in own:
        raise InputError(f"{path}: two values are called {name!r}; the second is of {where}")
    own.add(name)


def _refuse_order(node: onnx.NodeProto, name: str, produced: dict[str, onnx.NodeProto], path: Path) -> None:
    if name not in produced:
        raise InputError(f"{path}: {describe(node)} reads {name!r}, which nothing computes")
    if _depends_on(produced[name], node, produced):
        raise InputError(f"{path}: its graph has a cycle: {describe(node)} reads {name!r}, which depends on it")
    raise InputError(
        f"{path}: its nodes are not sorted: {describe(node)} reads {name!r}, which {describe(produced[name])} computes "
        "only behind it. Sort them (onnx_graphsurgeon's toposort, or export again)"
    )


def _depends_on(node: onnx.NodeProto, target: onnx.NodeProto, produced: dict[str, onnx.NodeProto]) -> bool:
    pending, seen = [node], set()
    while pending:
        current = pending.pop()
        if current is target:
            return True
        if id(current) not in seen:
            seen.add(id(current))
            pending += [produced[name] for name in current.input if name in produced]
    return False


def check_tensor(tensor: TensorProto, where: str, path: Path) -> None:
    """Whether a tensor has as many elements as its shape says.  Raises InputError."""
    if any(size < 0 or size > LARGEST_SIZE for size in tensor.dims):
        raise InputError(f"{path}: {where} has the shape {list(tensor.dims)}")
    count = math.prod(tensor.dims)
    if tensor.data_type == TensorProto.UNDEFINED or tensor.data_type not in TensorProto.DataType.values():
        raise InputError(f"{path}: {where} is of an unknown type ({tensor.data_type})")
    bits = _BITS.get(tensor.data_type)
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_external(tensor, where, path, None if bits is None else count * bits // 8)
    elif bits is not None:
        field = _TYPED_FIELDS.get(tensor.data_type, "int32_data")
        given = len(tensor.raw_data) * 8 // bits if tensor.HasField("raw_data") else len(getattr(tensor, field))
        if given != count or (tensor.HasField("raw_data") and len(tensor.raw_data) * 8 % bits):
            raise InputError(f"{path}: {where} is of shape {list(tensor.dims)}, but holds {given} values, not {count}")


def _check_external(tensor: TensorProto, where: str, path: Path, size: int | None) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = path.parent / location
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise InputError(f"{path}: the data of {where} are said to be in {location!r}, which is not beside the model")
    if not file.is_file():
        raise InputError(f"{path}: the data of {where} are in {file}, which is not there: put it beside the model")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries["length"]) if "length" in entries else size
    except ValueError as error:
        raise InputError(f"{path}: where the data of {where} are in {file} cannot be read: {error}") from error
    available = file.stat().st_size
    if offset < 0 or length is None or length < 0 or offset + length > available or (size or length) != length:
        raise InputError(
            f"{path}: the data of {where} should be bytes {offset} to {offset + (length or 0)} of {file}, "
            f"which has {available}; the tensor takes {size}"
        )


def describe(node: onnx.NodeProto) -> str:
    """`Conv 'conv1'`; a node without a name goes by its output."""
    domain = f"{node.domain}." if node.domain else ""
    return f"{domain}{node.op_type} {node.name or next(iter(node.output), '')!r}"
