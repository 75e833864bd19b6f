"""What passes leave in the graph so that verification finds, for each binary layer, what it is in the traced network.

The keys and their meaning stand in `bnncc.ir.graph`; here is how they are read, handed on and changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bnncc.ir.graph import (
    CONV_KEY,
    INPUT_CHANNELS_KEY,
    INPUT_LEVELS_KEY,
    INPUT_TERM_KEY,
    LAYER_INPUT_KEY,
    NEGATED_KEY,
    STEP_WEIGHTS_KEY,
    TRACED_KEY,
    UNSHUFFLED_KEY,
    WEIGHT_TERM_KEY,
    WEIGHT_THRESHOLDS_KEY,
    ZERO_WEIGHTS_KEY,
)

# What is true of the convolutions that one BinaryConv is copied into or split into.
OF_THE_WEIGHTS = (
    INPUT_LEVELS_KEY, INPUT_TERM_KEY, STEP_WEIGHTS_KEY, UNSHUFFLED_KEY, WEIGHT_TERM_KEY, WEIGHT_THRESHOLDS_KEY,
)  # fmt: skip
OF_THE_LAYER = (CONV_KEY, INPUT_CHANNELS_KEY, LAYER_INPUT_KEY, TRACED_KEY, ZERO_WEIGHTS_KEY, *OF_THE_WEIGHTS)


def hand_on(origin: ir.Node, node: ir.Node, keys: Iterable[str] = OF_THE_LAYER) -> None:
    """Give `node` the entries of `keys` that `origin` has."""
    for key in keys:
        if key in origin.metadata_props:
            node.metadata_props[key] = origin.metadata_props[key]


def traced_channels(node: ir.Node, key: str, count: int) -> list[int]:
    """The traced channel of each of the `count` channels of a BinaryConv; key: INPUT_ or OUTPUT_CHANNELS_KEY."""
    entry = node.metadata_props.get(key)
    return json.loads(entry) if entry else list(range(count))


def choose_channels(node: ir.Node, key: str, channels: npt.NDArray[np.int64], count: int) -> None:
    """Record that channel i of `node` is what channel `channels[i]` of its `count` was."""
    known = traced_channels(node, key, count)
    node.metadata_props[key] = json.dumps([known[index] for index in channels.tolist()])


def negated_channels(value: ir.Value) -> list[int]:
    """The channels of a binary value that hold the traced value negated."""
    return list(json.loads(value.metadata_props.get(NEGATED_KEY, "[]")))


def set_negated_channels(value: ir.Value, channels: Sequence[int]) -> None:
    """Record the channels that hold the traced value negated."""
    value.metadata_props[NEGATED_KEY] = json.dumps(list(channels))


def describe_signs(
    signs: ir.Value | ir.Node,
    name: str | None,
    scale: npt.NDArray[np.float64],
    offset: npt.NDArray[np.float64],
    pads: Sequence[int] | None = None,
) -> None:
    """Record on a binary value, or on the convolution that reads it, that it is (traced - offset) / scale.

    name: the traced value's.  scale, offset: [C].  pads: ONNX's, of a traced value whose signs are unpadded.
    """
    meaning: dict[str, object] = {
        "value": name,
        "scale": _shortest(1 / scale),
        "offset": _shortest(-offset / scale + 0.0),
    }
    if pads is not None:
        meaning["pads"] = list(pads)
    signs.metadata_props[TRACED_KEY] = json.dumps(meaning)


def describes_each_alike(signs: ir.Value) -> bool:
    """True where all that is known of signs is true of each of them, whatever its channel: also once they are moved."""
    if not signs.metadata_props:
        return True
    if set(signs.metadata_props) != {TRACED_KEY}:
        return False
    meaning = json.loads(signs.metadata_props[TRACED_KEY])
    return set(meaning) == {"value", "scale", "offset"} and not any(isinstance(one, list) for one in meaning.values())


def _shortest(vector: npt.NDArray[np.float64]) -> float | list[float]:
    """One number where all channels have the same."""
    return float(vector[0]) if np.all(vector == vector[0]) else [float(number) for number in vector]
