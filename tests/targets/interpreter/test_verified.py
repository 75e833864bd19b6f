"""Whole networks in the interpreter, proven as `bnncc check` proves them: integer sums to the bit, layer by layer."""

from __future__ import annotations

from typing import cast

import pytest
import torch

import bnncc
from bnncc.inference.runners import Runtime
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.verification import verify
from tests.networks import randomize
from tests.targets.interpreter.native import InterpreterRunner
from tests.targets.runtime.named_networks import SIZES, compiled, images
from tests.targets.tflite import test_precision
from tests.test_papers import SMALL

NETWORKS = [*SMALL, "short_reactnet", "short_rep_reactnet"]


class _Interpreter:
    """Used like `bnncc.inference.runners.Runtime`."""

    title = "bnncc's interpreter"

    def load(self, content: bytes) -> InterpreterRunner:
        return InterpreterRunner(content)


INTERPRETER = cast(Runtime, _Interpreter())


@pytest.mark.parametrize("network", NETWORKS)
def test_a_whole_network_computes_what_pytorch_computes(network: str) -> None:
    size = SIZES[network]
    found = verify(compiled(network, size), [[image] for image in images(network, size, 2)], runtime=INTERPRETER)
    assert found.passed, found.problems
    assert found.layers


@pytest.mark.parametrize("precision", [WeightsPrecision.FLOAT16, WeightsPrecision.INT8])
def test_rounded_weights_pass_the_check_s_bounds(precision: WeightsPrecision) -> None:
    torch.manual_seed(0)
    options = bnncc.Options(weights_precision=precision)
    model = bnncc.compile(randomize(test_precision.Net()), input_shapes=["1x3x16x16"], options=options)
    found = verify(model, [[torch.randn(1, 3, 16, 16).numpy()]], runtime=INTERPRETER)
    assert found.passed, found.problems
