"""The images and outputs of a bundle, with which the device compares itself."""

from __future__ import annotations

import io
import platform
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnncc.data import DataSource
from bnncc.errors import InputError
from bnncc.inference import Model, open_lce, open_litert
from bnncc.inference.runners import FileRunner, Runtime, running
from bnncc.ir.arrays import Array, random_array

RANDOM_IMAGES = 8
# So many of the user's images go into the bundle.
USER_IMAGES = 64


@dataclass(frozen=True)
class CheckData:
    """Images and what the file yields for them on this machine.

    images: [count, …], in the file's layout and type, normalised or bytes.  labels: [count], where the data have them.
    outputs: [count, numbers]: all outputs of an image in one row.  reference: what computed them.
    """

    images: Array
    labels: Array | None
    outputs: Array
    reference: str

    def npz(self) -> bytes:
        """A .npz file with an array for each field."""
        arrays: dict[str, Any] = {"images": self.images, "outputs": self.outputs, "reference": self.reference}
        if self.labels is not None:
            arrays["labels"] = self.labels
        content = io.BytesIO()
        np.savez(content, **arrays)
        return content.getvalue()


def make_check_data(model: Model, data: str | None) -> CheckData:
    """Run random images, or the first of `data`, in `_reference`."""
    (spec,) = model.inputs
    labels = None
    if data is None:
        shape = (RANDOM_IMAGES, *spec.shape[1:])
        images: list[Array] = list(random_array(np.random.default_rng(0), shape, np.dtype(spec.dtype), None))
    else:
        dataset = DataSource(data).open(model.inputs, model.preprocessing, model.classes)
        samples = [dataset.sample(row) for row in range(min(len(dataset), USER_IMAGES))]
        images = [inputs[0] for inputs, _ in samples]
        if all(label is not None for _, label in samples):
            labels = np.array([label for _, label in samples])
    runner, name = _reference(model)
    stored = np.array([model.options.as_stored(image[np.newaxis])[0] for image in images])
    rows = []
    for image in stored:
        with running(model.path):
            found = runner.run([np.broadcast_to(image, (spec.shape[0], *image.shape))])
        rows.append(np.concatenate([array[0].reshape(-1) for array in found]))
    outputs = np.array(rows, np.float32)
    if not np.all(np.isfinite(outputs)):
        raise InputError(f"{model.path} yields NaN or infinity on the images of the check")
    return CheckData(stored, labels, outputs, f"{name} on {platform.machine()}")


def _reference(model: Model) -> tuple[FileRunner, str]:
    """What the device is compared with, and its name: LCE's interpreter; without it, LiteRT with the delegate.

    Of a file with layers in int8 that is the delegate where there is one: other kernels may be off by a step in each
    layer, which adds up to more than the device is allowed, and the delegate computes the same bytes on all processors.
    """
    lce = None if model.options.integers is not None and Runtime.LITERT.is_available else open_lce(model, 1)
    return (open_litert(model, 1), "the delegate") if lce is None else (lce, "LCE's interpreter")
