"""What runs a file where LCE's interpreter, or NumPy 1, or a compiler is missing."""

from __future__ import annotations

import importlib.util
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
from bnncc.inference import runners
from bnncc.inference.runners import Runtime, available_runtimes, first_runtime
from bnncc.runtime import BuildError
from bnncc.verification import verify
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


def test_lce_is_not_run_beside_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_runtime() is Runtime.LCE
    monkeypatch.setattr(runners, "NUMPY_OF_LCE", 0)
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
