"""Which outputs name a class: rows of logits, one for each image, of which the largest is the class, or its index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnncc.ir.arrays import Array
from bnncc.targets.tflite.reader import TfliteFile


def class_count(shape: Sequence[int]) -> int | None:
    """How many logits an output of this shape has for each image, [N, classes]; None where it is no row of logits."""
    return shape[1] if len(shape) == 2 and shape[1] > 1 else None


def file_class_count(file: TfliteFile) -> int | None:
    """How many classes the first output of a file tells apart, by logits or as their index; None where it does not."""
    output = file.outputs[0]
    if len(output.shape) == 1 and output.dtype == "int32":
        chooses = (one for one in file.operators if one.name == "ARG_MAX" and one.outputs == (output,))
        read = [operator.inputs[0] for operator in chooses]
        return class_count(read[0].shape) if read and read[0] is not None else None
    return class_count(output.shape)


def same_classes(found: Array, expected: Array, *, are_indices: bool = False) -> bool | None:
    """Whether two outputs of one shape name the same class for every image; None where they are no logits.

    are_indices: they are the classes themselves.
    """
    if are_indices:
        return bool(np.array_equal(found, expected))
    if class_count(expected.shape) is None:
        return None
    return bool(np.array_equal(found.argmax(axis=1), expected.argmax(axis=1)))
