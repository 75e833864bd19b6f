"""Without any one pass the file is as exact, larger or slower, or it says which layers stay in float."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.compiler import compile_traced
from bnncc.errors import InputError
from bnncc.frontend import InputSpec, TracedModel, trace_module
from bnncc.options import Options
from bnncc.passes import PIPELINE
from bnncc.passes.legalize import OPTIONAL
from bnncc.targets import find_target
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.verification import verify
from tests.networks.randomize import randomize
from tests.networks.rep_reactnet import RepReActNet

NAMES = [*dict.fromkeys(step.name for step in PIPELINE), *OPTIONAL, "balance-rows"]


@pytest.fixture(scope="module")
def traced() -> TracedModel:
    """Copies of channels, learnt shifts and slopes, negative scales, maps of odd size."""
    network = randomize(RepReActNet(blocks=((16, 1), (32, 2), (32, 1)), stem=16, classes=5), 3)
    return trace_module(network, [InputSpec("x", (1, 3, 32, 32))])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_right_without_any_one_pass(traced: TracedModel, name: str) -> None:
    precision = WeightsPrecision.INT8 if name == "balance-rows" else WeightsPrecision.FLOAT32
    options = Options(disabled_passes=(name,), weights_precision=precision)
    compiled = compile_traced(traced, find_target("raspberry-pi-4"), options)
    assert name not in compiled.pass_seconds
    result = verify(compiled, [[np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)]])
    assert result.passed, result.problems


@pytest.mark.parametrize(
    ("name", "message"),
    [("fold", "there is no pass 'fold'; the passes are .*, balance-rows"), ("pad-with-ones", "wrongly")],
)
def test_a_name_that_cannot_be_left_out_is_refused(traced: TracedModel, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compile_traced(traced, find_target("raspberry-pi-4"), Options(disabled_passes=(name,)))
