"""The file and what is cut out of it, as bytes: made once, for all runtimes that it is verified in.

    sums           each LceBconv2d by itself, with its sums as they are; fed the reference's bits
    whole layers   each LceBconv2d by itself; fed the same
    layer by layer the file, each packed tensor fed; all floats are outputs, and what makes the packed tensors
    free-running   the file, with what it has at each sign as outputs

A layer that reads a packed tensor which is fed anyway, and whose result is an output anyway, has run as it is where the
file runs layer by layer: most do, and only the others need "whole layers".
"""

from __future__ import annotations

from functools import cached_property

from bnncc.targets.tflite.reader import Operator
from bnncc.targets.tflite.writer import Tensor
from bnncc.verification.reference_side import BinaryLayer, Reference, first_input


class Variants:
    """Of `reference.file`, and of `reference.full` where weights are rounded.

    Attributes:
        floats: what the LceQuantizes read.
        others: the packed tensors that other operators make.
        steps: the results of roundings, comparisons and choices.
        fed: what "layer by layer" takes.
        rounded_inputs: what the operators with rounded weights read, of the float32 file.
        in_full: what "layer by layer" yields, of the float32 file; behind it what makes `computed_in_full`.
        inferred: for each layer, where "layer by layer" has its result; None where it does not run there as it is.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        file, points = reference.file, reference.points
        self.floats = [first_input(point.operator) for point in points if point.quantized]
        self.others = [point.tensor for point in points if not point.quantized]
        self.steps = [step.tensor for step in reference.steps]
        self.exposed = [*self.floats, *file.outputs]
        self.fed = [*file.inputs, *(point.tensor for point in points), *self.steps]
        rounded = reference.comparison.rounded
        self.rounded_inputs = list(dict.fromkeys(activation(entry.twin) for entry in rounded))
        self.in_full = [*self.of_full(self.exposed), *reference.floats.values(), *self.rounded_inputs]
        self.computed_in_full = self.of_full([*self.others, *self.steps])
        self.inferred = [self._place(layer) for layer in reference.layers]

    def of_full(self, tensors: list[Tensor]) -> list[Tensor]:
        """The float32 file's tensors for the file's own."""
        return [self.reference.comparison.tensors[tensor.index] for tensor in tensors]

    def _place(self, layer: BinaryLayer) -> int | None:
        if self.reference.rounds or layer.packed not in self.fed:
            return None
        outputs = [*self.in_full, *self.computed_in_full]
        result = layer.operator.outputs[0]
        return outputs.index(result) if result in outputs else None

    @cached_property
    def layer_by_layer(self) -> bytes:
        """See above."""
        return self.reference.full.variant(self.of_full(self.fed), self.in_full, split=self.computed_in_full)

    @cached_property
    def free_running(self) -> bytes:
        """See above."""
        file = self.reference.file
        return file.variant(file.inputs, [*file.outputs, *self.floats, *self.others, *self.steps])

    @cached_property
    def sums(self) -> bytes:
        """See above; its inputs are `reference.layer_inputs`."""
        reference = self.reference
        return reference.file.sums_variant(reference.layer_inputs, [layer.operator for layer in reference.layers])

    @cached_property
    def whole_layers(self) -> bytes:
        """See above; its inputs are `reference.layer_inputs`.

        A layer's packed output may be another's input, which is fed: the layer's own result is wanted as well.
        """
        reference = self.reference
        results = [layer.operator.outputs[0] for layer in reference.layers]
        return reference.file.variant(reference.layer_inputs, (), split=results)

    @cached_property
    def rounded_operators(self) -> bytes:
        """The operators with rounded weights, as they are; each reads what it reads in the file."""
        rounded = self.reference.comparison.rounded
        own = list(dict.fromkeys(activation(entry.operator) for entry in rounded))
        return self.reference.file.variant(own, (), split=[entry.operator.outputs[0] for entry in rounded])

    @cached_property
    def float_operators(self) -> bytes:
        """The same as float operators with the same weights, on the same inputs."""
        twins = {entry.twin: entry.weight for entry in self.reference.comparison.rounded}
        return self.reference.full.weights_variant(self.rounded_inputs, twins)


def activation(operator: Operator) -> Tensor:
    """What an operator with weights reads: TRANSPOSE_CONV's comes behind its output's shape and its weights."""
    tensor = operator.inputs[2 if operator.name == "TRANSPOSE_CONV" else 0]
    assert tensor is not None
    return tensor
