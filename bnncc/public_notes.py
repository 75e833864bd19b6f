"""What a file says to other tools than bnncc, in the standard's own entry: see `targets/tflite/public_metadata.py`."""

from __future__ import annotations

from collections.abc import Sequence

from bnncc.data.preprocessing import MODES
from bnncc.frontend import InputSpec, TracedModel
from bnncc.inference.classes import class_count
from bnncc.ir.graph import shape_of
from bnncc.options import Head, Options, ValueType
from bnncc.targets.tflite.public_metadata import Information, TensorNote, build

LARGEST_BYTE = 255.0


def public_metadata(traced: TracedModel, options: Options) -> bytes | None:
    """The entry of a file with the inputs and outputs of `traced`; None where there is nothing to say."""
    is_plain = options.head is Head.NONE and options.output_type is ValueType.FLOAT32
    says_nothing = options.information == Information() and not options.preprocessing.says_pixels
    if is_plain and says_nothing and not options.classes:
        return None
    shapes = [shape_of(value) or () for value in traced.model.graph.outputs]
    names = [value.name or "" for value in traced.model.graph.outputs]
    labels = [_labels(shape, options) if index == 0 else "" for index, shape in enumerate(shapes)]
    outputs = [
        TensorNote(name, _describe_output(index, shape, options), labels=label)
        for index, (name, shape, label) in enumerate(zip(names, shapes, labels, strict=True))
    ]
    return build(options.information, [_input(spec, options) for spec in traced.inputs], outputs)


def has_labels(traced: TracedModel, options: Options) -> bool:
    """True where the file carries its classes as a file of labels."""
    return bool(_labels(shape_of(traced.model.graph.outputs[0]) or (), options))


def _labels(shape: Sequence[int], options: Options) -> str:
    if not options.classes:
        return ""
    if options.head is Head.ARGMAX:
        return "value"
    return "axis" if class_count(shape) == len(options.classes) else ""


def _describe_output(index: int, shape: Sequence[int], options: Options) -> str:
    if index == 0 and options.head is Head.ARGMAX:
        return "the index of the class"
    if index == 0 and options.head is Head.SOFTMAX:
        return "the probability of each class"
    return "a number for each class" if index == 0 and class_count(shape) is not None else ""


def _input(spec: InputSpec, options: Options) -> TensorNote:
    preprocessing = options.preprocessing
    is_picture = len(spec.shape) == 4 and spec.shape[1] in MODES and (spec.is_float or spec.is_bytes)
    picture = (spec.shape[2], spec.shape[3], spec.shape[1]) if is_picture else None
    if not (is_picture or spec.is_bytes) or not preprocessing.says_pixels:
        return TensorNote(spec.name, picture=picture)
    # Of pixels 0…255; what quantizes the result leaves the byte where the file takes bytes.
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0 if preprocessing.pixels == "0..255" else LARGEST_BYTE,)
    if preprocessing.mean and not spec.is_bytes:
        mean, std = (tuple(LARGEST_BYTE * x for x in numbers) for numbers in (preprocessing.mean, preprocessing.std))
    least: tuple[float, ...]
    most: tuple[float, ...]
    if spec.is_bytes:
        low = 0.0 if spec.dtype == "uint8" else -(LARGEST_BYTE + 1) / 2
        least, most, text = (low,), (low + LARGEST_BYTE,), "pixels as they are decoded"
        text += "" if spec.dtype == "uint8" else ", less 128"
    else:
        least, most = (tuple((pixel - m) / s for m, s in zip(mean, std, strict=True)) for pixel in (0.0, LARGEST_BYTE))
        text = "normalised pixels"
    return TensorNote(spec.name, text, picture, mean, std, least, most)
