"""Carry constant shifts, one a channel or one an element, through the graph until a bias swallows them.

    Before:  u ─ PRelu ─ Add(b) ─┬─ Add(c) ─ Sign ─ BinaryConv(bias) ─┐
                                 └────────────────────────────────── Add ─ Add(d) ─ PRelu ─ y
    After:   u ─ PRelu ─┬─ Add(b + c) ─ Sign ─ BinaryConv(bias + b + d) ─┐
                        └───────────────────────────────────────────── Add ─ PRelu ─ y

Three steps.  *Sink*: an Add of a constant moves up into the bias of the convolution whose value it shifts, through
residual adds, concatenations and pools.  *Carry*: what cannot sink is not computed; v = v' + s is remembered as the
pair (v', s), and

    (a + s) + (b + t) = (a + b) + (s + t)          concat, slice, split, pools: of the shifts likewise
    scale·(a + s) = scale·a + scale·s              Linear, unpadded convolution: s goes into the bias

A shift that differs between the positions of a map, as what corrects the border of a padded convolution does, is
carried likewise where the operator hands it on position by position, and to the mean over the map as its own mean;

until an operator needs v itself (a nonlinearity, a sign, a zero-padded convolution, an output): there v' + s is
computed, once.  *Sink* again, for the Adds that this made.  The result is kept if it computes fewer elements
elementwise.

In front of a rounding, numbers that somebody chose stay where the network has them (kept_order.py).  A shift sinks
through a choice too, Where(u > t, f, u), into what it chooses among, and into the t with which that is compared.

In a ReActNet-A this removes three of the four shift Adds of each half-block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.bit_moves import slice_ranges
from bnncc.ir.graph import constant_of, inherit_source, new_constant, replace_node, shape_of, sole_consumer, take_over
from bnncc.passes.affine import Affine, Vector, affine_of, channel_vector
from bnncc.passes.elementwise_operators import COMPARISONS
from bnncc.passes.kept_order import must_stay
from bnncc.passes.windows import windows_of

# What a scale may be at least, and a shift at most beside the multiplier of sums with which it is compared.
SMALLEST_SCALE = 1e-30
LARGEST_SHIFT = 4096.0
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Neg", "PRelu", "Max", "Min", "BatchNormalization"}
# Operators that hand a per-channel shift of their input on unchanged.
TRANSPARENT = {"Identity", "MaxPool", "GlobalMaxPool", "GlobalAveragePool"}


class CarryShifts(ir.passes.InPlacePass):
    """Sink, carry, sink."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        trial = model.clone()
        _transform(trial.graph)
        if elementwise_elements(trial.graph) >= elementwise_elements(model.graph):
            return ir.passes.PassResult(model, modified=False)
        _transform(model.graph)
        return ir.passes.PassResult(model, modified=True)


def elementwise_elements(graph: ir.Graph) -> int:
    """How many elements the elementwise operators of the graph yield."""
    total = 0
    for node in graph:
        if node.domain == "" and node.op_type in ELEMENTWISE:
            total += int(np.prod(shape_of(node.outputs[0]) or (0,)))
    return total


def _transform(graph: ir.Graph) -> None:
    sink_shifts(graph)
    _Carrier(graph).run()
    sink_shifts(graph)


# Sinking


def sink_shifts(graph: ir.Graph) -> None:
    """Move every Add of a per-channel constant into the biases above it, where all that it shifts can take it."""
    for node in list(graph):
        step = affine_of(node)
        if step is None or node.op_type not in ("Add", "Sub") or np.any(step[1].scale != 1):
            continue
        x, shift = step[0], step[1].shift
        if can_sink(graph, x, shift) and not must_stay(node.outputs[0], [step[1]]):
            _sink(graph, x, shift)
            take_over(node.outputs[0], x)
            graph.remove(node, safe=True)


def can_sink(graph: ir.Graph, value: ir.Value, shift: Vector) -> bool:
    """True where a shift of `value` can be had by changing biases above it, and nothing else reads what changes."""
    node = value.producer()
    if node is None or sole_consumer(graph, value) is None:
        return False
    if ops.is_binary_conv(node) or _has_bias(node):
        return True
    if node.domain != "":
        return False
    if node.op_type == "Add":
        return any(_is_full(source, node) and can_sink(graph, source, shift) for source in _computed(node))
    if is_channel_concat(node):
        parts = _split(shift, node.inputs)
        return all(can_sink(graph, source, part) for source, part in parts)
    if node.op_type == "Where" and _choices(node):
        return all(can_sink(graph, one, shift) or _is_compared(node, one, shift) for one in _choices(node))
    if is_transparent(node):
        return node.inputs[0] is not None and can_sink(graph, node.inputs[0], shift)
    step = _scale(node)
    return step is not None and can_sink(graph, step[0], shift / step[1])


def _split(shift: Vector, parts: Sequence[ir.Value | None]) -> list[tuple[ir.Value, Vector]]:
    """The values of a Concat along the channels, each with its part of the shift."""
    found, start = [], 0
    for source in parts:
        assert source is not None
        channels = (shape_of(source) or (0, 0))[1]
        found.append((source, shift[start : start + channels]))
        start += channels
    return found


def _choices(node: ir.Node) -> list[ir.Value]:
    """What a Where chooses among; an empty list where it broadcasts one of them, or chooses a constant."""
    values = [value for value in node.inputs[1:] if value is not None]
    return values if all(_is_full(value, node) and constant_of(value) is None for value in values) else []


def _scale(node: ir.Node) -> tuple[ir.Value, Vector] | None:
    """(x, scale) of a Mul by constants none of which is 0, of a choice."""
    step = affine_of(node)
    chooses = step is not None and (behind := step[0].producer()) is not None and behind.op_type == "Where"
    if step is None or not chooses or np.any(step[1].shift) or not np.all(np.abs(step[1].scale) > SMALLEST_SCALE):
        return None
    return step[0], step[1].scale


def _is_compared(choice: ir.Node, value: ir.Value, shift: Vector) -> bool:
    """True for a binary convolution without a bias that, the choice aside, is only compared with constants, and still
    is told from them with the shift.
    """
    node = value.producer()
    if node is None or not ops.is_binary_conv(node) or value.is_graph_output():
        return False
    multiplier, bias = (constant_of(operand) for operand in node.inputs[2:4])
    if multiplier is None or bias is None or np.any(bias):
        return False
    if np.any(np.abs(shift) > LARGEST_SHIFT * np.abs(multiplier)):
        return False
    others = [use.node for use in value.uses() if use.node is not choice]
    return all(_bound(one, value) is not None for one in others)


def _bound(node: ir.Node, value: ir.Value) -> int | None:
    """Which input of a comparison with `value` is a constant, one a channel; None where none is."""
    if node.domain != "" or node.op_type not in COMPARISONS or node.op_type == "Equal":
        return None
    index = 1 if node.inputs[0] is value else 0
    array, shape = constant_of(node.inputs[index]), shape_of(value)
    if array is None or shape is None or channel_vector(array, shape) is None:
        return None
    return index


def _sink(graph: ir.Graph, value: ir.Value, shift: Vector) -> None:
    node = value.producer()
    assert node is not None
    name = value.name
    if ops.is_binary_conv(node) or _has_bias(node):
        _add_to_bias(graph, node, shift)
    elif node.op_type == "Add":
        _sink(graph, next(x for x in _computed(node) if _is_full(x, node) and can_sink(graph, x, shift)), shift)
    elif node.op_type == "Concat":
        for source, part in _split(shift, node.inputs):
            _sink(graph, source, part)
    elif node.op_type == "Where":
        for source in dict.fromkeys(_choices(node)):
            _shift_bounds(graph, source, shift)
            _sink(graph, source, shift)
    elif (step := _scale(node)) is not None:
        _sink(graph, step[0], shift / step[1])
    else:
        assert node.inputs[0] is not None
        _sink(graph, node.inputs[0], shift)
    value.name = f"{name}/shifted"


def _shift_bounds(graph: ir.Graph, value: ir.Value, shift: Vector) -> None:
    """Let what `value` is compared with be shifted as it is: where both were equal they are, rounded alike."""
    rank = len(shape_of(value) or ())
    for use in list(value.uses()):
        index = _bound(use.node, value)
        if index is None:
            continue
        bound = constant_of(use.node.inputs[index])
        assert bound is not None
        moved = bound.astype(np.float32) + _mapped(shift, rank).astype(np.float32)[None]
        use.node.replace_input_with(index, new_constant(graph, moved, f"{value.name}/bound"))


def _add_to_bias(graph: ir.Graph, node: ir.Node, shift: Vector) -> None:
    index = 3 if ops.is_binary_conv(node) else 2
    name = node.outputs[0].name
    old = constant_of(node.inputs[index]) if len(node.inputs) > index and node.inputs[index] is not None else None
    total = shift if old is None else old.astype(np.float64) + shift
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, new_constant(graph, total.astype(np.float32), f"{name}/bias"))


def _has_bias(node: ir.Node) -> bool:
    """A Conv, ConvTranspose or Gemm to whose output a per-channel constant can be added."""
    if (
        node.domain != ""
        or node.op_type not in ("Conv", "ConvTranspose", "Gemm")
        or constant_of(node.inputs[1]) is None
    ):
        return False
    if node.op_type == "Gemm" and "beta" in node.attributes and node.attributes["beta"].as_float() != 1.0:
        return False
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    bias = constant_of(node.inputs[2])
    return bias is not None and bias.ndim == 1


def _computed(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None and constant_of(value) is None]


def _is_full(value: ir.Value, node: ir.Node) -> bool:
    return shape_of(value) == shape_of(node.outputs[0])


def is_channel_concat(node: ir.Node) -> bool:
    """True for a Concat along the channels."""
    rank = len(shape_of(node.outputs[0]) or ())
    return node.domain == "" and node.op_type == "Concat" and rank > 1 and node.attributes["axis"].as_int() % rank == 1


def is_transparent(node: ir.Node) -> bool:
    """True where op(x + s) = op(x) + s for a per-channel s, with one data input."""
    if node.domain != "":
        return False
    if node.op_type in TRANSPARENT:
        return len(node.outputs) == 1
    if node.op_type == "AveragePool":
        windows = windows_of(node)
        counts = "count_include_pad" in node.attributes and node.attributes["count_include_pad"].as_int() == 1
        return not counts or (windows is not None and all(w.begin <= 0 and w.reached_end <= 0 for w in windows))
    if node.op_type in ("ReduceMean", "ReduceMax", "ReduceMin"):
        axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        rank = len(shape_of(node.inputs[0]) or ()) if node.inputs[0] is not None else 0
        # Without keepdims too, the channels stay axis 1.
        return axes is not None and axes.size > 0 and all(int(axis) % rank > 1 for axis in axes)
    return False


# Shifts: float64 [C], or [C, H, W] where they differ between positions


def map_shift(node: ir.Node) -> tuple[ir.Value, Vector] | None:
    """(x, shift [C, H, W]) where `node` adds to x a constant that differs between positions of the map, and no less
    than all of it; None otherwise.
    """
    if node.domain != "" or node.op_type != "Add":
        return None
    computed = _computed(node)
    array = next((constant_of(value) for value in node.inputs if value is not None and value not in computed), None)
    if len(computed) != 1 or array is None or computed[0].dtype != ir.DataType.FLOAT:
        return None
    shape = shape_of(computed[0])
    if shape is None or len(shape) != 4 or array.shape != (1, *shape[1:]) or shape != shape_of(node.outputs[0]):
        return None
    return computed[0], array[0].astype(np.float64)


def _mapped(shift: Vector, rank: int) -> Vector:
    """[C, H, W] as it is, [C] as [C, 1, …] of a value of that rank."""
    return shift if shift.ndim > 1 else shift.reshape(-1, *(1,) * (rank - 2))


def _like(vector: Vector, shift: Vector) -> Vector:
    return vector.reshape(-1, *(1,) * (shift.ndim - 1))


def _plus(first: Vector, second: Vector) -> Vector:
    rank = max(first.ndim, second.ndim)
    return _mapped(first, rank + 1) + _mapped(second, rank + 1) if rank > 1 else first + second


def _reduced(node: ir.Node, shift: Vector, shape: tuple[int, ...]) -> Vector | None:
    """The shift that a transparent operator hands on: of a map, only the mean over all of it."""
    if shift.ndim == 1 or node.op_type == "Identity":
        return shift
    whole = node.op_type in ("GlobalAveragePool", "ReduceMean") and all(size == 1 for size in shape[2:])
    return shift.mean(axis=(1, 2)) if whole else None


# Carrying


class _Carrier:
    """The state of one pass over the graph: which values are remembered as (base value, shift)."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.pairs: dict[ir.Value, tuple[ir.Value, Vector]] = {}
        self.computed: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        for node in list(self.graph):
            if any(value in self.pairs for value in node.inputs if value is not None) or self._starts(node):
                self._visit(node)
        for value in list(self.graph.outputs):
            if value in self.pairs:
                value.replace_all_uses_with(self._compute(value), replace_graph_outputs=True)
        for node in reversed(list(self.graph)):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                self.graph.remove(node, safe=True)

    def _starts(self, node: ir.Node) -> bool:
        if affine_of(node) is None:
            return map_shift(node) is not None
        step = self._movable(node)
        return step is not None and node.op_type in ("Add", "Sub") and bool(np.all(step[1].scale == 1))

    def _movable(self, node: ir.Node) -> tuple[ir.Value, Affine] | None:
        """What `affine_of` tells of `node`; None where the network's own order must stay."""
        step = affine_of(node)
        return None if step is None or must_stay(node.outputs[0], [step[1]]) else step

    def _visit(self, node: ir.Node) -> None:
        step = self._movable(node)
        if step is not None:
            x, affine = step
            base, shift = self._pair(x, affine.scale.size)
            if np.all(affine.scale == 1) and node.op_type in ("Add", "Sub"):
                self.pairs[node.outputs[0]] = (base, _plus(shift, affine.shift))
            else:
                self._carry(node, {x: base}, _like(affine.scale, shift) * shift)
            return
        added = map_shift(node)
        if added is not None:
            base, shift = self._pair(added[0], added[1].shape[0])
            self.pairs[node.outputs[0]] = (base, _plus(shift, added[1]))
            return
        carried = self._carried_shift(node)
        if carried is not None:
            bases = {value: self._pair(value, 1)[0] for value in _computed(node)}
            self._carry(node, bases, carried)
        elif not self._absorb(node):
            for index, value in enumerate(node.inputs):
                if value is not None and value in self.pairs:
                    node.replace_input_with(index, self._compute(value))

    def _carried_shift(self, node: ir.Node) -> Vector | None:
        """The shift of the output where the operator hands shifts on; None where it needs its inputs themselves."""
        shape = shape_of(node.outputs[0])
        if node.domain != "" or len(node.outputs) != 1 or shape is None or len(shape) < 2:
            return None
        sources = _computed(node)
        if node.op_type in ("Add", "Sub") and len(sources) == 2:
            first, second = (self._broadcast(value, shape[1]) for value in sources)
            return _plus(first, second if node.op_type == "Add" else -second)
        if is_channel_concat(node) and len(sources) == len(node.inputs):
            parts = [self._pair(value, (shape_of(value) or (0, 0))[1])[1] for value in sources]
            if any(part.ndim > 1 for part in parts):
                parts = [np.broadcast_to(_mapped(part, len(shape)), (part.shape[0], *shape[2:])) for part in parts]
            return np.concatenate(parts)
        if is_transparent(node):
            return _reduced(node, self._pair(sources[0], shape[1])[1], shape)
        if node.op_type == "Slice":
            return self._sliced(node)
        if node.op_type in ("Reshape", "Flatten", "Squeeze"):
            source = shape_of(sources[0])
            # [N, C, H, W] to [N, C·H·W]: every channel's shift, H·W times.
            if source is not None and len(source) > 2 and shape[:1] == source[:1] and len(shape) == 2:
                shift = _mapped(self._pair(sources[0], source[1])[1], len(source))
                return np.broadcast_to(shift, source[1:]).reshape(-1)
        return None

    def _sliced(self, node: ir.Node) -> Vector | None:
        value, ranges = node.inputs[0], slice_ranges(node)
        shape = shape_of(value) if value is not None else None
        if value is None or shape is None or ranges is None:
            return None
        shift = self._pair(value, shape[1])[1]
        # Along an axis that a map has in full.
        taken = [each for axis, each in enumerate(ranges[1 : shift.ndim + 1], start=1) if shift.shape[axis - 1] > 1]
        return shift[np.ix_(*map(list, taken))] if len(taken) == shift.ndim else None

    def _carry(self, node: ir.Node, bases: dict[ir.Value, ir.Value], shift: Vector) -> None:
        """Let `node` work on the base values.  Its output then is the base of what it was."""
        for index, value in enumerate(node.inputs):
            if value is not None and value in bases:
                node.replace_input_with(index, bases[value])
        if not np.any(shift):
            return
        true = node.outputs[0]
        clone = ir.node(node.op_type, list(node.inputs), dict(node.attributes), domain=node.domain, name=node.name)
        inherit_source([clone], node)
        base = clone.outputs[0]
        base.name, base.shape, base.type = f"{true.name}/unshifted", true.shape, true.type
        self.graph.insert_before(node, clone)
        self.pairs[true] = (base, shift)

    def _absorb(self, node: ir.Node) -> bool:
        """Take the shift of the input of a Linear or an unpadded convolution into its bias: W·(x + s) = W·x + W·s."""
        x = node.inputs[0] if node.inputs else None
        if x is None or x not in self.pairs:
            return False
        if node.domain == "" and node.op_type == "MatMul":
            return self._absorb_in_product(node, *self.pairs[x])
        if not _has_bias(node) or node.op_type == "ConvTranspose":
            return False
        base, shift = self.pairs[x]
        weight = constant_of(node.inputs[1])
        assert weight is not None
        weights: npt.NDArray[np.float64] = weight.astype(np.float64)
        if node.op_type == "Gemm":
            if any(name in node.attributes and node.attributes[name].as_float() != 1.0 for name in ("alpha",)):
                return False
            if "transA" in node.attributes and node.attributes["transA"].as_int() == 1:
                return False
            transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
            total = (weights if transposed else weights.T) @ shift
        else:
            windows = windows_of(node) if weight.ndim == 4 and shift.ndim == 1 else None
            group = node.attributes["group"].as_int() if "group" in node.attributes else 1
            if windows is None or group != 1 or any(w.begin > 0 or w.reached_end > 0 for w in windows):
                return False
            total = weights.sum(axis=(2, 3)) @ shift
        node.replace_input_with(0, base)
        _add_to_bias(self.graph, node, total)
        return True

    def _absorb_in_product(self, node: ir.Node, base: ir.Value, shift: Vector) -> bool:
        """A MatMul of rows by a constant matrix, a Linear without a bias, becomes a Gemm, which has one."""
        weight = constant_of(node.inputs[1])
        if weight is None or weight.ndim != 2 or len(shape_of(base) or ()) != 2:
            return False
        total = (weight.astype(np.float64).T @ shift).astype(np.float32)
        bias = new_constant(self.graph, total, f"{node.outputs[0].name}/bias")
        replace_node(self.graph, node, ir.node("Gemm", [base, node.inputs[1], bias]))
        return True

    def _pair(self, value: ir.Value, channels: int) -> tuple[ir.Value, Vector]:
        return self.pairs.get(value, (value, np.zeros(channels)))

    def _broadcast(self, value: ir.Value, channels: int) -> Vector:
        shift = self._pair(value, 1)[1]
        return shift if shift.ndim > 1 else np.broadcast_to(shift, (channels,))

    def _compute(self, value: ir.Value) -> ir.Value:
        """The value itself, base + shift, made once, under its own name."""
        if value not in self.computed:
            base, shift = self.pairs[value]
            node = value.producer()
            assert node is not None
            rank = len(shape_of(value) or ())
            constant = _mapped(shift, rank).astype(np.float32)[None]
            add = ir.node("Add", [base, new_constant(self.graph, constant, f"{value.name}/shift")])
            inherit_source([add], node)
            name = value.name
            value.name = f"{name}/replaced"
            add.outputs[0].name, add.outputs[0].shape, add.outputs[0].type = name, value.shape, value.type
            self.graph.insert_after(node, add)
            self.computed[value] = add.outputs[0]
        return self.computed[value]
