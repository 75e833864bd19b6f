"""What a verification found, counted over all inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bnncc.inference.runners import Runtime

# The largest share of exact zeros at a sign that counts as chance.  Sums of K products of ±1 that nothing shifts are 0
# in √(2/πK) of all cases: 3 % for K = 576, 9 % for K = 72.  More comes from a ReLU or an empty background, and such a
# layer is not binary.
CHANCE_OF_ZERO = 0.1
# The largest share of signs that may differ exactly at their threshold, where a comparison says +1 and rounding may
# not.
CHANCE_OF_TIE = 0.001


@dataclass
class LayerCheck:
    """One LceBconv2d.

    sums: how many integer sums were compared; wrong: how many differ; largest_error: by how much at most.  error: of
    its float output against ONNX Runtime, relative to the channel's largest magnitude; for a packed output the share
    of bits that differ.  where: channels, rows and columns of wrong sums, on the first input on which there are any.
    """

    module: str
    sums: int = 0
    wrong: int = 0
    largest_error: float = 0.0
    error: float = 0.0
    where: str = ""


@dataclass
class SignCheck:
    """One binary value of the file, compared with the reference's own values upstream.

    signs: how many; flipped: those that differ; explained: of those, where |x| < ε in the reference.
    largest_flip: the largest |x| of a flipped sign, relative to its channel's largest.  zeros: inputs that are exactly
    0, where PyTorch's sign is 0 and a bit says +1.  ties: signs that differ where x is exactly 0 and the network's
    sign, a comparison, is not.  vanished: signs that differ because a positive factor, as a sigmoid, underflows to 0
    in the reference, and the file reads what it scales.  error: the largest error of x, relative to its channel's
    largest magnitude.  free_running_flips: signs that differ when the file runs by itself; started: of those, the ones
    on inputs on which no sign before this one differed.
    Of a file with rounded weights or integer layers, fed the reference's signs: rounded_flips, signs that differ;
    largest_rounded_flip, the largest |x| of those, relative to its channel's largest.
    """

    module: str
    signs: int = 0
    flipped: int = 0
    explained: int = 0
    largest_flip: float = 0.0
    zeros: int = 0
    error: float = 0.0
    free_running_flips: int = 0
    started: int = 0
    rounded_flips: int = 0
    largest_rounded_flip: float = 0.0
    ties: int = 0
    vanished: int = 0


@dataclass
class StepCheck:
    """One rounding, comparison or choice of the file, compared with the reference's own values upstream.

    operator: Round, Floor, Ceil, Less, ArgMax, ….  values: how many; differing: those that differ; explained: of those,
    where the operand is within rounding of the threshold.  ties: all that are, of choices those that differ.
    free_running_differing: those that differ when the file runs by itself.
    """

    module: str
    operator: str
    values: int = 0
    differing: int = 0
    explained: int = 0
    ties: int = 0
    free_running_differing: int = 0


@dataclass
class RoundedCheck:
    """One float operator with rounded weights.

    weights: how many, of type `dtype`.  error: of its output against a float operator with the same rounded weights,
    relative to what is allowed.
    """

    module: str
    dtype: str
    weights: int
    error: float = 0.0


@dataclass
class IntegerCheck:
    """One operator in int8, or between int8 and another type.

    values: how many integers (or floats of a DEQUANTIZE) it yields; differing: from those of its specification's
    arithmetic on the same inputs; wrong: by more than the 1 that kernels may differ in.
    signal, noise: sums of squares of the float32 file's own numbers, and of what these lack of them.
    """

    module: str
    operator: str
    values: int = 0
    differing: int = 0
    wrong: int = 0
    signal: float = 0.0
    noise: float = 0.0

    @property
    def decibels(self) -> float | None:
        """Signal to noise; None where the float32 numbers are not known, or there is no noise."""
        return 10 * math.log10(self.signal / self.noise) if self.signal and self.noise else None


@dataclass
class Verification:
    """What was found.  All counts are over all inputs.

    output_error: largest error of the outputs fed the reference's signs, relative to their largest magnitude.
    free_error: the same, free-running, against PyTorch itself (ONNX Runtime for a .onnx file).
    agreeing: inputs of which both name the same classes (None where the first output is no row of logits).
    rounded: float operators with float16 or int8 weights.  integers: operators in int8.  rounded_error: as
    output_error, of the file with these (output_error is then the float32 file's).
    problems: what rounding does not explain, one sentence each.  zero_problems: how many of them are signs that read
    more zeros than chance explains, or outputs behind zeros, vanishing_problems: signs in front of which a factor
    underflows.
    runtime: what ran the file.
    steps: roundings, comparisons and choices of the network that the file holds.
    """

    inputs: int = 0
    layers: list[LayerCheck] = field(default_factory=list)
    signs: list[SignCheck] = field(default_factory=list)
    rounded: list[RoundedCheck] = field(default_factory=list)
    rounded_error: float = 0.0
    output_error: float = 0.0
    free_error: float = 0.0
    agreeing: int | None = None
    problems: list[str] = field(default_factory=list)
    zero_problems: int = 0
    vanishing_problems: int = 0
    runtime: Runtime = Runtime.LCE
    steps: list[StepCheck] = field(default_factory=list)
    integers: list[IntegerCheck] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True where the file is proven on these inputs."""
        return not self.problems

    @property
    def zeros(self) -> int:
        """How many inputs of signs are exactly 0, where PyTorch's sign is 0 and a bit says +1."""
        return sum(sign.zeros for sign in self.signs)

    @property
    def most_flipped(self) -> SignCheck | None:
        """The sign that differs most when the file runs by itself, as a share of its signs; None where none does."""
        flipped = [sign for sign in self.signs if sign.free_running_flips]
        return max(flipped, key=lambda sign: sign.free_running_flips / sign.signs, default=None)
