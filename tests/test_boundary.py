"""Files that take bytes and yield probabilities, classes and bytes, beside PyTorch on the preprocessed picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
import bnncc.compiler
from bnncc.errors import BnnccError, InputError
from bnncc.inference.runners import Runtime, available_runtimes
from bnncc.ir.evaluate import random_inputs
from bnncc.model import CompiledModel
from bnncc.options import FileMetadata
from bnncc.targets.tflite.digest import is_damaged
from bnncc.targets.tflite.public_metadata import PUBLIC_NAME, Information, describe, packed_files
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify_in

MEAN, STD = (0.485, 0.2, 0.406), (0.229, 0.5, 0.225)
IMAGENET = bnncc.Preprocessing(mean=MEAN, std=STD)
SIDE = 16


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


class Net(nn.Module):
    """A stem at stride 2, a binary convolution, a Linear; `whole` for parameters of which float32 computes exactly."""

    def __init__(self, end: Callable[[Tensor], Any] = lambda x: x, channels: int = 3, *, whole: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.end = end
        self.stem = nn.Conv2d(channels, 32, 3, 2, 1)
        self.conv = nn.Conv2d(32, 32, 3, 2, 1, bias=False)
        self.head = nn.Linear(32, 10)
        with torch.no_grad():
            self.conv.weight.sign_()
            if whole:
                for parameter in (*self.stem.parameters(), *self.head.parameters()):
                    parameter.copy_(torch.randint(-4, 5, parameter.shape) / 4)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        x = F.conv2d(sign(self.stem(x)), self.conv.weight, stride=2, padding=1)
        return self.end(self.head(x.mean((2, 3))))


def compiled(net: nn.Module, shape: str = f"1x3x{SIDE}x{SIDE}", **options: Any) -> CompiledModel:
    options.setdefault("preprocessing", IMAGENET)
    return bnncc.compile(net, input_shapes=[shape], options=bnncc.Options(**options))


def proven(model: CompiledModel) -> None:
    inputs = [random_inputs(model.traced.model, seed) for seed in range(2)]
    for found in verify_in(available_runtimes(), model, inputs):
        assert not found.problems
        assert sum(layer.sums for layer in found.layers) > 0


def operators(model: CompiledModel) -> list[str]:
    return [operator.name for operator in TfliteFile(model.content).operators]


@pytest.fixture(scope="module")
def of_bytes() -> CompiledModel:
    return compiled(Net(), input_type="uint8", head="softmax", output_type="int8")


def test_a_file_of_bytes_is_proven_against_pytorch_on_the_normalised_picture(of_bytes: CompiledModel) -> None:
    proven(of_bytes)
    pixels = np.random.default_rng(5).integers(0, 256, (1, 3, SIDE, SIDE)).astype(np.uint8)
    floats = (torch.from_numpy(pixels).float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )
    with torch.no_grad():
        wanted = Net()(floats).softmax(1).numpy()
    (found,) = of_bytes.run([pixels.transpose(0, 2, 3, 1)])
    assert found.dtype == np.int8
    np.testing.assert_allclose((found.astype(float) + 128) / 256, wanted, atol=0.5 / 256 + 1e-5)


def test_the_tensors_say_what_the_bytes_stand_for(of_bytes: CompiledModel) -> None:
    file = TfliteFile(of_bytes.content)
    (taken,), (yielded,) = file.inputs, file.outputs
    assert (taken.dtype, taken.shape, yielded.dtype) == ("uint8", (1, SIDE, SIDE, 3), "int8")
    assert taken.quantization is not None
    assert yielded.quantization is not None
    assert (taken.quantization.scales, taken.quantization.zero_points) == ((float(np.float32(1 / 255)),), (0,))
    assert (yielded.quantization.scales, yielded.quantization.zero_points) == ((1 / 256,), (-128,))


def test_one_pass_over_the_picture_beside_the_dequantization(of_bytes: CompiledModel) -> None:
    before = operators(of_bytes)[: operators(of_bytes).index("CONV_2D")]
    assert [name for name in before if name != "REVERSE_V2"] == ["DEQUANTIZE", "ADD"]


@pytest.mark.parametrize("input_type", ["uint8", "int8"])
def test_whole_pixels_and_powers_of_two_give_the_same_outputs_to_the_bit(input_type: str) -> None:
    pixels = bnncc.Preprocessing(pixels="0..255")
    model = compiled(Net(whole=True), input_type=input_type, preprocessing=pixels)
    assert "ADD" not in operators(model)[:4]
    images = np.random.default_rng(1).integers(0, 256, (3, 1, 3, SIDE, SIDE)).astype(np.uint8)
    for image in images:
        with torch.no_grad():
            wanted = Net(whole=True)(torch.from_numpy(image).float()).numpy()
        given = image.transpose(0, 2, 3, 1)
        fed = given if input_type == "uint8" else (given.astype(np.int16) - 128).astype(np.int8)
        for runtime in available_runtimes():
            (found,) = runtime.load(model.content).run([fed])
            np.testing.assert_array_equal(found, wanted)


def test_the_class_is_an_index_and_the_first_of_equal_logits() -> None:
    tied = compiled(Net(lambda x: torch.cat([x, x], 1)), head="argmax", input_type="uint8")
    proven(tied)
    (tensor,) = TfliteFile(tied.content).outputs
    assert (tensor.dtype, tensor.shape) == ("int32", (1,))
    for seed in range(4):
        (found,) = tied.run([tied.as_stored(array) for array in random_inputs(tied.traced.model, seed)])
        assert found < 10


BOUNDED: dict[str, tuple[Callable[[Tensor], Any], tuple[float, int]]] = {
    "sigmoid": (torch.sigmoid, (1 / 256, 0)),
    "tanh": (torch.tanh, (1 / 128, 128)),
    "clip": (lambda x: F.relu6(x), (6 / 255, 0)),
}


@pytest.mark.parametrize(("end", "scale"), BOUNDED.values(), ids=BOUNDED)
def test_bounded_outputs_are_quantized_by_their_bounds(end: Callable[[Tensor], Any], scale: tuple[float, int]) -> None:
    model = compiled(Net(end), output_type="uint8")
    proven(model)
    (tensor,) = TfliteFile(model.content).outputs
    assert tensor.quantization is not None
    assert tensor.quantization.scales == (float(np.float32(scale[0])),)
    assert tensor.quantization.zero_points == (scale[1],)


REFUSED: dict[str, tuple[Net, dict[str, Any], str]] = {
    "unsaid pixels": (Net(), {"input_type": "uint8", "preprocessing": bnncc.Preprocessing()}, "--pixels"),
    "no picture": (Net(channels=5), {"input_type": "int8"}, "no pictures but x of 1x5x16x16"),
    "no such input": (Net(), {"input_type": "int8", "byte_inputs": ("y",)}, "no input 'y'; it takes x"),
    "channels": (Net(channels=1), {"input_type": "int8"}, "3 values, and the input 'x' has 1 channels"),
    "unbounded": (Net(), {"output_type": "uint8"}, "nothing bounds the output 'output'"),
    "a class": (Net(), {"output_type": "uint8", "head": "argmax"}, "of integers already"),
    "twice": (Net(lambda x: x.softmax(1)), {"head": "softmax"}, "from 0 to 1 already"),
    "too few names": (Net(), {"classes": ("a", "b")}, "2 names, and the network has 10 classes"),
    "a map": (Net(lambda x: x[:, :, None, None]), {"head": "argmax"}, "no row of logits"),
}


@pytest.mark.parametrize(("net", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_with_the_reason(net: Net, options: dict[str, Any], message: str) -> None:
    shape = f"1x{net.stem.in_channels}x{SIDE}x{SIDE}"
    with pytest.raises(InputError) as error:
        compiled(net, shape, **options)
    assert message in str(error.value)


def test_other_tools_read_names_pixels_and_labels_and_the_file_still_runs(of_bytes: CompiledModel) -> None:
    model = bnncc.compiler.compile_traced(
        of_bytes.network or of_bytes.traced,
        of_bytes.target,
        dataclasses.replace(
            of_bytes.options, classes=tuple("abcdefghij"), information=Information("net", license="MIT")
        ),
    )
    file = TfliteFile(model.content)
    assert not is_damaged(model.content)
    assert is_damaged(model.content[:-1] + b"x")  # the digest is of the archive too
    found = dict(describe(file.metadata()[PUBLIC_NAME]))
    # (pixel - 0) / 255, quantized by 1/255, is the pixel
    assert found["input x"] == "pixels as they are decoded; (pixel - 0) / 255"
    assert found["output output"] == "the probability of each class; labels.txt"
    assert (found["name"], found["license"]) == ("net", "MIT")
    assert packed_files(model.content) == {"labels.txt": b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n"}
    given = [of_bytes.as_stored(array) for array in random_inputs(of_bytes.traced.model, 3)]
    for runtime in available_runtimes():
        np.testing.assert_array_equal(runtime.load(model.content).run(given)[0], of_bytes.run(given)[0])
    assert FileMetadata.read(file).options.information == Information("net", license="MIT")


def test_the_file_remembers_how_it_was_compiled(of_bytes: CompiledModel) -> None:
    options = FileMetadata.read(TfliteFile(of_bytes.content)).options
    kept = dataclasses.replace(of_bytes.options, dump_dir=None, compare_passes=None)
    assert options == kept


def test_check_feeds_the_file_bytes_and_pytorch_what_becomes_of_them(of_bytes: CompiledModel) -> None:
    images = np.random.default_rng(2).integers(0, 256, (8, SIDE, SIDE, 3)).astype(np.uint8)
    result = of_bytes.check((images, np.arange(8)), layers=1)
    assert not result.failures
    assert result.compiled.agreement is not None
    assert result.compiled.agreement.value == 1
    assert result.compiled.largest_error <= 1  # a step of the int8 output
    with pytest.raises(BnnccError, match="takes a picture's bytes"):
        of_bytes.check((images / np.float32(255), np.arange(8)))


def test_a_step_that_is_quantized_otherwise_is_found(of_bytes: CompiledModel) -> None:
    """The scale of the input's tensor stands once in the file: another one is another network."""
    scale = np.float32(1 / 255).tobytes()
    assert of_bytes.content.count(scale) >= 1
    broken = dataclasses.replace(of_bytes, content=of_bytes.content.replace(scale, np.float32(1 / 250).tobytes()))
    (found,) = verify_in([Runtime.LITERT], broken, [random_inputs(of_bytes.traced.model, 0)])
    assert found.problems
