"""Give an exported graph the names and metadata that the rest of bnncc relies on.

    Before:  node "node_conv2d_3", output "conv2d_3", initializer "network.blocks.0.conv.weight", metadata of six kinds
    After:   node and output "blocks.0.conv/Conv", initializer "blocks.0.conv.weight", metadata of `source.py`

Names are provenance: a pass keeps the name of a value for as long as the value keeps its meaning.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from bnncc.frontend.flatten_outputs import NETWORK
from bnncc.frontend.source import location_in_doc_string, location_in_stack_trace, set_source
from bnncc.ir.graph import MODULE_KEY

_SCOPES = "pkg.torch.onnx.name_scopes"
_STACK_TRACE = "pkg.torch.onnx.stack_trace"


def normalize_exported(model: ir.Model, modules: Collection[str], outputs: Sequence[str]) -> None:
    """Normalise what one of PyTorch's exporters made of a `FlattenOutputs` module, in place.

    Args:
        modules: the user's module paths, as `nn.Module.named_modules` gives them.
        outputs: names for the graph outputs.
    """
    tidy(model)
    for node in all_nodes(model.graph):
        trace = node.metadata_props.get(_STACK_TRACE)
        if trace is not None or _SCOPES in node.metadata_props:
            set_source(node, _module_of_scopes(node.metadata_props), location_in_stack_trace(trace or ""))
        else:
            module = _module_of_node_name(node.name or "", modules)
            set_source(node, module, location_in_doc_string(node.doc_string or ""))
        node.doc_string = None
    _rename(model.graph, outputs)


def normalize_file(model: ir.Model) -> None:
    """Normalise a graph that was read from a file, in place.  Value names stay; nodes are called after their output;
    constants are initializers."""
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    tidy(model)
    names = _Names()
    for node in all_nodes(model.graph):
        name = node.name or next((value.name for value in node.outputs if value.name), None) or node.op_type
        node.name = names.unique(name)
        set_source(node, "", None)
        node.metadata_props[MODULE_KEY] = node.name


def tidy(model: ir.Model) -> None:
    """Inline functions, give every graph output a node of its own, drop what nothing uses."""
    common.InlinePass()(model)
    common.RemoveInitializersFromInputsPass()(model)
    common.RemoveUnusedNodesPass()(model)
    model.functions.clear()
    _hold_arrays(model.graph)
    for index, value in enumerate(model.graph.outputs):
        if value.is_initializer() or value.is_graph_input() or value in model.graph.outputs[:index]:
            node = ir.node("Identity", [value])
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            node.outputs[0].name = f"{value.name}/output_{index}"
            model.graph.append(node)
            model.graph.outputs[index] = node.outputs[0]
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.doc_string = model.graph.doc_string = None
    for value in _all_values(model.graph):
        value.metadata_props.clear()
        value.doc_string = None


def _hold_arrays(graph: ir.Graph) -> None:
    """Let initializers be arrays, laid out as their shapes say.

    Those of PyTorch and of a .onnx file make an array anew whenever one is asked for; those of a module in
    channels_last have other strides.  What lies in a file of its own stays there.
    """
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING:
            continue
        array = tensor.numpy()
        if type(tensor) not in (ir.Tensor, ir.ExternalTensor) or not array.flags.c_contiguous:
            value.const_value = ir.Tensor(np.asarray(array, order="C"), dtype=tensor.dtype, name=value.name)


def all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes of `graph` and of its subgraphs, in order."""
    yield from ir.traversal.RecursiveGraphIterator(graph)


class _Names:
    """Hands out each name once, with a suffix `_1`, `_2`, … where it is taken."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> str:
        chosen = name
        while chosen in self._taken:
            self._next[name] = self._next.get(name, 0) + 1
            chosen = f"{name}_{self._next[name]}"
        self._taken.add(chosen)
        return chosen


def _all_values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in all_nodes(graph):
        yield from node.outputs


def _rename(graph: ir.Graph, outputs: Sequence[str]) -> None:
    values, nodes = _Names(), _Names()
    for value in graph.inputs:
        values.unique(_name(value))
    final = dict(zip(graph.outputs, outputs, strict=True))
    # Any name will do as long as two values never share one while the graph is being renamed.
    for index, node in enumerate(all_nodes(graph)):
        for position, value in enumerate(node.outputs):
            value.name = f"\0{index}.{position}"
    for value, name in final.items():
        value.name = values.unique(name)
    for value in list(graph.initializers.values()):
        value.name = values.unique(_name(value).removeprefix(f"{NETWORK}."))
    for node in all_nodes(graph):
        module = node.metadata_props[MODULE_KEY]
        name = f"{module}/{node.op_type}" if module else node.op_type
        node.name = nodes.unique(name)
        for value in node.outputs:
            if value not in final:
                value.name = values.unique(name)


def _module_of_scopes(metadata: dict[str, str]) -> str:
    """`"['', 'network', 'network.b', 'network.b.conv', 'conv2d']"` → "b.conv".  The last scope is the operator."""
    scopes = ast.literal_eval(metadata.get(_SCOPES, "[]"))[:-1]
    path = next((scope for scope in reversed(scopes) if scope), "")
    return re.sub(r"@\d+", "", path.removeprefix(NETWORK).removeprefix("."))


def _module_of_node_name(name: str, modules: Collection[str]) -> str:
    """`"/network/blocks/blocks.3/conv_1/Conv"` → "blocks.3.conv": `_1` marks the module's second call."""
    path = ""
    for part in name.split("/")[1:-1]:
        if part in (NETWORK, ""):
            continue
        for candidate in (part, re.sub(r"_\d+$", "", part)):
            joined = f"{path}.{candidate}" if path else candidate
            if joined in modules:
                path = joined
                break
            if candidate in modules and candidate.startswith(path):
                path = candidate
                break
    return path


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name
