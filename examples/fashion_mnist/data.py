"""Fashion-MNIST from Debian's package dataset-fashion-mnist (apt-get install dataset-fashion-mnist).

`bnncc check … --data examples/fashion_mnist/data.py:test_images` measures on all 10,000 test images.
"""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

FOLDER = Path("/usr/share/datasets/fashion-mnist")


def read_idx(path: Path) -> Tensor:
    """The uint8 array in a gzipped IDX file: two zero bytes, type, rank, then big-endian int32 sizes and the data."""
    with gzip.open(path) as file:
        rank = file.read(4)[3]
        shape = np.frombuffer(file.read(4 * rank), ">i4")
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8).reshape(shape).copy())


def load(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images, uint8 [N, 1, 28, 28], and labels, int64 [N], of the split "train" or "t10k"."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz")
    return images[:, None], labels.long()


def test_images() -> TensorDataset:
    """All test images with their labels, pixel values 0..255."""
    return TensorDataset(*load(FOLDER, "t10k"))
