"""Networks as other people write them: they get in, every layer that takes two values is bits, the file is proven."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bnncc
from bnncc.errors import BnnccError
from bnncc.ir.evaluate import Array, random_inputs
from bnncc.model import CompiledModel
from bnncc.verification import verify_in
from tests.needs import RUNTIMES
from tests.networks.strangers import NETWORKS

REFUSED = ("branch_on_data",)
FLOAT = ("sign_of_pixels",)
TIES = ("rounding_ties",)
ORDINARY = [name for name in NETWORKS if name not in (*REFUSED, *FLOAT, *TIES)]


def compiled(name: str, **arguments: object) -> CompiledModel:
    if name == "token_ids":
        arguments["input_ranges"] = {"ids": (0, 100)}
    source = f"tests.networks.strangers:{name}"
    return bnncc.compile(source, input_shapes=NETWORKS[name].shapes, **arguments)  # type: ignore[arg-type]


def inputs(model: CompiledModel, seeds: int) -> list[list[Array]]:
    return [random_inputs(model.traced.model, seed) for seed in range(seeds)]


@pytest.mark.parametrize("name", ORDINARY)
def test_it_is_bits_and_proven(name: str) -> None:
    model = compiled(name)
    assert [layer.reason for layer in model.layers] == [None]
    for found in verify_in(RUNTIMES, model, inputs(model, 4)):
        assert found.passed, (found.runtime.title, found.problems)
        assert all(layer.sums > 0 and layer.wrong == 0 for layer in found.layers)
        assert all(sign.flipped == sign.explained for sign in found.signs)


def test_every_output_is_named_by_its_path() -> None:
    outputs = [value.name for value in compiled("dataclass_of_a_dict").graph.graph.outputs]
    assert outputs == ["logits", "features_twice"]


def test_values_at_a_tie_are_counted_and_explained() -> None:
    model = compiled("rounding_ties")
    assert [layer.reason for layer in model.layers] == [None]
    for found in verify_in(RUNTIMES, model, inputs(model, 4)):
        assert found.passed, (found.runtime.title, found.problems)
        assert [step.operator for step in found.steps] == ["Round", "Round"]
        assert found.steps[1].ties > 0.1 * found.steps[1].values
        assert all(step.differing == step.explained for step in found.steps)


def test_a_branch_on_data_is_refused_with_its_line_or_frozen_and_named() -> None:
    with pytest.raises(BnnccError, match=r"strangers\.py:\d+.*x\.max\(\) > 100"):
        compiled("branch_on_data")
    model = compiled("branch_on_data", freeze_branches=True)
    assert ["x.max() > 100" in str(entry) for entry in model.traced.frozen] == [True]
    assert all(found.passed for found in verify_in(RUNTIMES, model, inputs(model, 1)))


def test_the_sign_of_pixels_has_three_values_unless_the_user_says_two() -> None:
    model = compiled("sign_of_pixels")
    (layer,) = model.layers
    assert layer.reason is None or "0" in layer.reason
    network = NETWORKS["sign_of_pixels"].make()
    pixels = torch.randint(0, 3, (1, 3, 12, 12), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        expected = model.as_stored(network(pixels).numpy())
    for runtime in RUNTIMES:
        (result,) = runtime.load(model.content).run([model.as_stored(pixels.numpy())])
        np.testing.assert_array_equal(result, expected)

    read = compiled("sign_of_pixels", options=bnncc.Options(sign_of_zero="plus-one"))
    assert [layer.reason for layer in read.layers] == [None]
