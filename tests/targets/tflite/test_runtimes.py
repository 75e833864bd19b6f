"""The oldest runtime on which a file is right: what is said of it, and what --min-runtime refuses."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import bnncc
from bnncc.compiler import compile_traced
from bnncc.errors import InputError
from bnncc.frontend import TracedModel
from bnncc.options import FileMetadata, Options
from bnncc.report import compilation, inspection, print_compilation, print_inspection
from bnncc.runtime import LitertRunner
from bnncc.targets import TARGETS
from bnncc.targets.released import NEWEST, ORDINARY
from bnncc.targets.tflite import runtimes
from bnncc.targets.tflite.claimed import claimed
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.targets.tflite.reader import TfliteFile
from tests.conformance import avoided
from tests.conformance.beside import with_signs
from tests.conformance.form import emitted
from tests.conformance.forms import all_forms
from tests.needs import need_zig
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


def test_a_transposition_of_booleans_beside_the_delegate_asks_for_litert() -> None:
    """XNNPACK of TensorFlow Lite 2.14 refuses the file then."""
    forms = {form.title: form for form in all_forms()}
    alone = emitted(forms["Transpose bool [2,3] by [1,0]"]).content
    assert runtimes.needs(TfliteFile(alone)) == []
    beside = with_signs(emitted(forms["Equal [4,6] constant [2,3,4,6]"]).content)
    assert beside is not None
    assert "TRANSPOSE" in operators(beside)
    found = [need.what for need in runtimes.needs(TfliteFile(beside)) if need.runtime == "litert-1.0"]
    assert found == ["TRANSPOSE of bool beside the delegate"]


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


class Binary(nn.Module):
    """A sign and a 1x1 binary convolution of 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 32, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signs, weights = (torch.where(values < 0, -1.0, 1.0) for values in (x, self.weight))
        return nn.functional.conv2d(signs, weights)


@pytest.fixture(scope="module")
def traced() -> TracedModel:
    torch.manual_seed(0)
    return bnncc.compile(Net(), input_shapes=["1x8x6x5"]).traced


def _half(traced: TracedModel, target: str, min_runtime: str | None = None) -> tuple[bool, FileMetadata]:
    """(whether the convolution's weights are float16, the metadata)."""
    options = Options(weights_precision=WeightsPrecision.FLOAT16, min_runtime=min_runtime)
    file = TfliteFile(compile_traced(traced, TARGETS[target], options).content)
    meant = TARGETS[target].runtimes if min_runtime is None else (min_runtime, NEWEST)
    assert runtimes.beyond(runtimes.needs(file), *meant) == []
    return any(tensor.dtype == "float16" for tensor in file.tensors), FileMetadata.read(file)


def test_a_file_takes_the_form_that_is_right_on_the_runtimes_that_are_meant(traced: TracedModel) -> None:
    """float16 weights of a convolution, which LiteRT 1.1 to 1.3 misread: not on phones, whose apps may have those."""
    for target, is_half in (("raspberry-pi-4", True), ("raspberry-pi-4-32bit", True), ("android-arm64", False)):
        found, metadata = _half(traced, target)
        assert found == is_half, target
        assert metadata.oldest_runtime == ("litert-1.4" if is_half else ORDINARY)
    found, metadata = _half(traced, "android-arm64", "litert-1.4")
    assert found
    assert (metadata.oldest_runtime, metadata.options.min_runtime) == ("litert-1.4", "litert-1.4")
    assert not _half(traced, "raspberry-pi-4", "tflite-2.14")[0]


def test_a_file_without_a_form_that_is_right_there_is_refused() -> None:
    binary = bnncc.compile(Binary(), input_shapes=["1x32x2x2"]).traced
    target = TARGETS["raspberry-pi-4"]
    needed = "needs TensorFlow Lite 2.14 or later: LCE's operators"
    with pytest.raises(InputError, match=f"(?s)^with --min-runtime tflite-2.13 this network does not go:.*{needed}"):
        compile_traced(binary, target, Options(min_runtime="tflite-2.13"))
    target = replace(target, runtimes=("tflite-2.11", "tflite-2.12"))
    meant = r"raspberry-pi-4 may have TensorFlow Lite 2\.11 to TensorFlow Lite 2\.12 \(--min-runtime names others\)"
    with pytest.raises(InputError, match=f"(?s)^{meant}.*{needed}"):
        compile_traced(binary, target, Options())


def test_the_report_and_inspect_say_on_which_runtimes_a_file_is_right(traced: TracedModel) -> None:
    for target, min_runtime, said in (
        ("raspberry-pi-4", None, "TensorFlow Lite 2.11 and later; raspberry-pi-4: LiteRT 2.1 to LiteRT 2.3"),
        ("raspberry-pi-4-32bit", None, "TensorFlow Lite 2.11 and later; raspberry-pi-4-32bit: TensorFlow Lite 2.14"),
        ("android-arm64", "litert-1.2", "TensorFlow Lite 2.11 and later; asked for: LiteRT 1.2 and later"),
    ):
        compiled = compile_traced(traced, TARGETS[target], Options(min_runtime=min_runtime))
        console = Console(record=True, width=200, file=io.StringIO())
        print_compilation(console, compiled)
        print_inspection(console, TfliteFile(compiled.content))
        assert re.findall(r"right on +(.*\S)", console.export_text()) == [said, said]
        assert compilation(compiled)["oldest_runtime"] == inspection(TfliteFile(compiled.content))["oldest_runtime"]


# What the delegate computes itself


@pytest.mark.parametrize("form", avoided.forms(), ids=lambda form: str(form.name))
def test_what_is_said_of_the_delegate_is_what_it_does(form: avoided.AvoidedForm) -> None:
    """An operator between two signs is in one partition with them where the delegate takes it."""
    need_zig()
    content = with_signs(form.content)
    assert content is not None
    file = TfliteFile(content)
    runner = LitertRunner(content)
    partitions = sum(node["op_name"] == "DELEGATE" for node in runner._interpreter._get_ops_details())
    is_claimed = {operator.index for operator in file.operators} == claimed(file)
    assert (partitions == 1) == is_claimed
    needed = [need for need in runtimes.needs(file) if need.what != "LCE's operators"]
    assert all(
        need.by_delegate == is_claimed
        for need in runtimes.beyond(needed, ORDINARY) + [one for one in needed if one.by_delegate]
    )
    assert form.is_right(runner.run([form.x]))


def test_a_form_that_the_delegate_computes_is_right_from_the_oldest_interpreter_on_that_takes_it() -> None:
    (form,) = (form for form in avoided.forms() if form.name == "REVERSE_V2 of two axes")
    alone, beside = TfliteFile(form.content), TfliteFile(with_signs(form.content) or b"")
    assert runtimes.oldest(runtimes.needs(alone)) == "litert-1.0"
    assert runtimes.oldest(runtimes.needs(beside)) == ORDINARY
    (said,) = (str(need) for need in runtimes.needs(beside) if need.by_delegate)
    assert said.startswith("right by bnncc's delegate, which computes it itself: REVERSE_V2 of several axes (without")


def test_an_unknown_runtime_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no runtime is called 'tflite-3'.*tflite-2\.14.*litert-2\.3"):
        Options(min_runtime="tflite-3")


def test_operators_of_lce_need_the_delegate() -> None:
    from tests.passes.helpers import build

    file = TfliteFile(emit(build("y = bnncc.Sign (x)", "float[1, 33, 2, 2] x")))
    assert [need.runtime for need in runtimes.needs(file)] == ["tflite-2.14"]
