"""Run a graph, or parts of it, in ONNX Runtime without copying its weights.

The graph is serialised without its large initializers; they become graph inputs and are fed from their own memory.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from bnncc.errors import InputError
from bnncc.ir.arrays import Array as Array  # most that name it run graphs, and have it from here
from bnncc.ir.arrays import random_array
from bnncc.ir.graph import known_array
from bnncc.system.onnx_runtime import onnxruntime

# Initializers of at most so many elements stay in the graph: shapes, axes and scalars, which shape inference reads.
SMALL = 64
# What is made of fewer elements than so many is computed in no time, and kept in next to none of the memory.
LARGE = 1 << 12
# ONNX Runtime refuses a graph that names a newer one, whatever operators are in it.
LATEST_OPSET = 26
# The first with CastLike.
CAST_LIKE_OPSET = 15
# Seconds of a run of a graph with a Loop, which may have no end; no network takes so long.
LONGEST_LOOP = 30.0
# Suffix of the graph inputs that carry given values into a cut graph.
_GIVEN = "\0given"
# On a graph input, as a JSON list: its random values are at least the first number and below the second.
RANGE_KEY = "bnncc.range"


def skeleton(
    model: ir.Model, outputs: Sequence[ir.Value] | None = None, given: Collection[ir.Value] = ()
) -> onnx.ModelProto:
    """`model` with every initializer of more than 64 elements turned into a graph input.

    Args:
        outputs: values of the main graph to output; the nodes and inputs they do not need are left out.  None keeps
            all nodes and the graph's own outputs.
        given: values that become graph inputs too, in place of the nodes that compute them; only with
            `outputs`.  No initializers.
    """
    graph = model.graph
    nodes = list(graph)
    inputs = [value for value in graph.inputs if not value.is_initializer()]
    initializers = list(graph.initializers.values())
    if outputs is not None:
        # Of this part alone: whoever asks for one value after the other does not go through the graph each time.
        nodes = [node for node in _in_order(outputs, given) if node.graph is graph]  # without those of subgraphs
        read = dict.fromkeys([*(value for node in nodes for value in inputs_of(node)), *outputs])
        inputs = [value for value in dict.fromkeys([*inputs, *given]) if value in read]
        initializers = [value for value in read if value.is_initializer() and value.graph is graph]
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in graph.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.functions.extend(ir.serde.serialize_function(function) for function in model.functions.values())
    proto.graph.name = graph.name or "graph"
    proto.graph.node.extend(ir.serde.serialize_node(node) for node in nodes)
    proto.graph.input.extend(ir.serde.serialize_value(value) for value in inputs)
    for value in initializers:
        tensor = _tensor(value)
        if tensor.size <= SMALL:
            proto.graph.initializer.append(ir.serde.serialize_tensor(tensor))
            proto.graph.initializer[-1].name = _name(value)
        else:
            proto.graph.input.append(
                onnx.helper.make_tensor_value_info(_name(value), int(tensor.dtype), tensor.shape.numpy())
            )
    chosen = graph.outputs if outputs is None else outputs
    proto.graph.output.extend(onnx.ValueInfoProto(name=_name(value)) for value in chosen)
    return proto


def ancestors(values: Iterable[ir.Value], given: Collection[ir.Value] = ()) -> set[ir.Node]:
    """The nodes of the main graph that `values` depend on where the values of `given` are known.

    A node's subgraphs count as part of it.
    """
    return set(_in_order(values, given))


def _in_order(values: Iterable[ir.Value], given: Collection[ir.Value]) -> list[ir.Node]:
    """The same nodes, each behind those that it reads."""
    found: dict[ir.Node, None] = {}
    opened: set[ir.Node] = set()
    pending = [value.producer() for value in values]
    while pending:
        node = pending[-1]
        if node is None or node in opened:
            pending.pop()
            if node is not None:
                found[node] = None
            continue
        opened.add(node)
        pending.extend(value.producer() for value in inputs_of(node) if value not in given)
    return list(found)


def input_dependent(graph: ir.Graph, *, by_shape: bool = True) -> set[ir.Value]:
    """The values of the main graph that depend on a graph input, the inputs included.

    by_shape: whether those do that depend on an input's shape alone, which is static.
    """
    dependent = {value for value in graph.inputs if not value.is_initializer()}
    for node in graph:
        if (by_shape or node.op_type not in ("Shape", "Size")) and not dependent.isdisjoint(inputs_of(node)):
            dependent.update(node.outputs)
    return dependent


def inputs_of(node: ir.Node) -> list[ir.Value]:
    """The inputs of `node` and of every node in its subgraphs."""
    values = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            values.extend(value for inner in attribute.as_graph() for value in inputs_of(inner))
    return values


def weights_of(model: ir.Model, proto: onnx.ModelProto | None = None) -> dict[str, Array]:
    """The initializers that `skeleton` turned into inputs, by name, as arrays that share their memory.

    proto: the skeleton whose inputs are wanted, of a part of the graph; all of the graph's otherwise.
    """
    known = model.graph.initializers
    values = known.values() if proto is None else [known[e.name] for e in proto.graph.input if e.name in known]
    return {_name(value): _tensor(value).numpy() for value in values if _tensor(value).size > SMALL}


def run(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of `proto` by name.  Graph optimisations are off: they move roundings, which flips signs near zero.

    Args:
        feeds: the graph inputs by name; names that are no input of the graph are ignored.

    Raises:
        InputError: the graph has a Loop, and ran for LONGEST_LOOP seconds.
    """
    loaded = session(proto)
    known = {entry.name for entry in loaded.get_inputs()}
    names = [entry.name for entry in loaded.get_outputs()]
    given = {name: np.asarray(array) for name, array in feeds.items() if name in known}
    with _with_an_end(proto) as options:
        results = loaded.run(names, given, options)
    return dict(zip(names, results, strict=True))


def constant_values(model: ir.Model, values: Sequence[ir.Value]) -> dict[str, Array]:
    """Values of the main graph that no graph input reaches, by name."""
    proto = skeleton(model, values)
    return run(proto, weights_of(model, proto))


def in_parts(sizes: Mapping[ir.Value, int], most: int) -> Iterator[list[ir.Value]]:
    """Values for `constant_values`, some at a time, as what is computed on the way to them takes memory too.

    Args:
        sizes: the elements that each value stands for; one of few rides along with what is in front.
        most: a part that has so many takes no further large value.
    """
    part: list[ir.Value] = []
    elements = 0
    for value, size in sizes.items():
        if size >= LARGE and elements >= most:
            yield part
            part, elements = [], 0
        part.append(value)
        elements += size
    if part:
        yield part


def computed_constant(value: ir.Value) -> Array | None:
    """A value that no graph input reaches: traced graphs hold constants as nodes, and compute with them."""
    array = known_array(value)
    if array is not None:
        return array
    node = value.producer()
    if node is None or not isinstance(node.graph, ir.Graph) or value in input_dependent(node.graph):
        return None
    model = ir.Model(node.graph, ir_version=10)
    return constant_values(model, [value])[value.name or ""]


@contextlib.contextmanager
def _with_an_end(proto: onnx.ModelProto) -> Iterator[onnxruntime.RunOptions]:
    """Options of a run, which ends where a Loop does not; all else ends by itself."""
    options = onnxruntime.RunOptions()
    timer = threading.Timer(LONGEST_LOOP, setattr, (options, "terminate", True))
    timer.daemon = True
    if _has_loop(proto.graph.node) or any(_has_loop(function.node) for function in proto.functions):
        timer.start()
    try:
        yield options
    except Exception as error:
        if options.terminate:
            raise InputError(f"a Loop of the graph does not end: it ran for {LONGEST_LOOP:g} s") from error
        raise
    finally:
        timer.cancel()


def _has_loop(nodes: Collection[onnx.NodeProto]) -> bool:
    inner = [attribute.g.node for node in nodes for attribute in node.attribute if attribute.HasField("g")]
    return any(node.op_type == "Loop" for node in nodes) or any(map(_has_loop, inner))


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """`proto` loaded with graph optimisations off: they move roundings, and near zero that flips signs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # an arena keeps its peak, which for folded weights is hundreds of MB
    options.enable_mem_pattern = False  # from the second run on, a block as large as everything that a run computes
    # Who may have whose memory is found in a time that grows with the square of the graph: 2 s for 3,000 nodes.  Each
    # value is freed behind its last reader all the same.
    options.enable_mem_reuse = False
    options.intra_op_num_threads = 1  # As in `one_thread`.
    for imports in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        for entry in imports:
            if entry.domain == "":
                entry.version = min(entry.version, LATEST_OPSET)
    _compute_sigmoids_exactly(proto)
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _compute_sigmoids_exactly(proto: onnx.ModelProto) -> None:
    """Write 1 / (1 + exp(-x)) for each Sigmoid.

    ONNX Runtime's own (1.22 and 1.31, x86-64) is off by up to 1e-7 however small the result is, and exactly 0 below
    x = -17.3.  Of a gate of 1e-8 that changes the sign of what it multiplies.
    """
    if min((entry.version for entry in proto.opset_import if entry.domain == ""), default=0) < CAST_LIKE_OPSET:
        return
    nodes = list(proto.graph.node)
    if not any(_is_sigmoid(node) for node in nodes):
        return
    del proto.graph.node[:]
    proto.graph.node.append(onnx.helper.make_node("Constant", [], ["\0one"], value_float=1.0))
    for node in nodes:
        proto.graph.node.extend(_sigmoid(node.input[0], node.output[0]) if _is_sigmoid(node) else [node])


def _is_sigmoid(node: onnx.NodeProto) -> bool:
    return node.op_type == "Sigmoid" and node.domain == ""


def _sigmoid(x: str, y: str) -> list[onnx.NodeProto]:
    one, negative, power, total = (f"{y}\0{step}" for step in ("one", "negative", "power", "sum"))
    return [
        onnx.helper.make_node("CastLike", ["\0one", x], [one]),
        onnx.helper.make_node("Neg", [x], [negative]),
        onnx.helper.make_node("Exp", [negative], [power]),
        onnx.helper.make_node("Add", [one, power], [total]),
        onnx.helper.make_node("Reciprocal", [total], [y]),
    ]


def cut(model: ir.Model, values: Mapping[str, Array]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The graph with its inner values replaced: every consumer of a value named in `values` reads the given array.

    Returns (the model, which outputs its own result for each of these names behind the graph's outputs; its extra
    feeds).
    """
    proto = skeleton(model)
    for name, array in values.items():
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name + _GIVEN, element, array.shape))
        proto.graph.output.append(onnx.ValueInfoProto(name=name))
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in values:
                node.input[index] = name + _GIVEN
    return proto, {name + _GIVEN: array for name, array in values.items()}


def between(model: ir.Model, given: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> onnx.ModelProto:
    """The part of the graph between inner values.  A value may be given and an output: then it is computed as well.

    The graph inputs are named by `given_name`.
    """
    proto = skeleton(model, outputs, given)
    names = {_name(value) for value in given}
    for entry in proto.graph.input:
        if entry.name in names:
            entry.name = given_name(entry.name)
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in names:
                node.input[index] = given_name(name)
    return proto


def given_name(name: str) -> str:
    """The name of the graph input that carries a given value into a cut graph."""
    return name + _GIVEN


def random_inputs(model: ir.Model, seed: int) -> list[Array]:
    """`random_array` for each graph input, in the range that its metadata give."""
    generator = np.random.default_rng(seed)
    arrays = []
    for value in model.graph.inputs:
        shape = tuple(int(size) for size in value.shape.numpy()) if value.shape is not None else ()
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
        text = value.metadata_props.get(RANGE_KEY)
        arrays.append(random_array(generator, shape, dtype, None if text is None else tuple(json.loads(text))))
    return arrays


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None
    return value.const_value
