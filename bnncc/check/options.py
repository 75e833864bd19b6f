"""How to check."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bnncc.inference.runners import Runtime, first_runtime


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How to check.

    layers: so many batches go through the check of every layer; 0 for none.  jobs: processes on this machine, each
    on one thread.  dask: address of a scheduler whose workers are used instead.  resume: a file that keeps an
    interrupted run.  baseline: a float .tflite file of the same network to put beside the compiled one.
    skip_bad_images: leave out what cannot be decoded or holds NaN, and count it.  runtimes: what runs the files, the
    first that this machine has by default; a second one runs the compiled file once more.  pictures: of so many
    images that changed their class the pixels are kept, to be shown.  min_agreement, max_accuracy_drop: shares from
    0 to 1 that the compiled file must keep to, or the result has failures.
    """

    layers: int = 0
    jobs: int = 1
    dask: str | None = None
    resume: Path | None = None
    baseline: Path | None = None
    skip_bad_images: bool = False
    runtimes: tuple[Runtime, ...] = field(default_factory=lambda: (first_runtime(),))
    pictures: int = 0
    min_agreement: float | None = None
    max_accuracy_drop: float | None = None

    @property
    def measures_elsewhere(self) -> bool:
        """True where other processes measure: they load a network by its name, and cannot take an open one."""
        return self.jobs != 1 or self.dask is not None
