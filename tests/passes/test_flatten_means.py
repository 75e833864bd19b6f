"""A mean over the map yields rows without a Reshape."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from torch import nn

from bnncc.passes.flatten_means import FlattenMeans
from tests.passes.helpers import Array, build, check_pass, operators
from tests.passes.proof import operators_in_file, proven

CONSTANTS: dict[str, Array] = {
    "axes": np.array([2, 3]), "negative": np.array([-1, -2]), "one": np.array([2]), "rows": np.array([2, -1]),
}  # fmt: skip


def graph(body: str, outputs: str = "y") -> ir.Model:
    used = {name: array for name, array in CONSTANTS.items() if f" {name})" in body}
    return build(body, "float[2, 5, 4, 3] x", outputs, **used)


@pytest.mark.parametrize(
    "body",
    [
        "m = GlobalAveragePool (x)\ny = Flatten (m)",
        "m = ReduceMean (x, axes)\ny = Reshape (m, rows)",
        "m = ReduceMean (x, negative)\ny = Squeeze (m, axes)",
        "m = GlobalAveragePool (x)\nf = Flatten (m)\ny = Relu (f)",
    ],
)
def test_the_mean_is_flat_itself(body: str) -> None:
    assert not {"Flatten", "Reshape", "Squeeze"} & set(operators(check_pass(graph(body), FlattenMeans())))


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("m = GlobalAveragePool (x)\ny = Flatten (m)\nz = Relu (m)", "y, z"),
        ("m = GlobalMaxPool (x)\ny = Flatten (m)", "y"),
        ("m = ReduceMean (x, one)\ny = Flatten (m)", "y"),
        ("m = GlobalAveragePool (x)\ny = Flatten <axis = 0> (m)", "y"),
    ],
    ids=["read twice", "no mean", "of one axis", "another shape"],
)
def test_other_reshapes_stay(body: str, outputs: str) -> None:
    check_pass(graph(body, outputs), FlattenMeans(), modified=False)


def test_a_classifiers_head_is_a_mean_and_a_linear() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    assert operators_in_file(proven(module, 1, 3, 9, 7)) == {"CONV_2D": 1, "MEAN": 1, "FULLY_CONNECTED": 1}
