"""Grouped binary convolutions as one convolution a group: words of packed slices, or slices packed each."""

import json

import numpy as np
import onnx_ir as ir
import pytest

from bnncc.ir.graph import INPUT_CHANNELS_KEY, LEFT_IN_FLOAT_KEY, OUTPUT_CHANNELS_KEY
from bnncc.ir.layers import binary_layers
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from bnncc.passes.split_groups import SplitGroups
from bnncc.targets import find_target
from tests.passes.helpers import build, check_pass, node_of, normal, operators, signs

ATTRIBUTES = "pads = [1, 1, 1, 1], strides = [2, 2]"


def grouped(groups: int, channels: int, filters: int, body: str = "", *, size: int = 6, outputs: str = "y") -> ir.Model:
    body = body or f"s = bnncc.Sign (x)\ny = Conv <group = {groups}, {ATTRIBUTES}> (s, w, b)"
    weight = signs(groups * filters, channels, 3, 3) * np.abs(normal(groups * filters, 1, 1, 1))
    model = build(body, f"float[1, {groups * channels}, {size}, 7] x", outputs, w=weight, b=normal(groups * filters))
    assert RecognizeBinaryConv()(model).modified
    return model


@pytest.mark.parametrize(("groups", "channels", "filters"), [(2, 32, 3), (3, 64, 40), (4, 5, 2), (2, 33, 1), (5, 2, 2)])
def test_every_group_is_a_convolution_of_its_channels(groups: int, channels: int, filters: int) -> None:
    model = check_pass(grouped(groups, channels, filters), SplitGroups())
    left = operators(model)
    assert left["bnncc.BinaryConv"] == groups
    assert left["Split"] == left["Concat"] == 1
    # Whole words are cut out of one packed value; of other sizes each part is packed on its own.
    assert left["bnncc.Sign"] == (1 if channels % 32 == 0 else groups)
    convs = [node for node in model.graph if node.op_type == "BinaryConv"]
    for index, node in enumerate(convs):
        assert json.loads(node.metadata_props[INPUT_CHANNELS_KEY]) == [*range(index * channels, (index + 1) * channels)]
        assert json.loads(node.metadata_props[OUTPUT_CHANNELS_KEY]) == [*range(index * filters, (index + 1) * filters)]


def test_two_convolutions_of_one_value_share_its_parts() -> None:
    body = f"s = bnncc.Sign (x)\ny = Conv <group = 3, {ATTRIBUTES}> (s, w)\nz = Conv <group = 3> (s, w)"
    for channels in (32, 5):
        model = check_pass(grouped(3, channels, 2, body, outputs="y, z"), SplitGroups())
        assert operators(model)["Split"] == 1
        assert operators(model)["bnncc.BinaryConv"] == 6


def test_signs_that_something_else_reads_are_packed_once() -> None:
    body = f"s = bnncc.Sign (x)\ny = Conv <group = 2, {ATTRIBUTES}> (s, w)\nz = Neg (s)"
    model = check_pass(grouped(2, 5, 2, body, outputs="y, z"), SplitGroups())
    assert operators(model)["bnncc.Sign"] == 1


def test_a_padding_of_ones_stays_one() -> None:
    body = f"s = bnncc.Sign (x)\nt = Add (s, one)\ny = Conv <group = 2, {ATTRIBUTES}> (t, w)"
    weight = signs(4, 32, 3, 3)
    model = build(body, "float[1, 64, 6, 7] x", w=weight, one=-1.0)
    RecognizeBinaryConv()(model)
    check_pass(model, SplitGroups())
    assert all(node.attributes["pad_value"].as_float() == 1.0 for node in model.graph if node.op_type == "BinaryConv")


def test_a_kernel_that_takes_groups_keeps_one_operator() -> None:
    check_pass(grouped(2, 64, 5), SplitGroups(grouped_kernel=True), modified=False)
    check_pass(grouped(2, 48, 5), SplitGroups(grouped_kernel=True))


def test_groups_that_hardly_fill_words_go_back_to_float_with_the_reason() -> None:
    cost = find_target("raspberry-pi-4").cost
    model = check_pass(grouped(32, 2, 2), SplitGroups(cost))
    assert operators(model) == {"bnncc.Sign": 1, "Conv": 1}
    assert "32 groups of 2 channels" in node_of(model, "Conv").metadata_props[LEFT_IN_FLOAT_KEY]
    padded = build(f"s = bnncc.Sign (x)\nt = Add (s, one)\ny = Conv <group = 32, {ATTRIBUTES}> (t, w)",
                   "float[1, 64, 6, 7] x", w=signs(64, 2, 3, 3), one=-1.0)  # fmt: skip
    RecognizeBinaryConv()(padded)
    check_pass(padded, SplitGroups(cost))
    assert operators(padded) == {"bnncc.Sign": 1, "Pad": 1, "Conv": 1}


def test_large_groups_stay_binary_by_the_cost_model() -> None:
    model = check_pass(grouped(2, 128, 128, size=20), SplitGroups(find_target("raspberry-pi-4").cost))
    assert operators(model)["bnncc.BinaryConv"] == 2


@pytest.mark.parametrize("channels", [32, 16])
def test_the_input_of_a_group_is_explained_as_what_it_is(channels: int) -> None:
    (layer,) = binary_layers(check_pass(grouped(4, channels, 8), SplitGroups()).graph)
    assert "split into 4 convolutions" in layer.explanation
    assert not any("taken as ±1" in clause for clause in layer.explanation)
