"""What becomes of a network whose classes differ in a runtime: LiteRT with the delegate, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnncc.targets.tflite.reader import TfliteFile
from tests.conformance import networks
from tests.conformance.batch import Outcome
from tests.conformance.environments import Environment
from tests.conformance.form import normal
from tests.conformance.networks import Doubt, Found, Subject, compiled, is_right, prove, share
from tests.conformance.page import networks_table
from tests.needs import needs_zig
from tests.verification.test_verification import flip_one_bit, with_constant

NAME = "gated_by_a_chunk"
LITERT = Environment("litert", "ai_edge_litert", delegate=True)


@needs_zig
@pytest.mark.parametrize("is_wrong", [False, True], ids=["its file", "a wrong bit"])
def test_a_class_may_differ_by_rounding_alone(is_wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = compiled(NAME)
    if is_wrong:
        (operator,) = (one for one in TfliteFile(model.content).operators if one.name == "LceBconv2d")
        wrong = with_constant(model, operator.outputs[0].name, "LceBconv2d", 1, flip_one_bit)
        monkeypatch.setattr(networks, "compiled", lambda name: (wrong, inputs))
    found = Found(0.99, [(True, 2)])
    prove(NAME, [Doubt(LITERT, (True, 2), found)], tmp_path)
    assert bool(found.problems) == is_wrong
    assert is_right(found) != is_wrong


def test_the_share_of_classes_is_that_of_the_worst_configuration() -> None:
    wanted = normal(2, 4, 4, 3)
    subject = Subject("", b"", "", [[]], [[wanted]])
    swapped = wanted.copy()
    swapped[0, 0, 0] = -wanted[0, 0, 0]
    found = Found(1.0, [])
    found.add(share(subject, Outcome(outputs=[[wanted]])), (True, 2))
    assert is_right(found)
    found.add(share(subject, Outcome(outputs=[[swapped]])), (False, 1))
    assert found == Found(31 / 32, [(False, 1)])
    assert not is_right(found)  # as long as nothing proves it
    assert share(subject, Outcome(outputs=[[wanted[:1]]])) == "other outputs"
    found.add(share(subject, Outcome(refused="no")), (False, 1))
    assert found.share == "no"
    assert np.argmax(wanted[0, 0, 0]) != np.argmax(swapped[0, 0, 0])


def test_the_table_says_what_a_difference_is() -> None:
    cells = {
        "✓": Found(1.0, []),
        "99.93%, 1 sign": Found(0.9993, [(True, 2)], [], 1),
        "99.22%, outputs": Found(0.9922, [(True, 2)], []),
        "**50.00%**": Found(0.5, [(True, 2)], ["off"]),
        "refused": Found("refused", []),
    }
    results = {f"runtime {cell}": {"net": vars(found)} for cell, found in cells.items()}
    row = list(networks_table({"oldest": {"net": "tflite-2.14"}, "results": results}))[-1]
    assert row == f"| net | TensorFlow Lite 2.14 | {' | '.join(cells)} |"
