"""Read elementwise expressions of one computed value as functions of it.

    x ─ Mul(3) ─ a ─ Clip(-1, 1) ─ b ─ Sign ─ y        y = sign(b) = sign(clip(a, ±1)) = sign(clip(3·x, ±1))

Walking back from y through elementwise operators meets, nearest first, every value of which y is a function.  Constants
are one number, or one a channel (axis 1).  Assignment through a mask, y[x > 0] = 1, is read as what it is, a Where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.graph import constant_of, inherit_source, new_constant, shape_of, unique_name
from bnncc.passes import piecewise
from bnncc.passes.affine import affine_of, channel_vector
from bnncc.passes.piecewise import Function, Matrix, Piecewise

# Expressions are small; the limits keep the search linear on long residual streams.
MOST_NODES = 64
MOST_SOURCES = 12

# Monotone functions that are 0 at 0 and nowhere else, with the bound of their magnitude.
SIGN_KEEPING = {
    "Tanh": 1.0, "Erf": 1.0, "Softsign": 1.0, "Atan": np.pi / 2, "Asinh": np.inf, "Sinh": np.inf, "Selu": np.inf,
    "Elu": np.inf, "Celu": np.inf,
}  # fmt: skip
COMPARISONS: dict[str, Callable[[Matrix], npt.NDArray[np.bool_]]] = {
    "Less": lambda s: s < 0,
    "LessOrEqual": lambda s: s <= 0,
    "Greater": lambda s: s > 0,
    "GreaterOrEqual": lambda s: s >= 0,
    "Equal": lambda s: s == 0,
}
ELEMENTWISE = {
    *SIGN_KEEPING, *COMPARISONS, "Sigmoid", "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sign", "Relu", "Clip",
    "LeakyRelu", "PRelu", "ThresholdedRelu", "HardSigmoid", "Max", "Min", "Sum", "Where", "Not", "And", "Or", "Xor",
    "Cast", "CastLike", "Round", "Floor", "Ceil", "Identity", "BatchNormalization", "ScatterND",
}  # fmt: skip
# What gives every element the one number that it reads, where there is but one.
NUMBER_KEEPING = {"Identity", "Cast", "CastLike", "Expand", "Reshape"}
# What absorbs a per-channel affine that follows it.
ABSORBING = {"Conv", "ConvTranspose", "Gemm"}


@dataclass(frozen=True)
class Candidate:
    """`function` of `source` is the value that was asked about; `nodes` compute it from there, last one first."""

    source: ir.Value
    function: Piecewise
    nodes: tuple[ir.Node, ...]


def interpret(value: ir.Value) -> list[Candidate]:
    """Every computed value of which `value` is a piecewise-linear function, the nearest first.

    Sources have the shape of `value` and the type float32.  Empty where there is none.
    """
    shape = shape_of(value)
    if shape is None:
        return []
    waiting, expanded = _uses_inside(value, shape)
    frontier, nodes, found = [value], list[ir.Node](), list[Candidate]()
    while len(found) < MOST_SOURCES:
        # What every reader inside the expression has been opened of can be opened next.
        ready = next((one for one in frontier if waiting[one] == 0), None)
        if ready is None:
            break
        if len(frontier) == 1 and nodes and _is_source(ready, shape):
            function = _evaluate(value, ready, nodes, shape)
            if function is not None:
                found.append(Candidate(ready, function, tuple(nodes)))
        producer = ready.producer()
        if producer is None or ready not in expanded:
            break
        frontier.remove(ready)
        nodes.append(producer)
        for operand in _computed(producer):
            waiting[operand] -= 1
            if operand not in frontier:
                frontier.append(operand)
    return found


def rests_at(value: ir.Value, number: float) -> bool:
    """True where `value` is exactly `number` for a whole range of what it is computed from, as |x| - x is 0."""
    functions = [candidate.function for candidate in interpret(value)]
    known = [function for function in functions if function.center is None]
    return any(bool(np.any((one.slopes == 0) & (one.offsets == number))) for one in known)


def _uses_inside(value: ir.Value, shape: tuple[int, ...]) -> tuple[dict[ir.Value, int], set[ir.Value]]:
    """(how often each value is an operand in the expression of `value`, the values that operators in it compute)."""
    waiting, expanded = {value: 0}, set[ir.Value]()
    pending = [value]
    for one in pending:
        producer = one.producer()
        if producer is None or not is_elementwise(producer) or shape_of(one) != shape or len(expanded) == MOST_NODES:
            continue
        expanded.add(one)
        for operand in _computed(producer):
            if operand not in waiting:
                waiting[operand] = 0
                pending.append(operand)
            waiting[operand] += 1
    return waiting, expanded


def _is_source(value: ir.Value, shape: tuple[int, ...]) -> bool:
    return value.dtype == ir.DataType.FLOAT and shape_of(value) == shape


def is_elementwise(node: ir.Node) -> bool:
    """True for an operator that `interpret` looks through."""
    if ops.is_sign(node):
        return True
    if node.domain != "" or node.op_type not in ELEMENTWISE or any(output.uses() for output in node.outputs[1:]):
        return False
    return node.op_type != "ScatterND" or _mask_assignment(node) is not None


def _operands(node: ir.Node) -> list[ir.Value | None]:
    if node.op_type == "ScatterND":
        return list(_mask_assignment(node) or ())
    if node.op_type == "CastLike":
        return [node.inputs[0]]
    return list(node.inputs)


def _computed(node: ir.Node) -> list[ir.Value]:
    return [value for value in _operands(node) if value is not None and _constant(value) is None]


def _constant(value: ir.Value) -> npt.NDArray[np.generic] | None:
    """The array of an initializer; the number that a Cast, CastLike or Expand of one has in all elements."""
    array = constant_of(value)
    node = value.producer()
    if array is not None or node is None or node.domain != "" or node.op_type not in NUMBER_KEEPING:
        return array
    number = _constant(node.inputs[0]) if node.inputs[0] is not None else None
    if number is None or number.size != 1 or value.dtype is None:
        return None
    return number.reshape(()).astype(value.dtype.numpy())


def _mask_assignment(node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """(mask, number, data) of `data[mask] = number`, which PyTorch's exporter writes

    ScatterND(data, Transpose(NonZero(mask)), Reshape(Expand(number))).
    """
    reduction = node.attributes["reduction"].as_string() if "reduction" in node.attributes else "none"
    data, indices, updates = node.inputs[:3]
    transpose = indices.producer() if indices is not None else None
    if data is None or updates is None or transpose is None or transpose.op_type != "Transpose" or reduction != "none":
        return None
    nonzero = transpose.inputs[0].producer() if transpose.inputs[0] is not None else None
    if nonzero is None or nonzero.op_type != "NonZero":
        return None
    mask, number = _unexpanded(nonzero.inputs[0]), _constant(updates)
    if mask is None or number is None or number.size != 1 or shape_of(mask) != shape_of(data):
        return None
    return (mask, updates, data) if mask.dtype == ir.DataType.BOOL else None


def _unexpanded(value: ir.Value | None) -> ir.Value | None:
    while value is not None and (node := value.producer()) is not None:
        if node.domain != "" or node.op_type not in ("Identity", "Expand"):
            break
        value = node.inputs[0]
    return value


# What the operators compute


def _evaluate(value: ir.Value, source: ir.Value, nodes: Sequence[ir.Node], shape: tuple[int, ...]) -> Function:
    known: dict[ir.Value, Function] = {source: piecewise.identity()}
    for node in reversed(nodes):
        arguments = [_argument(operand, known, shape) for operand in _operands(node)]
        result = _apply(node, arguments)
        known[node.outputs[0]] = None if result is None else piecewise.simplified(result)
    return known[value]


def _argument(value: ir.Value | None, known: dict[ir.Value, Function], shape: tuple[int, ...]) -> Function:
    array = _constant(value) if value is not None else None
    if value is None or array is None:
        return known.get(value) if value is not None else None
    if array.size == 1:
        return piecewise.constant(float(array.reshape(-1)[0]))
    vector = channel_vector(array, shape) if len(shape) > 1 else None
    return None if vector is None else piecewise.constant(vector)


def _apply(node: ir.Node, arguments: list[Function]) -> Function:
    """The function that `node` computes of functions; None where it is not piecewise linear."""
    if ops.is_sign(node):
        signs = piecewise.compare(arguments[0], piecewise.constant(0.0), lambda s: s >= 0)
        return piecewise.add(piecewise.multiply(signs, piecewise.constant(2.0)), piecewise.constant(-1.0))
    if node.op_type in COMPARISONS:
        return piecewise.compare(arguments[0], arguments[1], COMPARISONS[node.op_type])
    if node.op_type in SIGN_KEEPING:
        growing = _float(node, "alpha", 1.0) > 0 and _float(node, "gamma", 1.0) > 0
        return piecewise.monotone(arguments[0], 0.0, SIGN_KEEPING[node.op_type]) if growing else None
    if node.op_type == "BatchNormalization":
        step = affine_of(node)
        if step is None:
            return None
        scaled = piecewise.multiply(arguments[0], piecewise.constant(step[1].scale))
        return piecewise.add(scaled, piecewise.constant(step[1].shift))
    integer = node.outputs[0].dtype is not None and not node.outputs[0].dtype.is_floating_point()
    return OPERATORS[node.op_type](node, arguments, integer)


def _float(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


def _clip(node: ir.Node, arguments: list[Function], _: bool) -> Function:
    function = arguments[0]
    for index, bounded in ((1, piecewise.maximum), (2, piecewise.minimum)):
        if len(node.inputs) > index and node.inputs[index] is not None:
            function = bounded(function, arguments[index])
    return function


def _cast(node: ir.Node, arguments: list[Function], integer: bool) -> Function:
    if node.outputs[0].dtype == ir.DataType.BOOL:
        return _not(piecewise.compare(arguments[0], piecewise.constant(0.0), COMPARISONS["Equal"]))
    return piecewise.truncate(arguments[0]) if integer else arguments[0]


def _not(condition: Function) -> Function:
    return piecewise.subtract(piecewise.constant(1.0), condition)


def _hard_sigmoid(node: ir.Node, arguments: list[Function], _: bool) -> Function:
    line = piecewise.multiply(arguments[0], piecewise.constant(_float(node, "alpha", 0.2)))
    line = piecewise.add(line, piecewise.constant(_float(node, "beta", 0.5)))
    return piecewise.minimum(piecewise.maximum(line, piecewise.constant(0.0)), piecewise.constant(1.0))


def _thresholded(node: ir.Node, arguments: list[Function], _: bool) -> Function:
    above = piecewise.compare(arguments[0], piecewise.constant(_float(node, "alpha", 1.0)), COMPARISONS["Greater"])
    return piecewise.select(above, arguments[0], piecewise.constant(0.0))


def _fold(operation: Callable[[Function, Function], Function]) -> Callable[[ir.Node, list[Function], bool], Function]:
    def apply(_node: ir.Node, arguments: list[Function], _: bool) -> Function:
        result = arguments[0]
        for other in arguments[1:]:
            result = operation(result, other)
        return result

    return apply


OPERATORS: dict[str, Callable[[ir.Node, list[Function], bool], Function]] = {
    "Add": _fold(piecewise.add),
    "Sum": _fold(piecewise.add),
    "Sub": _fold(piecewise.subtract),
    "Mul": _fold(piecewise.multiply),
    "Div": lambda _, f, integer: None if integer else piecewise.divide(f[0], f[1]),
    "Max": _fold(piecewise.maximum),
    "Min": _fold(piecewise.minimum),
    "And": _fold(piecewise.multiply),
    "Or": _fold(piecewise.maximum),
    "Xor": lambda _, f, integer: _not(piecewise.compare(f[0], f[1], COMPARISONS["Equal"])),
    "Not": lambda _, f, integer: _not(f[0]),
    "Neg": lambda _, f, integer: piecewise.negate(f[0]),
    "Abs": lambda _, f, integer: piecewise.absolute(f[0]),
    "Sign": lambda _, f, integer: piecewise.sign(f[0]),
    "Relu": lambda _, f, integer: piecewise.maximum(f[0], piecewise.constant(0.0)),
    "LeakyRelu": lambda node, f, _: piecewise.leaky(f[0], piecewise.constant(_float(node, "alpha", 0.01))),
    "PRelu": lambda _, f, integer: piecewise.leaky(f[0], f[1]),
    "Sigmoid": lambda _, f, integer: piecewise.monotone(f[0], 0.5, 0.5),
    "Where": lambda _, f, integer: piecewise.select(f[0], f[1], f[2]),
    "ScatterND": lambda _, f, integer: piecewise.select(f[0], f[1], f[2]),
    "Round": lambda _, f, integer: piecewise.quantize(f[0], np.rint, 0.5),
    "Floor": lambda _, f, integer: piecewise.quantize(f[0], np.floor, 0.0),
    "Ceil": lambda _, f, integer: piecewise.quantize(f[0], np.ceil, 0.0),
    "Identity": lambda _, f, integer: f[0],
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast,
    "HardSigmoid": _hard_sigmoid,
    "ThresholdedRelu": _thresholded,
}


# Rewriting


def exclusive(graph: ir.Graph, nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Of an expression's nodes, last one first, those that nothing outside it needs but through the first."""
    kept: list[ir.Node] = []
    for node in nodes:
        users = [use.node for output in node.outputs for use in output.uses()]
        outside = any(output in graph.outputs for output in node.outputs) or any(user not in kept for user in users)
        if not kept or not outside:
            kept.append(node)
    return kept


def is_absorbed(graph: ir.Graph, x: ir.Value, nodes: Sequence[ir.Node]) -> bool:
    """True where an affine of `x` folds into the convolution in front once `nodes`, last one first, are replaced.

    What reads `x` for something else as well, such as a batch norm that a shortcut needs too, stays and prevents it.
    """
    inside: Sequence[ir.Node] = exclusive(graph, nodes)
    while x not in graph.outputs and all(use.node in inside for use in x.uses()):
        node = x.producer()
        if node is None:
            return False
        if (node.domain == "" and node.op_type in ABSORBING) or ops.is_binary_conv(node):
            return constant_of(node.inputs[1]) is not None
        step = affine_of(node)
        if step is None:
            return False
        x, inside = step[0], [node]
    return False


@dataclass
class Chain:
    """Operators put in one after the other behind `value`, in front of `anchor`, named after `name`."""

    graph: ir.Graph
    anchor: ir.Node
    value: ir.Value
    name: str

    def then(self, node: ir.Node, suffix: str) -> None:
        """Append `node`, which reads `self.value`."""
        result = node.outputs[0]
        result.name = unique_name(self.graph, f"{self.name}/{suffix}")
        if result.shape is None:
            result.shape, result.type = self.value.shape, self.value.type
        inherit_source([node], self.anchor)
        self.graph.insert_before(self.anchor, node)
        self.value = result

    def per_channel(self, operator: str, vector: Matrix, suffix: str) -> None:
        """Append a Mul, Add or PRelu with one constant a channel; nothing where it changes nothing."""
        if np.all(vector == (0 if operator == "Add" else 1)):
            return
        rank = len(shape_of(self.value) or ())
        array = np.asarray(vector, np.float32)
        if operator == "PRelu":
            channels = (shape_of(self.value) or ())[1:2]
            array = np.broadcast_to(array, channels or (1,)).reshape(-1, *(1,) * (rank - 2))
        elif np.all(array == array[0]):
            array = array[0]
        else:
            array = array.reshape(1, -1, *(1,) * (rank - 2))
        constant = new_constant(self.graph, array, f"{self.name}/{suffix}")
        self.then(ir.node(operator, [self.value, constant]), f"{suffix}/{operator.lower()}")


def remove_unused(graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
    """Remove those of `nodes` whose results nobody reads, and whatever only they needed."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node.graph is not graph or any(output.uses() or output in graph.outputs for output in node.outputs):
            continue
        sources = [value.producer() for value in node.inputs if value is not None]
        graph.remove(node, safe=True)
        pending.extend(source for source in sources if source is not None)
