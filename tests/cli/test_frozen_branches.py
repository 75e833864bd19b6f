"""`bnncc compile` refuses what a file would freeze, and writes down what it is told to freeze."""

from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch

from bnncc.cli import main
from bnncc.inference.runners import LceRunner

NET = """\
import torch
from torch import nn
from torch.nn import functional as F


def sign(x):
    return torch.where(x >= 0, 1.0, -1.0)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 1)
        self.conv = nn.Conv2d(8, 4, 3)

    def forward(self, x):
        if x.max() > 1:
            x = x / 255.0
        return F.conv2d(sign(self.stem(x)), sign(self.conv.weight)).mean((2, 3))


class Dropout(Branch):
    def forward(self, x):
        return F.dropout(self.stem(x), 0.5, training=True)


class Counter(Branch):
    steps = 0

    def forward(self, x):
        self.steps += 1
        return self.stem(x) * self.steps
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "small.npz", images=generator.random((4, 3, 6, 6)).astype(np.float32))
    np.savez(tmp_path / "large.npz", images=(255 * generator.random((4, 3, 6, 6))).astype(np.float32))
    return tmp_path


def run(*arguments: str) -> click.testing.Result:
    result = click.testing.CliRunner(env={"COLUMNS": "200"}).invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def compile_(folder: Path, name: str, *arguments: str) -> click.testing.Result:
    return run(
        "compile", f"{folder}/net.py:{name}", "--input-shape", "1x3x6x6", "-o", f"{folder}/net.tflite", *arguments
    )


@pytest.mark.parametrize(
    ("name", "line", "hint"),
    [
        ("Branch", "net.py:18 in forward: if x.max() > 1: (True)", "--freeze-branches"),
        ("Dropout", "net.py:25 in forward: return F.dropout(self.stem(x), 0.5, training=True)", "self.training"),
        ("Counter", "steps, at net.py:32 in forward: self.steps += 1", "self.training"),
    ],
)
def test_what_a_file_would_freeze_is_exit_code_2_with_the_line(folder: Path, name: str, line: str, hint: str) -> None:
    result = compile_(folder, name)
    assert result.exit_code == 2
    assert line in result.stderr
    assert hint in result.stderr
    assert not (folder / "net.tflite").exists()


@pytest.mark.parametrize(("data", "taken"), [("small", False), ("large", True)])
def test_a_frozen_branch_is_the_datas_own_and_is_named_everywhere(folder: Path, data: str, taken: bool) -> None:
    line = f"net.py:18 in forward: if x.max() > 1: ({taken})"
    result = compile_(folder, "Branch", "--freeze-branches", "--data", f"{folder}/{data}.npz")
    assert result.exit_code == 0, result.output
    assert f"warning: frozen for all inputs as the traced one has it: {line}" in result.stderr
    assert f"frozen for all inputs: {line}" in result.stdout
    assert f"frozen for all inputs: {line}" in run("inspect", f"{folder}/net.tflite").stdout

    images = np.load(folder / f"{data}.npz")["images"]
    space: dict[str, type[torch.nn.Module]] = {}
    exec(NET, space)
    runner = LceRunner((folder / "net.tflite").read_bytes())
    found = np.concatenate([runner.run([image[None].transpose(0, 2, 3, 1)])[0] for image in images])
    with torch.no_grad():
        expected = torch.cat([space["Branch"]().eval()(torch.from_numpy(image[None])) for image in images])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_frozen_file_is_checked_layer_by_layer_against_the_network_itself(folder: Path) -> None:
    compile_(folder, "Branch", "--freeze-branches", "--data", f"{folder}/small.npz")
    check = ("check", f"{folder}/net.tflite", "--model", f"{folder}/net.py:Branch", "--layers", "--layer-inputs", "2")
    same = run(*check, "--data", f"{folder}/small.npz", "--min-agreement", "100%")
    assert same.exit_code == 0, same.output
    other = run(*check, "--data", f"{folder}/large.npz")
    assert other.exit_code == 2
    assert "values frozen in it, and others than these images lead to" in other.stderr
    # Without --layers the figures say how wrong the file is there: the reference takes the other side.
    figures = run(*check[:4], "--data", f"{folder}/large.npz")
    assert figures.exit_code == 0
    assert "all equal" not in figures.stdout
