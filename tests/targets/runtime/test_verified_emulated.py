"""Whole networks on emulated ARM processors, proven as `bnncc check` proves them here.

Float convolutions are XNNPACK's, which sums in another order on ARM, and where a rounding flips a sign, all that
follows differs.  So the integer sums and thresholds are compared to the bit and the floats layer by layer, each layer
fed the reference's own signs; then the file runs by itself.  `verify_emulated` does the same at 224x224.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import bnncc
from bnncc.inference.runners import Runtime
from bnncc.model import CompiledModel
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.verification import verify, verify_in
from tests.needs import SYSROOTS, needs_sysroots, needs_zig
from tests.networks import randomize
from tests.targets.runtime.emulated_runtime import EmulationError, emulated, emulated_runtimes
from tests.targets.runtime.named_networks import SIZES, compiled, images
from tests.targets.tflite import test_precision
from tests.test_papers import SMALL
from tests.verification.test_verification import BINARY_LAYERS, INPUTS, Net, flip_one_bit, with_constant

pytestmark = [needs_sysroots, needs_zig]
COUNT = 2
# Those that are large are proven where they are compiled anyway, in tests.test_networks and tests.test_papers.
NETWORKS = [*SMALL, "vgg_small", "short_reactnet", "short_rep_reactnet"]


@pytest.fixture(scope="module")
def runtimes() -> Iterator[dict[str, Runtime]]:
    """One process for each machine."""
    with emulated_runtimes() as started:
        yield started


@functools.cache
def with_rounded_weights(precision: WeightsPrecision) -> CompiledModel:
    """A network with a float convolution, a depthwise one and a Linear."""
    torch.manual_seed(0)
    return bnncc.compile(
        randomize(test_precision.Net()),
        input_shapes=["1x3x16x16"],
        options=bnncc.Options(weights_precision=precision),
    )


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_a_whole_network_computes_there_what_pytorch_computes(network: str, runtimes: dict[str, Runtime]) -> None:
    size = SIZES[network]
    inputs = [[image] for image in images(network, size, COUNT)]
    for found in verify_in([*runtimes.values()], compiled(network, size), inputs):
        assert found.passed, found.problems
        assert found.layers
        assert all(layer.sums > 0 and layer.wrong == 0 for layer in found.layers)
        assert all(sign.flipped == sign.explained for sign in found.signs)
        assert found.output_error < 1e-5


@pytest.mark.parametrize(
    ("machine", "precision"),
    [
        ("aarch64", WeightsPrecision.FLOAT16),
        ("aarch64", WeightsPrecision.INT8),
        ("armv7", WeightsPrecision.FLOAT16),
        ("armv7", WeightsPrecision.INT8),
    ],
)
def test_rounded_weights_do_there_what_their_rounding_explains(
    machine: str, precision: WeightsPrecision, runtimes: dict[str, Runtime]
) -> None:
    found = verify(with_rounded_weights(precision), test_precision.INPUTS, runtime=runtimes[machine])
    assert found.passed, found.problems
    assert found.rounded


def test_one_flipped_weight_bit_is_found_there(runtimes: dict[str, Runtime]) -> None:
    torch.manual_seed(0)
    model = bnncc.compile(randomize(Net()), input_shapes=["1x3x8x8"])
    wrong = with_constant(model, BINARY_LAYERS["conv2"], "LceBconv2d", 1, flip_one_bit)
    for found in verify_in([*runtimes.values()], wrong, INPUTS):
        assert {layer.module for layer in found.layers if layer.wrong} == {"conv2"}


def test_what_the_interpreter_refuses_is_told_and_the_process_goes_on(runtimes: dict[str, Runtime]) -> None:
    content = compiled("sdbnn_vgg_small", SIZES["sdbnn_vgg_small"]).content
    for runtime in runtimes.values():
        with pytest.raises(RuntimeError, match=r"identifier|flatbuffer|model"):
            runtime.load(b"no model" * 8)
        assert runtime.load(content).output_shapes == [(1, 10)]


def test_what_ends_the_process_is_told() -> None:
    with emulated(Path(SYSROOTS), "aarch64", kernel="abacus") as runtime:
        with pytest.raises(RuntimeError, match="this processor has no such kernel"):
            runtime.load(compiled("sdbnn_vgg_small", SIZES["sdbnn_vgg_small"]).content)
        with pytest.raises(EmulationError, match=r"ended with status 1 at 'sing': (.|\n)*KeyError"):
            runtime.request(b"sing")
