"""Build small graphs, run a pass on them, and compare before and after in ONNX Runtime.

Nothing here calls what it checks: graphs run in ONNX Runtime as they are serialised, and shapes are read off results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import torch

from bnncc.frontend.mask_assignment import choose_by_masks
from bnncc.ir import ops
from bnncc.ir.graph import MIRRORED_KEY, MODULE_KEY, NEGATED_KEY, SOURCE_KEY

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]

OPSET = 18
# Allowed difference, relative to the largest magnitude of a value: the order of sums changes, constants are composed.
TOLERANCE = 2e-5
# Operators whose result jumps where an operand crosses a threshold: one rounding may flip them.
JUMPING = {"Sign", "Round", "Floor", "Ceil", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"}


def normal(*shape: int, seed: int = 0) -> Array:
    """Reproducible normally distributed float32 data."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def signs(*shape: int, seed: int = 0) -> Array:
    """Reproducible ±1 in float32."""
    return np.where(np.random.default_rng(seed).random(shape) < 0.5, np.float32(-1), np.float32(1))


def build(body: str, inputs: str, outputs: str = "y", *, opset: int = OPSET, **constants: Array | float) -> ir.Model:
    """A model from the body of a graph in ONNX's text form: `build("y = Relu (x)", "float[1, 3, 5, 7] x")`.

    `constants` become initializers (a float becomes a float32 scalar).  Shapes are those that ONNX Runtime computes.
    Node i of the text gets the module path `layer.i` and the source line `net.py:i`.
    """
    names = outputs.replace(",", " ").split()
    text = f"g ({inputs}) => ({', '.join(f'float {name}' for name in names)}) {{\n{body}\n}}"
    graph = onnx.parser.parse_graph(text)
    for value in graph.output:
        value.ClearField("type")
    for name, array in constants.items():
        array = np.float32(array) if isinstance(array, float) else array
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return finish(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10))


def finish(proto: onnx.ModelProto) -> ir.Model:
    """A proto as the passes expect it: our operators registered, every shape known, every node with its source."""
    for index, node in enumerate(proto.graph.node):
        node.name = node.name or f"node_{index}"
        for key, text in ((MODULE_KEY, f"layer.{index}"), (SOURCE_KEY, f"net.py:{index} in forward: line {index}")):
            node.metadata_props.add(key=key, value=text)
    model = ir.serde.deserialize_model(proto)
    ops.register(model)
    results = run_all(model, draw(model))
    for node in model.graph:
        for value in node.outputs:
            if value.name:
                array = results[value.name]
                value.shape = ir.Shape(array.shape)
                value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    return model


def export(module: torch.nn.Module, *shape: int) -> ir.Model:
    """A torch module through PyTorch's exporter without its optimiser, with inlined functions, as the passes get it."""
    program = torch.onnx.export(
        module.eval(),
        (torch.zeros(*shape),),
        dynamo=True,
        optimize=False,
        opset_version=OPSET,
        verbose=False,
        input_names=["image"],
        output_names=["logits"],
    )
    assert program is not None
    ir.passes.common.InlinePass()(program.model)
    proto = ir.serde.serialize_model(program.model)
    for node in proto.graph.node:
        node.ClearField("metadata_props")
    proto.ClearField("functions")
    model = finish(proto)
    return finish(ir.serde.serialize_model(model)) if choose_by_masks(model) else model


def draw(model: ir.Model, seed: int = 0) -> dict[str, Array]:
    """Random data of both signs for every graph input."""
    generator = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        assert value.name is not None
        assert value.shape is not None
        assert value.dtype is not None
        shape, dtype = tuple(int(size) for size in value.shape.numpy()), value.dtype.numpy()
        if np.issubdtype(dtype, np.floating):
            feeds[value.name] = generator.standard_normal(shape).astype(dtype)
        else:
            feeds[value.name] = generator.integers(-3, 4, shape).astype(dtype)
    return feeds


def run_proto(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, Array]:
    """All outputs by name, from ONNX Runtime without graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def run_model(model: ir.Model, feeds: Feeds) -> dict[str, Array]:
    """The graph outputs by name."""
    return run_proto(ir.serde.serialize_model(model), feeds)


def run_all(model: ir.Model, feeds: Feeds) -> dict[str, Array]:
    """Every value that a node computes, by name."""
    return run_proto(_with_all_outputs(ir.serde.serialize_model(model)), feeds)


def run_all_forced(model: ir.Model, feeds: Feeds, forced: Feeds) -> dict[str, Array]:
    """As `run_all`, but what reads a value named in `forced` reads the given array instead."""
    proto = ir.serde.serialize_model(model)
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in forced:
                node.input[index] = f"{name}/given"
    for name, array in forced.items():
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(f"{name}/given", element, array.shape))
    given = {f"{name}/given": array for name, array in forced.items()}
    return run_proto(_with_all_outputs(proto), {**feeds, **given})


def _with_all_outputs(proto: onnx.ModelProto) -> onnx.ModelProto:
    present = {value.name for value in proto.graph.output}
    names = dict.fromkeys(name for node in proto.graph.node for name in node.output if name)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return proto


def error_of(value: Array, reference: Array) -> float:
    """max|value - reference| / max|reference| over the finite elements; infinite where others or shapes differ."""
    if value.shape != reference.shape:
        return float("inf")
    if not value.size:
        return 0.0
    left, right = value.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(right)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True):
        return float("inf")
    difference = np.abs(left[finite] - right[finite]).max(initial=0.0)
    return float(difference / max(np.abs(right[finite]).max(initial=0.0), 1e-30)) if difference else 0.0


def operators(model: ir.Model) -> Counter[str]:
    """How often each operator occurs among the nodes that the outputs depend on; ours as `bnncc.Sign`."""
    wanted = set(model.graph.outputs)
    found: Counter[str] = Counter()
    for node in reversed(list(model.graph)):
        if wanted & set(node.outputs):
            wanted.update(value for value in node.inputs if value is not None)
            found[f"{node.domain}.{node.op_type}" if node.domain else node.op_type] += 1
    return found


def node_of(model: ir.Model, operator: str) -> ir.Node:
    """The only node of that operator, whatever its domain."""
    (node,) = (node for node in model.graph if node.op_type == operator)
    return node


def array_of(value: ir.Value | None) -> Array:
    """The array of an initializer."""
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def assert_same(
    before: ir.Model, after: ir.Model, *, tolerance: float = TOLERANCE, force_jumps: bool = False, seed: int = 1
) -> None:
    """Both compute the same: every graph output, and every value that has the same name in both.

    A value marked as mirrored, or negated in some channels, is compared after undoing that.  With `force_jumps`, what
    reads a sign, comparison or rounding reads the value it had before, so that a flip near its threshold does not
    spread, and one element in a thousand of these values may have flipped (one element in any).  Shapes that `after`
    declares must be true.
    """
    feeds = draw(before, seed)
    assert list(draw(after)) == list(feeds), "the graph inputs changed"
    old = {value.name or "": value for node in before.graph for value in node.outputs}
    new = {value.name or "": value for node in after.graph for value in node.outputs}
    assert [v.name for v in before.graph.outputs] == [v.name for v in after.graph.outputs]
    reference = {}
    for name, array in run_all(before, feeds).items():
        mirrored = [name in found and MIRRORED_KEY in found[name].metadata_props for found in (old, new)]
        turned = np.ascontiguousarray(array[..., ::-1, ::-1]) if mirrored[0] != mirrored[1] else array
        for found in (old, new):
            if name in found and NEGATED_KEY in found[name].metadata_props:
                turned = turned.copy()
                turned[:, json.loads(found[name].metadata_props[NEGATED_KEY])] *= -1
        reference[name] = turned
    jumps = {value.name or "" for node in after.graph if node.op_type in JUMPING for value in node.outputs}
    forced = {name: reference[name] for name in jumps if name in reference} if force_jumps else {}
    computed = run_all_forced(after, feeds, forced)
    for name, array in computed.items():
        value = new.get(name)
        if value is not None:
            assert value.shape is not None, f"'{name}' lost its shape"
            assert tuple(value.shape.numpy()) == array.shape, f"'{name}' declares a wrong shape"
        if name in forced:
            flipped = np.count_nonzero(array != reference[name])
            assert flipped <= max(1, array.size // 1000), f"'{name}': {flipped} of {array.size} elements flipped"
        elif name in reference:
            assert error_of(array, reference[name]) <= tolerance, f"'{name}' changed"
    onnx.checker.check_model(ir.serde.serialize_model(after))


def assert_sources_kept(before: ir.Model, after: ir.Model, without: Callable[[ir.Node], bool] | None = None) -> None:
    """Every node has the module path and the source line of a node before it, except those that `without` names."""
    known = {(node.metadata_props[MODULE_KEY], node.metadata_props[SOURCE_KEY]) for node in before.graph}
    for node in after.graph:
        if without is None or not without(node):
            found = (node.metadata_props.get(MODULE_KEY), node.metadata_props.get(SOURCE_KEY))
            assert found in known, f"{node.op_type} '{node.outputs[0].name}' lost its source"


def check_pass(
    model: ir.Model,
    apply: ir.passes.PassBase,
    *,
    modified: bool = True,
    tolerance: float = TOLERANCE,
    without_source: Callable[[ir.Node], bool] | None = None,
) -> ir.Model:
    """Run `apply` on `model` in place, check that nothing but the form changed, and that a second run does nothing."""
    before = model.clone()
    assert bool(apply(model).modified) is modified
    once = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    if not modified:
        assert [node.op_type for node in before.graph] == [node.op_type for node in model.graph]
    for seed in (1, 2):
        assert_same(before, model, tolerance=tolerance, seed=seed)
    assert_sources_kept(before, model, without_source)
    assert not apply(model).modified, "a second run changed something"
    assert ir.serde.serialize_model(model).SerializeToString(deterministic=True) == once, "a second run changed bytes"
    return model
