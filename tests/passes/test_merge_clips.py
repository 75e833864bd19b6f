"""Max, Min, Relu and Clip behind one another become one Clip."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from bnncc.passes.merge_clips import MergeClips, clip_of
from tests.passes.helpers import Array, build, check_pass, node_of, normal

NUMBERS = {"low": -1.0, "high": 1.0, "zero": 0.0, "six": 6.0, "half": 0.5}


def chain(body: str, **constants: Array) -> ir.Model:
    used = {name: value for name, value in NUMBERS.items() if name in body}
    return build(body, "float[2, 3, 5, 4] x", **used, **constants)


@pytest.mark.parametrize(
    ("body", "bounds"),
    [
        ("a = Max (x, low)\ny = Min (a, high)", (-1.0, 1.0)),
        ("a = Min (x, high)\ny = Max (low, a)", (-1.0, 1.0)),
        ("a = Relu (x)\ny = Min (a, six)", (0.0, 6.0)),
        ("a = Relu (x)\ny = Relu (a)", (0.0, float("inf"))),
        ("a = Clip (x, low, high)\nb = Max (a, zero)\ny = Min (b, half)", (0.0, 0.5)),
        ("a = Clip (x, low)\ny = Clip (a, , high)", (-1.0, 1.0)),
    ],
)
def test_a_chain_of_bounds_is_one_clip(body: str, bounds: tuple[float, float]) -> None:
    model = check_pass(chain(body), MergeClips())
    (node,) = model.graph
    found = clip_of(node)
    assert found is not None
    assert found[1] == bounds


@pytest.mark.parametrize(
    "body",
    [
        "a = Max (x, low)\nb = Min (a, high)\ny = Add (b, a)",
        "a = Max (x, half)\ny = Min (a, zero)",
        "a = Max (x, low)\nb = Neg (a)\ny = Min (b, high)",
        "a = Max (x, x)\ny = Min (a, high)",
    ],
    ids=["read twice", "empty", "apart", "no constant"],
)
def test_other_bounds_stay(body: str) -> None:
    check_pass(chain(body), MergeClips(), modified=False)


def test_bounds_that_differ_between_channels_stay() -> None:
    model = chain("a = Max (x, w)\ny = Min (a, high)", w=normal(3, 1, 1))
    assert node_of(check_pass(model, MergeClips(), modified=False), "Max").inputs[1] is not None
