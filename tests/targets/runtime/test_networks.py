"""Whole networks: the delegate computes what LCE's own interpreter computes."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.inference.runners import LceRunner
from bnncc.runtime import LitertRunner, kernels
from tests.targets.runtime.networks import NETWORKS, binary_part, compiled, inputs_of

# Of the largest output: the float layers behind the last binary one are other versions of TensorFlow Lite's.
TOLERANCE = 1e-5


@pytest.mark.parametrize(("network", "shape"), NETWORKS)
def test_networks_are_lce_s_bit_for_bit_up_to_the_last_binary_layer(network: str, shape: str) -> None:
    content = compiled(network, shape)
    part, inputs = binary_part(content), inputs_of(content)
    wanted = LceRunner(part, fastest=True).run(inputs)
    (whole,) = LceRunner(content, fastest=True).run(inputs)
    settings = [{"kernel": kernel} for kernel in kernels()] + [{"fuse": False}, {"threads": 2}]
    for setting in settings:
        for found, expected in zip(LitertRunner(part, **setting).run(inputs), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
        (found,) = LitertRunner(content, **setting).run(inputs)
        assert np.abs(found - whole).max() <= TOLERANCE * np.abs(whole).max()
        assert found.argmax() == whole.argmax()
