"""What the commands print, and to whom: a person, a program (--json), nobody (--quiet); in 80 columns and in few."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.cli import main, progress
from bnncc.cli.compile import signs_at_zero
from bnncc.cli.terminal import broken
from bnncc.report import times
from bnncc.system.standard_error import without_info
from bnncc.verification.result import SignCheck, Verification

LONG = "a_layer_whose_name_is_longer_than_any_line_of_a_terminal_that_has_only_eighty_columns"
NET = f"""\
import torch
from torch import nn

print("the file speaks")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(1, 32, 3)
        self.{LONG} = nn.Conv2d(32, 4, 3)

    def forward(self, x):
        print("forward speaks")
        x = nn.functional.conv2d(torch.where(x >= 0.5, 1.0, -1.0), torch.sign(self.conv.weight))
        return self.{LONG}(torch.where(x >= 0.5, 1.0, -1.0)).mean((2, 3))


class Refused(Net):
    def forward(self, x):
        return torch.acos(super().forward(x))
"""
SHAPE = ("--input-shape", "1x1x8x8")
LINE = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."


class Net(nn.Module):
    """Its first layer's name is longer than a line."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        setattr(self, LONG, nn.Conv2d(1, 32, 3, bias=False))
        self.fc = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = getattr(self, LONG)
        x = F.conv2d(torch.where(x >= 0.5, 1.0, -1.0), torch.sign(first.weight))
        return self.fc(x.mean((2, 3)))


@dataclass
class Files:
    """A compiled network and a picture for it."""

    folder: Path
    compiled: bnncc.CompiledModel

    @property
    def net(self) -> str:
        return str(self.folder / "net.tflite")

    @property
    def picture(self) -> str:
        return str(self.folder / "picture.png")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    options = bnncc.Options(preprocessing=bnncc.Preprocessing(pixels="0..1"), classes=("a", "b", "c", "d"))
    compiled = bnncc.compile(Net().eval(), input_shapes=["1x1x8x8"], options=options)
    compiled.save(folder / "net.tflite")
    Image.fromarray(np.arange(0, 256, 4, np.uint8).reshape(8, 8)).save(folder / "picture.png")
    (folder / "net.py").write_text(NET, encoding="utf-8")
    return Files(folder, compiled)


def run(*arguments: str, columns: int = 80) -> click.testing.Result:
    return click.testing.CliRunner(env={"COLUMNS": str(columns)}).invoke(main, list(arguments))


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(bnncc.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def document(result: click.testing.Result) -> dict[str, Any]:
    """Standard output, which is one JSON document and nothing else."""
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def commands(files: Files) -> list[tuple[str, ...]]:
    return [
        ("inspect", files.net),
        ("run", files.net, "--input", files.picture),
        ("bench", files.net, "--runs", "1"),
        ("targets",),
    ]


# One JSON document


def test_json_of_run_has_the_classes_and_logits_of_the_network(files: Files) -> None:
    result = run("run", files.net, "--input", files.picture, "--json", "--top", "4")
    assert result.exit_code == 0, result.output
    image = document(result)["images"][0]
    assert image["name"] == files.picture
    pixels = torch.arange(0, 256, 4).reshape(1, 1, 8, 8) / 255
    with torch.no_grad():
        expected = Net()(pixels)[0].numpy()
    found = {entry["index"]: entry["score"] for entry in image["classes"]}
    np.testing.assert_allclose([found[index] for index in range(4)], expected, rtol=1e-5, atol=1e-6)
    best = image["classes"][0]
    assert best["index"] == int(expected.argmax())
    assert best["name"] == "abcd"[best["index"]]


def test_json_of_inspect_has_every_operator_and_the_metadata(files: Files) -> None:
    found = document(run("inspect", files.net, "--json"))
    binary = [entry for entry in found["operators"] if entry["name"] == "LceBconv2d"]
    assert [entry["binary_macs"] for entry in binary] == [6 * 6 * 32 * 9 * 1]
    assert found["binary_macs"] == binary[0]["binary_macs"]
    assert found["metadata"]["classes"] == ["a", "b", "c", "d"]


def test_json_of_bench_goes_to_standard_output_or_to_a_file(files: Files, tmp_path: Path) -> None:
    printed = document(run("bench", files.net, "--runs", "2", "--json"))
    written = run("bench", files.net, "--runs", "2", "--json", str(tmp_path / "bench.json"))
    assert written.stdout.rstrip().endswith("bench.json")
    for found in (printed, json.loads((tmp_path / "bench.json").read_text())):
        assert len(found["interpreters"]["litert"]["seconds"]) == 2
        assert [entry["index"] for entry in found["operators"]] == list(range(len(found["operators"])))


def test_json_of_the_targets_has_each_of_them() -> None:
    found = document(run("targets", "--json"))
    names = [entry["name"] for entry in found["targets"]]
    assert "raspberry-pi-4" in names
    assert [line.split()[0] for line in run("targets", columns=200).stdout.splitlines()] == names


def test_json_of_compile_has_layers_and_proofs_while_the_users_code_prints(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files.folder)
    result = run("compile", "net.py:Net", *SHAPE, "-o", str(tmp_path / "net.tflite"), "--json")
    assert result.exit_code == 0, result.output
    found = document(result)
    assert "the file speaks" in result.stderr
    assert found["file"] == str(tmp_path / "net.tflite")
    assert found["verified"]
    assert found["bytes"] == (tmp_path / "net.tflite").stat().st_size
    layers = {entry["module"]: entry for entry in found["layers"]}
    assert [entry["binary"] for entry in layers.values()] == [True, False]
    assert "weights" in layers[LONG]["reason"]
    for proof in found["verifications"].values():
        assert not proof["problems"]
        assert all(entry["wrong"] == 0 for entry in proof["layers"])


def test_what_other_processes_print_is_no_part_of_the_document() -> None:
    code = (
        "import os\nfrom bnncc.cli.reporting import Reporter\n"
        "own = Reporter()\nown.keep_output_for_json()\nprint('Python')\nos.system('echo a process')\n"
        "own.document = {'figure': float('inf')}\nown.finish()\nprint('afterwards')"
    )
    done = python(code)
    assert done.stdout == '{\n  "figure": null\n}\nafterwards\n'
    assert sorted(done.stderr.splitlines()) == ["Python", "a process"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("inspect", "missing.tflite", "--json"), "missing.tflite does not exist"),
        (("inspect", "--json", "missing.tflite"), "missing.tflite does not exist"),
        (("run", "missing.tflite", "--json"), "Missing option '--input'"),
        (("targets", "--json", "--jsonn"), "No such option"),
        (("bench", "missing.tflite", "--json"), "missing.tflite does not exist"),
        (("bench", "missing.tflite", "--json", "-", "--runs", "0"), "--runs"),
        (("compile", "--json"), "Missing argument"),
        (("compile", "net.py:Refused", *SHAPE, "-o", "net.tflite", "--json"), "no exact TensorFlow Lite form"),
    ],
)
def test_an_error_is_a_json_document_too(
    files: Files, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(files.folder)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    error = document(result)["error"]
    assert says in error["message"]
    assert error["exit_code"] == 2
    assert says in result.stderr  # a person reads it as well


def test_an_error_without_json_leaves_standard_output_empty(files: Files, tmp_path: Path) -> None:
    for arguments in (("inspect", "missing.tflite"), ("bench", "missing.tflite", "--json", str(tmp_path / "b.json"))):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""


# Nothing


def test_quiet_commands_print_nothing(files: Files) -> None:
    for command in commands(files):
        result = run(*command, "--quiet")
        assert result.exit_code == 0, result.output
        assert result.output == ""


def test_quiet_json_is_the_document(files: Files) -> None:
    assert document(run("inspect", files.net, "--quiet", "--json"))["operators"]


# In so many columns


def test_lines_fit_eighty_columns_and_end_without_blanks(files: Files) -> None:
    for command in commands(files):
        result = run(*command)
        assert result.exit_code == 0, result.output
        too_long = [line for line in result.stdout.splitlines() if len(line) > 80 and " " in line.strip()]
        assert [line for line in too_long if files.net not in line and files.picture not in line] == []
        assert not re.search(r" $", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["", *sorted(main.commands)])
def test_help_fits_eighty_columns_and_ends_without_blanks(name: str) -> None:
    result = run(*filter(None, [name]), "-h")
    assert [line for line in result.stdout.splitlines() if len(line) > 80 or line.endswith(" ")] == []


def test_a_long_name_is_whole_in_the_table_of_layers_whatever_the_terminal(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files.folder)
    for columns in (20, 80):
        result = run("compile", "net.py:Net", *SHAPE, "-o", "long.tflite", "--verbose", "--explain", columns=columns)
        assert result.exit_code == 0, result.output
        assert LONG in "".join(result.stdout.split())
        assert "…" not in result.stdout
        assert not re.search(r" $", result.stdout, re.MULTILINE)
    assert max(len(line) for line in result.stdout.splitlines() if LONG not in line) <= 80


def test_no_figure_is_cut_on_a_narrow_terminal(files: Files) -> None:
    wide, narrow = (run("inspect", files.net, columns=columns).stdout for columns in (200, 20))
    figures = set(re.findall(r"\d[\d,]{3,}", wide))
    assert figures
    assert figures <= set(re.findall(r"\d[\d,]{3,}", narrow))


def test_text_is_broken_between_words_and_what_goes_on_is_indented() -> None:
    assert broken("  one two three", 9) == "  one two\n      three"
    assert broken("short", 9) == "short"
    assert broken("/a/path/that-is/longer end", 9) == "/a/path/that-is/longer\n    end"


# Meanwhile


def test_elsewhere_than_on_a_terminal_progress_is_a_line_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.001)

    @click.command()
    def command() -> None:
        with progress.progress_bars() as advance:
            advance("verifying", 3, 4)
            _wait_for_lines()
        with progress.working("compiling the delegate"):
            _wait_for_lines()

    result = click.testing.CliRunner().invoke(command)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert re.search(r"^verifying: 3 of 4 \(\d+ s\)$", result.stderr, re.MULTILINE)
    assert re.search(r"^compiling the delegate \(\d+ s\)$", result.stderr, re.MULTILINE)


def _wait_for_lines() -> None:
    """Until the other thread wrote twice more."""
    stream = sys.stderr
    lines, write = [], stream.write
    stream.write = lambda text: (lines.append(text), write(text))[1]  # type: ignore[method-assign]
    while len(lines) < 2:
        pass
    stream.write = write  # type: ignore[method-assign]


def test_quiet_progress_is_none(monkeypatch: pytest.MonkeyPatch, files: Files, tmp_path: Path) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.001)
    monkeypatch.chdir(files.folder)
    result = run("compile", "net.py:Net", *SHAPE, "-o", str(tmp_path / "net.tflite"), "--quiet")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == ["the file speaks"]


def test_tensorflow_lites_info_is_left_out_and_its_errors_are_not(capfd: pytest.CaptureFixture[str]) -> None:
    with without_info():
        os.write(2, f"{LINE}\nERROR: what is wrong\n".encode())
    with pytest.raises(OSError, match="closed"), without_info():
        raise OSError("closed" * os.write(2, b"ERROR: what is wrong too\n"))
    assert capfd.readouterr().err == "ERROR: what is wrong\nERROR: what is wrong too\n"


def test_running_a_file_announces_no_delegate(files: Files, capfd: pytest.CaptureFixture[str]) -> None:
    for command in (("run", files.net, "--input", files.picture), ("bench", files.net, "--runs", "1")):
        assert run(*command).exit_code == 0
    assert capfd.readouterr().err == ""


# What is imported


def test_commands_that_need_no_network_do_not_wait_for_pytorch(files: Files) -> None:
    code = (
        "import sys\nfrom bnncc.cli import main\nmain(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted({'torch', 'onnx', 'onnx_ir', 'onnxruntime', 'onnxscript', 'scipy'} & set(sys.modules)))"
    )
    for command in (["compile", "--help"], *commands(files)[:2], ["targets"]):
        assert python(code, *command).stdout.splitlines()[-1] == "[]"


def test_a_file_that_became_larger_is_said_to_be_larger() -> None:
    assert times(44_600, 718_120) == "16.1 times smaller"
    assert times(125, 100) == "1.25 times larger"


def test_many_signs_that_only_rounding_decides_are_explained_to_who_compiles_an_untrained_network() -> None:
    signs = [SignCheck("a", signs=6000, flipped=9, explained=9), SignCheck("b", signs=4000, flipped=2, explained=1)]
    assert signs_at_zero(Verification(signs=signs)) is None
    signs[1].explained = 2
    found = signs_at_zero(Verification(signs=signs))
    assert found is not None
    assert found.startswith("11 of 10,000 signs read sums that are 0 but for rounding")
