"""How far apart two right float programs may be, value by value: a running error analysis as an ONNX graph.

To the values of a graph it adds, in the same graph, what bounds their error, so that one run yields both.  For every
operator

    |error of y| ≤ (how y follows from x) · |error of x| + own rounding

on the actual values.  u is half a unit in the last place of a float32, 2⁻²⁴; ELEMENTWISE, FUNCTION and DRIFT say how
many of them a kernel may take.

- *Sums* (convolutions, Linears, means, pools) carry |error of x| through |w|.  Their own rounding does not depend on a
  certain order of the summands: with n of them, the partial sums of any order that ignores the values stay below
  |y| + DEVIATIONS · √(Σ w²x²), and n roundings of such size, each as likely up as down, amount to
  DRIFT · √n · u of it (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, SIAM J. Sci. Comput.
  41, 2019, theorem 2.4).  The worst case n · u · Σ|w||x| is not met where products differ, and would hide a wrong
  weight; in a mean of equal values it is, and there it is the bound.  A convolution takes max|x| · ‖w_o‖ for the
  root, which costs no second convolution.  Where x is an affine of a byte, the file may sum up the bytes and have the
  shift in its bias: then max|x| is that of the terms, not of what they cancel to.
- *Folded constants*: a batch norm that is folded into what stands in front rounds products of γ/σ with weights and μ
  instead; so its own rounding is that of all its terms, |γ/σ|·(|x| + |μ|) + |β|, however small y is.
  Where a sum of n is in front, such terms are its bias, which a kernel may start from: then each of its n roundings is
  of their size, DRIFT · √n · u, as that of any partial sum.
- *Monotone functions* are evaluated at x ± error: what a clip or a saturated sigmoid lets through is all that remains.
  Not so behind the sums of a binary layer: LceBconv2d clips them first, and what cancels then, see below, remains.
- What only moves elements moves their errors.
- *Infinities*, as an attention's mask has them, are the same in two right programs, and have no rounding: of
  magnitudes they count as 0.  What a softmax lets nothing through of has no error either.
- *Any other operator* (RULES has no entry): its result has the largest relative error of its operands, plus
  `ROUNDING` of its largest magnitude.  That is wide, and finite.

Values that take steps (signs, roundings, comparisons) and integers have no error here: they are compared by
themselves, and what follows them starts from the reference's own.

LceBconv2d with p differing bits of K products computes

    y = p · (−2m) + (b + K·m)          the sum K − 2p times the multiplier m, plus the bias b, in float32

Where the sum is small, both terms are of size K·|m| all the same, and so are their roundings; the bound of a
convolution, DRIFT · DEVIATIONS · √K · √K · |m|, includes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.evaluate import ancestors
from bnncc.ir.graph import known_array, shape_of
from bnncc.ir.rounding import ROUNDING
from bnncc.verification.tolerance import FLUSHED

UNIT = 2.0**-24
# Two programs, a constant that is rounded, and a second operation in place of one (a division by a product).
ELEMENTWISE = 4 * UNIT
# What polynomials for exp, tanh and their like are off by, in two runtimes, of values up to 1.
FUNCTION = 32 * UNIT
# tflite-runtime 2.14's LOGISTIC and TANH on 32-bit ARM are off by up to 135 units of the result, which is 8e-6
# (60,000 arguments from -20 to 20, qemu, cortex-a7); LiteRT's and LCE's by less than 5.
SIGMOID = 160 * UNIT
# Of a batch norm that is left as it is: γ/√(σ² + ε), a product and a sum, of which one program rounds each step.
NORMALISED = 8 * UNIT
# Of a sum: see above.
DRIFT, DEVIATIONS = 2.0, 4.0
# Smaller than any difference that counts, so that nothing divides by 0.
TINY = 1e-30
# The magnitude of the logarithm of any float32 that is not 0 or infinite is smaller.
LARGEST_LOG = 128.0

_MOVES = {
    "Reshape", "Flatten", "Transpose", "Slice", "Gather", "GatherElements", "GatherND", "Expand", "Tile",
    "DepthToSpace", "SpaceToDepth", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Split",
}  # fmt: skip
_MEANS = ("ReduceMean", "GlobalAveragePool", "AveragePool")
_MONOTONE = {
    "Relu", "Clip", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Exp", "Softplus",
    "Softsign", "Atan",
}  # fmt: skip
_EXACT_FUNCTIONS = {"Relu", "Clip"}
_SIGMOIDS = {"Sigmoid", "Tanh"}
# What is folded into a sum in front of it.
_AFFINE = {"Add", "Sub", "Mul", "Div", "Neg", "BatchNormalization", "Identity", "Cast", *_MOVES}
# Functions that are steeper than this nowhere.
_STEEPEST = {"Abs": 1.0, "Neg": 1.0, "Sin": 1.0, "Cos": 1.0, "HardSwish": 1.5, "Gelu": 1.13, "Mish": 1.1, "Swish": 1.1}
_BROADCASTING = {"Abs", "Add", "Cast", "Div", "Identity", "Max", "Min", "Mul", "Pow", "Sqrt", "Sub", "Where"}
_STEPS = {
    "Sign", "Round", "Floor", "Ceil", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "ArgMax", "ArgMin",
    "QuantizeLinear",
}  # fmt: skip


def add_error_bounds(
    model: ir.Model,
    wanted: Sequence[ir.Value],
    exact: Mapping[ir.Value, float],
    sizes: Mapping[ir.Value, float] | None = None,
) -> Mapping[ir.Value, ir.Value]:
    """Add nodes to the graph that compute the bound of each value of `wanted` that rounding can reach.

    exact: values that are given, and have no error; by each the largest magnitude that its elements are known to have
    in the file whatever they are here (the bits of {0, 1} are ±½ and ½), or 0.  sizes: the same magnitude of values of
    which float operators read what the bits stand for.  Returns a float32 value of the value's shape, or one that
    broadcasts to it, for each of `wanted` that has an error at all.
    """
    analysis = _Analysis(model.graph, exact, sizes or {})
    needed = ancestors(wanted, exact)
    for node in list(model.graph):
        if node in needed:
            analysis.add(node)
    analysis.finish()
    # A wanted value may be given as well: then its node is analysed, and what reads it is not.
    found = {value: analysis.computed.get(value) for value in dict.fromkeys(wanted)}
    return {
        value: analysis.node("Identity", bound) if bound.producer() is None else bound
        for value, bound in found.items()
        if bound is not None
    }


class _Analysis:
    """The nodes that are added.  `computed` has each value's bound; `bound` what its consumers see: None where it is
    exact."""

    def __init__(self, graph: ir.Graph, exact: Mapping[ir.Value, float], sizes: Mapping[ir.Value, float]) -> None:
        self.graph = graph
        self.exact = exact
        self.sizes = sizes
        self.computed: dict[ir.Value, ir.Value | None] = {}
        self._scalars: dict[float, ir.Value] = {}
        self._magnitudes: dict[ir.Value, ir.Value] = {}
        self._summands: dict[ir.Value, float] = {}
        self._count = 0
        self._last: ir.Node | None = None
        self._has_infinities = any(_is_infinite(value) for node in graph for value in node.inputs)

    def bound(self, value: ir.Value | None) -> ir.Value | None:
        return None if value is None or value in self.exact else self.computed.get(value)

    def add(self, node: ir.Node) -> None:
        if node.op_type in _STEPS or all(output.dtype not in _FLOATS for output in node.outputs):
            return
        if node.domain == ops.DOMAIN and not ops.is_binary_conv(node):
            return  # ±1
        floats = [value for value in (*node.inputs, *node.outputs) if value is not None and value.dtype in _FLOATS]
        rule = _RULES.get(node.op_type, _unknown)
        if rule is not _cast and any(value.dtype is not ir.DataType.FLOAT for value in floats):
            rule = _unknown
        bounds = [self.bound(value) for value in node.inputs]
        self._last = node
        if rule is _unknown and all(value is None or known_array(value) is not None for value in node.inputs):
            return
        self._summands[node.outputs[0]] = self._summands_of(node)
        for output, result in zip(node.outputs, rule(self, node, bounds), strict=False):
            self.computed[output] = result

    def _summands_of(self, node: ir.Node) -> float:
        """How many summands the convolution or Linear has into whose bias what is added here may go; 0 for none."""
        if node.op_type in ops.WEIGHTED:
            return _count(node)
        known = [self._summands.get(value, 0.0) for value in node.inputs if value is not None]
        return max(known, default=0.0) if node.op_type in _AFFINE else 0.0

    def is_binary_sum(self, value: ir.Value) -> bool:
        """True for an affine of the sums of a binary layer, whose kernel clips before it multiplies."""
        node = value.producer()
        while node is not None and node.op_type in _AFFINE and node.inputs[0] is not None:
            node = node.inputs[0].producer()
        return node is not None and node.op_type in ops.WEIGHTED and bool(self.exact.get(_operand(node, 0), 0.0))

    def added(self, node: ir.Node) -> float:
        """Units of the rounding of what the affine operator `node` adds."""
        return max(ELEMENTWISE, _drift(self._summands.get(node.outputs[0], 0.0)))

    def finish(self) -> None:
        """What is added from here on stands at the end."""
        self._last = None

    # Building

    def node(self, op_type: str, *inputs: ir.Value | None, **attributes: object) -> ir.Value:
        return self.nodes(op_type, list(inputs), attributes, 1)[0]

    def nodes(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, object], count: int
    ) -> Sequence[ir.Value]:
        node = ir.node(op_type, inputs, dict(attributes), num_outputs=count)  # type: ignore[arg-type]
        for output in node.outputs:
            output.name = f"bound {self._count}"
            self._count += 1
            shapes = [shape_of(value) for value in inputs if value is not None]
            if op_type in _BROADCASTING and None not in shapes:
                output.shape = ir.Shape(np.broadcast_shapes(*(shape for shape in shapes if shape is not None)))
        # Beside what it bounds, so that no value is kept for long.
        if self._last is None:
            self.graph.append(node)
        else:
            self.graph.insert_after(self._last, node)
            self._last = node
        return node.outputs

    def constant(self, number: float) -> ir.Value:
        if number not in self._scalars:
            self._scalars[number] = self.array(np.array(number, np.float32))
        return self._scalars[number]

    def array(self, array: np.ndarray) -> ir.Value:  # type: ignore[type-arg]
        name = f"bound constant {self._count}"
        self._count += 1
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        self.graph.register_initializer(value)
        return value

    def times(self, value: ir.Value, factor: float | ir.Value) -> ir.Value:
        return self.node("Mul", value, factor if isinstance(factor, ir.Value) else self.constant(factor))

    def magnitude(self, value: ir.Value) -> ir.Value:
        if value not in self._magnitudes:
            single = value if value.dtype in (None, ir.DataType.FLOAT) else self.node("Cast", value, to=_SINGLE)
            size = self.node("Abs", single)
            if self._has_infinities:
                size = self.where(self.node("Less", size, self.constant(np.inf)), size)
            self._magnitudes[value] = size
        return self._magnitudes[value]

    def where(self, condition: ir.Value, value: ir.Value) -> ir.Value:
        """The value where the condition holds, else 0."""
        return self.node("Where", condition, value, self.constant(0.0))

    def sum(self, *terms: ir.Value | None) -> ir.Value | None:
        total: ir.Value | None = None
        for term in terms:
            if term is not None:
                total = term if total is None else self.node("Add", total, term)
        return total

    def largest(self, value: ir.Value) -> ir.Value:
        """The largest element, a scalar."""
        return self.node("ReduceMax", value, keepdims=0)

    def largest_magnitude(self, value: ir.Value) -> ir.Value:
        return self.largest(self.magnitude(value))

    def summand(self, value: ir.Value) -> ir.Value:
        """The magnitude with which an element goes into a sum, here or in the file."""
        known = max(self.exact.get(value, 0.0), self._size(value))
        terms = self._terms_of_byte(value) or self.magnitude(value)
        return self.node("Max", terms, self.constant(known)) if known else terms

    def _size(self, value: ir.Value) -> float:
        """The largest magnitude of what the file has in place of a value of `sizes`, of its mean or of its elements."""
        while value not in self.sizes:
            node = value.producer()
            if node is None or node.op_type not in (*_MOVES, *_MEANS) or node.inputs[0] is None:
                return 0.0
            value = node.inputs[0]
        return self.sizes[value]

    def _terms_of_byte(self, value: ir.Value) -> ir.Value | None:
        """Of a·q + b, q an input of 8-bit integers: |a|·|q| + |b|.  The file may have b in the bias, and sum up a·q."""
        node = value.producer()
        if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
            return None
        source = node.inputs[0]
        if node.op_type == "Cast" and source.is_graph_input() and source.dtype in _BYTES:
            return self.magnitude(value)
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or known_array(node.inputs[1]) is None:
            return None
        terms = self._terms_of_byte(source)
        if terms is None:
            return None
        return self.node("Add" if node.op_type == "Sub" else node.op_type, terms, self.magnitude(_operand(node, 1)))

    def own(self, *values: ir.Value, units: float = ELEMENTWISE) -> ir.Value:
        """The rounding of an operator with these terms."""
        total = self.sum(*(self.magnitude(value) for value in values))
        assert total is not None
        return self.times(total, units)

    def zeros(self, value: ir.Value) -> ir.Value:
        shape = np.asarray(shape_of(value) or (), np.int64)
        return self.node("Expand", self.constant(0.0), self.array(shape))

    def sized(self, bound: ir.Value | None, value: ir.Value) -> ir.Value:
        """A bound of the value's own shape."""
        return self.zeros(value) if bound is None else self.node("Add", bound, self.zeros(value))


_BYTES = (ir.DataType.UINT8, ir.DataType.INT8)
_SINGLE = int(ir.DataType.FLOAT)
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
_Bound = ir.Value | None
_Rule = Callable[[_Analysis, ir.Node, Sequence[_Bound]], Sequence[_Bound]]


# Larger constants are weights.
_LARGEST_MASK = 2**22


def _is_infinite(value: ir.Value | None) -> bool:
    """True for a constant of which an element is infinite."""
    array = None if value is None or np.prod(shape_of(value) or ()) > _LARGEST_MASK else known_array(value)
    return array is not None and array.dtype.kind == "f" and bool(np.isinf(array).any())


def _operand(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _move(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    if bounds[0] is None:
        return []
    x = _operand(node, 0)
    inputs = [analysis.sized(bounds[0], x), *node.inputs[1:]]
    return analysis.nodes(node.op_type, inputs, node.attributes, len(node.outputs))


def _pad(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    if bounds[0] is None:
        return []
    inputs = [analysis.sized(bounds[0], _operand(node, 0)), node.inputs[1], None, *node.inputs[3:]]
    return analysis.nodes("Pad", inputs, node.attributes, 1)


def _concat(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    if all(bound is None for bound in bounds):
        return []
    pairs = zip(node.inputs, bounds, strict=True)
    return analysis.nodes("Concat", [analysis.sized(b, v) for v, b in pairs if v is not None], node.attributes, 1)


def _add(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    operands = [value for value in node.inputs if value is not None]
    whole = _without_residue(node)
    if whole is not None:
        return [analysis.sum(analysis.bound(whole), analysis.own(whole, *operands))]
    return [analysis.sum(*bounds, analysis.own(*operands, units=analysis.added(node)))]


def _without_residue(node: ir.Node) -> ir.Value | None:
    """s, where the node is (s − p) + p: what a straight-through estimator leaves.  The error of p cancels with p."""
    if node.op_type != "Add":
        return None
    for rest, added in ((0, 1), (1, 0)):
        difference = _source(node.inputs[rest])
        producer = None if difference is None else difference.producer()
        is_difference = producer is not None and producer.domain == "" and producer.op_type == "Sub"
        if producer is not None and is_difference and _source(producer.inputs[1]) is _source(node.inputs[added]):
            return producer.inputs[0]
    return None


def _source(value: ir.Value | None) -> ir.Value | None:
    """The value in front of identities."""
    while value is not None and (node := value.producer()) is not None and node.op_type == "Identity":
        value = node.inputs[0]
    return value


def _multiply(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    (a, b), y = (_operand(node, 0), _operand(node, 1)), node.outputs[0]
    terms = [analysis.own(y)]
    if bounds[0] is not None:
        terms.append(analysis.times(bounds[0], analysis.magnitude(b)))
    if bounds[1] is not None:
        terms.append(analysis.times(bounds[1], analysis.magnitude(a)))
    if bounds[0] is not None and bounds[1] is not None:
        terms.append(analysis.times(bounds[0], bounds[1]))
    return [analysis.sum(*terms)]


def _divide(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """|a/b − a'/b'| ≤ (|δa| + |a/b|·|δb|) / (|b| − |δb|)."""
    b, y = _operand(node, 1), node.outputs[0]
    above = bounds[0]
    if bounds[1] is not None:
        above = analysis.sum(above, analysis.times(bounds[1], analysis.magnitude(y)))
    if above is None:
        return [analysis.own(y)]
    if bounds[1] is not None:
        return [analysis.sum(_over(analysis, above, b, bounds[1]), analysis.own(y))]
    below = analysis.node("Max", analysis.magnitude(b), analysis.constant(TINY))
    return [analysis.sum(analysis.node("Div", above, below), analysis.own(y))]


def _logarithm(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """|log x − log x'| ≤ |δx| / (|x| − |δx|); its own rounding is that of a function around 1."""
    size = analysis.node("Min", analysis.magnitude(node.outputs[0]), analysis.constant(LARGEST_LOG))
    own = analysis.times(analysis.node("Add", size, analysis.constant(1.0)), FUNCTION)
    return [own if bounds[0] is None else analysis.sum(_over(analysis, bounds[0], _operand(node, 0), bounds[0]), own)]


def _reciprocal(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """|1/x − 1/x'| ≤ |1/x|·|δx| / (|x| − |δx|)."""
    y = node.outputs[0]
    if bounds[0] is None:
        return [analysis.own(y)]
    above = analysis.times(bounds[0], analysis.magnitude(y))
    return [analysis.sum(_over(analysis, above, _operand(node, 0), bounds[0]), analysis.own(y))]


def _over(analysis: _Analysis, above: ir.Value, x: ir.Value, bound: ir.Value) -> ir.Value:
    """above / (|x| − bound), and of no less than half of |x|: what may be 0 bounds nothing."""
    size = analysis.magnitude(x)
    below = analysis.node("Max", analysis.node("Sub", size, bound), analysis.times(size, 0.5))
    return analysis.node("Div", above, analysis.node("Max", below, analysis.constant(TINY)))


def _monotone(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    x, y = _operand(node, 0), node.outputs[0]
    is_exact = node.op_type in _EXACT_FUNCTIONS
    own = None
    if not is_exact:
        units = SIGMOID if node.op_type in _SIGMOIDS else FUNCTION
        own = analysis.node("Add", analysis.own(y, units=units), analysis.constant(FUNCTION))
        if node.op_type == "LeakyRelu":
            own = analysis.own(y)
        if node.op_type == "Exp":
            own = _exponential(analysis, x, y)
    if bounds[0] is None:
        return [own]
    if is_exact and analysis.is_binary_sum(x):
        return [bounds[0]]
    ends = []
    for sign in ("Add", "Sub"):
        moved = analysis.node(sign, x, bounds[0])
        (end,) = analysis.nodes(node.op_type, [moved, *node.inputs[1:]], node.attributes, 1)
        ends.append(analysis.magnitude(analysis.node("Sub", end, y)))
    return [analysis.sum(analysis.node("Max", *ends), own)]


def _steepest(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    x, y = _operand(node, 0), node.outputs[0]
    own = None if node.op_type in ("Abs", "Neg") else analysis.own(x, y, units=FUNCTION)
    return [analysis.sum(None if bounds[0] is None else analysis.times(bounds[0], _STEEPEST[node.op_type]), own)]


def _root(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """|√x − √x'| ≤ |δx| / √x, and ≤ √|δx|.  So what is flushed to 0 in front of it is larger behind it."""
    y = node.outputs[0]
    own = analysis.sum(analysis.own(y), analysis.constant(FLUSHED**0.5))
    if bounds[0] is None:
        return [own]
    slope = analysis.node("Div", bounds[0], analysis.node("Max", y, analysis.constant(TINY)))
    return [analysis.sum(analysis.node("Min", slope, analysis.node("Sqrt", bounds[0])), own)]


def _prelu(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    own = analysis.own(node.outputs[0])
    if bounds[0] is None:
        return [own]
    steep = analysis.node("Max", analysis.magnitude(_operand(node, 1)), analysis.constant(1.0))
    return [analysis.sum(analysis.times(bounds[0], steep), own)]


def _where(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    if bounds[1] is None and bounds[2] is None:
        return []
    a, b = (bound if bound is not None else analysis.constant(0.0) for bound in bounds[1:3])
    return [analysis.node("Where", node.inputs[0], a, b)]


def _extreme(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    present = [bound for bound in bounds if bound is not None]
    return [analysis.node("Max", *present)] if present else []


def _largest_of_window(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    if bounds[0] is None:
        return []
    operator = "ReduceMax" if node.op_type == "ReduceMin" else node.op_type
    return analysis.nodes(
        operator, [analysis.sized(bounds[0], _operand(node, 0)), *node.inputs[1:]], node.attributes, 1
    )


def _linear_reduction(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """Means and sums over axes or windows: of the errors, and of the magnitudes.

    Values that are equal, or lie on a grid, are all rounded in one direction: here the worst case, n · u, is met.
    """
    x, y = _operand(node, 0), node.outputs[0]
    count = max(_size(x) / max(_size(y), 1), 1.0)
    if node.op_type == "AveragePool":
        count = float(np.prod(node.attributes["kernel_shape"].as_ints()))
    own = analysis.times(analysis.summand(x), count * UNIT + ELEMENTWISE)
    operand = analysis.sized(analysis.sum(bounds[0], own), x)
    return analysis.nodes(node.op_type, [operand, *node.inputs[1:]], node.attributes, 1)


def _norm_reduction(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """ReduceL1 and ReduceL2: a norm changes by at most the norm of the change; squares may be flushed to 0."""
    x, y = _operand(node, 0), node.outputs[0]
    own = analysis.times(analysis.magnitude(x), DRIFT * max(_size(x), 1) ** 0.5 * UNIT)
    operand = analysis.sized(analysis.sum(bounds[0], own), x)
    (carried,) = analysis.nodes(node.op_type, [operand, *node.inputs[1:]], node.attributes, 1)
    flushed = (FLUSHED * max(_size(x) / max(_size(y), 1), 1.0)) ** 0.5
    return [analysis.sum(carried, analysis.constant(flushed))]


def _softmax(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """Each y is exp(x) over a sum of such: off by the factor exp(2·max|δx|), which is ≤ 1 + 4·max|δx| below ½.

    Where y is 0, x is masked, by -∞ or a large number, whose rounding is no other element's.
    """
    x, y = _operand(node, 0), node.outputs[0]
    counts = analysis.node("Greater", y, analysis.constant(0.0))
    own = _exponential(analysis, analysis.largest(analysis.where(counts, analysis.magnitude(x))), y)
    if bounds[0] is None:
        return [own]
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    along = analysis.array(np.array([axis], np.int64))
    passing = analysis.where(counts, analysis.sized(bounds[0], x))
    largest = analysis.node("ReduceMax", passing, along, keepdims=1)
    return [analysis.sum(analysis.times(analysis.magnitude(y), analysis.times(largest, 4.0)), own)]


def _exponential(analysis: _Analysis, x: ir.Value, y: ir.Value) -> ir.Value:
    """Own rounding of y = exp(x): of the function, and of its argument, which the result multiplies."""
    relative = analysis.node("Add", analysis.times(analysis.magnitude(x), ELEMENTWISE), analysis.constant(FUNCTION))
    return analysis.node("Add", analysis.times(analysis.magnitude(y), relative), analysis.constant(TINY))


def _batch_norm(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    x = _operand(node, 0)
    parameters = [known_array(value) for value in node.inputs[1:5]]
    if any(array is None for array in parameters):
        return _unknown(analysis, node, bounds)
    gamma, beta, mean, variance = (array.astype(np.float64) for array in parameters if array is not None)
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    scale = np.abs(gamma) / np.sqrt(variance + epsilon)
    shape = (1, -1, *(1,) * (len(shape_of(x) or ()) - 2))
    factor, shift = (
        analysis.array(array.reshape(shape).astype(np.float32))
        for array in (scale, scale * np.abs(mean) + np.abs(beta))
    )
    terms = analysis.node("Add", analysis.times(analysis.magnitude(x), factor), shift)
    own = analysis.times(terms, max(NORMALISED, analysis.added(node)))
    return [analysis.sum(None if bounds[0] is None else analysis.times(bounds[0], factor), own)]


def _convolution(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    x, weight, y = _operand(node, 0), _operand(node, 1), node.outputs[0]
    shape = shape_of(weight) or ()
    count = _count(node)
    per_channel = (1, -1, *(1,) * (len(shape) - 2))
    axes = analysis.array(np.arange(1, len(shape))) if node.op_type == "Conv" else None
    norm = analysis.node("ReduceL2", weight, *([axes] if axes is not None else []), keepdims=0)
    largest = analysis.largest(analysis.summand(x))
    norm = analysis.node("Reshape", norm, analysis.array(np.asarray(per_channel, np.int64)))
    spread = analysis.times(analysis.times(norm, largest), DEVIATIONS)
    own = analysis.times(analysis.node("Add", analysis.magnitude(y), spread), _drift(count))
    terms: list[_Bound] = [own]
    if bounds[0] is not None:
        errors = [analysis.sized(bounds[0], x), analysis.magnitude(weight)]
        terms += analysis.nodes(node.op_type, errors, node.attributes, 1)
    if bounds[1] is not None:
        spread_errors = analysis.sized(bounds[1], weight)
        total = (
            analysis.node("ReduceSum", spread_errors, axes, keepdims=0)
            if axes
            else analysis.node("ReduceSum", spread_errors, keepdims=0)
        )
        total = analysis.node("Reshape", total, analysis.array(np.asarray(per_channel, np.int64)))
        terms.append(analysis.times(total, largest))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = analysis.own(node.inputs[2], units=_drift(count))
        terms.append(analysis.node("Reshape", bias, analysis.array(np.asarray(per_channel, np.int64))))
    return [analysis.sum(*terms)]


def _binary_convolution(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """Two products and two sums of terms of size K·|m| and |b|."""
    weight, multiplier, bias = (known_array(value) for value in node.inputs[1:4])
    if weight is None or multiplier is None or bias is None:
        return _unknown(analysis, node, bounds)
    size = weight[0].size * np.abs(multiplier.astype(np.float64)) + np.abs(bias)
    return [analysis.array((ELEMENTWISE * size).reshape(1, -1, 1, 1).astype(np.float32))]


def _power(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """|xᵃ − x'ᵃ| ≤ a · (|x| + |δx|)^(a−1) · |δx| for a ≥ 1."""
    x, exponent = _operand(node, 0), known_array(node.inputs[1])
    if exponent is None or exponent.size != 1 or float(exponent.item()) < 1:
        return _unknown(analysis, node, bounds)
    a, own = float(exponent.item()), analysis.own(node.outputs[0], units=FUNCTION)
    if bounds[0] is None:
        return [own]
    reach = analysis.node("Add", analysis.magnitude(x), bounds[0])
    slope = analysis.times(analysis.node("Pow", reach, analysis.constant(a - 1)), a)
    return [analysis.sum(analysis.times(bounds[0], slope), own)]


def _cast(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """Bounds are float32 whatever the values are."""
    return [bounds[0]]


def _product(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    """MatMul and Gemm."""
    a, b, y = _operand(node, 0), _operand(node, 1), node.outputs[0]
    count = _count(node)
    matrices = {name: value for name, value in node.attributes.items() if name in ("transA", "transB", "alpha")}

    def multiply(left: ir.Value, right: ir.Value) -> ir.Value:
        return analysis.nodes(node.op_type, [left, right], matrices, 1)[0]

    sizes = analysis.summand(a)
    squares = multiply(analysis.node("Mul", sizes, sizes), analysis.node("Mul", b, b))
    spread = analysis.times(analysis.node("Sqrt", squares), DEVIATIONS)
    terms: list[_Bound] = [analysis.times(analysis.node("Add", analysis.magnitude(y), spread), _drift(count))]
    if bounds[0] is not None:
        terms.append(multiply(analysis.sized(bounds[0], a), analysis.magnitude(b)))
    if bounds[1] is not None:
        terms.append(multiply(analysis.magnitude(a), analysis.sized(bounds[1], b)))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        terms += [analysis.own(node.inputs[2], units=_drift(count)), bounds[2]]
    return [analysis.sum(*terms)]


def _count(node: ir.Node) -> float:
    """How many products a convolution, MatMul or Gemm adds up."""
    if node.op_type in ("MatMul", "Gemm"):
        transposed = "transA" in node.attributes and node.attributes["transA"].as_int()
        axis = 0 if transposed and node.op_type == "Gemm" else -1
        return float((shape_of(_operand(node, 0)) or (1,))[axis])
    shape = shape_of(_operand(node, 1)) or (1,)
    if node.op_type == "ConvTranspose":
        return float(np.prod(shape)) / max((shape_of(node.outputs[0]) or (1, 1))[1], 1)
    return float(np.prod(shape[1:]))


def _drift(count: float) -> float:
    """The rounding of a sum of so many, relative to its largest partial sums: never more than one for each."""
    return float(min(DRIFT * count**0.5, count)) * UNIT + ELEMENTWISE


def _unknown(analysis: _Analysis, node: ir.Node, bounds: Sequence[_Bound]) -> Sequence[_Bound]:
    relative: _Bound = analysis.constant(ROUNDING)
    for value, bound in zip(node.inputs, bounds, strict=True):
        if value is not None and bound is not None:
            largest = analysis.node("Max", analysis.largest_magnitude(value), analysis.constant(TINY))
            # All of an operand may be off by no more than its size: a bound beyond that would let anything pass.
            share = analysis.node("Min", analysis.node("Div", analysis.largest(bound), largest), analysis.constant(1.0))
            relative = analysis.sum(relative, share)
    operands = [value for value in node.inputs if value is not None and value.dtype in _FLOATS]
    results = []
    for output in node.outputs:
        sizes = [analysis.largest_magnitude(value) for value in (output, *operands[:1])]
        results.append(analysis.times(analysis.node("Max", *sizes), relative) if relative is not None else None)
    return results


def _size(value: ir.Value) -> int:
    return int(np.prod(shape_of(value) or ()))


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_MOVES, _move),
    **dict.fromkeys(_MONOTONE, _monotone),
    **dict.fromkeys(_STEEPEST, _steepest),
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean"), _add),
    **dict.fromkeys(("Max", "Min"), _extreme),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"), _largest_of_window),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "GlobalAveragePool", "AveragePool"), _linear_reduction),
    **dict.fromkeys(("ReduceL1", "ReduceL2"), _norm_reduction),
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolution),
    **dict.fromkeys(("MatMul", "Gemm"), _product),
    ops.BINARY_CONV: _binary_convolution,
    "Cast": _cast,
    "Pad": _pad,
    "Pow": _power,
    "Log": _logarithm,
    "Reciprocal": _reciprocal,
    "Concat": _concat,
    "Mul": _multiply,
    "Div": _divide,
    "Sqrt": _root,
    "PRelu": _prelu,
    "Where": _where,
    "Softmax": _softmax,
    "BatchNormalization": _batch_norm,
}
