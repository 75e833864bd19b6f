"""The oldest runtime on which a file is right: what is said of it, and what --min-runtime refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bnncc
from bnncc.errors import InputError
from bnncc.options import FileMetadata, Options
from bnncc.targets.tflite import runtimes
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.reader import TfliteFile
from tests.conformance import avoided
from tests.targets.tflite.compare import assert_same, node_model, normal, operators


@pytest.mark.parametrize(
    ("name", "oldest"),
    [
        ("REVERSE_V2 of two axes", "litert-1.0"),
        ("FULLY_CONNECTED with one int8 scale a channel", "litert-1.0"),
        ("CONV_2D, SAME, that leaves positions unread", "litert-2.2"),
        ("CONV_2D, SAME, with a kernel of the map's size", runtimes.NONE),
        ("PRELU with one slope", "litert-1.0"),
        ("CONV_2D with float16 weights and a bias", "litert-1.4"),
        ("ADD of rank 5, broadcast", "tflite-2.13"),
        ("SUB of rank 5, broadcast", "tflite-2.11"),
        ("SUB of rank 6, broadcast", "litert-1.0"),
        ("MUL of rank 5, broadcast", "litert-1.0"),
        ("DIV of rank 5, broadcast", "tflite-2.11"),
        ("DIV of rank 6, broadcast", "litert-2.2"),
    ],
)
def test_a_form_that_some_runtime_computes_wrongly_names_the_oldest_one_that_does_not(name: str, oldest: str) -> None:
    (form,) = (form for form in avoided.forms() if form.name == name)
    assert runtimes.oldest(runtimes.needs(TfliteFile(form.content))) == oldest


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Less"])
@pytest.mark.parametrize(("left", "right"), [("2, 3, 2, 5, 4", "3, 1, 1, 4"), ("2, 3, 5, 1, 4, 2", "3, 1, 6, 4, 1")])
def test_broadcasting_at_any_rank_is_written_for_every_runtime(kind: str, left: str, right: str) -> None:
    constant = np.abs(normal(*(int(size) for size in right.split(",")))) + 1
    for inputs, constants in ((f"float[{left}] x, float[{right}] z", {}), (f"float[{left}] x", {"z": constant})):
        content = assert_same(node_model(f"y = {kind} (x, z)", inputs, constants=constants))
        found = runtimes.needs(TfliteFile(content))
        assert runtimes.beyond(found, "tflite-2.13" if kind == "Div" else "tflite-2.11") == []


def test_a_broadcast_constant_is_reshaped_when_the_file_is_made_and_stored_once() -> None:
    model = node_model("y = Mul (x, z)", "float[2, 3, 2, 5, 4] x", constants={"z": normal(3, 1, 1, 4)})
    content = assert_same(model)
    assert operators(content) == {"RESHAPE": 2, "MUL": 1}
    arrays = [TfliteFile(content).data(tensor) for tensor in TfliteFile(content).tensors]
    assert sum(array is not None and array.size == 12 for array in arrays) == 1


@pytest.mark.parametrize("kind", ["Conv", "MaxPool", "AveragePool"])
def test_padding_beside_an_axis_that_leaves_positions_unread_is_written_out(kind: str) -> None:
    body = "kernel_shape = [3, 1], strides = [1, 2], pads = [1, 0, 1, 0]"
    operands, constants = ("x, w", {"w": normal(4, 3, 3, 1)}) if kind == "Conv" else ("x", {})
    content = assert_same(node_model(f"y = {kind} <{body}> ({operands})", "float[1, 3, 8, 8] x", constants=constants))
    assert runtimes.needs(TfliteFile(content)) == []


def test_a_padded_kernel_of_the_size_of_the_map_is_written_out() -> None:
    constants = {"w": normal(4, 3, 2, 2)}
    content = assert_same(
        node_model("y = Conv <pads = [0, 0, 1, 1]> (x, w)", "float[2, 3, 2, 2] x", constants=constants)
    )
    assert operators(content) == {"PAD": 1, "CONV_2D": 1}


class Net(nn.Module):
    """A float convolution of more than 1,024 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(8, 32, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.stem(x).mean((2, 3))
        return y


def test_min_runtime_refuses_a_file_that_is_not_right_there_and_the_metadata_say_where_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(
        InputError, match=r"(?s)--min-runtime tflite-2.14 .*stem.*needs LiteRT 1.4 or later: CONV_2D with float16"
    ):
        bnncc.compile(
            Net(),
            input_shapes=["1x8x6x5"],
            options=Options(weights_precision="float16", min_runtime="tflite-2.14"),  # type: ignore[arg-type]
        )
    options = Options(weights_precision="float16", min_runtime="litert-1.4")  # type: ignore[arg-type]
    compiled = bnncc.compile(Net(), input_shapes=["1x8x6x5"], options=options)
    metadata = FileMetadata.read(TfliteFile(compiled.content))
    assert (metadata.oldest_runtime, metadata.options.min_runtime) == ("litert-1.4", "litert-1.4")
    full = bnncc.compile(Net(), input_shapes=["1x8x6x5"], options=Options(min_runtime="tflite-2.11"))
    assert FileMetadata.read(TfliteFile(full.content)).oldest_runtime == runtimes.ORDINARY


def test_an_unknown_runtime_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no runtime is called 'tflite-3'.*tflite-2\.14.*litert-2\.3"):
        Options(min_runtime="tflite-3")


def test_operators_of_lce_need_the_delegate() -> None:
    from tests.passes.helpers import build

    file = TfliteFile(emit(build("y = bnncc.Sign (x)", "float[1, 33, 2, 2] x")))
    assert [need.runtime for need in runtimes.needs(file)] == ["tflite-2.14"]
