"""How to compile, and what the file remembers of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnncc._version import __version__
from bnncc.data.preprocessing import Preprocessing
from bnncc.errors import InputError
from bnncc.ir.arrays import Array
from bnncc.ir.modes import Padding, ReplicationMode, SignOfZero, ZeroWeights
from bnncc.targets.released import ORDINARY, check_name
from bnncc.targets.tflite.digest import METADATA_NAME
from bnncc.targets.tflite.integers import FLOAT32, INT8, SHORTCUTS, Integers
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.targets.tflite.public_metadata import Information
from bnncc.targets.tflite.reader import TfliteFile


class ValueType(Enum):
    """What an input or output of the file holds."""

    FLOAT32 = "float32"
    UINT8 = "uint8"
    INT8 = "int8"


class Head(Enum):
    """What is computed of the first output, a row of logits an image."""

    NONE = "none"
    SOFTMAX = "softmax"
    ARGMAX = "argmax"


if TYPE_CHECKING:
    from bnncc.ir.pass_runner import Comparison

_CHOICES: dict[str, type[Enum]] = {
    "input_type": ValueType,
    "output_type": ValueType,
    "head": Head,
    "padding": Padding,
    "replication": ReplicationMode,
    "zero_weights": ZeroWeights,
    "sign_of_zero": SignOfZero,
    "weights_precision": WeightsPrecision,
}
# Of an int8 file's metadata: half of what a float32 holds, and what divides no float32 that far.
LARGEST_BOUND, SMALLEST_EXPONENT = 1e38, -100
# Of what files by older versions do not name.
_DEFAULTS = {"input_type": "float32", "output_type": "float32", "head": "none"}


@dataclass(frozen=True)
class Options:
    """How to compile.  What is one of several choices may be given in the command line's words ("plus-one").

    padding: how zero padding that LCE cannot express is handled.  channels_last: NHWC inputs and outputs in the file.
    dump_dir: write the model after each pass there.  compare_passes: compares the graph before and
    after each pass, as `bnncc.verification.first_difference` does on random inputs.
    disabled_passes: names of passes to leave out; the file is as exact without them, only larger or slower, or says
    which layers stay in float.
    replication: how copies of a convolution's output are computed; the target's cost model chooses where it is AUTO.
    zero_weights: what becomes of a layer of ±α some of whose weights are exactly 0.
    sign_of_zero: what torch.sign makes of zeros by design: pixels, what a ReLU or a round yields.
    weights_precision: in which type the file holds the weights of float layers; binary layers stay as they are.
    integers: which float layers run in int8, and in which ranges; None where none does.
    min_runtime: one of `bnncc.targets.released.RUNTIMES`: the file is right on it and on all later ones, or
    compiling fails; None for those that the target may have.
    preprocessing: what turns a picture into the network's input; classes: their names, by label.  Both are kept in the
    file's metadata, and neither changes what it computes where it takes floats.
    input_type: of pictures.  With UINT8 the file takes the pixels as they are decoded, with INT8 128 less, and what
    `preprocessing` says that they become is computed by the file.  byte_inputs: the inputs that are meant; by default
    all of one, three or four channels.
    information: what the author says of the file, in the metadata that other tools read.
    head, output_type: what is computed of the network's outputs, and in which type the file yields them.
    """

    padding: Padding = Padding.AUTO
    channels_last: bool = True
    dump_dir: Path | None = None
    compare_passes: Comparison | None = None
    disabled_passes: tuple[str, ...] = ()
    replication: ReplicationMode = ReplicationMode.AUTO
    zero_weights: ZeroWeights = ZeroWeights.EXACT
    sign_of_zero: SignOfZero = SignOfZero.ZERO
    weights_precision: WeightsPrecision = WeightsPrecision.FLOAT32
    min_runtime: str | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: tuple[str, ...] = ()
    input_type: ValueType = ValueType.FLOAT32
    byte_inputs: tuple[str, ...] = ()
    head: Head = Head.NONE
    output_type: ValueType = ValueType.FLOAT32
    information: Information = field(default_factory=Information)
    integers: Integers | None = None

    def __post_init__(self) -> None:
        """Take the command line's words too; raises InputError for any other."""
        for name, choices in _CHOICES.items():
            given = getattr(self, name)
            try:
                object.__setattr__(self, name, choices(given))
            except ValueError:
                words = ", ".join(repr(choice.value) for choice in choices)
                raise InputError(f"{name}: {given!r} is none of {words}") from None
        if self.integers is not None and self.weights_precision is not WeightsPrecision.FLOAT32:
            raise InputError("with --quantize the layers that stay in float are float32: leave --weights-precision out")
        if self.min_runtime is not None:
            check_name(self.min_runtime)
        names: tuple[object, ...] = self.classes  # of a file, they may be anything
        for one in names:
            if not (isinstance(one, str) and one.isprintable()):
                raise InputError(f"the classes: {one!r} is no name: text on one line, without control characters")

    @property
    def keeps_zeros(self) -> bool:
        """True where the sign of what is 0 by design is 0, as in PyTorch, and not what the user says."""
        return self.sign_of_zero is SignOfZero.ZERO

    def as_stored(self, array: Array) -> Array:
        """An input or output of the network [N, …] in PyTorch's order (NCHW), laid out as the file has it.

        The file has int32 where the network has int64.
        """
        moves = self.channels_last and array.ndim == 4
        array = array.astype(np.int32) if array.dtype == np.int64 else array
        return np.asarray(array.transpose(0, 2, 3, 1) if moves else array, order="C")

    def as_nchw(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in PyTorch's order of what the file has in `shape`."""
        moves = self.channels_last and len(shape) == 4
        return (shape[0], shape[3], shape[1], shape[2]) if moves else shape


@dataclass(frozen=True)
class FileMetadata:
    """What a compiled file says of itself: enough to compile it again, and to know whose weights it holds.

    weights_sha256: `TracedModel.weights_digest`.  float_bytes: the network's parameters in float32.  frozen_branches:
    `TracedModel.frozen`.  oldest_runtime: the oldest on which the file is right.
    """

    version: str
    target: str
    weights_sha256: str
    float_bytes: int
    options: Options
    frozen_branches: tuple[str, ...] = ()
    oldest_runtime: str = ORDINARY

    @classmethod
    def read(cls, file: TfliteFile) -> FileMetadata:
        """Raises InputError where the file was not compiled by bnncc, or by a version that kept less."""
        content = file.metadata().get(METADATA_NAME)
        if content is None:
            raise InputError("it was not compiled by bnncc: its metadata have no entry 'bnncc'")
        try:
            entry = json.loads(content)
            if not all(isinstance(entry[name], str) for name in ("bnncc", "target", "weights_sha256")):
                raise TypeError("no text")
            return cls(
                entry["bnncc"],
                entry["target"],
                entry["weights_sha256"],
                int(entry["float32_bytes"]),
                _options(entry),
                _texts(entry, "frozen_branches"),
                check_name(entry.get("oldest_runtime", ORDINARY)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise InputError(f"its metadata are not those of bnncc {__version__}: compile the network again") from error

    def as_bytes(self) -> bytes:
        """JSON with sorted keys; what has its default and says nothing by itself is left out."""
        options = self.options
        entry: dict[str, Any] = {
            "bnncc": self.version,
            "target": self.target,
            "weights_sha256": self.weights_sha256,
            "float32_bytes": self.float_bytes,
            "input_layout": "NHWC" if options.channels_last else "NCHW",
            "weights_precision": options.weights_precision.value,
            "padding": options.padding.value,
            "replication": options.replication.value,
            "zero_weights": options.zero_weights.value,
        }
        if options.sign_of_zero is not SignOfZero.ZERO:
            entry["sign_of_zero"] = options.sign_of_zero.value
        if options.integers is not None:
            entry["int8"] = _integers_entry(options.integers)
        if options.min_runtime is not None:
            entry["min_runtime"] = options.min_runtime
        if self.oldest_runtime != ORDINARY:
            entry["oldest_runtime"] = self.oldest_runtime
        for name in ("input_type", "output_type", "head"):
            value = getattr(options, name)
            if value is not type(value)(_DEFAULTS[name]):
                entry[name] = value.value
        if options.information != Information():
            entry["information"] = {name: text for name, text in vars(options.information).items() if text}
        if options.byte_inputs:
            entry["byte_inputs"] = list(options.byte_inputs)
        if self.frozen_branches:
            entry["frozen_branches"] = list(self.frozen_branches)
        if options.disabled_passes:
            entry["disabled_passes"] = list(options.disabled_passes)
        if options.preprocessing != Preprocessing():
            entry["preprocessing"] = options.preprocessing.as_json()
        if options.classes:
            entry["classes"] = list(options.classes)
        return json.dumps(entry, sort_keys=True).encode()


def _options(entry: Mapping[str, Any]) -> Options:
    return Options(
        padding=Padding(entry["padding"]),
        channels_last=entry["input_layout"] == "NHWC",
        disabled_passes=_texts(entry, "disabled_passes"),
        replication=ReplicationMode(entry["replication"]),
        zero_weights=ZeroWeights(entry["zero_weights"]),
        sign_of_zero=SignOfZero(entry.get("sign_of_zero", SignOfZero.ZERO.value)),
        weights_precision=WeightsPrecision(entry["weights_precision"]),
        integers=_integers(entry["int8"]) if "int8" in entry else None,
        min_runtime=entry.get("min_runtime"),
        preprocessing=Preprocessing.from_json(entry.get("preprocessing", {})),
        classes=_texts(entry, "classes"),
        byte_inputs=_texts(entry, "byte_inputs"),
        information=Information(**entry.get("information", {})),
        input_type=ValueType(entry.get("input_type", _DEFAULTS["input_type"])),
        head=Head(entry.get("head", _DEFAULTS["head"])),
        output_type=ValueType(entry.get("output_type", _DEFAULTS["output_type"])),
    )


def _integers_entry(integers: Integers) -> dict[str, Any]:
    return {
        "keep_float": list(integers.keep_float),
        "method": integers.method,
        "inputs": integers.inputs,
        "ranges": {name: list(bounds) for name, bounds in integers.ranges.items()},
        "exponents": {name: list(exponents) for name, exponents in integers.exponents.items()},
        **({"shortcuts": integers.shortcuts} if integers.shortcuts != FLOAT32 else {}),
    }


def _integers(entry: Mapping[str, Any]) -> Integers:
    ranges = {str(name): (float(low), float(high)) for name, (low, high) in dict(entry["ranges"]).items()}
    if not all(abs(bound) <= LARGEST_BOUND for bounds in ranges.values() for bound in bounds):
        raise ValueError("ranges are finite")
    exponents = {str(name): tuple(map(int, numbers)) for name, numbers in dict(entry["exponents"]).items()}
    if not all(SMALLEST_EXPONENT <= exponent <= 0 for numbers in exponents.values() for exponent in numbers):
        raise ValueError("exponents are small and not positive")
    return Integers(
        _texts(entry, "keep_float"),
        ranges,
        exponents,
        str(entry["method"]),
        int(entry["inputs"]),
        _shortcuts(entry.get("shortcuts", FLOAT32)),
    )


def _shortcuts(entry: object) -> str:
    """Of a file's metadata; earlier revisions had True for int8."""
    found = INT8 if entry is True else entry
    if found not in SHORTCUTS:
        raise ValueError("shortcuts are of no known type")
    return str(found)


def _texts(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts; none where there is no entry."""
    found = entry.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise TypeError(f"{name} is no list of texts")
    return tuple(found)
