"""Whole networks: the interpreter computes what LiteRT with the delegate computes."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.runtime import LitertRunner
from tests.targets.interpreter.native import InterpreterRunner
from tests.targets.runtime.networks import NETWORKS, binary_part, compiled, inputs_of

# Of the largest output: the float layers behind the last binary one are taken in another order.
TOLERANCE = 1e-5


@pytest.mark.parametrize(("network", "shape"), NETWORKS)
def test_networks_are_litert_s_bit_for_bit_up_to_the_last_binary_layer(network: str, shape: str) -> None:
    content = compiled(network, shape)
    part, inputs = binary_part(content), inputs_of(content)
    wanted, whole = LitertRunner(part).run(inputs), LitertRunner(content).run(inputs)[0]
    for threads in (1, 2):
        for found, expected in zip(InterpreterRunner(part, threads).run(inputs), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
        (found,) = InterpreterRunner(content, threads).run(inputs)
        assert np.abs(found - whole).max() <= TOLERANCE * np.abs(whole).max()


def test_a_second_run_on_one_input_yields_the_same() -> None:
    content = compiled(*NETWORKS[0])
    runner = InterpreterRunner(content)
    first = runner.run(inputs_of(content))
    runner.invoke()
    np.testing.assert_array_equal(runner.outputs[0], first[0])
