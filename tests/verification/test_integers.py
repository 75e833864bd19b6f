"""`--quantize int8` end to end: what is proven of a file with int8 layers, which faults are found, what commands do."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnncc
from bnncc.cli import main
from bnncc.errors import InputError
from bnncc.inference.runners import Runtime, available_runtimes
from bnncc.ir.evaluate import Array
from bnncc.model import CompiledModel
from bnncc.options import FileMetadata, Options
from bnncc.targets.tflite.claimed import claimed
from bnncc.targets.tflite.integer_file import KEPT, SHORT_KEPT, as_integers
from bnncc.targets.tflite.integer_plan import plan
from bnncc.targets.tflite.integers import Integers
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import pack, unpack
from bnncc.verification import verify, verify_in
from bnncc.verification.file_side import FileCheck
from bnncc.verification.reference_side import Reference
from bnncc.verification.variants import Variants
from tests.networks import randomize
from tests.networks.binarize import ScaledBinaryConv2d
from tests.networks.full_size import compiled as compiled_full_size
from tests.networks.full_size import shares
from tests.targets.tflite.test_precision import Net

EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist"
IMAGES = np.random.default_rng(0).integers(0, 256, (120, 3, 16, 16), np.uint8)
PIXELS = bnncc.Preprocessing(mean=(0.5, 0.4, 0.6), std=(0.2, 0.3, 0.25))
INPUTS = [[IMAGES[index : index + 1]] for index in range(2)]


def make() -> Net:
    torch.manual_seed(0)
    return randomize(Net())


def compiled(**arguments: Any) -> CompiledModel:
    options = Options(preprocessing=PIXELS, input_type="uint8")  # type: ignore[arg-type]
    return bnncc.compile(make(), input_shapes=["1x3x16x16"], options=options, **arguments)


@pytest.fixture(scope="module")
def full() -> CompiledModel:
    return compiled()


@pytest.fixture(scope="module")
def integers() -> CompiledModel:
    return compiled(calibrate=IMAGES)


def test_the_layers_and_what_is_between_them_run_in_int8(full: CompiledModel, integers: CompiledModel) -> None:
    file = TfliteFile(integers.content)
    names = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    assert [one.outputs[0].dtype for one in file.operators if one.name in names] == ["int8"] * 3
    # Bytes go into the first layer by way of integers alone.
    first = [one for one in file.operators if one.name != "REVERSE_V2"][:3]
    assert [(one.name, one.outputs[0].dtype) for one in first] == [
        ("QUANTIZE", "int8"), ("ADD", "int8"), ("CONV_2D", "int8")
    ]  # fmt: skip
    assert len(integers.content) < 0.65 * len(full.content)
    assert (file.inputs[0].dtype, file.outputs[0].dtype) == ("uint8", "float32")


@pytest.mark.parametrize("runtime", available_runtimes())
def test_a_file_in_int8_is_proven_and_what_rounding_costs_is_counted(integers: CompiledModel, runtime: Runtime) -> None:
    found = verify(integers, INPUTS, runtime=runtime)
    assert found.problems == []
    assert [check.wrong for check in found.layers] == [0, 0]
    # The float32 file of the same graph is as exact as ever.
    assert found.output_error < 1e-5
    assert sum(sign.flipped for sign in found.signs) == 0
    assert sum(sign.rounded_flips for sign in found.signs) > 0
    assert 1e-5 < found.rounded_error < 0.2
    checks = {(check.module, check.operator): check for check in found.integers}
    for layer in (("stem", "CONV_2D"), ("depthwise", "DEPTHWISE_CONV_2D"), ("fc", "FULLY_CONNECTED")):
        assert checks[layer].wrong == 0
        assert checks[layer].values > 0
        decibels = checks[layer].decibels
        assert decibels is not None
        assert decibels > 20


class Gated(nn.Module):
    """A gate of squeeze and excitation, in whose arithmetic a number without axes is an operand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.conv = ScaledBinaryConv2d(16, 8, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        gated = x * nn.functional.hardsigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.conv(torch.sign(gated - 0.3)).mean((2, 3))


def test_a_gate_between_layers_in_int8_is_proven() -> None:
    torch.manual_seed(0)
    options = Options(preprocessing=PIXELS, input_type="uint8")  # type: ignore[arg-type]
    gated = bnncc.compile(randomize(Gated()), input_shapes=["1x3x16x16"], options=options, calibrate=IMAGES)
    result = verify(gated, inputs=INPUTS[:1])
    assert result.passed, result.problems


class Residual(nn.Module):
    """Binary layers with a shortcut around each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, padding=1)
        self.convs = nn.ModuleList(ScaledBinaryConv2d(32, 32, 3, 1, 1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(32) for _ in range(2))
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(torch.sign(x - 0.1))) + x
        return torch.as_tensor(self.fc(x.mean((2, 3))))


@pytest.mark.parametrize("kind", ["int8", "int16"])
def test_shortcuts_are_kept_in_integers_where_asked_for_and_signs_read_floats(kind: str) -> None:
    torch.manual_seed(0)
    options = Options(preprocessing=PIXELS, input_type="uint8")  # type: ignore[arg-type]
    model = bnncc.compile(
        randomize(Residual()), input_shapes=["1x3x16x16"], options=options, calibrate=IMAGES[:100], shortcuts=kind
    )
    file = TfliteFile(model.content)
    made = [one for one in file.operators if one.outputs[0].name.endswith((KEPT, SHORT_KEPT))]
    kept = {one.outputs[0].index for one in made}
    # The first is int8 anyway.
    assert [tensor.dtype for one in made for tensor in file.activations(one)] == ["int8", kind]
    readers = [one for one in file.operators if kept & {tensor.index for tensor in file.activations(one)}]
    assert [one.name for one in readers] == ["ADD"] * 2
    assert {one.index for one in file.operators if one.name in ("QUANTIZE", "DEQUANTIZE")} <= claimed(file)
    result = verify(model, INPUTS[:1])
    assert result.passed, result.problems
    assert sum(check.operator == "DEQUANTIZE" for check in result.integers) >= 2
    assert FileMetadata.read(file).options.integers == model.options.integers


def test_the_same_data_give_the_same_bytes_and_so_do_the_ranges_in_the_metadata(integers: CompiledModel) -> None:
    again = compiled(calibrate=IMAGES)
    assert again.content == integers.content
    kept = FileMetadata.read(TfliteFile(integers.content)).options
    assert kept.integers == integers.options.integers
    assert bnncc.compile(make(), input_shapes=["1x3x16x16"], options=kept).content == integers.content


def test_a_layer_is_kept_in_float_and_an_unknown_one_is_an_error_that_names_those_there_are() -> None:
    found = compiled(calibrate=IMAGES[:100], keep_float=["stem", "fc"])
    modules = {check.module for check in verify(found, INPUTS[:1]).integers if "CONV" in check.operator}
    assert modules == {"depthwise"}
    with pytest.raises(InputError, match="no float layer 'conv1'; there are stem, depthwise, fc"):
        compiled(calibrate=IMAGES[:100], keep_float=["conv1"])


def test_a_network_without_float_layers_that_can_be_int8_is_an_error() -> None:
    with pytest.raises(InputError, match="no layer can run in int8: 'stem': as asked for"):
        compiled(calibrate=IMAGES[:100], keep_float=["stem", "depthwise", "fc"])


def test_few_inputs_are_warned_of() -> None:
    assert any("5 inputs tell little" in warning for warning in compiled(calibrate=IMAGES[:5]).traced.warnings)


def test_with_rounded_weights_is_an_error() -> None:
    with pytest.raises(InputError, match="leave --weights-precision out"):
        Options(integers=Integers(), weights_precision="int8")  # type: ignore[arg-type]


# Faults

Change = Callable[[Any, Any], None]


def changed(model: CompiledModel, operator: str, index: int, change: Change) -> CompiledModel:
    """With a change to input `index` of the first operator of this name that is int8."""
    file = TfliteFile(model.content)
    found = next(one for one in file.operators if one.name == operator and one.outputs[0].dtype == "int8")
    tensor = found.inputs[index] if index >= 0 else found.outputs[0]
    assert tensor is not None
    tree = unpack(model.content)
    change(tree, tree.subgraphs[0].tensors[tensor.index])
    return dataclasses.replace(model, content=pack(tree))


def flip_a_bit(tree: Any, tensor: Any) -> None:
    buffer = copy.copy(tree.buffers[tensor.buffer])
    buffer.data = np.array(buffer.data, np.uint8)
    buffer.data[4 * (buffer.data.size // 8)] ^= 2
    tree.buffers[tensor.buffer] = buffer


def other_scale(tree: Any, tensor: Any) -> None:
    tensor.quantization.scale = np.array(tensor.quantization.scale, np.float32) * np.float32(1.1)


@pytest.mark.parametrize("change", [flip_a_bit, other_scale])
@pytest.mark.parametrize("index", [1, 2])
@pytest.mark.parametrize(
    ("operator", "module"), [("CONV_2D", "stem"), ("DEPTHWISE_CONV_2D", "depthwise"), ("FULLY_CONNECTED", "fc")]
)
def test_a_wrong_weight_bias_or_scale_is_found_in_its_layer(
    integers: CompiledModel, operator: str, module: str, index: int, change: Change
) -> None:
    problems = FileCheck(Variants(Reference(changed(integers, operator, index, change))), Runtime.LITERT)
    problems.is_refused()
    assert any(problem.startswith(f"layer '{module}'") for problem in problems.result.problems)


def test_two_scales_of_a_byte_are_found(integers: CompiledModel) -> None:
    check = FileCheck(Variants(Reference(changed(integers, "ADD", 0, other_scale))), Runtime.LITERT)
    check.is_refused()
    assert check.result.problems


def test_a_kernel_that_computes_something_else_is_found(integers: CompiledModel) -> None:
    """The stem's integers come out two too high, as of a faulty kernel."""
    reference = Reference(integers)
    check = FileCheck(Variants(reference), Runtime.LCE)
    assert not check.is_refused()
    variant = check.layer_by_layer_rounded
    stem = next(one for one in reference.file.operators if one.name == "CONV_2D")
    names = [tensor.name for tensor in TfliteFile(variant.content).outputs]
    places = [place for place, name in enumerate(names) if name == stem.outputs[0].name]

    class Faulty:
        def run(self, inputs: list[Array]) -> list[Array]:
            results = variant.run(inputs)
            for place in places:
                results[place] = np.clip(results[place].astype(int) + 2, -128, 127).astype(np.int8)
            return results

    check.layer_by_layer_rounded = Faulty()  # type: ignore[assignment]
    check.check(reference.on(INPUTS[0], None))
    assert any(problem.startswith("layer 'stem': CONV_2D in int8") for problem in check.result.problems)


# Commands

SOURCE = "from tests.verification.test_integers import make\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8")
    (path / "net.py").write_text(SOURCE)
    labels = np.arange(len(IMAGES)) % 100
    np.savez(path / "images.npz", images=IMAGES, labels=labels)
    return path


def invoke(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments])


def compile_arguments(folder: Path, *more: object) -> list[object]:
    network = [f"{folder}/net.py:make", "--input-shape", "1x3x16x16", "-o", folder / "net.tflite"]
    pixels = ["--mean", "0.5,0.4,0.6", "--std", "0.2,0.3,0.25"]
    return ["compile", *network, *pixels, "--input-type", "uint8", *more]


def test_commands_take_a_file_with_int8_layers(folder: Path) -> None:
    asked = ["--quantize", "int8", "--calibrate", folder / "images.npz", "--keep-float", "fc", "--runtime", "litert"]
    result = invoke(*compile_arguments(folder, *asked, "--inputs", 1, "-v"))
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    for text in ("in int8 2 of 3 float layers", "mse, of 120 inputs", "kept in float fc", "int8's rounding", "dB"):
        assert text in words
    file = folder / "net.tflite"
    shown = " ".join(invoke("inspect", file).output.split())
    assert "int8: " in shown
    assert "int8 range of" in shown
    network = ["--model", f"{folder}/net.py:make"]
    assert invoke("verify", file, *network).exit_code == 0
    checked = invoke("check", file, *network, "--data", folder / "images.npz", "--layers", "--layer-inputs", 1)
    assert checked.exit_code == 0, checked.output
    ran = invoke("run", file, "--input", folder / "images.npz", "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantize", "int8"], "--quantize goes with --calibrate"),
        (["--calibrate", "images.npz"], "--calibrate goes with --quantize int8"),
        (["--keep-float", "fc"], "--keep-float and --calibration go with --quantize int8"),
        (["--quantize", "int8", "--calibrate", "absent.npz"], "--calibrate: "),
        (["--quantize", "int8", "--calibrate", "images.npz", "--weights-precision", "int8"], "--weights-precision"),
    ],
)
def test_options_that_do_not_go_together_are_errors(folder: Path, options: list[str], message: str) -> None:
    named = [str(folder / word) if word.endswith(".npz") else word for word in options]
    result = invoke(*compile_arguments(folder, *named))
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "share"),
    [
        pytest.param("reactnet_a", 0.62, marks=shares("reactnet_a")),
        pytest.param("bireal_net_18", 0.52, marks=shares("bireal_net_18")),
    ],
)
def test_full_size_networks_are_smaller(network: str, share: float) -> None:
    full = compiled_full_size(network)
    file = TfliteFile(full.content)
    found = plan(file)
    content = as_integers(file, found, {tensor.name: (-1.0, 1.0) for tensor in found.tensors})
    assert len(content) <= share * len(full.content)


@pytest.mark.slow
def test_the_example_keeps_its_accuracy() -> None:
    """On the 1,000 images of the repository; what 10,000 give is in the documentation."""
    images = np.load(EXAMPLE / "test_images.npz")
    options = Options(preprocessing=bnncc.Preprocessing(pixels="0..255"), input_type="uint8")  # type: ignore[arg-type]
    source = f"{EXAMPLE}/net.py:make_net"
    found = bnncc.compile(
        source, weights=EXAMPLE / "net.pth", input_shapes=["1x1x28x28"], options=options, calibrate=images["images"]
    )
    result = found.check((images["images"], images["labels"]))
    assert result.reference.top1 is not None
    assert result.compiled.top1 is not None
    assert abs(result.compiled.top1.value - result.reference.top1.value) <= 0.003
    inputs = [[images["images"][:1].reshape(1, 1, 28, 28)]]
    assert all(one.passed for one in verify_in(available_runtimes(), found, inputs))


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("ranges", {"stem": [0, float("nan")]}),
        ("ranges", {"stem": [0, 1e300]}),
        ("ranges", [1]),
        ("exponents", {"stem": [10**30]}),
        ("inputs", "many"),
    ],
)
def test_metadata_that_are_no_ranges_are_the_file_s_error(integers: CompiledModel, what: str, value: object) -> None:
    entry = json.loads(FileMetadata.read(TfliteFile(integers.content)).as_bytes())
    entry["int8"][what] = value

    class File:
        def metadata(self) -> dict[str, bytes]:
            return {"bnncc": json.dumps(entry).encode()}

    with pytest.raises(InputError, match="compile the network again"):
        FileMetadata.read(File())  # type: ignore[arg-type]
