"""The full-size networks, compiled once for all tests of a process."""

import functools

import pytest

import bnncc
from bnncc.model import CompiledModel

SHAPE = (1, 3, 224, 224)


@functools.cache
def compiled(network: str) -> CompiledModel:
    """A network of `tests.networks` for one 224x224 image."""
    return bnncc.compile(f"tests.networks:{network}", input_shapes=[SHAPE])


def shares(network: str) -> pytest.MarkDecorator:
    """A mark: with `--dist loadgroup`, all tests that use `compiled(network)` run in one process."""
    return pytest.mark.xdist_group(network)
