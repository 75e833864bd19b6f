"""Fold chains of per-channel affine operators: into the convolution in front, or into one Mul and one Add.

    Before:  x ─ BinaryConv(s; m, b) ─ Mul(a) ─ BatchNormalization(γ, β, μ, σ²) ─ y
    After:   x ─ BinaryConv(s; m · a·γ/√(σ² + ε), b · a·γ/√(σ² + ε) + β − μ·γ/√(σ² + ε)) ─ y

    Before:  x ─ Conv(W, b) ─ BatchNormalization ─ y        Before:  x ─ Add ─ Add ─ BatchNormalization ─ y
    After:   x ─ Conv(scale_o · W, scale_o · b + shift) ─ y     After:   x ─ Mul(scale) ─ Add(shift) ─ y

Where every scale is -1, one Sub computes shift - x.

The whole chain is composed in float64 and rounded to float32 once.  A value that something else reads ends a chain.
A ReLU between a BinaryConv and a chain is no end where the convolution can clip its sums itself: see `fuse_clip`.
In front of a rounding a chain stays in the network's own order (kept_order.py); then a batch norm is a Mul and an Add.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, inherit_source, new_constant, shape_of, sole_consumer, take_over
from bnncc.passes.affine import Affine, affine_of
from bnncc.passes.each_node import rewrite_each
from bnncc.passes.fuse_clip import fuse_clip
from bnncc.passes.kept_order import must_keep_order, must_stay_behind

# Where an operator's weights have their output channels, for the operators that absorb an affine.
WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1}


class FoldAffine(ir.passes.InPlacePass):
    """Compose every maximal chain of affine operators."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=rewrite_each(model.graph, _fold))


def _fold(graph: ir.Graph, node: ir.Node) -> bool:
    step = affine_of(node)
    if step is None:
        return fuse_clip(graph, node)
    if _continues_chain(graph, step[0]):
        return False
    nodes, x, affines = _collect_chain(graph, node)
    result, producer = nodes[-1].outputs[0], x.producer()
    absorbs = producer is not None and not must_stay_behind(producer, result, affines)
    if not absorbs and must_keep_order(result, affines):
        return _spell_norms(graph, nodes)
    return _fold_chain(graph, nodes, x, functools.reduce(Affine.then, affines), absorbs=absorbs)


def _continues_chain(graph: ir.Graph, x: ir.Value) -> bool:
    producer = x.producer()
    return producer is not None and affine_of(producer) is not None and sole_consumer(graph, x) is not None


def _collect_chain(graph: ir.Graph, head: ir.Node) -> tuple[list[ir.Node], ir.Value, list[Affine]]:
    """(the nodes of the chain that starts at `head`, the value it starts from, what each of them computes)."""
    first = affine_of(head)
    assert first is not None
    x, affines, nodes = first[0], [first[1]], [head]
    while (following := sole_consumer(graph, nodes[-1].outputs[0])) is not None:
        step = affine_of(following)
        if step is None:
            break
        affines.append(step[1])
        nodes.append(following)
    return nodes, x, affines


def _spell_norms(graph: ir.Graph, nodes: list[ir.Node]) -> bool:
    """Write the batch norms of a chain that must stay as it is as what they are: a Mul and an Add."""
    norms = [node for node in nodes if node.op_type == "BatchNormalization"]
    for node in norms:
        step = affine_of(node)
        assert step is not None
        _emit(graph, [node], *step, ["Mul", "Add"])
        graph.remove(node, safe=True)
    return bool(norms)


def _fold_chain(graph: ir.Graph, nodes: list[ir.Node], x: ir.Value, affine: Affine, *, absorbs: bool) -> bool:
    producer = x.producer()
    absorbs = absorbs and sole_consumer(graph, x) is not None
    if absorbs and producer is not None and absorb(graph, producer, affine):
        take_over(nodes[-1].outputs[0], producer.outputs[0])
    else:
        needed = _operators(affine)
        if [node.op_type for node in nodes] == needed:
            return False
        _emit(graph, nodes, x, affine, needed)
    for node in reversed(nodes):
        graph.remove(node, safe=True)
    return True


def _operators(affine: Affine) -> list[str]:
    """What computes it with the fewest operators."""
    if np.all(affine.scale.astype(np.float32) == -1) and affine.shift.any():
        return ["Sub"]  # shift - x
    return [operator for operator, unit in (("Mul", affine.scale != 1), ("Add", affine.shift != 0)) if unit.any()]


def _emit(graph: ir.Graph, nodes: list[ir.Node], x: ir.Value, affine: Affine, needed: list[str]) -> None:
    """Put the operators `needed`, of Mul, Add and Sub, behind `x` in place of the chain."""
    last = nodes[-1]
    result = last.outputs[0]
    rank = len(shape_of(x) or ())
    vectors = {"Mul": affine.scale, "Add": affine.shift, "Sub": affine.shift}
    value = x
    for operator in needed:
        constant = vectors[operator].astype(np.float32).reshape(1, -1, *(1,) * (rank - 2))
        operand = new_constant(graph, constant, f"{result.name}/{'scale' if operator == 'Mul' else 'shift'}")
        node = ir.node(operator, [operand, value] if operator == "Sub" else [value, operand])
        node.outputs[0].name = f"{result.name}/scaled"
        node.outputs[0].shape, node.outputs[0].type = result.shape, result.type
        inherit_source([node], last)
        graph.insert_before(last, node)
        value = node.outputs[0]
    if value is x:
        if result in graph.outputs and (x.producer() is None or x in graph.outputs):
            node = ir.node("Identity", [x])
            inherit_source([node], last)
            graph.insert_before(last, node)
            value = node.outputs[0]
        else:
            name = result.name if result in graph.outputs else x.name
            result.replace_all_uses_with(x, replace_graph_outputs=True)
            result.name, x.name = f"{result.name}/folded", name
            return
    take_over(result, value)


def absorbs(node: ir.Node, channels: int) -> bool:
    """True for a convolution or Linear that `absorb` can change, with so many output channels."""
    if ops.is_binary_conv(node):
        return all(constant_of(node.inputs[index]) is not None for index in (2, 3))
    if node.domain != "" or node.op_type not in WEIGHT_AXIS or not _is_plain(node):
        return False
    weight, bias = constant_of(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    array = constant_of(bias)
    if weight is None or (bias is not None and (array is None or array.ndim > 1)):
        return False
    return weight.shape[_output_axis(node)] == channels


def absorb(graph: ir.Graph, node: ir.Node, affine: Affine) -> bool:
    """Change the constants of a convolution or Linear so that it yields the affine of what it yielded before."""
    channels = affine.scale.size
    if not absorbs(node, channels):
        return False
    name = node.outputs[0].name
    if ops.is_binary_conv(node):
        multiplier, bias = (_float64(node.inputs[index]) for index in (2, 3))
        assert multiplier is not None
        assert bias is not None
        folded = Affine(multiplier, bias).then(affine)
        node.replace_input_with(2, new_constant(graph, folded.scale.astype(np.float32), f"{name}/multiplier"))
        node.replace_input_with(3, new_constant(graph, folded.shift.astype(np.float32), f"{name}/bias"))
        return True
    weight = _float64(node.inputs[1])
    bias = _float64(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    assert weight is not None
    assert bias is not None
    along = [1] * weight.ndim
    along[_output_axis(node)] = channels
    folded_weight = (weight * affine.scale.reshape(along)).astype(np.float32)
    folded_bias = (np.broadcast_to(bias, (channels,)) * affine.scale + affine.shift).astype(np.float32)
    inputs = [node.inputs[0], new_constant(graph, folded_weight, f"{name}/weight")]
    inputs.append(new_constant(graph, folded_bias, f"{name}/bias"))
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)
    return True


def _output_axis(node: ir.Node) -> int:
    transposed = node.op_type == "Gemm" and _integer(node, "transB", 0) == 1
    return 0 if transposed else WEIGHT_AXIS[node.op_type]


def _is_plain(node: ir.Node) -> bool:
    """No attribute of `node` stands between its weights and its output channels."""
    if node.op_type == "ConvTranspose":
        return _integer(node, "group", 1) == 1
    if node.op_type == "Gemm":
        factors = [node.attributes[key].as_float() for key in ("alpha", "beta") if key in node.attributes]
        return all(factor == 1.0 for factor in factors)
    return True


def _integer(node: ir.Node, name: str, default: int) -> int:
    return int(node.attributes[name].as_int()) if name in node.attributes else default


def _float64(value: ir.Value | None) -> npt.NDArray[np.float64] | None:
    array = constant_of(value)
    return None if array is None else array.astype(np.float64)
