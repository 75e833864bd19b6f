"""Nothing is computed twice: neither the network on one input, nor the file's parts for each runtime, nor a layer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnncc
from bnncc import verification
from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import random_inputs
from bnncc.model import CompiledModel
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify_in
from bnncc.verification.reference_side import Reference
from bnncc.verification.variants import Variants
from tests.networks.binarize import ClippedSign, ScaledBinaryConv2d

CALLS = Counter[str]()


class Net(nn.Module):
    """A stem, a layer whose result is a float, one whose result is bits, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 32, 3)
        self.conv1 = ScaledBinaryConv2d(32, 32, 3)
        self.conv2 = ScaledBinaryConv2d(32, 32, 3)
        self.conv3 = ScaledBinaryConv2d(32, 32, 3)
        self.fc = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        CALLS["forward"] += 1
        x = self.stem(x)
        x = self.conv1(ClippedSign.apply(x)) + x[:, :, 1:-1, 1:-1]
        x = self.conv3(ClippedSign.apply(self.conv2(ClippedSign.apply(x)) + 0.0005))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def compiled() -> CompiledModel:
    return bnncc.compile(Net().eval(), input_shapes=["1x3x12x12"])


def test_pytorch_runs_once_on_the_inputs_of_the_trace_check(compiled: CompiledModel) -> None:
    run = compiled.traced.run_module
    assert run is not None
    inputs = random_inputs(compiled.traced.model, seed=0)  # the first of the check, and of `bnncc compile`
    before = CALLS["forward"]
    known = run(inputs)
    run(random_inputs(compiled.traced.model, seed=1))
    assert CALLS["forward"] == before
    again = run([inputs[0] + 0])
    assert CALLS["forward"] == before
    other = run([np.negative(inputs[0])])
    assert CALLS["forward"] == before + 1
    np.testing.assert_array_equal(known[0], again[0])
    assert not np.array_equal(known[0], other[0])


def test_zero_and_minus_zero_are_two_inputs(compiled: CompiledModel) -> None:
    network = compiled.traced.run_module.__self__  # type: ignore[union-attr]
    zeros = [np.zeros((1, 3, 12, 12), np.float32)]
    network.known.append((zeros, [np.zeros((1, 4), np.float32)]))
    before = CALLS["forward"]
    network.run([-zeros[0]])
    assert CALLS["forward"] == before + 1
    network.known.pop()


def test_the_files_parts_are_cut_out_once_for_all_runtimes(
    compiled: CompiledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Counter[str]()
    for name in ("variant", "sums_variant"):
        plain = getattr(TfliteFile, name)

        def counted(*arguments: Any, plain: Any = plain, name: str = name, **keywords: Any) -> Any:
            made[name] += 1
            return plain(*arguments, **keywords)

        monkeypatch.setattr(TfliteFile, name, counted)
    inputs = [random_inputs(compiled.traced.model, seed) for seed in range(2)]
    results = verify_in([Runtime.LITERT, Runtime.LITERT], compiled, inputs)
    assert all(result.passed for result in results)
    # Layer by layer and free-running; each layer by itself has run layer by layer.
    assert made == {"variant": 2, "sums_variant": 1}


def test_layers_that_run_as_they_are_layer_by_layer_are_known(compiled: CompiledModel) -> None:
    variants = Variants(Reference(compiled))
    outputs = [*variants.in_full, *variants.computed_in_full]
    places = [place for place in variants.inferred if place is not None]
    assert [outputs[place] for place in places] == [layer.operator.outputs[0] for layer in variants.reference.layers]
    assert {outputs[place].dtype for place in places} == {"float32", "int32"}


def test_what_agrees_to_the_bit_is_not_held_against_a_bound(compiled: CompiledModel) -> None:
    reference = Reference(compiled)
    expected = reference.on(random_inputs(compiled.traced.model, seed=3), None)
    tensors = list(reference.floats.values())
    file = reference.full.variant([*reference.file.inputs, *(point.tensor for point in reference.points)], tensors)
    floats = Runtime.LITERT.load(file).run(expected.fed)
    different = [value for value, *_ in reference.local(expected, floats)]
    adds = [value for value in reference.floats if (node := value.producer()) is not None and node.op_type == "Add"]
    assert adds
    assert not set(adds) & set(different)
    floats[tensors.index(reference.floats[adds[0]])] += 1
    found = {value: (array, wanted, bound) for value, array, wanted, bound in reference.local(expected, floats)}
    array, wanted, bound = found[adds[0]]
    assert np.all(np.abs(array - wanted) > bound)


@pytest.mark.parametrize(("enough", "inputs"), [(1, 2), (11_136, 3), (1_000_000, 4)])
def test_a_file_is_verified_on_as_many_inputs_as_make_up_enough_sums(
    compiled: CompiledModel, monkeypatch: pytest.MonkeyPatch, enough: int, inputs: int
) -> None:
    """This network has 32 · (8 · 8 + 6 · 6 + 4 · 4) sums an input: 11,136 of three."""
    monkeypatch.setattr(verification, "ENOUGH_SUMS", enough)
    assert verification.sufficient_inputs(compiled) == inputs
