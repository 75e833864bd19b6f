"""A file is the one that its network compiles to, or what differs is named."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import click.testing
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import bnncc
from bnncc.check.same_file import compare_files
from bnncc.cli import main
from bnncc.model import CompiledModel
from bnncc.targets.tflite.digest import DIGEST_NAME, seal
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import pack, unpack

NET = """\
import torch
from torch import nn


class Binary(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, torch.where(self.weight >= 0, 1.0, -1.0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 32, 3)
        self.conv = Binary(32, 32, 3, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = torch.where(self.stem(x) >= 0, 1.0, -1.0)
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


class Branch(Net):
    def forward(self, x):
        return super().forward(x / 255 if x.max() > 100 else x)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("same")
    (folder / "net.py").write_text(NET)
    return folder


@pytest.fixture(scope="module")
def compiled(folder: Path) -> CompiledModel:
    model = bnncc.compile(f"{folder}/net.py:Net", input_shapes=["1x3x12x12"])
    model.save(folder / "net.tflite")
    return model


def changed(compiled: CompiledModel, operator: str, index: int, change: float) -> bytes:
    """The file with the largest number of a constant changed, or the first bit, and a digest of its own."""
    file, model = TfliteFile(compiled.content), unpack(compiled.content)
    found = next(one for one in file.operators if one.name == operator)
    tensor = found.inputs[index]
    assert tensor is not None
    buffer = model.buffers[model.subgraphs[0].tensors[tensor.index].buffer]
    array = np.array(buffer.data, np.uint8).view(tensor.dtype)
    if tensor.dtype == "int32":
        array.flat[0] ^= 1
    else:
        array.flat[np.abs(array).argmax()] *= np.float32(1 + change)
    buffer.data = array.view(np.uint8)
    return pack(model)


def command(*arguments: str) -> click.testing.Result:
    result = click.testing.CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_what_is_compiled_again_is_the_same_to_the_byte(compiled: CompiledModel, folder: Path) -> None:
    result = command("verify", f"{folder}/net.tflite", "--model", f"{folder}/net.py:Net")
    assert result.exit_code == 0, result.output
    assert "it is, to the byte, what" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("operator", "index", "layer"), [("LceBconv2d", 1, "conv"), ("CONV_2D", 1, "stem"), ("FULLY_CONNECTED", 2, "fc")]
)
def test_a_changed_number_is_named_by_its_layer(
    compiled: CompiledModel, folder: Path, tmp_path: Path, operator: str, index: int, layer: str
) -> None:
    (tmp_path / "net.tflite").write_bytes(changed(compiled, operator, index, 1e-4))
    result = command("verify", f"{tmp_path}/net.tflite", "--model", f"{folder}/net.py:Net")
    assert result.exit_code == 1, result.output
    assert f"{operator} of layer '{layer}'" in result.stderr
    assert "1 of" in result.stderr


def edited(compiled: CompiledModel, edit: Callable[[schema.ModelT], None]) -> bytes:
    """The file as `edit` leaves it, with a digest of its own."""
    model = unpack(compiled.content)
    edit(model)
    return pack(model)


def yield_the_mean(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.outputs = [graph.operators[-1].inputs[0]]


def yield_the_mean_too(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.outputs = [*graph.outputs, graph.operators[-1].inputs[0]]


def yield_the_mean_under_the_name_of_the_output(model: schema.ModelT) -> None:
    """The last operator's tensor stays what it was, and nobody reads it."""
    graph = model.subgraphs[0]
    namesake = copy.copy(graph.tensors[graph.outputs[0]])
    graph.tensors.append(namesake)
    graph.outputs = [len(graph.tensors) - 1]


def read_a_namesake_without_a_value(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.tensors.append(copy.copy(graph.tensors[graph.inputs[0]]))
    graph.operators[0].inputs = [len(graph.tensors) - 1, *graph.operators[0].inputs[1:]]


def read_no_bias(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.operators[-1].inputs = graph.operators[-1].inputs[:2]


def hold_a_second_graph(model: schema.ModelT) -> None:
    model.subgraphs.append(copy.copy(model.subgraphs[0]))


def sign_another_output(model: schema.ModelT) -> None:
    model.signatureDefs[0].outputs[0].tensorIndex = model.subgraphs[0].operators[-1].inputs[0]


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (yield_the_mean, "the file's outputs are"),
        (yield_the_mean_too, "the file's outputs are"),
        (yield_the_mean_under_the_name_of_the_output, "is another value than the network's"),
        (read_a_namesake_without_a_value, "its input 0 is another value than in the network"),
        (read_no_bias, "number 4, FULLY_CONNECTED"),
        (hold_a_second_graph, "the file has 2 graphs"),
        (sign_another_output, "signatures"),
    ],
)
def test_the_same_operators_put_together_otherwise_are_another_file(
    compiled: CompiledModel, edit: Callable[[schema.ModelT], None], named: str
) -> None:
    problems = compare_files(edited(compiled, edit), compiled).problems
    assert len(problems) == 1
    assert named in problems[0]


def test_of_a_file_without_a_digest_it_is_said_that_an_earlier_bnncc_made_it(compiled: CompiledModel) -> None:
    def as_earlier(model: schema.ModelT) -> None:
        model.metadata = [entry for entry in model.metadata if entry.name != DIGEST_NAME.encode()]

    assert not compare_files(edited(compiled, as_earlier), compiled).problems

    def with_another_shape(model: schema.ModelT) -> None:
        as_earlier(model)
        tensor = model.subgraphs[0].tensors[model.subgraphs[0].operators[0].outputs[0]]
        tensor.shape = [*tensor.shape[:3], 64]

    operators, reason = compare_files(edited(compiled, with_another_shape), compiled).problems
    assert re.search(
        r"number 0, CONV_2D of 3 inputs that yields '(.+)' float32 1x10x10x64 where the network has "
        r"CONV_2D of 3 inputs that yields '\1' float32 1x10x10x32$",
        operators,
    )
    assert "an earlier bnncc made it" in reason


def test_other_bytes_that_no_inference_reads_are_not_called_the_same(
    compiled: CompiledModel, folder: Path, tmp_path: Path
) -> None:
    def describe(model: schema.ModelT) -> None:
        model.description = b"another text"

    (tmp_path / "net.tflite").write_bytes(edited(compiled, describe))
    result = command("verify", f"{tmp_path}/net.tflite", "--model", f"{folder}/net.py:Net")
    assert result.exit_code == 0, result.output
    assert "to the byte" not in result.stdout
    assert "other bytes differ" in " ".join(result.stdout.split())


def test_rounding_of_another_processor_is_no_difference(compiled: CompiledModel) -> None:
    found = compare_files(changed(compiled, "CONV_2D", 1, 2**-23), compiled)
    assert found.problems == []
    assert len(found.roundings) == 1


def test_check_fails_on_another_file_without_layers_too(compiled: CompiledModel, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(changed(compiled, "LceBconv2d", 1, 0))
    images = np.random.default_rng(0).standard_normal((4, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "data.npz", images=images)
    arguments = ["--model", f"{folder}/net.py:Net", "--data", f"{tmp_path}/data.npz"]
    result = command("check", f"{tmp_path}/net.tflite", *arguments)
    assert result.exit_code == 1, result.output
    assert "LceBconv2d of layer 'conv'" in result.output
    right = command("check", f"{folder}/net.tflite", *arguments)
    assert right.exit_code == 0, right.output
    assert "it is, to the byte, what" in " ".join(right.stdout.split())


def test_what_only_data_lead_to_is_compared_where_the_data_do(folder: Path, tmp_path: Path) -> None:
    bright = np.full((2, 3, 12, 12), 200.0, np.float32)
    np.savez(tmp_path / "bright.npz", images=bright)
    np.savez(tmp_path / "dark.npz", images=bright / 200)
    network = f"{folder}/net.py:Branch"
    shape = ("--input-shape", "1x3x12x12")
    data = ("--data", f"{tmp_path}/bright.npz")
    made = command("compile", network, *shape, *data, "--freeze-branches", "-o", f"{tmp_path}/b.tflite")
    assert made.exit_code == 0, made.output
    arguments = (f"{tmp_path}/b.tflite", "--model", network, "--data")
    same = command("check", *arguments, f"{tmp_path}/bright.npz")
    assert (same.exit_code, "to the byte" in same.stdout) == (0, True), same.output
    other = command("check", *arguments, f"{tmp_path}/dark.npz")
    assert "was not compared with what the network compiles to" in other.stderr
    refused = command("verify", f"{tmp_path}/b.tflite", "--model", network)
    assert refused.exit_code == 2
    assert "check on the images that it was compiled with" in refused.stderr


def test_a_damaged_file_is_known_by_its_digest(compiled: CompiledModel, folder: Path, tmp_path: Path) -> None:
    content = bytearray(compiled.content)
    content[len(content) // 2] ^= 1
    (tmp_path / "net.tflite").write_bytes(content)
    for arguments in (["inspect"], ["verify", "--model", f"{folder}/net.py:Net"]):
        result = command(arguments[0], f"{tmp_path}/net.tflite", *arguments[1:])
        assert result.exit_code == 2
        assert "damaged" in result.stderr


def test_every_byte_counts_for_the_digest(compiled: CompiledModel, tmp_path: Path) -> None:
    assert seal(compiled.content) == compiled.content
    generator, path = np.random.default_rng(0), tmp_path / "net.tflite"
    for place in generator.integers(0, len(compiled.content), 50):
        content = bytearray(compiled.content)
        content[place] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(bnncc.BnnccError):
            TfliteFile.open(path)
