"""Every network of the tests and of examples/papers by its name, with images for it."""

from __future__ import annotations

import functools

import numpy as np
import torch

import bnncc
from bnncc.ir.evaluate import Array
from bnncc.model import CompiledModel
from tests import test_papers
from tests.networks.honest import honest, smooth_images
from tests.targets.runtime.networks import short_reactnet, short_rep_reactnet

TESTS = {"vgg_small": 32, "bireal_net_18": 224, "reactnet_a": 224, "rep_reactnet_a": 224}
SHORT = {"short_reactnet": short_reactnet, "short_rep_reactnet": short_rep_reactnet}
PAPERS = {name: file for file, name in test_papers.FULL_SIZE}
# The side of each network's images, as its paper has them; the small forms', and short ones for tests.
FULL_SIZES = TESTS | {name: size for (_, name), (_, size) in test_papers.FULL_SIZE.items()}
SIZES = FULL_SIZES | dict.fromkeys(test_papers.SMALL, 28) | dict.fromkeys(SHORT, 32)


@functools.cache
def compiled(name: str, size: int) -> CompiledModel:
    """The network for images of `size` pixels a side."""
    if name in test_papers.SMALL:
        return test_papers.compiled_small(name)
    shapes = [(1, 3, size, size)]
    if name in TESTS:
        return bnncc.compile(f"tests.networks:{name}", input_shapes=shapes)
    torch.manual_seed(0)
    if name in SHORT:
        return bnncc.compile(SHORT[name](), input_shapes=shapes)
    network = getattr(test_papers.script(PAPERS[name]), name)()
    return bnncc.compile(honest(network, size), input_shapes=shapes)


def images(name: str, size: int, count: int) -> list[Array]:
    """Images for `compiled(name, size)`, float32 [1, C, size, size] each: photos of clothes for the small forms, which
    were trained on such, smooth noise for the others.
    """
    if name in test_papers.SMALL:
        with np.load(test_papers.IMAGES) as data:
            photos: Array = data["images"][:count].astype(np.float32)
        return [photo.reshape(1, 1, size, size) for photo in photos]
    return [smooth_images(1, size, seed=1 + index).numpy() for index in range(count)]
