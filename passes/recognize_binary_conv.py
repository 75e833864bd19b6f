"""Find the layers that multiply ±1 by ±1: Conv (one- and two-dimensional), Gemm and MatMul.

    Before:  S ─ Conv(W = α_o · s, b) ─ y                        S, s = ±1, α_o > 0
    After:   S ─ BinaryConv(s; multiplier = α_o, bias = b_o) ─ y

    Before:  S ─ Mul(a) ─ Add(m) ─ Conv(W, b; zero padding) ─ y
    After:   S ─ BinaryConv(s; multiplier = a·α_o, bias = b_o + m·ΣW; padding with p = -m/a) ─ y

    Before:  S [N, I] ─ Gemm(W [O, I], b) ─ BatchNormalization ─ y
    After:   S ─ Reshape [N, I, 1, 1] ─ BinaryConv(1x1) ─ Reshape [N, O] ─ y

The weights decide, not how they were computed: see `binary_weights`.  The input may be an affine function of a binary
value: see `binary_operand`.  With x = a·S + m,

    conv(W, pad(x, 0)) = conv(a·W, pad(S, p)) + m·ΣW   where a·p + m = 0,

because the padding of x is then the same affine function of the padding of S.  Activations {0, 1} = -0.5·S + 0.5 give
p = +1, which LCE has; what it does not have is left to `express_pad_value`.

How a layer is read is `weighted_layer`, what is put in its place `binary_product`.  A layer with one of the two binary
operands that cannot be a BinaryConv gets the reason as metadata, for the report.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Window
from bnncc.ir.graph import SOURCE_KEY, constant_of, shape_of
from bnncc.ir.left_in_float import Reason, leave_in_float
from bnncc.ir.modes import ZeroWeights
from bnncc.ir.value_facts import MOVES, data_inputs, is_binary
from bnncc.passes.affine import Affine, affine_of
from bnncc.passes.binary_operand import BinaryOperand, Materializer, binary_operand, unfolded
from bnncc.passes.binary_product import BinaryProduct
from bnncc.passes.binary_weights import count_zeros, split_weights, zeros_to_plus_one
from bnncc.passes.cost import FLOAT_BYTES, CostModel
from bnncc.passes.few_levels import FewLevels, KnownBits, bit_terms, few_levels
from bnncc.passes.remove_unused import remove_unread
from bnncc.passes.sink_row_scales import factors
from bnncc.passes.sum_of_products import expand, expand_input, fold_behind
from bnncc.passes.weight_terms import (
    Terms,
    few_values,
    input_twice,
    is_sum_of_signs,
    rows_with_zeros,
    takes_few_values,
    two_values,
    zeros_twice,
)
from bnncc.passes.weighted_layer import (
    bias_of,
    geometry_of,
    output_first,
    scale_inputs,
    scale_of_inputs,
    sum_of_offsets,
)

_DEPTHWISE = Reason(
    "depthwise-conv",
    "it is a depthwise convolution: with one input channel for an output there are no words of bits to multiply",
)


FLOAT_WEIGHTS = Reason("float-weights", "its input is binary but its weights are not")

_UNEQUAL_SCALES = Reason(
    "scales-of-channels",
    "its input is ±1 times a scale that differs between its channels, which a sum of bits cannot weigh",
)

_TRANSPOSED = Reason(
    "transposed-conv",
    "it is a transposed convolution in groups, dilated, over three axes or with outputs that no tap reaches",
)


class RecognizeBinaryConv(ir.passes.InPlacePass):
    """Replace every Conv, Gemm and MatMul whose operands are both binary, up to affine functions.

    cost: the target's, by which weights with zeros stay in float where that is faster; None never lets them.
    """

    def __init__(self, zero_weights: ZeroWeights = ZeroWeights.EXACT, cost: CostModel | None = None) -> None:
        super().__init__()
        self.zero_weights = zero_weights
        self.cost = cost

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        materializer = Materializer(model.graph)
        bits: KnownBits = {}
        for node in list(model.graph):
            if node.graph is not None and node.domain == "" and node.op_type == "ConvTranspose":
                reason = _why_transposed_stays(node)
                if reason is not None:
                    leave_in_float(node, reason)
                continue
            if node.graph is None or node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul"):
                continue
            if node.outputs[0].dtype not in (None, ir.DataType.FLOAT):
                continue
            found = self._recognize(node)
            sources = [value.producer() for value in node.inputs if value is not None]
            if isinstance(found, BinaryProduct):
                found.emit(materializer)
                remove_unread(model.graph, sources)
                changed = True
            elif isinstance(found, Terms | FewLevels):
                self._emit_sum(node, found, materializer, bits)
                remove_unread(model.graph, sources)
                changed = True
            elif found is not None and Reason.of(node) is None:  # What split its input knows better.
                leave_in_float(node, found)
        return ir.passes.PassResult(model, modified=changed)

    def _emit_sum(self, node: ir.Node, found: Terms | FewLevels, materializer: Materializer, bits: KnownBits) -> None:
        graph = materializer.graph
        if isinstance(found, Terms):
            layers, total = expand(graph, node, found)
        else:
            layers, total = expand_input(graph, node, bit_terms(graph, node, found, bits), found.clause)
        readers = [next(iter(layer.outputs[0].uses()), None) for layer in layers]
        for layer in layers:
            part = self._recognize(layer)
            if isinstance(part, Terms):
                self._emit_sum(layer, part, materializer, bits)
            else:
                assert isinstance(part, BinaryProduct), "a term of a binary layer is one"
                part.emit(materializer)
        if len(layers) > 1:
            results = [use.node.inputs[use.idx] for use in readers if use is not None]
            producers = [value.producer() for value in results if value is not None]
            fold_behind(graph, total, producers, found.terms if isinstance(found, Terms) else ())

    def _recognize(self, node: ir.Node) -> BinaryProduct | Terms | FewLevels | Reason | None:
        """The binary layer that `node` is, or the sum of such; or why it is none; None where nothing about it is
        binary.
        """
        x, weight = node.inputs[0], node.inputs[1]
        assert x is not None
        assert weight is not None
        if constant_of(x) is not None:
            first = constant_of(x)
            binary = binary_operand(weight) is not None or (first is not None and _are_signs(first))
            return Reason("weights-first", "its weights are the first operand of the product") if binary else None
        operand = binary_operand(x)
        if operand is not None and node.op_type != "Conv" and is_binary(x):
            operand = unfolded(x)
        filters = constant_of(weight)
        if filters is None:
            if operand is not None or _holds_signs(x) or _is_step(x):
                return Reason(
                    "computed-weights",
                    "its weights are computed at run time, and LCE's operator takes such as are constant",
                )
            floats = "it multiplies floats by signs that are computed at run time"
            return Reason("computed-signs", floats) if _holds_signs(weight) else None
        if node.op_type != "Conv":
            if filters.ndim > 2 and operand is not None:
                return Reason("stacked-weights", "it is a product by a stack of matrices, one for each of a batch")
            filters = output_first(node, filters)
        if filters.ndim < 2:
            return Reason("vector-weights", "its weights are a vector") if operand is not None else None
        if operand is None:
            few = self._few_levels(node, x, filters)
            if isinstance(few, FewLevels) or (few is not None and not _is_step(x)):
                return few
            return self._reason_for_float_input(x, filters)
        return self._check(node, operand, filters)

    def _few_levels(self, node: ir.Node, x: ir.Value, filters: npt.NDArray[np.generic]) -> FewLevels | Reason | None:
        """The input as a sum of bits, where the layer of each is binary and all are faster than floats."""
        found = few_levels(node.graph, x) if isinstance(node.graph, ir.Graph) else None
        group = node.attributes.get_int("group", 1)
        if found is None or not is_sum_of_signs(filters, group):
            return None
        channels = (shape_of(x) or (0, 0))[1]
        layers = 0
        for bit in found.bits:
            affine = Affine(np.full(channels, bit.weight), np.full(channels, bit.offset))
            part = self._check(node, BinaryOperand(x, affine), filters)
            if isinstance(part, Reason):
                return part
            layers += len(part.terms) if isinstance(part, Terms) else 1
        result, size = (int(np.prod(shape_of(value) or ())) for value in (node.outputs[0], found.candidate.source))
        macs = result * int(np.prod(filters.shape[1:]))
        # A bit is a shifted copy and its signs, the lower of two chooses a threshold in front; sums are added.
        steps = sum(1 if len(bit.chosen) == 1 else 3 for bit in found.bits)
        as_bits = layers * macs, FLOAT_BYTES * (2 * steps * size + (4 * layers - 3) * result), 2 * layers + steps
        as_floats = macs, FLOAT_BYTES * (2 * len(found.candidate.nodes) * size + result), len(found.candidate.nodes) + 1
        if self.cost is None:
            return found
        binary = self.cost(binary_macs=as_bits[0], moved_bytes=as_bits[1], operators=as_bits[2])
        floats = self.cost(float_macs=as_floats[0], moved_bytes=as_floats[1], operators=as_floats[2])
        if binary < floats:
            return found
        return Reason(
            "few-levels",
            f"its input takes {len(found.levels.values)} values, and as small as it is, it is faster as floats than as "
            f"the sum of {layers} binary layers",
        )

    def _reason_for_float_input(self, x: ir.Value, filters: npt.NDArray[np.generic]) -> Reason | None:
        binary_weights = _are_signs(filters)
        if _is_step(x):
            if split_weights(filters) is None:
                return Reason("step-input", "its input is binary but its weights are not")
            return _zeros_reason(x)
        if binary_weights and _are_scaled_signs(x):
            return Reason("scaled-signs", "its input is made of signs and scales that are not known to be one scale")
        if binary_weights and (varies := _scale_of_signs(x)) is not None:
            return Reason(
                "varying-scale",
                f"its input is signs times a scale that is computed for each {varies}, and differs within what a "
                "product of bits sums up",
            )
        return Reason("float-input", "its weights are binary but its input is not") if binary_weights else None

    def _check(
        self, node: ir.Node, operand: BinaryOperand, filters: npt.NDArray[np.generic]
    ) -> BinaryProduct | Terms | Reason:
        x = node.inputs[0]
        assert x is not None
        size = shape_of(x)
        if size is None or shape_of(node.outputs[0]) is None:
            return Reason("dynamic-shape", "its input has no static shape")
        group = node.attributes.get_int("group", 1)
        if not (np.all(operand.affine.scale > 0) or np.all(operand.affine.scale < 0)):
            if np.unique(np.abs(operand.affine.scale)).size > 1 and np.any(operand.affine.shift):
                return Reason(
                    "mixed-levels", "its input is ±1 in some channels and two other values in others, as 0 and 1"
                )
            return Reason("mixed-sign-scales", "its input is ±1 times a scale whose sign differs between channels")
        scaled = scale_inputs(node, operand, filters, int(group))
        if scaled is None:
            return Reason("unequal-scales", "its input is ±1 times a scale that differs between the rows of a product")
        zeros = 0
        sums: Terms | None = None
        split = split_weights(scaled)
        if split is None and (zeros := count_zeros(scaled)):
            if self.zero_weights is ZeroWeights.FLOAT:
                return Reason(
                    "weights-exactly-zero",
                    f"{zeros:,} of its {filters.size:,} weights {'is' if zeros == 1 else 'are'} exactly 0, which no "
                    "bit says (--zero-weights exact computes their filters twice, plus-one reads them as +1)",
                )
            if self.zero_weights is ZeroWeights.EXACT:
                sums = self._terms_of_zeros(node, scaled, filters)
                if sums is None:
                    return Reason(
                        "many-weights-zero",
                        f"{zeros:,} of its {filters.size:,} weights are exactly 0, and as small as it is, its filters "
                        "are faster as floats than twice as bits (--zero-weights plus-one reads them as +1)",
                    )
            scaled = zeros_to_plus_one(scaled)
            filters = zeros_to_plus_one(filters)
            split = split_weights(scaled)
        uniform = float(np.abs(operand.affine.scale[0]))
        if split is None and np.all(np.abs(operand.affine.scale) == uniform):
            sums = two_values(scaled, uniform, int(group))
            if sums is None:
                sums = few_values(scaled, uniform, int(group))
                if sums is not None and not self._pays(node, x, filters, len(sums.terms)):
                    return Reason(
                        "few-values",
                        "its weights take a few values, not two, and as small as it is, it is faster as floats than as "
                        f"the sum of {len(sums.terms)} binary layers",
                    )
        if split is None and sums is None:
            return _UNEQUAL_SCALES if split_weights(filters) is not None else FLOAT_WEIGHTS
        bias = bias_of(node)
        if bias is None:
            return Reason("computed-bias", "its bias is computed at run time")
        if node.op_type == "Conv":
            if filters.ndim not in (3, 4):
                return Reason("not-two-dimensional", f"it is a {filters.ndim - 2}-D convolution")
            if group > 1 and filters.shape[1] == 1:
                return _DEPTHWISE
        geometry = geometry_of(node, filters, size)
        padded = _padding(operand, geometry, filters.shape[2:], size[2:]) if node.op_type == "Conv" else (geometry, 0.0)
        if isinstance(padded, Reason) and is_binary(x) and operand.signs is not x:
            return self._check(node, unfolded(x), filters)
        if isinstance(padded, Reason):
            return padded
        if sums is not None:
            scale = scale_of_inputs(node, operand, filters, int(group))
            return sums if scale is None else sums.divided_by(np.broadcast_to(scale, filters.shape))
        assert split is not None
        signs, scales = split
        affine = Affine(scales * np.sign(operand.affine.scale[0]), sum_of_offsets(node, operand, filters, int(group)))
        factor = np.full(scales.shape, node.attributes.get_float("alpha", 1.0))
        affine = affine.then(Affine(factor, np.zeros_like(factor)))
        return BinaryProduct(node, operand, signs, affine, bias, *padded, zeros)

    def _pays(self, node: ir.Node, x: ir.Value, filters: npt.NDArray[np.generic], layers: int) -> bool:
        """True where so many binary layers of one input take no longer than one of floats, which are unpacked."""
        if self.cost is None:
            return True
        size, unpacked = (FLOAT_BYTES * int(np.prod(shape_of(value) or ())) for value in (node.outputs[0], x))
        macs = size // FLOAT_BYTES * int(np.prod(filters.shape[1:]))
        binary = self.cost(binary_macs=layers * macs, moved_bytes=(4 * layers - 3) * size, operators=2 * layers - 1)
        return binary < self.cost(float_macs=macs, moved_bytes=size + 2 * unpacked, operators=2)

    def _terms_of_zeros(
        self, node: ir.Node, scaled: npt.NDArray[np.generic], filters: npt.NDArray[np.generic]
    ) -> Terms | None:
        """How the target computes ±α_o and 0 fastest; None where that is with floats."""
        group = node.attributes.get_int("group", 1)
        channels, some = len(filters), len(rows_with_zeros(scaled))
        result = int(np.prod(shape_of(node.outputs[0]) or ()))
        macs, size = result * int(np.prod(filters.shape[1:])), FLOAT_BYTES * result
        single = node.op_type == "Conv" and filters.ndim == 4 and group == 1
        # In groups, a filter more is one in each of them.
        terms = zeros_twice(scaled, filters, every=group > 1)
        # Few filters more are little beside the layer, whatever it takes.
        if 2 * some <= channels:
            return terms
        if self.cost is None:
            return input_twice(scaled, filters) if single else terms
        # The second result is written, spread, and added to the first.
        added = self.cost(
            binary_macs=macs * (1 + some / channels), moved_bytes=5 * size + 3 * size * some / channels, operators=4
        )
        twice = self.cost(binary_macs=2 * macs, moved_bytes=size, operators=2)
        # Floats are unpacked in front.
        unpacked = FLOAT_BYTES * int(np.prod(shape_of(node.inputs[0]) or ())) if node.inputs[0] is not None else 0
        floats = self.cost(float_macs=macs, moved_bytes=size + 2 * unpacked, operators=2)
        if floats <= (min(added, twice) if single else added):
            return None
        return input_twice(scaled, filters) if single and twice < added else terms


def _padding(
    operand: BinaryOperand, geometry: ops.ConvGeometry, kernel: tuple[int, ...], size: tuple[int, ...]
) -> tuple[ops.ConvGeometry, float] | Reason:
    """The geometry with the operand's own pads, and what the signs are padded with; or why there is no such value."""
    if len(kernel) == 1:
        kernel, size = (1, *kernel), (1, *size)
    reached = any(_reaches_padding(window) for window in geometry.windows(kernel, size))
    own = any(operand.pads)
    zero = operand.preimage(0.0)
    if reached and zero is None:
        return Reason(
            "channel-dependent-padding", "its zero padding means different things for different channels of its input"
        )
    if reached and own and zero != operand.fill:
        return Reason("padded-twice", "it is padded twice, with different values")
    pads = tuple(a + b for a, b in zip(geometry.pads, operand.pads, strict=True))
    value = operand.fill if own else (zero if reached and zero is not None else 0.0)
    geometry = ops.ConvGeometry(
        geometry.strides, geometry.dilations, (pads[0], pads[1], pads[2], pads[3]), geometry.group
    )
    return geometry, value


def _reaches_padding(window: Window) -> bool:
    return window.begin > 0 or window.reached_end > 0


def _are_signs(filters: npt.NDArray[np.generic]) -> bool:
    """True for filters [O, …] of ±α_o.  One weight a filter is always "equal in magnitude": that says nothing."""
    return filters.ndim > 1 and filters.size > filters.shape[0] and split_weights(filters) is not None


def _why_transposed_stays(node: ir.Node) -> Reason | None:
    """Why a ConvTranspose, weights [C, O/group, …], with a binary input or binary weights is no binary layer; None for
    others.
    """
    filters = constant_of(node.inputs[1])
    if filters is None or constant_of(node.inputs[0]) is not None or node.inputs[0] is None:
        return None
    filters, is_binary_input = filters.swapaxes(0, 1), binary_operand(node.inputs[0]) is not None
    if _are_signs(filters) or (is_binary_input and takes_few_values(filters)):
        return _TRANSPOSED
    return FLOAT_WEIGHTS if is_binary_input else None


def _holds_signs(value: ir.Value) -> bool:
    """True for signs that are moved, padded with anything, scaled or shifted: as windows hold them, for one.

    A scale may be computed, as the mean magnitude of what the signs are of; it is smaller than they are.
    """
    node = value.producer()
    if node is None or is_binary(value):
        return node is not None
    step = affine_of(node)
    if step is not None:
        return _holds_signs(step[0])
    scaled = _scaled(node)
    if scaled is not None:
        return _holds_signs(scaled)
    moves = node.domain == "" and node.op_type in MOVES | {"Pad"}
    return moves and all(_holds_signs(source) for source in data_inputs(node))


def _scale_of_signs(x: ir.Value) -> str | None:
    """For what of a map a computed scale of the signs that `x` is differs; None where it is no such product."""
    node, shape = x.producer(), shape_of(x) or ()
    if node is None or node.domain != "" or node.op_type not in ("Mul", "Div") or len(shape) != 4:
        return None
    found = factors(node, shape)
    if found is None or binary_operand(found[0]) is None:
        return None
    given = shape_of(found[1]) or ()
    size = (1,) * (4 - len(given)) + given
    return "position" if size[1] == 1 else "channel"


def _are_scaled_signs(value: ir.Value) -> bool:
    """True for signs that are moved, joined and multiplied, with scales and with each other."""
    node = value.producer()
    if node is None or is_binary(value):
        return node is not None
    if node.domain != "":
        return False
    if node.op_type in MOVES:
        return all(_are_scaled_signs(source) for source in data_inputs(node))
    factors = [factor for factor in data_inputs(node) if constant_of(factor) is None]
    if node.op_type == "Mul" and len(factors) == 2 and len({shape_of(factor) for factor in factors}) == 1:
        return all(map(_are_scaled_signs, factors))
    return node.op_type in ("Mul", "Div", "Neg") and len(factors) == 1 and _are_scaled_signs(factors[0])


def _scaled(node: ir.Node) -> ir.Value | None:
    """Of a product with something smaller, as a number for each row or map that is computed, what is multiplied."""
    if node.domain != "" or node.op_type not in ("Mul", "Div"):
        return None
    size = shape_of(node.outputs[0])
    whole = [source for source in data_inputs(node) if size is not None and shape_of(source) == size]
    return whole[0] if len(whole) == 1 else None


def _zeros_reason(value: ir.Value) -> Reason:
    """Of a sign that was left alone, as two of ±1 take longer: where it stands, whose zeros they are, what to do."""
    node = _step_behind(value)
    line = None if node is None else node.metadata_props.get(SOURCE_KEY)
    place = f" ({line})" if line else ""
    return Reason(
        "zeros-by-design",
        f"its input is a torch.sign{place} of values that are 0 by design, which no bit says, and two take longer than "
        "floats: write torch.where(x >= 0, 1.0, -1.0), or give --sign-of-zero plus-one to read it so",
    )


def _is_step(value: ir.Value) -> bool:
    """True for signs, moved, scaled and joined with bits at most, of which some were left alone because zeros reach
    them.
    """
    return _step_behind(value) is not None


def _step_behind(value: ir.Value) -> ir.Node | None:
    """The first such sign; None where anything else is behind the value."""
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Sign":
        return node
    scaled = _scaled(node)
    if scaled is not None:
        return _step_behind(scaled)
    if node.op_type not in MOVES | {"Pad"}:
        return None
    found = None
    for source in data_inputs(node):
        if binary_operand(source) is not None:
            continue
        step = _step_behind(source)
        if step is None:
            return None
        found = found or step
    return found
