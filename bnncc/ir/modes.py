"""What a user chooses of how passes treat a network: enumerations, which need no graph library."""

from __future__ import annotations

import enum


class Padding(enum.Enum):
    """How zero padding that is not TensorFlow's SAME is expressed."""

    AUTO = "auto"
    MIRRORED = "mirrored"
    ONE_PADDED = "one-padded"


class ReplicationMode(enum.Enum):
    """How the repetition of a convolution's output is computed."""

    AUTO = "auto"
    MERGE = "merge"
    REPEAT = "repeat"


class ZeroWeights(enum.Enum):
    """What to do with a layer of ±α some of whose weights are exactly 0: compute it of bits as it is (`weight_terms`),
    keep it in float, or read the zeros as +α."""

    EXACT = "exact"
    FLOAT = "float"
    PLUS_ONE = "plus-one"


class SignOfZero(enum.Enum):
    """What torch.sign makes of zeros by design: 0, as PyTorch, which no bit says; or +1."""

    ZERO = "zero"
    PLUS_ONE = "plus-one"
