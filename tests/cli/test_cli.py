"""The command line as a user meets it: what it prints, what it leaves on disk, its exit codes.

0: the file is written.  1: the file would be wrong.  2: the input is at fault.  Nothing is written for 1 and 2.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click.testing
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import bnncc.compiler
from bnncc.cli import main
from bnncc.inference.runners import LceRunner
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import pack, unpack
from tests.networks.user_file import load_file, randomize_state

GATED = """\
import torch
from torch import nn


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(32, 16, 3)
        self.binary = nn.Conv2d(16, 16, 3)
        self.register_buffer("logits", torch.linspace(-150, 2, 16))

    def forward(self, x):
        gates = torch.sigmoid(self.logits + x.mean())[None, :, None, None]
        signs = torch.where(self.first(x) * gates >= 0, 1.0, -1.0)
        return nn.functional.conv2d(signs, torch.sign(self.binary.weight))
"""
REPOSITORY = Path(__file__).parents[2]
SHAPE = ("--input-shape", "1x3x8x8")
# Twelve images, the last three with wrong labels.
IMAGES, RIGHT = 12, 9
NET = """\
import torch
from torch import nn
from torch.nn import functional as F


class BinaryConv(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(torch.sign(x), torch.sign(self.weight), None, self.stride, self.padding)


class Net(nn.Module):
    def __init__(self, classes=5, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.conv1 = BinaryConv(width, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = BinaryConv(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = self.bn1(self.conv1(self.stem(x)))
        x = self.bn2(self.conv2(x)) + x
        return self.fc(x.mean((2, 3)))


def broken():
    raise RuntimeError("no such depth")


def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


class FloatWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(torch.where(x >= 0, 1.0, -1.0))


class Exotic(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Cumulative()
        self.second = Cumulative()

    def forward(self, x):
        x = self.second(self.first(x))
        return torch.asin(x)


class Cumulative(nn.Module):
    def forward(self, x):
        return torch.acos(x)


class DataAssignment(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.conv = nn.Conv2d(8, 8, 3, bias=False)

    def forward(self, x):
        x = self.stem(x)
        x.data = x.data.sign()
        if not hasattr(self.conv.weight, "org"):
            self.conv.weight.org = self.conv.weight.data.clone()
        self.conv.weight.data = self.conv.weight.org.sign()
        return self.conv(x)
"""

Array = npt.NDArray[np.float32]


@dataclass
class Workspace:
    """A user's folder: net.py, net.pth for Net(classes=4), net.onnx and data.npz of the same network."""

    folder: Path
    images: Array
    logits: Array

    @property
    def source(self) -> str:
        return f"{self.folder}/net.py"

    @property
    def onnx(self) -> str:
        return f"{self.folder}/net.onnx"

    @property
    def as_python(self) -> tuple[str, ...]:
        return (f"{self.source}:Net", "--arg", "classes=4", "--weights", f"{self.folder}/net.pth", *SHAPE)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("user")
    (folder / "net.py").write_text(NET)
    network = load_file(folder / "net.py").Net(classes=4)
    generator = torch.Generator().manual_seed(0)
    randomize_state(network, generator)
    network.eval()
    torch.save(network.state_dict(), folder / "net.pth")
    images = torch.randn(IMAGES, 3, 8, 8, generator=generator)
    with torch.no_grad():
        logits = torch.cat([network(image[None]) for image in images])
    labels = logits.argmax(1)
    labels[RIGHT:] = (labels[RIGHT:] + 1) % 4
    np.savez(folder / "data.npz", images=images.numpy(), labels=labels.numpy())
    torch.onnx.export(network, (images[:1],), folder / "net.onnx", input_names=["x"], verbose=False, dynamo=True)
    return Workspace(folder, images.numpy(), logits.numpy())


def bnncc_compile(*arguments: str) -> click.testing.Result:
    result = click.testing.CliRunner(env={"COLUMNS": "200"}).invoke(main, ["compile", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(output: Path, *arguments: str, code: int = 2) -> str:
    """The message of a run that must fail with `code` and write nothing."""
    before = sorted(output.parent.iterdir()) if output.parent.is_dir() else None
    result = bnncc_compile(*arguments, "-o", str(output))
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: ") or "\nerror: " in result.stderr
    assert "Traceback" not in result.output
    assert (sorted(output.parent.iterdir()) if output.parent.is_dir() else None) == before
    return result.stderr


def run_file(path: Path, images: Array, *, channels_last: bool = True) -> Array:
    runner = LceRunner(path.read_bytes())
    stored = images.transpose(0, 2, 3, 1) if channels_last else images
    return np.concatenate([runner.run([image[None]])[0] for image in stored])


def assert_as_pytorch(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


# It works


def test_a_python_file_with_weights_and_data_compiles_and_both_accuracies_are_printed(
    workspace: Workspace, tmp_path: Path
) -> None:
    output = tmp_path / "net.tflite"
    result = bnncc_compile(
        *workspace.as_python, "--data", f"{workspace.folder}/data.npz", "-o", str(output), "--verbose"
    )
    assert result.exit_code == 0, result.output
    lines = {line.strip()[:22].strip(): line.strip()[22:].strip() for line in result.stdout.splitlines()}
    assert "12 images\n" in result.stdout
    assert re.search(r"^top-1 accuracy +75\.00% +75\.00%", result.stdout, re.MULTILINE)
    assert lines["binary layers"] == "2 of 2"
    assert lines["integer sums"] == "1,024 of 1,024 equal"  # 4 inputs · 2 layers · 8 channels · 4 x 4
    assert lines["verification"] == "passed"
    assert result.stdout.rstrip().endswith(f"wrote {output}")
    assert "recognize-binary-conv" in result.stdout  # --verbose: the time of each pass
    assert result.stderr == ""
    assert_as_pytorch(run_file(output, workspace.images), workspace.logits)


def test_an_onnx_file_needs_no_shape_and_gives_the_same_outputs(workspace: Workspace, tmp_path: Path) -> None:
    output = tmp_path / "net.tflite"
    result = bnncc_compile(workspace.onnx, "-o", str(output))
    assert result.exit_code == 0, result.output
    assert "against ONNX Runtime" in result.stdout
    assert_as_pytorch(run_file(output, workspace.images), workspace.logits)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input-layout", "nchw"),
        ("--padding", "mirrored"),
        ("--padding", "one-padded"),
        ("--padding", "mirrored", "--input-layout", "nchw"),
        ("--no-verify",),
        ("--verify-passes",),
        ("--target", "raspberry-pi-5", "--inputs", "1", "--seed", "7"),
    ],
    ids=" ".join,
)
def test_every_option_gives_a_file_whose_outputs_are_pytorchs(
    workspace: Workspace, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    output = tmp_path / "net.tflite"
    result = bnncc_compile(workspace.onnx, *arguments, "-o", str(output))
    assert result.exit_code == 0, result.output
    assert ("verification" in result.stdout) == ("--no-verify" not in arguments)
    found = run_file(output, workspace.images, channels_last="nchw" not in arguments)
    assert_as_pytorch(found, workspace.logits)
    names = {operator.name for operator in TfliteFile(output.read_bytes()).operators}
    if "--padding" in arguments:
        assert ("REVERSE_V2" in names) == ("mirrored" in arguments)
        assert ("PAD" in names) == ("one-padded" in arguments)


def test_pixels_go_in_and_classes_come_out(workspace: Workspace, tmp_path: Path) -> None:
    output = tmp_path / "net.tflite"
    words = ("--input-type", "x=uint8", "--pixels", "0..255", "--argmax", "--author", "who", "--inputs", "1")
    result = bnncc_compile(workspace.onnx, *words, "-o", str(output))
    assert result.exit_code == 0, result.output
    file = TfliteFile(output.read_bytes())
    assert [tensor.dtype for tensor in (*file.inputs, *file.outputs)] == ["uint8", "int32"]
    inspected = click.testing.CliRunner().invoke(main, ["inspect", str(output)]).output
    assert "input x: pixels as they are decoded; (pixel - 0) / 1" in inspected
    assert "input x: uint8 q stands for 1 * (q - 0)" in inspected
    assert "author: who" in inspected


def test_the_two_input_layouts_differ_in_the_shape_of_the_input(workspace: Workspace, tmp_path: Path) -> None:
    for layout, shape in (("nhwc", (1, 8, 8, 3)), ("nchw", (1, 3, 8, 8))):
        output = tmp_path / f"{layout}.tflite"
        bnncc_compile(workspace.onnx, "--input-layout", layout, "--no-verify", "-o", str(output))
        assert TfliteFile(output.read_bytes()).inputs[0].shape == shape


def test_every_dumped_model_runs_in_onnx_runtime_and_gives_pytorchs_result(
    workspace: Workspace, tmp_path: Path
) -> None:
    dumps = tmp_path / "deep" / "dumps"
    result = bnncc_compile(
        workspace.onnx, "--dump-dir", str(dumps), "--padding", "one-padded", "--no-verify",
        "-o", str(tmp_path / "net.tflite"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    paths = sorted(dumps.iterdir())
    assert paths[0].name == "00-traced.onnx"
    assert paths[-1].name.endswith("-pad-with-ones.onnx")
    assert [int(path.name.split("-")[0]) for path in paths] == list(range(len(paths)))
    for path in paths:
        onnx.checker.check_model(path, full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (result_of_pass,) = session.run(None, {session.get_inputs()[0].name: workspace.images[:1]})
        assert_as_pytorch(result_of_pass, workspace.logits[:1])


def test_a_dump_dir_that_cannot_be_made_is_an_input_error(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refused(tmp_path / "o.tflite", workspace.onnx, "--dump-dir", str(tmp_path / "file"))
    assert "--dump-dir" in message
    assert "cannot be written" in message


def test_a_network_without_a_binary_layer_is_compiled_with_a_warning_on_stderr(
    workspace: Workspace, tmp_path: Path
) -> None:
    output = tmp_path / "net.tflite"
    result = bnncc_compile(f"{workspace.source}:plain", *SHAPE, "-o", str(output))
    assert result.exit_code == 0, result.output
    assert "warning: no binary layer was found" in result.stderr
    assert "outside of forward" not in result.stderr
    assert "warning" not in result.stdout
    assert output.is_file()

    result = bnncc_compile(f"{workspace.source}:FloatWeights", *SHAPE, "-o", str(output), "--no-verify")
    assert "warning: no binary layer was found" in result.stderr
    assert "outside of forward" in result.stderr


def test_data_assignment_in_forward_is_compiled_right_or_refused(workspace: Workspace, tmp_path: Path) -> None:
    output = tmp_path / "net.tflite"
    result = bnncc_compile(f"{workspace.source}:DataAssignment", *SHAPE, "-o", str(output), "--inputs", "1")
    if result.exit_code != 0:
        assert ".data" in result.stderr
        assert not output.exists()
        return
    assert "binary layers" in result.stdout
    file = TfliteFile(output.read_bytes())
    (conv,) = [operator for operator in file.operators if operator.name == "LceBconv2d"]
    # The constructor draws its weights anew each time; the file's own stem gives what its binary convolution reads.
    stem = next(operator for operator in file.operators if operator.name == "CONV_2D")
    floats = LceRunner(file.variant(file.inputs, [stem.outputs[0], *file.outputs]))
    x, y = floats.run([workspace.images[:1].transpose(0, 2, 3, 1)])
    assert set(np.unique(y % 2)) == {0}  # sums of 72 products of ±1
    assert float(np.abs(y).max()) <= 72
    assert conv.inputs[0] is not None
    assert x.shape == (1, 6, 6, 8)


def test_rare_exact_zeros_at_a_sign_are_a_warning_on_stderr(workspace: Workspace, tmp_path: Path) -> None:
    # The batch norms of an untrained network leave sums of ±1 as they are: some are 0.
    untrained = (f"{workspace.source}:Net", "--arg", "width=32", *SHAPE)
    result = bnncc_compile(*untrained, "-o", str(tmp_path / "net.tflite"))
    assert result.exit_code == 0, result.output
    assert re.search(r"warning: \d+ signs read an exact 0", result.stderr)
    assert "exact zeros at signs" in result.stdout


def test_signs_of_many_exact_zeros_are_refused_with_what_to_do(workspace: Workspace, tmp_path: Path) -> None:
    # Of sums of four times nine ±1 every seventh is 0, and the norms of an untrained network leave it so.
    torch.manual_seed(0)
    untrained = (f"{workspace.source}:Net", "--arg", "width=4", *SHAPE, "-o", str(tmp_path / "net.tflite"))
    result = bnncc_compile(*untrained)
    assert result.exit_code == 2, result.output
    assert re.search(r"sign 'conv2': \d+ of \d+ values are exactly 0", result.stderr)
    assert "--sign-of-zero plus-one" in result.stderr
    assert "bug" not in result.stderr
    assert not (tmp_path / "net.tflite").exists()
    result = bnncc_compile(*untrained, "--sign-of-zero", "plus-one")
    assert result.exit_code == 0, result.output


def test_gates_that_underflow_are_refused_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "gated.py").write_text(GATED, encoding="utf-8")
    said = refused(tmp_path / "net.tflite", f"{tmp_path / 'gated.py'}:Gated", "--input-shape", "1x32x6x6")
    assert re.search(r"sign .*: \d+ of 1,024 values are 0 because the positive factor", said)
    assert "bug" not in said


def test_a_sign_behind_a_relu_yields_zeros_and_ones_as_in_pytorch(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET.replace("self.conv1(self.stem(x))", "self.conv1(torch.relu(self.stem(x)))"))
    output = tmp_path / "net.tflite"
    arguments = (f"{tmp_path}/net.py:Net", *workspace.as_python[1:])
    result = bnncc_compile(*arguments, "--inputs", "1", "-o", str(output))
    assert result.exit_code == 0, result.output
    network = load_file(tmp_path / "net.py").Net(classes=4).eval()
    network.load_state_dict(torch.load(workspace.folder / "net.pth"))
    with torch.no_grad():
        expected = torch.cat([network(torch.from_numpy(image[None])) for image in workspace.images])
    assert_as_pytorch(run_file(output, workspace.images), expected.numpy())


def test_the_targets_are_listed() -> None:
    result = click.testing.CliRunner().invoke(main, ["targets"])
    assert result.exit_code == 0
    assert "raspberry-pi-4 " in result.stdout
    assert len(result.stdout.splitlines()) >= 2


def test_inspect_prints_the_operators_their_macs_and_the_metadata(workspace: Workspace, tmp_path: Path) -> None:
    output = tmp_path / "net.tflite"
    bnncc_compile(workspace.onnx, "--no-verify", "-o", str(output))
    result = click.testing.CliRunner().invoke(main, ["inspect", str(output)])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("LceBconv2d") == 2
    assert "packed" in result.stdout
    assert f"{2 * 8 * 8 * 9 * 16:,} binary MACs" in result.stdout  # two layers, 4x4 maps
    assert "target raspberry-pi-4" in result.stdout


# The input is at fault: exit code 2


def test_a_network_file_that_does_not_exist(tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "o.tflite", f"{tmp_path}/none.py:Net", *SHAPE)
    assert "none.onnx" in refused(tmp_path / "o.tflite", f"{tmp_path}/none.onnx")


def test_a_callable_that_raises_is_quoted_with_its_line(workspace: Workspace, tmp_path: Path) -> None:
    message = refused(tmp_path / "o.tflite", f"{workspace.source}:broken", *SHAPE)
    line = NET.splitlines().index('    raise RuntimeError("no such depth")') + 1
    assert "RuntimeError: no such depth" in message
    assert f'net.py:{line} in broken: raise RuntimeError("no such depth")' in message


def test_a_missing_callable_is_answered_with_those_that_there_are(workspace: Workspace, tmp_path: Path) -> None:
    message = refused(tmp_path / "o.tflite", f"{workspace.source}:Nett", *SHAPE)
    assert "has no 'Nett'; it defines" in message
    assert "Net" in message.split("it defines")[1]


def test_a_network_without_callable_is_told_how_to_name_one(workspace: Workspace, tmp_path: Path) -> None:
    assert "file.py:callable" in refused(tmp_path / "o.tflite", workspace.source, *SHAPE)


def test_a_wrong_input_shape_quotes_the_users_line(workspace: Workspace, tmp_path: Path) -> None:
    message = refused(tmp_path / "o.tflite", f"{workspace.source}:Net", "--input-shape", "1x4x8x8")
    line = NET.splitlines().index("        x = self.bn1(self.conv1(self.stem(x)))") + 1
    assert f"net.py:{line} in forward: x = self.bn1(self.conv1(self.stem(x)))" in message
    assert "1x4x8x8" in message
    assert "--input-shape" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--input-shape 1x3x224x224"),
        (("--input-shape", "1x3xNx8"), "cannot read the input shape '1x3xNx8'"),
        (("--input-shape", "y=1x3x8x8"), "no input of forward, which takes x"),
        ((*SHAPE, *SHAPE), "forward takes 1: x"),
        ((*SHAPE, "--arg", "classes"), "write name=value"),
        ((*SHAPE, "--arg", "depth=4"), "unexpected keyword argument 'depth'"),
        ((*SHAPE, "--weights", "none.pth"), "none.pth does not exist"),
        ((*SHAPE, "--input-type", "uint4"), "'uint4' is none of float32, uint8, int8"),
        ((*SHAPE, "--input-type", "x=uint8", "--input-type", "int8"), "one type for several inputs, NAME=TYPE each"),
        ((*SHAPE, "--input-type", "y=uint8", "--pixels", "0..1"), "no input 'y'; it takes x"),
        ((*SHAPE, "--softmax", "--argmax"), "give one"),
    ],
    ids=[
        "no shape", "no number", "unknown input", "two shapes", "no value", "unknown argument", "no checkpoint",
        "unknown type", "two types", "no such input", "two heads",
    ],
)  # fmt: skip
def test_bad_options_of_a_network_are_explained(
    workspace: Workspace, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in refused(tmp_path / "o.tflite", f"{workspace.source}:Net", *arguments)


def test_a_truncated_checkpoint(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    path.write_bytes((workspace.folder / "net.pth").read_bytes()[:1000])
    message = refused(tmp_path / "o.tflite", f"{workspace.source}:Net", *SHAPE, "--weights", str(path))
    assert "cannot be read" in message
    assert "truncated" in message


def test_a_checkpoint_for_another_network_lists_the_keys(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 4)).state_dict(), path)
    message = refused(tmp_path / "o.tflite", f"{workspace.source}:Net", *SHAPE, "--weights", str(path))
    assert "missing from the file" in message
    assert "conv1.weight" in message
    assert "in the file but not in the network" in message
    assert "1.bias" in message
    assert "--allow-partial-weights" in message


def test_a_checkpoint_of_other_sizes_lists_both_shapes(workspace: Workspace, tmp_path: Path) -> None:
    arguments = (f"{workspace.source}:Net", "--weights", f"{workspace.folder}/net.pth", *SHAPE)
    message = refused(tmp_path / "o.tflite", *arguments, "--arg", "classes=5")
    assert "fc.weight: 4x8 in the file, 5x8 in the network" in message


def test_every_operator_without_a_lowering_is_listed_with_module_and_line(workspace: Workspace, tmp_path: Path) -> None:
    message = refused(tmp_path / "o.tflite", f"{workspace.source}:Exotic", *SHAPE)
    lines = NET.splitlines()
    acos = f"net.py:{lines.index('        return torch.acos(x)') + 1} in forward"
    asin = f"net.py:{lines.index('        return torch.asin(x)') + 1} in forward"
    listed = [line for line in message.splitlines() if "Acos" in line or "Asin" in line]
    assert len(listed) == 3
    assert "'first'" in listed[0]
    assert acos in listed[0]
    assert "'second'" in listed[1]
    assert acos in listed[1]
    assert asin in listed[2]
    assert "3 operators have" in message


def test_an_unknown_target_is_answered_with_the_list(workspace: Workspace, tmp_path: Path) -> None:
    message = refused(tmp_path / "o.tflite", workspace.onnx, "--target", "commodore-64")
    assert "unknown target 'commodore-64'" in message
    for line in click.testing.CliRunner(env={"COLUMNS": "200"}).invoke(main, ["targets"]).stdout.splitlines():
        assert line.split()[0] in message


# Bad data


def _save(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path, images: None, "does not exist"),
        (lambda path, images: path.write_bytes(b"PK\x03\x04 no zip"), "is no readable .npz file"),
        (lambda path, images: np.save(path.open("wb"), images), "is no readable .npz file"),
        (lambda path, images: path.mkdir(), "has no pictures"),
        (lambda path, images: _save(path, images=images[:, :, :4]), "do not fit the input 'x', which takes (3, 8, 8)"),
        (lambda path, images: _save(path, images=images[0, 0, 0, 0]), "do not fit the input 'x'"),
        (lambda path, images: _save(path, images=np.full_like(images, np.nan)), "NaN or infinity"),
        (lambda path, images: _save(path, images=images, labels=np.zeros(5, int)), "of one length"),
        (lambda path, images: _save(path, images=images[:0], labels=np.zeros(0, int)), "at least one"),
        (lambda path, images: _save(path, images=images, labels=np.int64(3)), "not one-hot"),
        (lambda path, images: _save(path, images=images, labels=np.eye(IMAGES)), "not one-hot"),
        (lambda path, images: _save(path, images=images, labels=np.full(IMAGES, "cat")), "whole numbers"),
        (lambda path, images: _save(path, images=images, labels=np.full(IMAGES, 0.5)), "whole numbers"),
        (lambda path, images: _save(path, images=images.astype(np.int64)), "uint8 or float"),
        (lambda path, images: _save(path, a=images, b=images), "no array for the input 'x'"),
        (lambda path, images: _save(path, images=np.array([None], object)), "is no readable .npz file"),
    ],
    ids=[
        "missing", "no zip", "npy", "folder", "wrong shape", "scalar", "NaN", "label length", "empty",
        "scalar label", "one-hot",
        "text labels", "fractional labels", "int64 images", "two arrays", "pickled",
    ],
)  # fmt: skip
def test_bad_data_is_explained(
    workspace: Workspace, tmp_path: Path, write: Callable[[Path, Array], object], expected: str
) -> None:
    data = tmp_path / "data.npz"
    write(data, workspace.images)
    message = refused(tmp_path / "o.tflite", workspace.onnx, "--data", str(data))
    assert "--data" in message
    assert expected in message


def test_data_that_do_not_fit_are_told_before_the_export(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exported(*_: object) -> None:
        pytest.fail("the network was exported")

    monkeypatch.setattr(sys.modules["bnncc.frontend.trace"], "export", exported)
    data = tmp_path / "data.npz"
    np.savez(data, images=np.zeros((2, 3, 9, 9), np.float32))
    message = refused(tmp_path / "o.tflite", *workspace.as_python, "--data", str(data))
    assert "--data" in message


def test_data_may_be_channels_last_and_without_labels(workspace: Workspace, tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    _save(data, images=workspace.images.transpose(0, 2, 3, 1))
    result = bnncc_compile(workspace.onnx, "--data", str(data), "-o", str(tmp_path / "o.tflite"))
    assert result.exit_code == 0, result.output
    assert re.search(r"^same class +12 ", result.stdout, re.MULTILINE)
    assert "accuracy" not in result.stdout


# Writing the file


def test_an_output_that_is_a_directory(workspace: Workspace, tmp_path: Path) -> None:
    assert "is a directory; name a file" in refused(tmp_path, workspace.onnx)


def test_an_output_whose_folder_does_not_exist(workspace: Workspace, tmp_path: Path) -> None:
    message = refused(tmp_path / "none" / "o.tflite", workspace.onnx)
    assert f"there is no directory {tmp_path / 'none'}" in message


def test_an_output_folder_that_cannot_be_written_to(workspace: Workspace) -> None:
    # /proc takes no files, not even from root, for whom permissions do not count.
    result = bnncc_compile(workspace.onnx, "--no-verify", "-o", "/proc/o.tflite")
    assert result.exit_code == 2
    assert "/proc/o.tflite cannot be written" in result.stderr


FULL_DISK = """
import resource, sys
from bnncc.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
main(sys.argv[1:])
"""


def run_python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        # With the file-size limit of the full disk, Python would leave truncated bytecode in this repository.
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "200",
    }
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_a_full_disk_leaves_nothing_behind_and_an_older_file_untouched(workspace: Workspace, tmp_path: Path) -> None:
    output = tmp_path / "net.tflite"
    output.write_bytes(b"older")
    process = run_python(FULL_DISK, "compile", workspace.onnx, "--no-verify", "-o", str(output), cwd=tmp_path)
    assert process.returncode == 2, process.stderr
    assert f"error: {output} cannot be written: File too large" in process.stderr
    assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == [output]
    assert output.read_bytes() == b"older"


def test_a_failed_verification_is_exit_code_1_and_leaves_the_older_file(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "net.tflite"
    output.write_bytes(b"older")
    monkeypatch.setattr(bnncc.compiler, "emit", _emit_with_one_wrong_bit(bnncc.compiler.emit))
    message = refused(output, *workspace.as_python, code=1)
    assert "disagrees with the network; nothing was written" in message
    assert "layer 'conv2': " in message
    assert "layer 'conv1': " not in message
    assert output.read_bytes() == b"older"


def _emit_with_one_wrong_bit(emit: Callable[..., bytes]) -> Callable[..., bytes]:
    def wrong(*arguments: object, **options: object) -> bytes:
        content = emit(*arguments, **options)
        file, model = TfliteFile(content), unpack(content)
        weights = [operator.inputs[1] for operator in file.operators if operator.name == "LceBconv2d"][1]
        assert weights is not None
        buffer = model.buffers[model.subgraphs[0].tensors[weights.index].buffer]
        buffer.data = np.array(buffer.data, np.uint8)
        buffer.data[0] ^= 1
        return pack(model)

    return wrong


# What is imported


def test_compiling_and_verifying_imports_no_tensorflow(workspace: Workspace, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom bnncc.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'larq_compute_engine', 'keras')))"
    )
    process = run_python(code, "compile", *workspace.as_python, "-o", "net.tflite", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "[]"
    assert_as_pytorch(run_file(tmp_path / "net.tflite", workspace.images), workspace.logits)


def test_the_command_is_a_module_too_and_h_is_help() -> None:
    done = subprocess.run([sys.executable, "-m", "bnncc", "compile", "-h"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: bnncc compile ")
    assert "-h, --help" in done.stdout
