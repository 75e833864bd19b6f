"""The file's bytes: deterministic, bits packed as LCE reads them, variants for looking inside."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

import bnncc
from bnncc.compiler import compile_traced
from bnncc.inference.runners import LceRunner
from bnncc.model import CompiledModel
from bnncc.targets.tflite.bitpack import bitpack, unpack, words
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import BUFFER_ALIGNMENT, ModelWriter
from tests.networks import randomize
from tests.networks.binarize import ScaledBinaryConv2d

REPOSITORY = Path(__file__).parents[3]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = ScaledBinaryConv2d(8, 8, 3, 2, 1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(torch.sign(self.stem(x)))).mean((2, 3)))


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return randomize(Net())


@pytest.fixture(scope="module")
def compiled() -> CompiledModel:
    return bnncc.compile(make_net(), input_shapes=["1x3x8x8"])


# Determinism


def test_compiling_the_same_traced_network_twice_gives_the_same_bytes(compiled: CompiledModel) -> None:
    again = compile_traced(compiled.traced, compiled.target, compiled.options)
    assert again.content == compiled.content


def test_the_bytes_do_not_depend_on_the_process_or_its_hash_seed() -> None:
    code = (
        "import hashlib, bnncc\nfrom tests.targets.tflite.test_writer import make_net\n"
        "print(hashlib.sha256(bnncc.compile(make_net(), input_shapes=['1x3x8x8']).content).hexdigest())"
    )
    own = os.environ.get("PYTHONHASHSEED", "random")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "2" if own == "1" else "1"}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    content = bnncc.compile(make_net(), input_shapes=["1x3x8x8"]).content
    assert process.stdout.split()[-1] == hashlib.sha256(content).hexdigest()


def test_other_weights_give_other_bytes_and_another_digest(compiled: CompiledModel) -> None:
    network = make_net()
    with torch.no_grad():
        network.fc.bias += 1  # type: ignore[operator, union-attr]
    other = bnncc.compile(network, input_shapes=["1x3x8x8"])
    assert other.content != compiled.content
    assert other.traced.weights_digest != compiled.traced.weights_digest


# Bits


def test_words_are_filled_from_the_lowest_bit_and_a_set_bit_is_minus_one() -> None:
    values = np.ones(40, np.float32)
    values[[0, 5, 31, 33]] = -1
    expected = np.array([2**0 + 2**5 + 2**31, 2**1], np.uint32)
    np.testing.assert_array_equal(bitpack(values).view(np.uint32), expected)


def test_a_zero_is_packed_as_plus_one() -> None:
    assert bitpack(np.zeros(5, np.float32)).tolist() == [0]
    assert bitpack(np.zeros(5, np.int8)).tolist() == [0]


@given(
    st.integers(1, 200).flatmap(
        lambda channels: arrays.arrays(
            st.sampled_from([np.dtype(np.float32), np.dtype(np.int8)]),
            st.tuples(st.integers(1, 2), st.integers(1, 3), st.just(channels)),
            elements=st.sampled_from([-1, 1]),
        )
    )
)
@settings(max_examples=60)
def test_packing_follows_the_definition_bit_by_bit_and_unpacking_undoes_it(values: npt.NDArray[np.float32]) -> None:
    channels = values.shape[-1]
    packed = bitpack(values)
    assert packed.dtype == np.int32
    assert packed.shape == (*values.shape[:-1], words(channels))
    for index in np.ndindex(values.shape[:-1]):
        for word, found in enumerate(packed[index]):
            part = values[index][32 * word : 32 * word + 32]
            # Bits beyond the last channel are 0, as in a Python integer.
            assert int(np.uint32(found.view(np.uint32))) == sum(1 << bit for bit, value in enumerate(part) if value < 0)
    np.testing.assert_array_equal(unpack(packed, channels), values)


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 100])
def test_lce_packs_and_unpacks_alike(channels: int) -> None:
    values = np.where(np.random.default_rng(channels).random((1, 2, 2, channels)) < 0.5, -1, 1).astype(np.float32)
    writer = ModelWriter("test")
    x = writer.tensor("x", values.shape, np.float32)
    bits = writer.tensor("bits", (1, 2, 2, words(channels)), np.int32)
    y = writer.tensor("y", values.shape, np.float32)
    writer.custom("LceQuantize", [x], [bits], b"")
    writer.custom("LceDequantize", [bits], [y], b"")
    packed, unpacked = LceRunner(writer.finish([x], [bits, y], ["x"], ["bits", "y"])).run([values])
    np.testing.assert_array_equal(packed, bitpack(values))
    np.testing.assert_array_equal(unpacked, values)


# The writer


def test_constants_of_the_same_bytes_are_stored_once_but_keep_their_shapes_and_types() -> None:
    writer = ModelWriter("test")
    data = np.arange(4, dtype=np.int32)
    first, same = writer.constant("a", data), writer.constant("b", data.copy())
    reshaped, retyped = writer.constant("c", data.reshape(2, 2)), writer.constant("d", data.view(np.float32))
    assert first == same
    assert len({first.index, reshaped.index, retyped.index}) == 3
    file = TfliteFile(writer.finish([], [], [], []))
    for tensor, expected in ((first, data), (reshaped, data.reshape(2, 2)), (retyped, data.view(np.float32))):
        found = file.data(file.tensors[tensor.index])
        assert found is not None
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_every_buffer_starts_at_a_multiple_of_sixteen_bytes(compiled: CompiledModel) -> None:
    model = schema.Model.GetRootAs(compiled.content, 0)
    offsets = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            offsets.append(buffer._tab.Vector(buffer._tab.Offset(4)))
    assert len(offsets) > 5
    assert all(offset % BUFFER_ALIGNMENT == 0 for offset in offsets)


def test_names_that_are_taken_get_a_suffix() -> None:
    writer = ModelWriter("test")
    assert [writer.tensor("x", (1,), np.float32).name for _ in range(3)] == ["x", "x_1", "x_2"]


def test_what_is_written_is_read_back() -> None:
    writer = ModelWriter("test")
    x = writer.tensor("x", (1, 2), np.float32)
    y = writer.tensor("y", (1, 2), np.float32)
    one = writer.constant("one", np.ones((1, 2), np.float32))
    writer.operator(schema.BuiltinOperator.ADD, [x, one], [y], schema.AddOptionsT())
    writer.custom("Custom", [y, None], [y], b"options")
    writer.metadata("notes", b"text")
    file = TfliteFile(writer.finish([x], [y], ["in"], ["out"]))
    assert [operator.name for operator in file.operators] == ["ADD", "Custom"]
    assert file.operators[0].inputs == (x, one)
    assert file.operators[1].inputs == (y, None)
    assert isinstance(file.options(file.operators[0]), schema.AddOptionsT)
    assert file.custom_options(file.operators[1]) == b"options"
    assert (file.inputs, file.outputs) == ((x,), (y,))
    assert file.metadata()["notes"] == b"text"


# Variants of a file


def test_a_variant_keeps_only_the_operators_between_its_inputs_and_outputs(compiled: CompiledModel) -> None:
    file = TfliteFile(compiled.content)
    (quantize,) = [operator for operator in file.operators if operator.name == "LceQuantize"]
    (conv,) = [operator for operator in file.operators if operator.name == "LceBconv2d"]
    head = TfliteFile(file.variant(file.inputs, quantize.outputs))
    assert head.operators[-1].name == "LceQuantize"
    assert len(head.operators) == quantize.index + 1
    tail = TfliteFile(file.variant(quantize.outputs, file.outputs))
    assert len(tail.operators) == len(file.operators) - quantize.index - 1
    alone = TfliteFile(file.variant(quantize.outputs, conv.outputs))
    assert [operator.name for operator in alone.operators][-2:] == ["LceBconv2d", "RESHAPE"]  # the second: _end_safely


def test_the_two_halves_of_a_file_compute_what_the_whole_does(compiled: CompiledModel) -> None:
    file = TfliteFile(compiled.content)
    (quantize,) = [operator for operator in file.operators if operator.name == "LceQuantize"]
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3), dtype=np.float32)
    (whole,) = LceRunner(compiled.content).run([x])
    (bits,) = LceRunner(file.variant(file.inputs, quantize.outputs)).run([x])
    (halves,) = LceRunner(file.variant(quantize.outputs, file.outputs)).run([bits])
    np.testing.assert_array_equal(halves, whole)


def test_the_variant_of_sums_yields_the_integers_that_multiplier_and_bias_apply_to(compiled: CompiledModel) -> None:
    file = TfliteFile(compiled.content)
    (conv,) = [operator for operator in file.operators if operator.name == "LceBconv2d"]
    packed, multiplier, bias = conv.inputs[0], conv.inputs[2], conv.inputs[3]
    assert packed is not None
    assert multiplier is not None
    assert bias is not None
    factors, shifts = file.data(multiplier), file.data(bias)
    assert factors is not None
    assert shifts is not None
    bits = np.random.default_rng(0).integers(0, 2**8, packed.shape, dtype=np.int32)  # 8 channels
    (floats,) = LceRunner(file.variant([packed], conv.outputs)).run([bits])
    (sums,) = LceRunner(file.sums_variant([packed], [conv])).run([bits])
    np.testing.assert_array_equal(sums, np.rint(sums))
    assert 0 < float(np.abs(sums).max()) <= 3 * 3 * 8
    np.testing.assert_allclose(floats, sums * factors + shifts, rtol=1e-5, atol=1e-6)
    # The file itself is left as it is.
    (again,) = LceRunner(file.variant([packed], conv.outputs)).run([bits])
    np.testing.assert_array_equal(again, floats)
