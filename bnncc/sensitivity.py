"""What `--quantize auto` found: what each float layer loses in int8, and which were left in float for that."""

from __future__ import annotations

from dataclasses import dataclass

from bnncc.statistics import Proportion, difference, proportion


@dataclass(frozen=True)
class Drop:
    """How much lower a file's accuracy is than that of the float32 file, or how often its class is another.

    value: a share of `images`; below 0 where the accuracy is higher.  low, high: its interval at `statistics.LEVEL`.
    """

    value: float
    low: float
    high: float
    images: int

    @classmethod
    def of_accuracy(cls, won: int, lost: int, images: int) -> Drop:
        """won, lost: images on which only the file is right, or only the float32 file."""
        found = difference(won, lost, images)
        return cls(0.0 - found.value, 0.0 - found.high, 0.0 - found.low, images)

    @classmethod
    def of_agreement(cls, other: int, images: int) -> Drop:
        """other: images of which the files tell two classes."""
        found = proportion(other, images)
        return cls(found.value, found.low, found.high, images)


@dataclass(frozen=True)
class LayerSensitivity:
    """A float layer.

    operators: those of it that have weights.  drop, error: with this layer alone in int8, and the mean squared error of
    the file's first output then; None where it cannot run in int8, or was to stay.
    reason: why it is in float.
    """

    module: str
    operators: tuple[str, ...]
    drop: Drop | None
    error: float | None
    in_int8: bool
    reason: str = ""


@dataclass(frozen=True)
class Sensitivity:
    """The whole of it.

    bound: the share that the drop was to be at most.  layers: the most sensitive first, behind them those that were not
    tried.  reference: the accuracy of the float32 file; None where the data have no labels, and drops are of
    agreement.  all_int8, drop: of the file with all layers in int8, and with those that it has; None where it has none
    and is the float32 file.  range_inputs: on how many inputs ranges were measured, which are others than those of the
    drops.  runs: how many inferences all drops took.
    """

    bound: float
    layers: tuple[LayerSensitivity, ...]
    reference: Proportion | None
    all_int8: Drop
    drop: Drop | None
    range_inputs: int
    runs: int

    @property
    def images(self) -> int:
        """On how many the whole file's drop was measured."""
        return self.all_int8.images
