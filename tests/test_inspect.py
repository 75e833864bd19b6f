"""`bnncc inspect` against numbers worked out by hand, and on files that it cannot read."""

from __future__ import annotations

from pathlib import Path

import click.testing
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.cli import main
from bnncc.errors import InputError
from bnncc.inspect import OperatorSummary, summarize
from bnncc.model import CompiledModel
from bnncc.targets.tflite.reader import TfliteFile
from tests.networks import randomize
from tests.networks.binarize import ScaledBinaryConv2d

FLOAT_BYTES = WORD_BYTES = 4


class Net(nn.Module):
    """An 8x8 image; 40 channels take two words, 8 take one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv3x3 = ScaledBinaryConv2d(8, 40, 3, 1, 1)
        self.conv1x1 = ScaledBinaryConv2d(40, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.up = nn.ConvTranspose2d(16, 4, 2, 2)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3x3(torch.sign(self.stem(x)))
        x = F.relu(self.depthwise(self.conv1x1(torch.sign(x + 0.5))))
        return self.fc(self.up(x).mean((2, 3)))


@pytest.fixture(scope="module")
def compiled() -> CompiledModel:
    torch.manual_seed(0)
    return bnncc.compile(randomize(Net()), input_shapes=["1x3x8x8"])


@pytest.fixture(scope="module")
def rows(compiled: CompiledModel) -> list[OperatorSummary]:
    return summarize(TfliteFile(compiled.content))


def only(rows: list[OperatorSummary], name: str) -> OperatorSummary:
    (row,) = [row for row in rows if row.name == name]
    return row


def test_binary_multiply_accumulates_and_weights_are_those_of_a_hand_calculation(rows: list[OperatorSummary]) -> None:
    first, second = [row for row in rows if row.name == "LceBconv2d"]
    assert first.binary_macs == 8 * 8 * 40 * (3 * 3 * 8)
    assert second.binary_macs == 8 * 8 * 16 * 40
    # Filters packed along the input channels, then a multiplier and a bias for each output channel.
    assert first.weight_bytes == 40 * 3 * 3 * 1 * WORD_BYTES + 2 * 40 * FLOAT_BYTES
    assert second.weight_bytes == 16 * 1 * 1 * 2 * WORD_BYTES + 2 * 16 * FLOAT_BYTES
    assert first.float_macs == second.float_macs == 0


def test_float_multiply_accumulates_and_weights_are_those_of_a_hand_calculation(rows: list[OperatorSummary]) -> None:
    stem, linear = only(rows, "CONV_2D"), only(rows, "FULLY_CONNECTED")
    assert stem.float_macs == 8 * 8 * 8 * (3 * 3 * 3)
    assert stem.weight_bytes == (8 * 3 * 3 * 3 + 8) * FLOAT_BYTES
    depthwise = only(rows, "DEPTHWISE_CONV_2D")
    assert depthwise.float_macs == 8 * 8 * 16 * (3 * 3)
    assert depthwise.weight_bytes == (3 * 3 * 16 + 16) * FLOAT_BYTES
    # Every input value is multiplied by the whole 2x2 kernel of each output channel.
    assert only(rows, "TRANSPOSE_CONV").float_macs == 8 * 8 * 16 * (2 * 2 * 4)
    assert linear.float_macs == 4 * 5
    assert linear.weight_bytes == (4 * 5 + 5) * FLOAT_BYTES
    assert all(row.binary_macs == 0 for row in rows if row.name != "LceBconv2d")


def test_packed_tensors_are_shown_with_their_channels(rows: list[OperatorSummary]) -> None:
    quantized = [row for row in rows if row.name == "LceQuantize"]
    assert [row.inputs for row in quantized] == [("1x8x8x8 float32",), ("1x8x8x40 float32",)]
    assert [row.outputs for row in quantized] == [("1x8x8x8 packed",), ("1x8x8x40 packed",)]
    convolutions = [row for row in rows if row.name == "LceBconv2d"]
    assert [row.inputs for row in convolutions] == [("1x8x8x8 packed",), ("1x8x8x40 packed",)]
    assert [row.outputs for row in convolutions] == [("1x8x8x40 float32",), ("1x8x8x16 float32",)]


def test_the_operators_are_in_the_files_order(rows: list[OperatorSummary], compiled: CompiledModel) -> None:
    assert [row.index for row in rows] == list(range(len(rows)))
    assert [row.name for row in rows] == [operator.name for operator in TfliteFile(compiled.content).operators]


def test_the_macs_of_the_compiler_are_those_of_the_file(rows: list[OperatorSummary], compiled: CompiledModel) -> None:
    assert sum(layer.macs for layer in compiled.layers) == sum(row.binary_macs for row in rows)


# Files that cannot be read


def inspect_file(path: Path) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["inspect", str(path)])


@pytest.mark.parametrize("content", [b"", b"TFL3", b"{}" * 50, b"\x08\0\0\0ONNX" + bytes(100)])
def test_a_file_that_is_no_tflite_file_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="no TensorFlow Lite file"):
        TfliteFile(content)
    path = tmp_path / "file.tflite"
    path.write_bytes(content)
    result = inspect_file(path)
    assert result.exit_code == 2
    assert f"error: {path}: this is no TensorFlow Lite file" in result.stderr


@pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_an_input_error(compiled: CompiledModel, tmp_path: Path, part: float) -> None:
    content = compiled.content[: int(len(compiled.content) * part)]
    with pytest.raises(InputError, match="damaged"):
        TfliteFile(content)
    path = tmp_path / "cut.tflite"
    path.write_bytes(content)
    result = inspect_file(path)
    assert result.exit_code == 2
    assert f"error: {path}: the TensorFlow Lite file is damaged" in result.stderr


def test_no_truncation_raises_anything_but_an_input_error(compiled: CompiledModel) -> None:
    for length in range(8, len(compiled.content), 251):
        with pytest.raises(InputError):
            TfliteFile(compiled.content[:length])


def test_a_file_that_does_not_exist_and_a_folder_are_input_errors(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.tflite", "does not exist"), (tmp_path, "is a directory")):
        result = inspect_file(path)
        assert result.exit_code == 2
        assert f"error: {path} {reason}" in result.stderr
