"""Prove that a compiled file computes what the network computes.

Two float programs that are both right differ by rounding, and near zero a rounding flips a sign, which then spreads.
So the file is looked at in three ways, all in LCE's own interpreter, all against the traced network in ONNX Runtime
(and PyTorch):

1. *Sums.*  Every LceBconv2d of the file, with its bits, strides and padding as they are but multiplier 1 and bias 0,
   is fed the reference's own input.  What it yields are the integer sums; they must equal the reference's, all of them.
2. *Layer by layer.*  The file's packed tensors are fed the reference's own signs.  Then no flip can spread: the result
   of every layer with weights, every float that a sign reads, and every output may be off by rounding only, channel by
   channel, and a sign may differ only where |x| < ε.  The layer in which an error starts is named.
3. *Free-running.*  The file as a user runs it: largest error of the outputs, agreement of the classes.

A bit cannot say 0, which PyTorch's sign yields for 0.  Such zeros are counted, and 1. and 2. compare with the network
whose sign(0) is +1, so that they do not hide anything else; 3. compares with PyTorch as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional as F

from bnncc import ops
from bnncc.compiler import CompiledModel
from bnncc.evaluate import Array
from bnncc.graph import CONV_KEY, MIRRORED_KEY, MODULE_KEY, new_constant, shape_of, sole_consumer
from bnncc.rounding import ROUNDING
from bnncc.runners import LceRunner, OrtRunner
from bnncc.targets.tflite.bitpack import bitpack
from bnncc.targets.tflite.lowerings.lce import PACKED_SUFFIX
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor

# Operators with weights, in whose 4-D results the file has the channels last.  What is fused into them or corrects them
# (an activation, the border of a one-padded convolution) is compared together with them.
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", ops.BINARY_CONV}
FUSED = {"Relu", "Clip", "Add"}
# Rounding of terms that cancel in one channel, relative to the largest magnitude over all channels: a tenth of what
# ROUNDING grants to a channel's own magnitude.  A parameter of one channel that is off by 1 % is far above both.
CANCELLATION = ROUNDING / 10

# Told with the outcome of each input: (how many are done, how many there are).
Progress = Callable[[int, int], None]


@dataclass
class LayerCheck:
    """One LceBconv2d: how many integer sums were compared, how many differ, by how much at most."""

    module: str
    sums: int = 0
    wrong: int = 0
    largest_error: float = 0.0


@dataclass
class SignCheck:
    """One LceQuantize: the signs compared with the reference's own values upstream.

    flipped: signs that differ; explained: of those, where |x| < ε in the reference; largest_flip: the largest |x| /
    scale of a flipped sign.  zeros: inputs that are exactly 0, where PyTorch's sign is 0 and a bit says +1.  error:
    the largest error of x relative to its largest magnitude.
    """

    module: str
    signs: int = 0
    flipped: int = 0
    explained: int = 0
    largest_flip: float = 0.0
    zeros: int = 0
    error: float = 0.0
    free_running_flips: int = 0


@dataclass
class Verification:
    """What was found.  All counts are over all inputs.

    output_error: largest error of the outputs fed the reference's signs, relative to their largest magnitude.
    free_error: the same, free-running, against PyTorch itself (ONNX Runtime for a .onnx file).
    agreeing: inputs of which both name the same classes (None where the first output is no row of logits).
    problems: what rounding does not explain, one sentence each.
    """

    inputs: int = 0
    layers: list[LayerCheck] = field(default_factory=list)
    signs: list[SignCheck] = field(default_factory=list)
    output_error: float = 0.0
    free_error: float = 0.0
    agreeing: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True where the file is proven on these inputs."""
        return not self.problems


def verify(
    compiled: CompiledModel, inputs: Sequence[Sequence[Array]], progress: Progress | None = None
) -> Verification:
    """Compare the file with the reference on each of `inputs` (one float32 array for each graph input, NCHW)."""
    verifier = _Verifier(compiled)
    if verifier.refused():
        return verifier.finish()
    for index, arrays in enumerate(inputs):
        verifier.check(arrays)
        if progress is not None:
            progress(index + 1, len(inputs))
    return verifier.finish()


@dataclass
class _Conv:
    """A BinaryConv of the graph with its operator in the file and its convolution in the traced network."""

    node: ir.Node
    operator: Operator
    traced: ir.Node
    check: LayerCheck


@dataclass
class _Packed:
    """A packed tensor of the file: its LceQuantize, the value it packs, and its counterparts in the traced network.

    signs: the traced ±1 value, None where a pass made this one.  operand: the traced value whose sign it is, if known.
    """

    operator: Operator
    value: ir.Value
    signs: ir.Value | None
    operand: ir.Value | None
    check: SignCheck


@dataclass
class _Watched:
    """A float of the file that is compared with the traced value of the same name.  what: how messages name it."""

    tensor: Tensor
    traced: ir.Value
    what: str


class _Verifier:
    def __init__(self, compiled: CompiledModel) -> None:
        self.compiled = compiled
        self.file = TfliteFile(compiled.content)
        self.result = Verification()
        self.traced = compiled.traced.model.clone()
        traced = self.traced
        self.traced_values = {value.name: value for node in traced.graph for value in node.outputs}
        self.traced_values.update({value.name: value for value in traced.graph.inputs})
        self.values = {value.name: value for node in compiled.graph.graph for value in node.outputs}
        self.packed = self._find_packed()
        self._count_zero_as_one()
        self.convs = self._find_convs()
        self.watched = self._find_watched()
        self._prepare_reference()

    # What is compared with what

    def _find_convs(self) -> list[_Conv]:
        producers = {tensor.name: operator for operator in self.file.operators for tensor in operator.outputs}
        convs = []
        for node in self.compiled.graph.graph:
            if not ops.is_binary_conv(node):
                continue
            traced = self.traced_values[node.metadata_props[CONV_KEY]].producer()
            assert traced is not None
            check = LayerCheck(node.metadata_props.get(MODULE_KEY, ""))
            self.result.layers.append(check)
            convs.append(_Conv(node, producers[node.outputs[0].name or ""], traced, check))
        return convs

    def _find_packed(self) -> list[_Packed]:
        found = []
        for operator in self.file.operators:
            if operator.name != "LceQuantize":
                continue
            name = operator.outputs[0].name.removesuffix(PACKED_SUFFIX)
            value = self.values[name]
            producer = value.producer()
            sign_input = producer.inputs[0] if producer is not None and ops.is_sign(producer) else value
            operand = self.traced_values.get(sign_input.name) if sign_input is not None else None
            check = SignCheck((producer.metadata_props.get(MODULE_KEY) if producer is not None else None) or name)
            self.result.signs.append(check)
            found.append(_Packed(operator, value, self.traced_values.get(name), operand, check))
        return found

    def _count_zero_as_one(self) -> None:
        """Let everything behind a sign of the reference read +1 where it is 0; the sign itself is left as it is."""
        half = new_constant(self.traced.graph, np.array(0.5, np.float32), "half")
        for signs in {packed.signs for packed in self.packed}:
            node = signs.producer() if signs is not None else None
            if signs is None or node is None:
                continue
            shifted = ir.node("Add", [signs, half])
            renewed = ir.node("Sign", [shifted.outputs[0]])
            for value, suffix in ((shifted.outputs[0], "shifted"), (renewed.outputs[0], "zero_is_one")):
                value.name, value.shape, value.type = f"{signs.name}/{suffix}", signs.shape, signs.type
            for user, index in list(signs.uses()):
                if user is not shifted:
                    user.replace_input_with(index, renewed.outputs[0])
            self.traced.graph.insert_after(node, [shifted, renewed])

    def _find_watched(self) -> dict[ir.Value, _Watched]:
        graph = self.compiled.graph.graph
        watched = {}
        for node in graph:
            if node.op_type in WEIGHTED and node.domain in ("", ops.DOMAIN):
                value, found = node.outputs[0], self._counterparts(node.outputs[0])
                following = sole_consumer(graph, value)
                if found is None and following is not None and following.op_type in FUSED:
                    value, found = following.outputs[0], self._counterparts(following.outputs[0])
                rank = len(shape_of(value) or ())
                if found is not None and rank == (2 if node.op_type in ("Gemm", "MatMul") else 4):
                    watched[value] = _Watched(*found, f"layer '{node.metadata_props.get(MODULE_KEY) or node.name}'")
        for packed in self.packed:
            producer = packed.value.producer()
            x = producer.inputs[0] if producer is not None and ops.is_sign(producer) else packed.value
            if x is not None and x not in watched and packed.operand is not None and self._keeps_operand(packed):
                watched[x] = _Watched(_input(packed.operator), packed.operand, f"sign '{packed.check.module}'")
        return watched

    def _counterparts(self, value: ir.Value) -> tuple[Tensor, ir.Value] | None:
        """The tensor of the file and the traced value that `value` corresponds to."""
        tensor, traced = self.file.by_name.get(value.name or ""), self.traced_values.get(value.name)
        return None if tensor is None or traced is None or tensor.dtype != "float32" else (tensor, traced)

    def _prepare_reference(self) -> None:
        """One run of the traced network yields everything that is compared."""
        wanted: list[ir.Value] = []
        for conv in self.convs:
            wanted += [value for value in conv.traced.inputs[:2] if value is not None]
        for packed in self.packed:
            wanted += [value for value in (packed.signs, packed.operand) if value is not None]
        wanted += [watched.traced for watched in self.watched.values()]
        graph = self.traced.graph
        fixed = set(graph.inputs) | set(graph.initializers.values())
        self.wanted = [value for value in dict.fromkeys(wanted) if value not in fixed]
        self.constants = {value: value.const_value.numpy() for value in wanted if value.const_value is not None}
        self.reference = OrtRunner(self.traced, self.wanted)

    def refused(self) -> bool:
        """True, with the problem, where LCE's interpreter does not take the file."""
        try:
            self._prepare_variants()
        except RuntimeError as error:
            misshapen = [problem for operator in self.file.operators if (problem := self._misshapen(operator))]
            reason = "; ".join(misshapen) or str(error).strip()
            self._problem(f"LCE's interpreter does not take the file: {reason}")
            return True
        return False

    def _misshapen(self, operator: Operator) -> str | None:
        """How the shapes that the interpreter gives one operator's outputs differ from those in the file."""
        inputs = [tensor for tensor in operator.inputs if tensor is not None and self.file.data(tensor) is None]
        name = f"{operator.name} '{operator.outputs[0].name}'"
        try:
            found = LceRunner(self.file.variant(list(dict.fromkeys(inputs)), operator.outputs)).output_shapes
        except RuntimeError as error:
            return f"{name}: {str(error).strip()}"
        declared = [tensor.shape for tensor in operator.outputs]
        return None if found == declared else f"{name} yields {found[0]}, not {declared[0]}"

    def _prepare_variants(self) -> None:
        packed_tensors = [packed.operator.outputs[0] for packed in self.packed]
        floats = [_input(packed.operator) for packed in self.packed]
        inputs, outputs = list(self.file.inputs), list(self.file.outputs)
        watched = [watched.tensor for watched in self.watched.values()]
        self.seen = [tensor for tensor in dict.fromkeys([*floats, *watched, *outputs]) if tensor not in inputs]
        self.layer_by_layer = LceRunner(self.file.variant([*inputs, *packed_tensors], self.seen))
        self.free_running = LceRunner(self.file.variant(inputs, [*outputs, *floats]))
        if self.convs:
            units: dict[int, Array] = {}
            for conv in self.convs:
                multiplier, bias = conv.operator.inputs[2], conv.operator.inputs[3]
                assert multiplier is not None
                assert bias is not None
                units[multiplier.index] = np.ones(multiplier.shape, np.float32)
                units[bias.index] = np.zeros(bias.shape, np.float32)
            sums = [conv.operator.outputs[0] for conv in self.convs]
            self.sums = LceRunner(self.file.variant(packed_tensors, sums, units))

    # One input

    def check(self, arrays: Sequence[Array]) -> None:
        """Run the reference and the three variants on one input."""
        self.result.inputs += 1
        graph = self.traced.graph
        results = self.reference.run(arrays)
        outputs = results[: len(graph.outputs)]
        reference = dict(self.constants)
        reference.update(zip(graph.inputs, arrays, strict=True))
        reference.update(zip(self.wanted, results[len(graph.outputs) :], strict=True))
        signs = [self._reference_signs(packed, reference) for packed in self.packed]
        bits = [
            bitpack(self._as_stored(packed.value, array, binary=True))
            for packed, array in zip(self.packed, signs, strict=True)
        ]
        if self.convs:
            self._check_sums(bits, reference)
        feeds = [self.compiled.as_stored(array) for array in arrays]
        seen = dict(zip(self.file.inputs, feeds, strict=True))
        seen.update(zip(self.seen, self.layer_by_layer.run([*feeds, *bits]), strict=True))
        self._check_floats(seen, reference)
        for packed, expected in zip(self.packed, signs, strict=True):
            self._check_signs(packed, seen[_input(packed.operator)], expected, reference)
        stored_outputs = [self.compiled.as_stored(array) for array in outputs]
        for value, tensor, expected in zip(graph.outputs, self.file.outputs, stored_outputs, strict=True):
            array = seen[tensor]
            error = _relative(array, expected)
            self.result.output_error = max(self.result.output_error, error)
            if error > ROUNDING:
                self._problem(f"output '{value.name}' is off by {error:.2g} of its largest magnitude")
        self._check_free_running(feeds, stored_outputs, arrays, signs, reference)

    def _check_sums(self, bits: Sequence[Array], reference: dict[ir.Value, Array]) -> None:
        for conv, sums in zip(self.convs, self.sums.run(bits), strict=True):
            expected = self._as_stored(conv.node.outputs[0], _integer_sums(conv, reference))
            wrong = sums != expected if sums.shape == expected.shape else np.ones(sums.shape, bool)
            conv.check.sums += sums.size
            if np.any(wrong):
                conv.check.wrong += int(np.count_nonzero(wrong))
                error = float(np.max(np.abs(sums - expected))) if sums.shape == expected.shape else float("inf")
                conv.check.largest_error = max(conv.check.largest_error, error)
                self._problem(f"layer '{conv.check.module}': integer sums differ from the reference's")

    def _check_floats(self, seen: dict[Tensor, Array], reference: dict[ir.Value, Array]) -> None:
        """Compare what is watched, in the graph's order, and name where an error starts: not where it spreads to."""
        spread: set[ir.Value] = set()
        signs = {packed.value for packed in self.packed}
        for node in self.compiled.graph.graph:
            spreads = any(value in spread for value in node.inputs)
            for value in node.outputs:
                watched = self.watched.get(value)
                if value in signs or (watched is None and not spreads):
                    continue
                if watched is not None:
                    expected = self._as_stored(value, reference[watched.traced])
                    excess = _channel_excess(seen[watched.tensor], expected)
                    if excess <= 1:
                        continue
                    if not spreads:
                        self._problem(f"{watched.what}: floats are off by {excess:.2g} times what rounding explains")
                spread.add(value)

    def _check_signs(self, packed: _Packed, array: Array, signs: Array, reference: dict[ir.Value, Array]) -> None:
        check = packed.check
        expected = self._as_stored(packed.value, signs)
        check.signs += expected.size
        flipped = (array < 0) != (expected < 0)
        count = int(np.count_nonzero(flipped))
        check.flipped += count
        operand = reference.get(packed.operand) if packed.operand is not None else None
        near = array if operand is None else self._as_stored(packed.value, operand)
        check.zeros += int(np.count_nonzero(signs == 0))
        scale = float(np.max(np.abs(near), initial=0.0))
        if operand is not None and packed.operand is not None and self._keeps_operand(packed):
            check.error = max(check.error, _relative(array, near))
        if count:
            distance = np.abs(near[flipped]) / (scale or 1.0)
            check.largest_flip = max(check.largest_flip, float(distance.max()))
            explained = int(np.count_nonzero(distance <= ROUNDING))
            check.explained += explained
            if explained < count:
                self._problem(f"sign '{check.module}': flipped signs are not explained by rounding")

    def _check_free_running(
        self,
        feeds: Sequence[Array],
        expected: Sequence[Array],
        arrays: Sequence[Array],
        signs: Sequence[Array],
        reference: dict[ir.Value, Array],
    ) -> None:
        results = self.free_running.run(feeds)
        outputs = results[: len(expected)]
        floats = results[len(expected) :]
        flips: list[int] = []
        for packed, array, wanted in zip(self.packed, floats, signs, strict=True):
            flipped = (array < 0) != (self._as_stored(packed.value, wanted) < 0)
            count = int(np.count_nonzero(flipped))
            if count and not any(flips) and not self._near_zero(packed, array, flipped, reference):
                self._problem(f"sign '{packed.check.module}': the first signs that flip free-running are not near zero")
            flips.append(count)
            packed.check.free_running_flips += count
        against_graph = max(map(_relative, outputs, expected))
        if against_graph > ROUNDING and not any(flips):
            self._problem(f"free-running outputs are off by {against_graph:.2g}, and no sign flipped on the way")
        if self.compiled.traced.run_module is not None:
            # PyTorch may flip signs against ONNX Runtime, too; then it must do so by rounding alone.
            results = [self.compiled.as_stored(array) for array in self.compiled.traced.run_module(list(arrays))]
            if max(map(_relative, expected, results)) > ROUNDING:
                self.compiled.traced.check_against_module([list(arrays)])
            expected = results
        self.result.free_error = max(self.result.free_error, *map(_relative, outputs, expected))
        if expected[0].ndim == 2 and expected[0].shape[1] > 1:
            same = np.argmax(outputs[0], axis=1) == np.argmax(expected[0], axis=1)
            self.result.agreeing = (self.result.agreeing or 0) + int(np.all(same))

    def _near_zero(self, packed: _Packed, array: Array, flipped: Array, reference: dict[ir.Value, Array]) -> bool:
        """True where every flipped sign's operand is within rounding of zero in the reference."""
        operand = reference.get(packed.operand) if packed.operand is not None else None
        near = array if operand is None else self._as_stored(packed.value, operand)
        return bool(np.all(np.abs(near[flipped]) <= ROUNDING * np.max(np.abs(near))))

    def finish(self) -> Verification:
        """The findings."""
        return self.result

    # Between the reference's NCHW and the file's layout

    def _reference_signs(self, packed: _Packed, reference: dict[ir.Value, Array]) -> Array:
        """The reference's signs, NCHW: its own ±1 value (0 where it is exactly 0), or the sign of its operand."""
        if packed.signs is not None:
            # Behind a straight-through estimator the traced value is ±1 up to its rounding.
            return np.rint(reference[packed.signs])
        if packed.operand is None:
            raise AssertionError(f"nothing in the traced network corresponds to {packed.value.name}")
        return np.sign(reference[packed.operand])

    def _keeps_operand(self, packed: _Packed) -> bool:
        producer = packed.value.producer()
        return producer is None or producer.inputs[0] is None or producer.inputs[0].name in self.traced_values

    def _as_stored(self, value: ir.Value, array: Array, *, binary: bool = False) -> Array:
        """A reference value as the file stores `value`: channels last, rotated in the mirrored frame; 0 is +1 in
        bits.
        """
        if value.metadata_props.get(MIRRORED_KEY):
            array = array[..., ::-1, ::-1]
        if array.ndim > 2:
            array = np.moveaxis(array, 1, -1)
        return np.ascontiguousarray(np.where(array < 0, -1.0, 1.0) if binary else array)

    def _problem(self, text: str) -> None:
        if text not in self.result.problems:
            self.result.problems.append(text)


def _integer_sums(conv: _Conv, reference: dict[ir.Value, Array]) -> Array:
    """The reference convolution's sums of ±1 products, from its own input and the signs of its own weights, NCHW.

    float32 holds them exactly (they are below 2^24).  Where the file pads with +1 and corrects later, the frame's
    share, which the correction takes away again, is added.
    """
    x, weight = (
        torch.from_numpy(np.sign(np.rint(_scaled(reference[value])))) for value in conv.traced.inputs[:2] if value
    )
    geometry = ops.ConvGeometry.of(conv.traced, weight.shape[2:], x.shape[2:])
    sums = _convolve(x, weight, geometry, 0.0)
    if conv.node.attributes["pad_value"].as_float() == 1.0:
        frame = _convolve(torch.zeros_like(x[:1]), weight, geometry, 1.0)
        sums = sums + frame
    return sums.numpy()


def _scaled(array: Array) -> Array:
    """±α per output channel (or ±1 with a residue's rounding) as ±1, so that rounding to an integer leaves the sign."""
    magnitude = np.abs(array).reshape(array.shape[0], -1).max(axis=1).reshape(-1, *(1,) * (array.ndim - 1))
    scaled: Array = array / np.where(magnitude == 0, 1, magnitude)
    return scaled


def _convolve(x: torch.Tensor, weight: torch.Tensor, geometry: ops.ConvGeometry, pad_value: float) -> torch.Tensor:
    top, left, bottom, right = geometry.pads
    padded = F.pad(x, (left, right, top, bottom), value=pad_value)
    return F.conv2d(padded, weight, None, geometry.strides, 0, geometry.dilations, geometry.group)


def _relative(array: Array, reference: Array) -> float:
    scale = float(np.max(np.abs(reference), initial=0.0))
    difference = float(np.max(np.abs(array - reference), initial=0.0))
    if np.isnan(difference):
        return float("inf")
    return difference / scale if scale else difference


def _channel_excess(array: Array, reference: Array) -> float:
    """The largest error over the error that rounding explains; channels are the last axis.

    Explained is ROUNDING of the channel's largest magnitude, and CANCELLATION of that of all channels.
    """
    if array.shape != reference.shape:
        return float("inf")
    rows = np.abs(reference).reshape(-1, reference.shape[-1])
    magnitude = rows.max(axis=0, initial=0.0)
    allowed = ROUNDING * magnitude + CANCELLATION * magnitude.max(initial=0.0)
    error = np.abs(array - reference).reshape(rows.shape).max(axis=0, initial=0.0)
    if np.any(np.isnan(error)):
        return float("inf")
    return float(np.max(error / np.where(allowed == 0, np.finfo(np.float32).tiny, allowed), initial=0.0))


def _input(operator: Operator) -> Tensor:
    tensor = operator.inputs[0]
    assert tensor is not None
    return tensor
