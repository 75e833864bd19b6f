"""What runs a file where LCE's interpreter, or NumPy 1, or a compiler is missing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.cli import main
from bnncc.errors import InputError
from bnncc.inference import lce, runners
from bnncc.inference.lce_process import PYTHON_VARIABLE
from bnncc.inference.runners import LceRunner, Runtime, available_runtimes, first_runtime
from bnncc.runtime import BuildError
from bnncc.verification import verify
from tests.needs import needs_lce
from tests.passes.helpers import normal

NET = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(32, 8, 3)

    def forward(self, x):
        return nn.functional.conv2d(torch.where(x >= 0, 1.0, -1.0), torch.sign(self.conv.weight))
"""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(32, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(torch.where(x >= 0, 1.0, -1.0), torch.sign(self.conv.weight))


@pytest.fixture
def without_lce(monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[[str], ModuleSpec | None] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "larq" in name else find(name))


def _without_a_delegate() -> Path:
    raise BuildError("no C++ compiler")


@pytest.mark.usefixtures("without_lce")
def test_litert_proves_files_where_lce_is_not_installed(tmp_path: Path) -> None:
    assert first_runtime() is Runtime.LITERT
    network = Net().eval()
    compiled = bnncc.compile(network, input_shapes=["1x32x6x6"])
    x = normal(1, 32, 6, 6)
    result = verify(compiled, [[x]])
    assert result.passed
    assert result.runtime is Runtime.LITERT
    assert sum(layer.sums for layer in result.layers) == 8 * 16
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(compiled.run([compiled.as_stored(x)])[0], compiled.as_stored(expected))
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    command = ["compile", f"{tmp_path / 'net.py'}:Net", "--input-shape", "1x32x6x6", "-o", str(tmp_path / "net.tflite")]
    done = click.testing.CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "in LiteRT with bnncc's delegate" in " ".join(done.stdout.split())
    assert "LCE's interpreter" not in done.stdout


@needs_lce
def test_lce_is_not_run_beside_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_runtime() is Runtime.LCE
    monkeypatch.setattr(lce, "NUMPY_OF_LCE", 0)
    assert first_runtime() is Runtime.LITERT
    reason = Runtime.LCE.why_missing
    assert reason is not None
    assert np.__version__ in reason
    result = click.testing.CliRunner().invoke(main, ["check", "net.tflite", "--model", "a.py:b", "--runtime", "lce"])
    assert result.exit_code == 2


@pytest.mark.usefixtures("without_lce")
def test_without_any_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runners, "library_path", _without_a_delegate)
    with pytest.raises(InputError, match=r"(?s)nothing here runs the file:.*bnncc\[lce\].*no C\+\+ compiler"):
        available_runtimes()
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    command = ["compile", f"{tmp_path / 'net.py'}:Net", "--input-shape", "1x32x6x6", "-o", str(tmp_path / "net.tflite")]
    refused = click.testing.CliRunner().invoke(main, command)
    assert refused.exit_code == 2
    assert "bnncc[lce]" in refused.stderr
    assert not (tmp_path / "net.tflite").exists()
    unproven = click.testing.CliRunner().invoke(main, [*command, "--no-verify"])
    assert unproven.exit_code == 0, unproven.output
    assert (tmp_path / "net.tflite").exists()


def test_lce_in_a_python_of_its_own_yields_the_same(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    compiled = bnncc.compile(Net().eval(), input_shapes=["1x32x6x6"])
    x = compiled.as_stored(normal(1, 32, 6, 6))
    (expected,) = LceRunner(compiled.content).run([x])
    monkeypatch.setattr(lce, "NUMPY_OF_LCE", 0)
    assert Runtime.LCE.why_missing is not None
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    assert Runtime.LCE.why_missing is None
    first, second = (LceRunner(compiled.content, fastest=fastest) for fastest in (False, True))
    assert first.input_shapes == [x.shape]
    assert first.output_shapes == [expected.shape]
    with pytest.raises(RuntimeError, match="Expected 6 for dimension 1 but found 3"):
        first.run([x[:, :3]])
    for runner in (first, second, first):
        (found,) = runner.run([x])
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    del first
    np.testing.assert_array_equal(second.run([x])[0], expected)
    with pytest.raises(RuntimeError):
        LceRunner(b"no file")
    assert "INFO" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (None, "which cannot be run: No such file"),
        ("exit 3", "whose process ended"),
        ("echo nonsense", "whose process ended"),
        (
            """echo '{"error": "NumPy 2 is installed", "arrays": []}'""",
            "in which LCE's interpreter does not run: NumPy 2",
        ),
    ],
)
def test_a_python_that_does_not_run_lce_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, reason: str
) -> None:
    python = tmp_path / "python"
    if program is not None:
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))
    missing = Runtime.LCE.why_missing
    assert missing is not None
    assert f"BNNCC_LCE_PYTHON names {python}" in missing
    assert reason in missing
    assert first_runtime() is Runtime.LITERT
