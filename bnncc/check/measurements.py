"""What was measured, image by image: kept apart until the end, so that the order of the images makes no difference.

One row an image.  Every total is taken over the rows in their order, whoever measured them and when: so one process,
several, a cluster and an interrupted run that was resumed all give the same figures, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bnncc.inference.classes import class_count
from bnncc.ir.evaluate import Array

# So many classes of each image are kept, most likely first.
TOP = 5
REFERENCE = "reference"

NOT_MEASURED, MEASURED, SKIPPED = range(3)
NO_LABEL = -1


@dataclass
class FileRows:
    """One file's answers.  classes: int32 [count, TOP], -1 where there are fewer.

    error: largest |file − reference| of the image's outputs.  absolute: the sum of |file − reference|; noise: of its
    square.  seconds: of the image's run, its share of a batch's.  All float64 [count]; error is infinite where the
    file's outputs are no finite numbers.
    """

    classes: npt.NDArray[np.int32]
    error: npt.NDArray[np.float64]
    absolute: npt.NDArray[np.float64]
    noise: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, count: int) -> FileRows:
        """`count` rows of nothing."""
        return cls(np.full((count, TOP), -1, np.int32), *(np.zeros(count) for _ in range(4)))


@dataclass
class Measurements:
    """Rows for `count` images.

    state: int8 [count], NOT_MEASURED, MEASURED or SKIPPED.  labels: int64 [count], NO_LABEL where there is none.
    signal: float64 [count], the sum of the reference's squared outputs.  elements: int64 [count], outputs an image.
    files: by name; "reference" is the network itself, whose error is 0.
    """

    state: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64]
    signal: npt.NDArray[np.float64]
    elements: npt.NDArray[np.int64]
    files: dict[str, FileRows]

    @classmethod
    def empty(cls, count: int, names: Iterable[str]) -> Measurements:
        """`count` rows, none of them measured, for the reference and the files `names`."""
        return cls(
            np.full(count, NOT_MEASURED, np.int8),
            np.full(count, NO_LABEL, np.int64),
            np.zeros(count),
            np.zeros(count, np.int64),
            {name: FileRows.empty(count) for name in (REFERENCE, *names)},
        )

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Every array by a name of its own; writing into one writes into the rows."""
        own = {name: getattr(self, name) for name in ("state", "labels", "signal", "elements")}
        for file, rows in self.files.items():
            own.update({f"{file}/{name}": array for name, array in vars(rows).items()})
        return own

    def put(self, begin: int, part: Measurements) -> None:
        """Take over rows that were measured elsewhere, from row `begin` on."""
        own = self.arrays()
        for name, array in part.arrays().items():
            own[name][begin : begin + len(array)] = array


def top_classes(outputs: Array) -> npt.NDArray[np.int32] | None:
    """int32 [N, TOP]: the classes of the largest logits, largest first; None where the output is no row of logits.

    Among equal logits the lower class comes first.  Whole numbers [N] are the classes themselves.
    """
    if outputs.ndim == 1 and outputs.dtype.kind == "i":
        return np.pad(outputs.astype(np.int32)[:, np.newaxis], ((0, 0), (0, TOP - 1)), constant_values=-1)
    if class_count(outputs.shape) is None:
        return None
    # As floats: a byte has no negative.
    order = np.argsort(-outputs.astype(np.float64), axis=1, kind="stable")[:, :TOP].astype(np.int32)
    return np.pad(order, ((0, 0), (0, TOP - order.shape[1])), constant_values=-1)
