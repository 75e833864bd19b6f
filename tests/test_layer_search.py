"""`--quantize auto`: which layers are found to cost accuracy, what is left in float, what is said of it."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import numpy.typing as npt
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc import calibration
from bnncc.calibration import Calibration, accuracy_drop
from bnncc.cli import main
from bnncc.compiler import compile_in_int8, compile_traced
from bnncc.errors import InputError
from bnncc.frontend import TracedModel, input_specs, trace_module
from bnncc.ir.arrays import Array
from bnncc.model import CompiledModel
from bnncc.options import FileMetadata, Head, Options
from bnncc.report import print_compilation
from bnncc.sensitivity import Drop
from bnncc.targets import find_target
from bnncc.targets.tflite.integer_plan import LAYERS, Plan
from bnncc.targets.tflite.integers import Integers
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify_in
from tests.needs import needs_lce

TARGET = find_target("raspberry-pi-4")
# Of the first channel, whose weights are as small as it is large: in steps of it nothing is left of the others.
LARGE = 2000.0
BOUND = 0.05


class Net(nn.Module):
    """The first layer reads channels of very unequal size; no other one does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2)
        self.middle = nn.Conv2d(16, 16, 1)
        self.fc = nn.Linear(16, 4)
        with torch.no_grad():
            self.stem.weight[:, 0] /= LARGE
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.middle(F.relu(self.stem(x)))).mean((2, 3))
        logits: Tensor = self.fc(y)
        return logits


def make() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def draw_images(count: int) -> npt.NDArray[np.float32]:
    """Each with a level of its own in every channel."""
    random = np.random.default_rng(0)
    levels, noise = random.normal(size=(count, 3, 1, 1)), random.normal(size=(count, 3, 8, 8))
    images = (levels + 0.2 * noise).astype(np.float32)
    images[:, 0] *= LARGE
    return images


IMAGES = draw_images(240)


@functools.cache
def traced() -> TracedModel:
    net = make()
    return trace_module(net, input_specs(net, ["1x3x8x8"], []))


@functools.cache
def labels() -> npt.NDArray[np.int64]:
    """What the network itself says: it is right on all images."""
    with torch.no_grad():
        return np.asarray(make()(torch.from_numpy(IMAGES)).argmax(1))


def found(data: object, **arguments: object) -> CompiledModel:
    asked = Calibration(data, method="min-max", **{"max_drop": BOUND, **arguments})  # type: ignore[arg-type]
    return compile_in_int8(traced(), TARGET, Options(), asked)


def agreement(model: CompiledModel) -> float:
    """On all images."""
    results = [model.run([model.as_stored(image[None])])[0].argmax() for image in IMAGES]
    return float(np.mean(np.array(results) == labels()))


def in_int8(model: CompiledModel) -> list[bool]:
    """Of each layer with weights, in the order of the file."""
    operators = TfliteFile(model.content).operators
    return [one.outputs[0].dtype == "int8" for one in operators if one.name in LAYERS]


def report(model: CompiledModel) -> str:
    """On a terminal of 80 columns."""
    text = io.StringIO()
    print_compilation(Console(file=text, width=80), model)
    return text.getvalue()


def printed(model: CompiledModel) -> str:
    """Its words on one line."""
    return " ".join(report(model).split())


@functools.cache
def automatic() -> CompiledModel:
    return found((IMAGES, labels()))


def test_the_layer_that_costs_accuracy_stays_in_float_and_no_other_does() -> None:
    model = automatic()
    result = model.sensitivity
    assert result is not None
    first, *others = result.layers
    assert (first.module, first.operators, first.in_int8) == ("stem", ("CONV_2D",), False)
    assert {one.module for one in others if one.in_int8 and not one.reason} == {"middle", "fc"}
    assert in_int8(model) == [False, True, True]
    assert model.options.integers is not None
    assert model.options.integers.keep_float == ("stem",)
    assert first.drop is not None
    assert first.drop.value > BOUND
    assert first.error is not None
    assert all(one.error is not None and one.error < first.error / 10 for one in others)


def test_the_bound_holds_for_the_file_and_not_with_one_layer_more_in_int8() -> None:
    result = automatic().sensitivity
    assert result is not None
    assert result.drop is not None
    assert result.drop.value <= BOUND < result.all_int8.value
    assert result.drop.low <= result.drop.value <= result.drop.high
    # The parts are halves, and each of the files was run on one of them: floats, three layers, two whole files.
    assert (result.images, result.range_inputs, result.runs) == (120, 120, 6 * 120)
    assert result.reference is not None
    assert result.reference.value == 1
    assert agreement(automatic()) >= 1 - BOUND
    everything = found(IMAGES, max_drop=None)
    assert in_int8(everything) == [True] * 3
    assert agreement(everything) < 1 - BOUND


def test_without_labels_agreement_is_measured() -> None:
    model = found(IMAGES)
    assert "other classes than float32" in printed(model)
    result = model.sensitivity
    with_labels = automatic().sensitivity
    assert result is not None
    assert with_labels is not None
    assert result.reference is None
    assert [one.in_int8 for one in result.layers] == [one.in_int8 for one in with_labels.layers]
    # The labels are what the network says, so that both are the same images.
    assert result.all_int8.value == with_labels.all_int8.value


def test_a_file_that_yields_classes_is_measured_by_them() -> None:
    calibration = Calibration((IMAGES, labels()), method="min-max", max_drop=BOUND)
    result = compile_in_int8(traced(), TARGET, Options(head=Head.ARGMAX), calibration).sensitivity
    logits = automatic().sensitivity
    assert result is not None
    assert logits is not None
    assert {one.module: one.drop for one in result.layers} == {one.module: one.drop for one in logits.layers}
    assert (result.drop, result.all_int8) == (logits.drop, logits.all_int8)


def test_the_last_batch_counts_its_own_images_only() -> None:
    net = make()
    batches = trace_module(net, input_specs(net, ["7x3x8x8"], []))
    calibration = Calibration((IMAGES, labels()), method="min-max", max_drop=BOUND)
    model = compile_in_int8(batches, TARGET, Options(), calibration)
    result = model.sensitivity
    assert result is not None
    assert (result.images, result.range_inputs, result.runs) == (120, 18, 6 * 18)
    assert in_int8(model) == [False, True, True]


def test_where_no_layer_may_be_in_int8_it_is_the_float_file() -> None:
    model = found((IMAGES, labels()), keep_float=("middle", "fc"))
    assert model.content == compile_traced(traced(), TARGET, Options()).content
    result = model.sensitivity
    assert result is not None
    assert result.drop is None
    assert "no layer can be in int8 within 5 points, the file is float32" in printed(model)
    reasons = {one.module: one.reason for one in result.layers}
    assert reasons == {"stem": "costs too much", "middle": "as asked for", "fc": "as asked for"}


def test_where_all_may_be_in_int8_none_stays_in_float() -> None:
    model = found((IMAGES, labels()), max_drop=0.9)
    assert in_int8(model) == [True] * 3
    assert model.sensitivity is not None
    assert model.sensitivity.drop == model.sensitivity.all_int8


def test_the_metadata_give_the_same_bytes_again() -> None:
    kept = FileMetadata.read(TfliteFile(automatic().content)).options
    assert compile_traced(traced(), TARGET, kept).content == automatic().content


def test_few_images_are_warned_of_and_one_is_an_error() -> None:
    warnings = found((IMAGES[:60], labels()[:60])).traced.warnings
    assert any("on 30 images the drop tells little, as one of them is 3.3%" in warning for warning in warnings)
    traced().warnings.clear()
    with pytest.raises(InputError, match="--calibrate: one part is for ranges and another to measure on"):
        found(IMAGES[:1])


def test_a_label_that_is_no_class_is_an_error() -> None:
    with pytest.raises(InputError, match="a label is 7, and the network has the classes 0 to 3"):
        found((IMAGES, labels() + 4))


def test_a_network_that_tells_no_classes_is_an_error() -> None:
    net = nn.Conv2d(3, 4, 1)
    maps = trace_module(net, input_specs(net, ["1x3x8x8"], []))
    with pytest.raises(InputError, match="names no class by which accuracy could be measured"):
        compile_in_int8(maps, TARGET, Options(), Calibration(IMAGES, max_drop=BOUND))


@pytest.mark.parametrize(("given", "share"), [("0.5%", 0.005), ("0.7", 0.007), (0.5, 0.005), (" 2 % ", 0.02), (0, 0)])
def test_a_drop_is_given_in_points(given: str | float, share: float) -> None:
    assert accuracy_drop(given) == share


@pytest.mark.parametrize("given", ["half", "nan", "-1", "100", "inf", "", True])
def test_what_is_no_drop_is_an_error(given: str) -> None:
    with pytest.raises(InputError, match="no number of points from 0 to 100"):
        accuracy_drop(given)


def test_an_interval_reaches_to_both_sides_of_a_drop() -> None:
    assert Drop.of_accuracy(won=3, lost=3, images=100).value == 0
    drop = Drop.of_accuracy(won=0, lost=20, images=100)
    assert 0 < drop.low < drop.value == 0.2 < drop.high
    assert Drop.of_agreement(20, 100).value == 0.2


def test_it_goes_with_calibrate() -> None:
    with pytest.raises(InputError, match="max_accuracy_drop goes with calibrate"):
        bnncc.compile(make(), input_shapes=["1x3x8x8"], max_accuracy_drop="0.5%")


# The command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("auto")
    (path / "net.py").write_text("from tests.test_layer_search import make\n")
    np.savez(path / "images.npz", images=IMAGES, labels=labels())
    return path


def invoke(folder: Path, *arguments: object) -> click.testing.Result:
    network = ["compile", f"{folder}/net.py:make", "--input-shape", "1x3x8x8", "-o", folder / "net.tflite"]
    return click.testing.CliRunner().invoke(main, [str(word) for word in (*network, *arguments)])


@needs_lce
def test_the_command_s_document_has_the_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the file is proven on the data that it was calibrated on, where there are no others."""
    proven: list[Array] = []

    def verify(*arguments: Any) -> Any:
        proven.extend(array for (array,) in arguments[2])
        return verify_in(*arguments)

    monkeypatch.setattr("bnncc.verification.verify_in", verify)
    asked = ["--quantize", "auto", "--calibrate", folder / "images.npz", "--max-accuracy-drop", "5%"]
    more = ["--calibration", "min-max", "--inputs", 1, "--runtime", "lce", "--json"]
    result = invoke(folder, *asked, *more)
    assert result.exit_code == 0, result.output
    first, *others = json.loads(result.stdout)["sensitivity"]["layers"]
    assert (first["module"], first["in_int8"]) == ("stem", False)
    assert all(row["in_int8"] for row in others)
    np.testing.assert_array_equal(np.concatenate(proven), IMAGES[:1])
    assert first["drop"]["low"] <= first["drop"]["value"] <= first["drop"]["high"]


def test_the_table_fits_80_columns() -> None:
    text = report(automatic())
    assert max(map(len, text.splitlines())) <= 80
    assert "kept in float stem" in printed(automatic())
    assert "others than those for ranges; float32: 100.00%; at most 5 asked for" in printed(automatic())
    row = next(line for line in text.splitlines() if line.startswith("stem "))
    assert row.split()[1:3] == ["CONV_2D", "21.67"]
    assert "float:" in row


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantize", "auto"], "--quantize goes with --calibrate"),
        (["--quantize", "int8", "--calibrate", "x.npz", "--max-accuracy-drop", "1"], "goes with --quantize auto"),
        (["--max-accuracy-drop", "1%"], "--max-accuracy-drop goes with --quantize auto"),
        (["--quantize", "auto", "--calibrate", "x.npz", "--max-accuracy-drop", "all"], "'all' is no number of points"),
    ],
)
def test_options_that_do_not_go_together_are_errors(folder: Path, options: list[str], message: str) -> None:
    result = invoke(folder, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_every_is_of_the_video_that_calibrates_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_in_int8(*arguments: Any) -> None:
        raise InputError(f"every {arguments[3].source.every}")

    monkeypatch.setattr("bnncc.compiler.compile_in_int8", compile_in_int8)
    (folder / "video.mp4").touch()
    result = invoke(folder, "--quantize", "int8", "--calibrate", folder / "video.mp4", "--every", 3)
    assert "every 3" in result.stderr


def test_shortcuts_are_in_int16_or_float_where_int8_costs_more_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried behind the layers, by the file that has both."""
    plans: list[str] = []
    costing: list[str] = []

    def drop(self: object, tally: object) -> Drop:
        costs = bool(plans) and plans[-1] in costing
        return Drop(2 * BOUND if costs else 0.0, 0.0, 1.0, len(IMAGES))

    def integer_plan(file: TfliteFile, graph: object, integers: Integers) -> Plan:
        plans.append(integers.shortcuts)
        return calibration.integer_plan(file, graph, integers)  # type: ignore[arg-type]

    monkeypatch.setattr("bnncc.layer_search._BesideFloats.drop", drop)
    monkeypatch.setattr("bnncc.layer_search.integer_plan", integer_plan)
    for expected in ("int8", "int16", "float32"):
        plans.clear()
        integers = found((IMAGES, labels()), shortcuts="int8").options.integers
        assert integers is not None
        assert integers.shortcuts == expected
        costing.append(expected)
        assert integers.keep_float == ()
