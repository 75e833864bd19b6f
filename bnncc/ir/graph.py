"""Small questions that passes, targets and reports ask of an `onnx_ir` graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

# Node metadata that the frontend writes and every pass keeps: the user's module path, and "file.py:53 in forward:
# text".
MODULE_KEY = "bnncc.module"
SOURCE_KEY = "bnncc.source"
# On a Sign: what it stands for is 0 at 0, as PyTorch's sign, and not one of its two values.
THREE_VALUED_KEY = "bnncc.three_valued"
# On a BinaryConv: the name of the traced convolution's output, by which verification finds the reference's sums.
CONV_KEY = "bnncc.conv"
# On a layer that computes what others of the source compute too: their metadata, a JSON list of objects.
MERGED_KEY = "bnncc.merged"
# On a BinaryConv that is not the traced convolution one to one, as JSON lists: for each of its output channels the
# traced output channel o (-1 - o where its weights are the traced ones negated), for each input channel the traced
# one.
OUTPUT_CHANNELS_KEY = "bnncc.output_channels"
INPUT_CHANNELS_KEY = "bnncc.input_channels"
# On a BinaryConv of some of a traced layer's input channels, or of a Linear's features: JSON [α, μ] of the levels
# ±α + μ that the traced input has there.
INPUT_LEVELS_KEY = "bnncc.input_levels"
# On a convolution that reads the map of which a traced one reads the blocks as channels (pixel_unshuffle): their size.
UNSHUFFLED_KEY = "bnncc.unshuffled"
# On a BinaryConv that reads no input of a traced layer: the name of the traced value that it reads instead.
LAYER_INPUT_KEY = "bnncc.layer_input"
# On a binary value s that stands for another one, as JSON {"value": name, "scale": a, "offset": b}: s = a · traced + b,
# with numbers or a list of one for each channel; with "thresholds", s = a · Π sign(traced - threshold),
# and with "source" and "jumps", a list of numbers for each channel or for all, it changes where that value crosses one;
# "zero_is_one" names the traced signs behind it that are taken as +1 at 0;
# "pads" (ONNX's order) where the traced value is padded and s is not.
TRACED_KEY = "bnncc.traced"
# On a binary value: a JSON list of the channels that hold the traced value negated.
NEGATED_KEY = "bnncc.negated"
# On a BinaryConv: how many of the weights were exactly 0 and are taken as +1 (--zero-weights plus-one).
ZERO_WEIGHTS_KEY = "bnncc.zero_weights"
# On a convolution of [x, x] whose traced weights are α·{0, 1} on x.
STEP_WEIGHTS_KEY = "bnncc.step_weights"
# On a convolution whose filters are not the signs of the traced weights but of these less thresholds, as JSON: for each
# copy of the input that it reads a number, a list of one for each traced filter, or several such lists, of which the
# product of the signs is meant.  And how the report says it.
WEIGHT_THRESHOLDS_KEY = "bnncc.weight_thresholds"
WEIGHT_TERM_KEY = "bnncc.weight_term"
# On a convolution of one of the bits that add up to the traced layer's input: how the report says it.
INPUT_TERM_KEY = "bnncc.input_term"
# On a convolution whose outer taps were cut off, because they only met padding: JSON [top, left, bottom, right].
TRIMMED_KEY = "bnncc.trimmed"
# On a value that is another one from the positions "start" on, in steps of "step": JSON {"start": [h, w], "step": [h,
# w]}.
CROPPED_KEY = "bnncc.cropped"
# On a node that has a binary operand and yet stays in float: why, as `bnncc.ir.left_in_float` writes it.
LEFT_IN_FLOAT_KEY = "bnncc.left_in_float"
# On a node that decomposes into others, but not as it is here: why.
NOT_DECOMPOSED_KEY = "bnncc.not_decomposed"
# On an input whose elements may be any whole number by design, as pixels are.
WHOLE_NUMBERS_KEY = "bnncc.whole_numbers"
# On an input or output of 8-bit integers: what they stand for, as JSON {"scale": s, "zero_point": z}, s · (q - z).
QUANTIZED_KEY = "bnncc.quantized"
# On a value of the mirrored frame: its H and W axes are reversed with respect to the traced value of the same name.
MIRRORED_KEY = "bnncc.mirrored"


# The names that `fresh_name` knows of, in a graph's `meta`.
_NAMES = "bnncc.names"


def describe(node: ir.Node) -> str:
    """`Conv 'blocks.0.conv' (net.py:53 in forward: …)`: how messages name a node."""
    module = node.metadata_props.get(MODULE_KEY, "")
    source = node.metadata_props.get(SOURCE_KEY, "")
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{operator} '{module or node.name or 'top level'}'" + (f" ({source})" if source else "")


def constant_of(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of an initializer; None for anything computed at run time and for an absent input."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def known_array(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of an initializer or of a Constant node, as traced graphs have them; None for anything else."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def shape_of(value: ir.Value) -> tuple[int, ...] | None:
    """The static shape, None where it is not known."""
    if value.shape is None:
        return None
    sizes = [size for size in value.shape.dims if isinstance(size, int)]
    return tuple(sizes) if len(sizes) == len(value.shape.dims) else None


def element_count(value: ir.Value) -> int:
    """How many elements a map has; 0 where its shape is not known."""
    return int(np.prod(shape_of(value) or (0,)))


def inherit_source(nodes: Iterable[ir.Node], origin: ir.Node) -> None:
    """Give new `nodes` the module path and source line of the node they replace, and of those that it stands for.

    A Sign that is moved also stays what it is at 0.
    """
    for node in nodes:
        for key in (MODULE_KEY, SOURCE_KEY, MERGED_KEY, THREE_VALUED_KEY):
            if key in origin.metadata_props:
                node.metadata_props.setdefault(key, origin.metadata_props[key])


def new_constant(graph: ir.Graph, array: npt.NDArray[np.generic], name: str) -> ir.Value:
    """Register `array` as an initializer under `name`, with a suffix where that is taken."""
    inputs = {value.name for value in graph.inputs}
    unique = _free(name, inputs.__contains__, graph)
    value = ir.val(unique, const_value=ir.tensor(np.asarray(array, order="C"), name=unique))
    graph.register_initializer(value)
    return value


def drop_unread_initializers(graph: ir.Graph) -> None:
    """Remove the initializers that no node reads: rewritten weights would be kept beside those they replace."""
    kept = {*graph.inputs, *graph.outputs}
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in kept:
            del graph.initializers[name]


def unique_name(graph: ir.Graph, name: str) -> str:
    """`name`, with a suffix where a value of the graph has it already."""
    # Most names are free: no set of all is made for one question.
    return _free(name, lambda one: any(value.name == one for node in graph for value in node.outputs), graph)


def fresh_name(graph: ir.Graph, name: str) -> str:
    """As `unique_name`, among the names that the graph had when it was first asked, and those that were given since.

    Goes through the graph once, until `forget_names`.
    """
    names = graph.meta.get(_NAMES)
    if names is None:
        names = {value.name for node in graph for value in node.outputs} | set(graph.initializers)
        graph.meta[_NAMES] = names
    unique = _free(name, names.__contains__, graph)
    names.add(unique)
    return unique


def _free(name: str, is_taken: Callable[[str], bool], graph: ir.Graph) -> str:
    """`name`, with suffixes until neither an initializer nor, by `is_taken`, anything else has it."""
    unique, suffix = name, 1
    while unique in graph.initializers or is_taken(unique):
        unique, suffix = f"{name}_{suffix}", suffix + 1
    return unique


def forget_names(graph: ir.Graph) -> None:
    """Before a pass: others give names, too."""
    graph.meta.pop(_NAMES, None)


def set_constant(graph: ir.Graph, value: ir.Value, array: npt.NDArray[np.generic]) -> ir.Value:
    """Replace every use of a computed `value` by an initializer of the same name that holds `array`."""
    name = value.name or "constant"
    constant = ir.val(name, const_value=ir.tensor(np.asarray(array), name=name))
    value.replace_all_uses_with(constant, replace_graph_outputs=True)
    value.name = f"{name}/folded"
    graph.register_initializer(constant)
    return constant


def sole_consumer(graph: ir.Graph, value: ir.Value) -> ir.Node | None:
    """The node that is the only use of `value`, used once and no graph output; None otherwise."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and value not in graph.outputs else None


def replace_node(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Put `new` where `old` is.  Each output takes over name, shape, type and uses; module path and line are kept."""
    inherit_source([new], old)
    graph.insert_before(old, new)
    for before, after in zip(old.outputs, new.outputs, strict=False):
        take_over(before, after)
    graph.remove(old, safe=True)


def take_over(before: ir.Value, after: ir.Value) -> None:
    """Let `after` stand for `before`: its name, shape, type and every use, graph outputs included."""
    before.replace_all_uses_with(after, replace_graph_outputs=True)
    after.name, after.shape, after.type = before.name, before.shape, before.type
    before.name = f"{before.name}/replaced"


def bypass(graph: ir.Graph, result: ir.Value, source: ir.Value) -> bool:
    """Let every use of `result` read `source` instead and remove the node of `result`; False where that cannot be.

    A graph output hands its name to the value that replaces it, so that value must be computed and no output itself.
    """
    node = result.producer()
    if node is None:
        return False
    if result in graph.outputs:
        if source.producer() is None or source in graph.outputs:
            return False
        name = result.name
        result.replace_all_uses_with(source, replace_graph_outputs=True)
        result.name, source.name = f"{name}/bypassed", name
    else:
        result.replace_all_uses_with(source)
    graph.remove(node, safe=True)
    return True
