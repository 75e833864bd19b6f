"""A network of two-bit activations, the whole way: every layer is bits, exact, small and of few operators."""

from __future__ import annotations

import pytest

import bnncc
from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import random_inputs
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify_in


@pytest.mark.slow
def test_two_bits_with_gates_are_bits_in_few_operators() -> None:
    compiled = bnncc.compile("tests.networks.fracbnn:fracbnn", input_shapes=["1x3x32x32"])
    assert [layer.reason for layer in compiled.layers] == [None] * 36
    assert len(compiled.content) < 0.12 * compiled.float_weight_bytes
    # Two signs and two layers; three operators between the signs; compare, add, choose; norm, shortcut, shift, PRelu.
    assert len(TfliteFile(compiled.content).operators) <= 18 * 14 + 9
    for found in verify_in(list(Runtime), compiled, [random_inputs(compiled.traced.model, 1)]):
        assert found.passed, (found.runtime.title, found.problems)
        assert all(layer.sums > 0 and layer.wrong == 0 for layer in found.layers)
