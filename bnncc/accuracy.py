"""Accuracy of the reference and of the compiled file on labelled data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnncc.compiler import CompiledModel
from bnncc.data import Dataset
from bnncc.runners import LceRunner, OrtRunner
from bnncc.verification import Progress


@dataclass(frozen=True)
class Accuracy:
    """Counts over `images`: right classes of the reference, of the file (None without labels), and equal classes."""

    images: int
    reference: int | None
    compiled: int | None
    agreeing: int


def measure_accuracy(compiled: CompiledModel, data: Dataset, progress: Progress | None = None) -> Accuracy:
    """Run every image through PyTorch (ONNX Runtime for a .onnx file) and through the file in LCE's interpreter.

    The network's first output is [N, classes]; NCHW data are laid out as the file wants them.
    """
    batch_size = compiled.traced.inputs[0].shape[0]
    runner = LceRunner(compiled.content)
    reference_run = compiled.traced.run_module or OrtRunner(compiled.traced.model).run
    reference, mine = [], []
    batches = -(-len(data) // batch_size)
    for index in range(batches):
        arrays = data.batch(index, batch_size)
        reference.append(np.argmax(reference_run(arrays)[0], axis=1))
        mine.append(np.argmax(runner.run([compiled.as_stored(array) for array in arrays])[0], axis=1))
        if progress is not None:
            progress(index + 1, batches)
    expected, found = (np.concatenate(classes)[: len(data)] for classes in (reference, mine))
    right = [None if data.labels is None else int(np.sum(classes == data.labels)) for classes in (expected, found)]
    return Accuracy(len(data), right[0], right[1], int(np.sum(expected == found)))
