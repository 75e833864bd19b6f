"""A network of token ids on the command line: compiled, run and checked on integers."""

from __future__ import annotations

from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch

from bnncc.cli import main
from bnncc.frontend import NetworkSource, load_network
from bnncc.targets.tflite.reader import TfliteFile

NET = """
import torch
from torch import nn
class Binary(nn.Linear):
    def forward(self, x):
        signs = [torch.where(t >= 0, 1.0, -1.0) for t in (x, self.weight)]
        return nn.functional.linear(*signs, self.bias)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.binary, self.head = nn.Embedding(30, 64), Binary(64, 32), nn.Linear(32, 5)
    def forward(self, ids):
        return self.head(self.binary(self.table(ids)).mean(1))
"""
COUNT, LENGTH, ROWS = 9, 12, 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.py, the compiled net.tflite, and ids as numbers, as fractions and out of range."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "net.py").write_text(NET)
    generator = np.random.default_rng(0)
    ids = generator.integers(0, ROWS, (COUNT, LENGTH))
    np.savez(folder / "ids.npz", ids=ids, labels=generator.integers(0, 5, COUNT))
    np.savez(folder / "whole.npz", ids=ids.astype(np.float64))
    np.savez(folder / "fractions.npz", ids=ids + 0.5)
    np.savez(folder / "large.npz", ids=ids + ROWS)
    result = command(folder, "compile", *network(folder), "--data", "ids.npz", "-o", "net.tflite")
    assert result.exit_code == 0, result.output
    return folder


def network(folder: Path) -> tuple[str, ...]:
    return (f"{folder}/net.py:Net", "--input-shape", f"ids=1x{LENGTH}:int64")


def command(folder: Path, name: str, *arguments: str) -> click.testing.Result:
    """One command; names of files are those in the folder."""
    paths = [str(folder / text) if text.endswith((".npz", ".tflite")) else text for text in arguments]
    return click.testing.CliRunner().invoke(main, [name, *paths])


def test_the_file_takes_int32(folder: Path) -> None:
    (tensor,) = TfliteFile.open(folder / "net.tflite").inputs
    assert (tensor.name, tensor.dtype, tensor.shape) == ("ids", "int32", (1, LENGTH))


@pytest.mark.parametrize("data", ["ids.npz", "whole.npz"])
def test_run_computes_what_the_network_computes(folder: Path, data: str) -> None:
    result = command(folder, "run", "net.tflite", "--input", data, "-o", "out.npz")
    assert result.exit_code == 0, result.output
    module = load_network(NetworkSource(f"{folder}/net.py:Net", input_shapes=(f"1x{LENGTH}:int64",)))[0].module
    ids = torch.from_numpy(np.load(folder / "ids.npz")["ids"])
    with torch.no_grad():
        np.testing.assert_allclose(np.load(folder / "out.npz")["output"], module.eval()(ids).numpy(), atol=1e-4)


def test_check_measures_on_them_and_finds_the_type_by_itself(folder: Path) -> None:
    source = ("--model", f"{folder}/net.py:Net", "--input-shape", f"1x{LENGTH}")
    result = command(folder, "check", "net.tflite", *source, "--data", "ids.npz", "--layers", "--min-agreement", "100%")
    assert result.exit_code == 0, result.output
    assert "passed" in result.output


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("fractions.npz", "the input 'ids' takes int64, and float64 values do not fit into it"),
        ("large.npz", "forward fails on these inputs:\n  IndexError: index out of range"),
    ],
)
def test_values_that_are_no_ids_are_refused(folder: Path, data: str, message: str) -> None:
    compiled = command(folder, "compile", *network(folder), "--data", data, "-o", "refused.tflite")
    assert compiled.exit_code == 2
    assert message in compiled.output
    assert not (folder / "refused.tflite").exists()
    run = command(folder, "run", "net.tflite", "--input", data)
    assert run.exit_code == 2
    assert "error: --input: " in run.output


def test_random_ids_of_a_given_range_prove_the_file(folder: Path) -> None:
    arguments = ("--input-range", "ids=5:20", "--verify-passes", "-o", "other.tflite")
    result = command(folder, "compile", *network(folder), *arguments)
    assert result.exit_code == 0, result.output
    assert "integer sums           1,536 of 1,536 equal" in result.output


def test_a_range_beyond_the_table_is_refused_with_the_option(folder: Path) -> None:
    result = command(folder, "compile", *network(folder), "--input-range", "ids=0:200", "-o", "no.tflite")
    assert result.exit_code == 2
    assert "--input-range ids=0:100" in result.output


def test_bench_feeds_them_and_a_bundle_refuses_them(folder: Path) -> None:
    assert command(folder, "bench", "net.tflite", "--warm-up", "1", "--runs", "1").exit_code == 0
    bundle = command(folder, "bundle", "net.tflite", "--target", "raspberry-pi-4", "-o", str(folder / "bundle"))
    assert bundle.exit_code == 2
    assert "takes int32; the runner of a bundle feeds images" in bundle.output
