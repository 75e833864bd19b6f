"""Networks that are no image classifiers, the whole way at a real size: every binary layer is bits, and the file is
proven on both runtimes and on emulated ARM.
"""

from __future__ import annotations

import numpy as np
import pytest

import bnncc
from bnncc.ir.evaluate import random_inputs
from bnncc.verification import verify_in
from tests.needs import RUNTIMES
from tests.networks.applications import APPLICATIONS
from tests.targets.runtime.emulated_runtime import emulated_runtimes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_binary_layer_is_bits_and_the_file_is_the_network_on_every_runtime(name: str) -> None:
    application = APPLICATIONS[name]
    compiled = bnncc.compile(f"tests.networks.applications:{name}", input_shapes=[application.input])
    assert [layer.reason for layer in compiled.layers] == [None] * application.binary
    # At a real size most weights are binary ones; what stays float is the stem, the head and an embedding.
    assert len(compiled.content) * 3 < compiled.float_weight_bytes
    with emulated_runtimes() as emulated:
        runtimes = [*RUNTIMES, *emulated.values()]
        results = verify_in(runtimes, compiled, [random_inputs(compiled.traced.model, 1)])
    for found in results:
        assert found.passed, (found.runtime.title, found.problems)
        assert len(found.layers) >= application.binary
        assert all(layer.sums > 0 and layer.wrong == 0 for layer in found.layers)
        assert all(sign.flipped == sign.explained for sign in found.signs)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_file_is_proven_with_its_float_layers_in_int8(name: str) -> None:
    source, shapes = f"tests.networks.applications:{name}", [APPLICATIONS[name].input]
    full = bnncc.compile(source, input_shapes=shapes)
    inputs = [random_inputs(full.traced.model, seed) for seed in range(3)]
    compiled = bnncc.compile(source, input_shapes=shapes, calibrate=np.concatenate([arrays[0] for arrays in inputs]))
    assert len(compiled.content) < len(full.content)
    for found in verify_in(RUNTIMES, compiled, inputs[:1]):
        assert found.passed, (found.runtime.title, found.problems)
        assert sum(check.values for check in found.integers) > 0
