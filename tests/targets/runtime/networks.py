"""Whole networks as files, compiled once."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from bnncc.compiler import Options, compile_traced
from bnncc.frontend import trace
from bnncc.ir.evaluate import Array
from bnncc.targets import find_target
from bnncc.targets.tflite.reader import TfliteFile
from tests.networks import ReActNet, RepReActNet, randomize

# ReActNet-A takes long to trace; a few of its blocks have all its operators.
NETWORKS = [
    ("tests.networks:vgg_small", "1x3x32x32"),
    pytest.param("tests.networks:bireal_net_18", "1x3x64x64", marks=pytest.mark.slow),
    ("tests.targets.runtime.networks:short_reactnet", "1x3x32x32"),
]


def short_reactnet() -> ReActNet:
    """Four blocks: channels kept and doubled, strides 1 and 2."""
    network = ReActNet(((64, 1), (128, 2), (128, 1), (256, 2)), classes=10)
    randomize(network)
    return network


def short_rep_reactnet() -> RepReActNet:
    """The same four blocks with RepConv."""
    network = RepReActNet(((64, 1), (128, 2), (128, 1), (256, 2)), classes=10)
    randomize(network)
    return network


@functools.cache
def compiled(network: str, shape: str) -> bytes:
    """The file of a network."""
    traced = trace(network, input_shapes=[shape])
    return compile_traced(traced, find_target("raspberry-pi-4"), Options()).content


def binary_part(content: bytes) -> bytes:
    """The file up to its last LCE operator; yields what one in the middle and the last one compute.

    Only what is behind is left to float sums, which interpreters take in different orders.
    """
    file = TfliteFile(content)
    binary = [operator.outputs[0] for operator in file.operators if operator.name.startswith("Lce")]
    return file.variant(file.inputs, [binary[len(binary) // 2], binary[-1]])


def part_between_float_convolutions(content: bytes) -> bytes:
    """The file from its first float convolution's output to the last LCE operator that no other float convolution
    reaches: what an interpreter on any processor computes to the same bits.
    """
    file = TfliteFile(content)
    first = next(operator.outputs[0] for operator in file.operators if operator.name == "CONV_2D")
    reached: set[int] = set()
    binary = []
    for operator in file.operators:
        sources = {tensor.index for tensor in operator.inputs if tensor is not None}
        if operator.outputs[0] != first and (operator.name == "CONV_2D" or sources & reached):
            reached |= {tensor.index for tensor in operator.outputs}
        elif operator.name.startswith("Lce"):
            binary.append(operator.outputs[0])
    return file.variant([first], [binary[-1], binary[len(binary) // 2]])


def inputs_of(content: bytes) -> list[Array]:
    """Reproducible inputs."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(tensor.shape).astype(np.float32) for tensor in TfliteFile(content).inputs]
