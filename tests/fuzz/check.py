"""Compile a random network and prove the file."""

from __future__ import annotations

import numpy as np

import bnncc
from tests.fuzz.networks import Network, RandomNetwork


def check(spec: Network, inputs: int = 1) -> bnncc.CompiledModel:
    """Compile the network and verify the file on random images; an AssertionError says what is wrong."""
    compiled = bnncc.compile(RandomNetwork(spec), input_shapes=[(1, 3, *spec.size)])
    generator = np.random.default_rng(spec.seed)
    shape = compiled.traced.inputs[0].shape
    images = [[generator.standard_normal(shape, dtype=np.float32)] for _ in range(inputs)]
    found = bnncc.verify(compiled, images)
    assert found.passed, f"{spec}\n{found.problems}"
    return compiled
