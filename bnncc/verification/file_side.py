"""The file's side of a verification: its variants in one runtime, compared with what the reference expects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np

from bnncc.inference.classes import same_classes
from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import Array
from bnncc.options import Head
from bnncc.targets.tflite.bitpack import unpack
from bnncc.targets.tflite.reader import Operator
from bnncc.targets.tflite.writer import Tensor
from bnncc.verification.integer_side import IntegerSide, as_floats
from bnncc.verification.reference_side import BinaryLayer, Expected, Point, first_input
from bnncc.verification.result import (
    CHANCE_OF_TIE,
    CHANCE_OF_ZERO,
    LayerCheck,
    RoundedCheck,
    SignCheck,
    StepCheck,
    Verification,
)
from bnncc.verification.tolerance import FLUSHED, channel_magnitude, channel_scale, largest_error, output_error
from bnncc.verification.variants import Variants, activation

# So many channels with wrong sums are named.
LISTED_CHANNELS = 4


class Variant:
    """A file, or a part of one, that is loaded anew for each run.

    An interpreter keeps every value that it yields.  The variants of a file yield the network's values several times
    over, and in several runtimes; to load one takes a hundredth of the time that it runs for.
    """

    def __init__(self, content: bytes, runtime: Runtime) -> None:
        """RuntimeError where the runtime does not take it."""
        self.content = content
        self.runtime = runtime
        self.output_shapes = runtime.load(content).output_shapes

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One array for each input, in the file's shapes and types, in; the outputs out."""
        return self.runtime.load(self.content).run(inputs)


class FileCheck:
    """One runtime's run of the file and of parts of it; `result` has what was found so far."""

    def __init__(self, variants: Variants, runtime: Runtime) -> None:
        self.variants = variants
        self.reference = reference = variants.reference
        self.runtime = runtime
        self.result = Verification(
            layers=[LayerCheck(layer.module) for layer in reference.layers],
            signs=[SignCheck(point.module) for point in reference.points],
            steps=[StepCheck(step.module, step.traced.op_type) for step in reference.steps],
            rounded=[
                RoundedCheck(reference.module_of(entry.operator), entry.dtype, entry.weight.size)
                for entry in reference.comparison.rounded
            ],
            runtime=runtime,
        )

    def is_refused(self) -> bool:
        """Load the file.  True, with the problem, where the runtime does not take it or yields other shapes."""
        comparison = self.reference.comparison
        if comparison.structural is not None:
            self._problem(f"the file is rounded, and {comparison.structural}")
            return True
        for operator, difference in comparison.problems:
            self._problem(f"layer '{self.reference.module_of(operator)}': {operator.name}: {difference}")
        try:
            declared = [tensor.shape for tensor in self._load_variants()]
            if self.layer_by_layer.output_shapes == declared:
                return False
            reason = "other shapes than declared"
        except RuntimeError as error:
            reason = str(error).strip()
        operators = self.reference.file.operators
        misshapen = [problem for operator in operators if (problem := self._misshapen(operator))]
        self._problem(f"{self.runtime.title} does not take the file: {'; '.join(misshapen) or reason}")
        return True

    def _misshapen(self, operator: Operator) -> str | None:
        """How the shapes that the interpreter gives one operator's outputs differ from those in the file."""
        file = self.reference.file
        inputs = file.activations(operator)
        name = f"{operator.name} '{operator.outputs[0].name}'"
        try:
            found = self.runtime.load(file.variant(list(dict.fromkeys(inputs)), operator.outputs)).output_shapes
        except RuntimeError as error:
            return f"{name}: {str(error).strip()}"
        declared = [tensor.shape for tensor in operator.outputs]
        return None if found == declared else f"{name} yields {found[0]}, not {declared[0]}"

    def _load_variants(self) -> list[Tensor]:
        """Load the file and what is cut out of it.  Returns the outputs of `layer_by_layer`."""
        reference, variants, load = self.reference, self.variants, partial(Variant, runtime=self.runtime)
        self.layer_by_layer = load(variants.layer_by_layer)
        self.integers = IntegerSide(reference, self.runtime)
        self.result.integers = self.integers.checks
        if reference.rounds:
            exposed = [*variants.exposed, *self.integers.tensors]
            self.layer_by_layer_rounded = load(reference.file.variant(variants.fed, exposed, split=variants.others))
        if reference.comparison.rounded:
            # The same operators twice, on the same inputs: as they are, and as float operators with the same weights.
            self.rounded_operators = load(variants.rounded_operators)
            self.float_operators = load(variants.float_operators)
        self.free_running = load(variants.free_running)
        if reference.layers:
            self.sums = load(variants.sums)
        return [*variants.in_full, *variants.computed_in_full]

    def check(self, expected: Expected) -> None:
        """Run the variants on one input."""
        self.result.inputs += 1
        if self.reference.layers:
            self._check_sums(expected)
        results = self.layer_by_layer.run(expected.fed)
        if self.reference.layers:
            self._check_whole_layers(expected, results)
        self._check_layer_by_layer(expected, results)
        self._check_free_running(expected)

    def check_zeros(self) -> None:
        """More zeros at a sign than chance explains are a problem, unless the user said how to read them."""
        for check in self.result.signs:
            if check.ties > CHANCE_OF_TIE * check.signs:
                self._problem(
                    f"sign '{check.module}': {check.ties:,} of {check.signs:,} values lie exactly on the threshold, "
                    "and the file takes them for the other side"
                )
            if check.vanished > CHANCE_OF_TIE * check.signs:
                self.result.vanishing_problems += self._problem(
                    f"sign '{check.module}': {check.vanished:,} of {check.signs:,} values are 0 because the positive "
                    "factor in front of it underflows, and the file takes the sign of what that factor scales"
                )
        if not self.reference.compiled.options.keeps_zeros:
            return
        for check in self.result.signs:
            if check.zeros > CHANCE_OF_ZERO * check.signs:
                self.result.zero_problems += self._problem(
                    f"sign '{check.module}': {check.zeros:,} of {check.signs:,} values are exactly 0, where PyTorch's "
                    "sign is 0 and a bit says +1"
                )

    # Sums and layers

    def _check_sums(self, expected: Expected) -> None:
        for check, found, sums in zip(self.result.layers, self.sums.run(expected.packed), expected.sums, strict=True):
            wrong = int(np.count_nonzero(found != sums))
            check.sums += found.size
            if wrong:
                check.wrong += wrong
                check.largest_error = max(check.largest_error, float(np.max(np.abs(found - sums))))
                check.where = check.where or _place(found != sums)
                self._problem(f"layer '{check.module}': its integer sums differ from the reference's ({check.where})")

    def _check_whole_layers(self, expected: Expected, layer_by_layer: Sequence[Array]) -> None:
        places = [place for place in self.variants.inferred if place is not None]
        # Layer by layer they have run on the bits of the points, which have a derivation of their own.
        if len(places) == len(self.reference.layers) and self._feeds_layers(expected):
            results = [layer_by_layer[place] for place in places]
        else:
            results = self._whole_layers.run(expected.packed)
        found = zip(self.reference.layers, self.result.layers, results, expected.results, strict=True)
        for layer, check, array, wanted in found:
            self._check_whole_layer(layer, check, array, wanted)

    @cached_property
    def _whole_layers(self) -> Variant:
        return Variant(self.variants.whole_layers, self.runtime)

    def _feeds_layers(self, expected: Expected) -> bool:
        """True where the bits that the file gets layer by layer are those that the layers read."""
        bits = {point.tensor: array for point, array in zip(self.reference.points, expected.bits, strict=True)}
        pairs = zip(self.reference.layer_inputs, expected.packed, strict=True)
        return all(tensor in bits and np.array_equal(bits[tensor], array) for tensor, array in pairs)

    def _check_whole_layer(self, layer: BinaryLayer, check: LayerCheck, found: Array, wanted: Array) -> None:
        if found.dtype == np.int32:
            what = "its thresholds"
            error = float(np.mean(unpack(found, layer.channels) != wanted))
            is_wrong = error > 0
            check.error = max(check.error, error)
        else:
            what = "its multipliers or biases"
            is_wrong = largest_error(found, wanted, layer.reference.result_bound(wanted)) > 1
            check.error = max(check.error, largest_error(found, wanted, channel_magnitude(wanted)))
        if is_wrong:
            self._problem(f"layer '{layer.module}': {what} are not those of the network")

    # Layer by layer

    def _check_layer_by_layer(self, expected: Expected, results: Sequence[Array]) -> None:
        """results: what the file yields, fed the reference's signs and steps."""
        floats = sum(point.quantized for point in self.reference.points)
        end = floats + len(self.reference.file.outputs)
        last = end + len(self.reference.floats)
        packed = last + len(self.variants.rounded_inputs)
        steps = len(results) - len(self.reference.steps)
        found = self._by_point(results[:floats], results[packed:steps])
        points = zip(self.reference.points, self.result.signs, found, *expected.at_points, strict=True)
        for point, check, array, signs, operand, bound, vanished in points:
            self._check_sign(point, check, array, signs, operand, bound, vanished)
        for check, zeros in zip(self.result.signs, expected.zeros, strict=True):
            check.zeros += zeros
        for check, array, wanted, where in zip(self.result.steps, results[steps:], *expected.at_steps, strict=True):
            self._check_step(check, array, wanted, *where.at(array))
        self._check_floats(expected, results[end:last])
        names = [value.name for value in self.reference.compiled.graph.graph.outputs]
        outputs = zip(names, results[floats:end], expected.outputs, expected.output_bounds, strict=True)
        for name, array, output, bound in outputs:
            error = output_error(array, output)
            self.result.output_error = max(self.result.output_error, error)
            if largest_error(array, output, bound) > 1:
                self._output_problem(f"output '{name}' is off by {error:.2g} of its largest magnitude", expected)
        if self.result.rounded:
            self._check_rounded_operators(results[last:packed])
        if self.reference.rounds:
            self._check_rounded_file(expected, results[end:last])

    def _output_problem(self, problem: str, expected: Expected) -> None:
        """A wrong output is the network's own zeros where there are such: it reads them where the file has bits."""
        zeros = sum(expected.zeros) if self.reference.compiled.options.keeps_zeros else 0
        if zeros:
            self.result.zero_problems += self._problem(
                f"{problem} on an input on which {zeros:,} signs in front read an exact 0"
            )
        else:
            self._problem(problem)

    def _check_sign(
        self, point: Point, check: SignCheck, array: Array, signs: Array, operand: Array | None, bound: Array | None,
        vanished: Array | None,
    ) -> None:  # fmt: skip
        check.signs += signs.size
        flipped = (array < 0) != (signs < 0)
        near = array if operand is None else operand
        allowed = channel_scale(near) if bound is None else bound
        if point.quantized and operand is not None and point.correspondence.keeps_operand:
            relative = largest_error(array, near, channel_magnitude(near))
            check.error = max(check.error, relative)
            if largest_error(array, near, allowed) > 1:
                self._problem(f"sign '{check.module}': the values that it reads are off by {relative:.2g}")
        count = int(np.count_nonzero(flipped))
        if not count:
            return
        check.flipped += count
        if vanished is not None:
            check.vanished += int(np.count_nonzero(flipped & vanished))
            flipped &= ~vanished
            count = int(np.count_nonzero(flipped))
            if not count:
                return
        check.largest_flip = max(check.largest_flip, float((np.abs(near) / channel_magnitude(near))[flipped].max()))
        explained = int(np.count_nonzero(np.abs(near)[flipped] <= np.broadcast_to(allowed, near.shape)[flipped]))
        check.explained += explained
        # Where nothing was rounded, or all is a multiple of one number, a 0 is there by design.
        by_design = np.full(near.shape, point.is_exact) | (np.broadcast_to(allowed, near.shape) <= FLUSHED)
        check.ties += int(np.count_nonzero(flipped & (near == 0) & (signs != 0) & by_design))
        if explained < count:
            self._problem(f"sign '{check.module}': flipped signs are not explained by rounding")

    def _check_step(self, check: StepCheck, array: Array, wanted: Array, distance: Array, bound: Array) -> None:
        differs = array != wanted
        count = int(np.count_nonzero(differs))
        check.values += wanted.size
        check.differing += count
        check.ties += int(np.count_nonzero(distance <= bound))
        explained = int(np.count_nonzero((distance <= bound)[differs]))
        check.explained += explained
        if explained < count:
            self._problem(f"{check.operator} '{check.module}': values differ, and not by rounding")

    def _check_floats(self, expected: Expected, floats: Sequence[Array]) -> None:
        """Each float operator by itself, fed the file's own values: an error is named where it arises, and only there.

        Binary convolutions are checked as whole layers.
        """
        for value, array, wanted, bound in self.reference.local(expected, floats):
            node = value.producer()
            if node is None or largest_error(array, wanted, bound) <= 1:
                continue
            relative = largest_error(array, wanted, np.abs(wanted).max(initial=0.0))
            self._problem(f"{self.reference.title_of(node)}: its floats are off by {relative:.2g}")

    # Rounded weights

    def _check_rounded_operators(self, inputs: Sequence[Array]) -> None:
        """Each operator with rounded weights against a float operator with the same weights, on the same input."""
        given = dict(zip(self.variants.rounded_inputs, inputs, strict=True))
        results = zip(self.rounded_operators.run(inputs), self.float_operators.run(inputs), strict=True)
        entries = self.reference.comparison.rounded
        for entry, check, (array, wanted) in zip(entries, self.result.rounded, results, strict=True):
            allowed = channel_scale(wanted) + entry.input_error(given[activation(entry.twin)])
            error = largest_error(array, wanted, allowed)
            check.error = max(check.error, error)
            if not error <= 1:
                self._problem(
                    f"layer '{check.module}': with {check.dtype} weights it is off by {error:.2g} times "
                    "what rounding its input explains"
                )

    def _check_rounded_file(self, expected: Expected, full: Sequence[Array]) -> None:
        """The file with its rounding, fed the reference's signs.

        full: what the float32 file has for each of the reference's `floats`.
        """
        results = self.layer_by_layer_rounded.run(expected.fed)
        floats = sum(point.quantized for point in self.reference.points)
        end = floats + len(expected.outputs)
        last = end + len(self.integers.tensors)
        self._count_rounded_flips(expected, [*results[:floats], *results[last:]], results[floats:end])
        tensors = [*self.reference.file.inputs, *self.integers.tensors]
        values = {t.index: array for t, array in zip(tensors, [*expected.feeds, *results[end:last]], strict=True)}
        known = {t.index: array for t, array in zip(self.reference.floats.values(), full, strict=True)}
        for problem in self.integers.check(values, known):
            self._problem(problem)

    def _count_rounded_flips(self, expected: Expected, at_points: Sequence[Array], outputs: Sequence[Array]) -> None:
        """What rounding does to signs and outputs: counted, no problem."""
        floats = sum(point.quantized for point in self.reference.points)
        by_point = self._by_point(at_points[:floats], at_points[floats:])
        for check, array, signs, operand in zip(
            self.result.signs, by_point, expected.signs, expected.operands, strict=True
        ):
            flipped = (array < 0) != (signs < 0)
            if not flipped.any():
                continue
            check.rounded_flips += int(np.count_nonzero(flipped))
            if operand is not None:
                near = np.abs(operand)
                largest = near.max(axis=tuple(range(near.ndim - 1)), keepdims=True)
                distance = float((near / np.where(largest == 0, 1, largest))[flipped].max())
                check.largest_rounded_flip = max(check.largest_rounded_flip, distance)
        error = max(map(output_error, outputs, expected.outputs))
        self.result.rounded_error = max(self.result.rounded_error, error)
        if not np.isfinite(error):
            self._problem("with what is rounded the outputs are no numbers")

    # Free-running

    def _check_free_running(self, expected: Expected) -> None:
        results = self.free_running.run(expected.feeds)
        outputs = results[: len(expected.outputs)]
        floats = len(outputs) + sum(point.quantized for point in self.reference.points)
        steps = len(results) - len(self.reference.steps)
        found = self._by_point(results[len(outputs) : floats], results[floats:steps])
        any_flips = self._count_free_steps(expected, results[steps:])
        points = zip(self.reference.points, self.result.signs, found, *expected.at_points, strict=True)
        for _, check, array, signs, operand, bound, vanished in points:
            flipped = (array < 0) != (signs < 0)
            count = int(np.count_nonzero(flipped))
            # Rounding moves every float: how far is known for each operator, not for all of them together.
            if count and not any_flips and not self.reference.rounds:
                near = array if operand is None else operand
                allowed = channel_scale(near) if bound is None else np.broadcast_to(bound, near.shape)
                unexplained = flipped & (np.abs(near) > allowed)
                if np.any(unexplained if vanished is None else unexplained & ~vanished):
                    self._problem(f"sign '{check.module}': the first signs to flip free-running are not near zero")
            check.started += 0 if any_flips else count
            check.free_running_flips += count
            any_flips |= bool(count)
        if not any_flips and not self.reference.rounds:
            for array, output, bound in zip(outputs, expected.outputs, expected.output_bounds, strict=True):
                if largest_error(array, output, bound) > 1:
                    error = output_error(array, output)
                    self._problem(f"free-running outputs are off by {error:.2g}, and no sign flipped on the way")
        error = max(map(output_error, outputs, expected.network_outputs))
        self.result.free_error = max(self.result.free_error, error)
        same = same_classes(
            outputs[0],
            expected.network_outputs[0],
            are_indices=self.reference.compiled.options.head is Head.ARGMAX,
        )
        if same is not None:
            self.result.agreeing = (self.result.agreeing or 0) + same

    def _count_free_steps(self, expected: Expected, found: Sequence[Array]) -> bool:
        """Count the steps that differ free-running; True where any does, with which signs may flip behind it."""
        counts = [int(np.count_nonzero(array != wanted)) for array, wanted in zip(found, expected.steps, strict=True)]
        for check, count in zip(self.result.steps, counts, strict=True):
            check.free_running_differing += count
        return any(counts)

    def _by_point(self, floats: Sequence[Array], packed: Sequence[Array]) -> list[Array]:
        """What the file has at each point, channels last: the float that a sign reads, or ±1 from bits."""
        tensors = [first_input(point.operator) for point in self.reference.points if point.quantized]
        full = self.variants.of_full(tensors)
        from_floats, from_bits = map(as_floats, tensors, full, floats), iter(packed)
        return [
            next(from_floats) if point.quantized else unpack(next(from_bits), point.channels)
            for point in self.reference.points
        ]

    def _problem(self, text: str) -> bool:
        """True where it is a new one."""
        is_new = text not in self.result.problems
        if is_new:
            self.result.problems.append(text)
        return is_new


def _place(wrong: Array) -> str:
    """Where a stored array [N, H, W, O] or [N, O] of bool is true."""
    *positions, channels = (np.unique(indices) for indices in np.nonzero(wrong))
    listed = ", ".join(map(str, channels[:LISTED_CHANNELS])) + (", …" if len(channels) > LISTED_CHANNELS else "")
    places = [f"{'channel' if len(channels) == 1 else 'channels'} {listed}"]
    if len(positions) == 3:
        for name, index in zip(("rows", "columns"), positions[1:], strict=True):
            places.append(f"{name} {index[0]} to {index[-1]}")
    return "; ".join(places)
