"""What `bnncc doctor` says is true: it tries, and what crashes is a row."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import click.testing
import numpy as np
import pytest

from bnncc.cli import main
from bnncc.doctor import Row, State, examine, packages
from bnncc.doctor.examine import _commands, _probe, can_compile
from bnncc.doctor.row import PREBUILT
from bnncc.doctor.tiny_file import tiny_file
from tests.needs import HAS_ZIG, RUNTIMES, needs_lce

PROVE = ("runtimes", "compile and prove")
DELEGATE = ("runtimes", "LiteRT with bnncc's delegate")


def test_the_tiny_file_yields_the_products_of_signs_in_each_interpreter() -> None:
    content, x, expected = tiny_file()
    assert len(np.unique(expected)) > 10
    for runtime in RUNTIMES:
        np.testing.assert_array_equal(runtime.load(content).run([x])[0], expected)


@pytest.mark.parametrize("name", [pytest.param("lce", marks=needs_lce), "litert", "cache"])
def test_what_works_here_is_said_to_work(name: str) -> None:
    rows = _probe(name)
    assert rows
    assert all(row.is_ok for row in rows), rows


def test_an_interpreter_that_crashes_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ai_edge_litert.py").write_text("import os\nimport signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert _probe("litert") == [Row(*DELEGATE, State.WRONG, "crashed: SIGSEGV")]


def test_a_package_that_cannot_be_imported_is_a_row_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so is missing')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert _probe("prove") == [Row(*PROVE, State.WRONG, "failed: ImportError: libcudart.so is missing")]


def test_without_a_compiler_the_delegate_and_the_compilers_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BNNCC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    rows = {row.name: row for row in _probe("compilers")}
    assert rows["aarch64-linux-gnu-g++"].state is State.MISSING
    assert rows["Android's NDK"].state is State.MISSING
    assert "ANDROID_NDK_HOME" in rows["Android's NDK"].text


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    rows = {row.name: row for row in _probe("compilers")}
    assert rows["C++ for this machine"].state is State.WRONG
    assert rows["C++ for this machine"].text == "does not compile: no such option"
    # ziglang is called as for a delegate, which has no C++ library.
    if HAS_ZIG:
        assert all(rows[f"ziglang for {abi}"].is_ok for abi in ("aarch64-linux-gnu", "arm-linux-gnueabihf"))


def test_a_version_that_is_not_supported_and_one_that_is_missing_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return "0.0.1" if name == "torch" else metadata.version(name)

    monkeypatch.setattr(packages, "version", version)
    rows = {row.name: row for row in packages.examine_packages()}
    assert rows["torch"].state is State.WRONG
    assert "0.0.1; bnncc supports " in rows["torch"].text
    assert rows["onnxruntime"].state is State.MISSING
    assert rows["onnxruntime"].advice.startswith("pip install 'onnxruntime")
    assert rows["Python"].is_ok
    assert rows["click"].is_ok


def test_commands_work_where_what_they_need_works() -> None:
    works = [Row(*PROVE, State.OK, ""), Row(*DELEGATE, State.OK, "")]
    broken = [Row(*PROVE, State.OK, ""), Row(*DELEGATE, State.WRONG, "crashed", "mend it")]
    assert {row.name: row.is_ok for row in _commands(works)}["run, bench"]
    row = next(row for row in _commands(broken) if row.name == "run, bench")
    assert (row.state, row.advice) == (State.MISSING, "mend it")
    assert next(row for row in _commands(broken) if row.name == "compile, check, verify").is_ok
    assert can_compile(broken)


def test_the_exit_code_says_whether_networks_can_be_compiled_and_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    for state, code in ((State.OK, 0), (State.WRONG, 1)):
        rows = [Row(*PROVE, state, "a text that is longer than a line has room for, " * 3)]
        monkeypatch.setattr("bnncc.doctor.examine", lambda rows=rows: rows)
        printed = click.testing.CliRunner(env={"COLUMNS": "80"}).invoke(main, ["doctor"])
        assert printed.exit_code == code
        assert max(map(len, printed.stdout.splitlines())) <= 80
        found = click.testing.CliRunner().invoke(main, ["doctor", "--json"])
        assert found.exit_code == code
        assert json.loads(found.stdout)["compiles_and_proves"] is (code == 0)


def test_what_is_for_this_machine_alone_makes_no_bundle() -> None:
    here = [Row(*PROVE, State.OK, ""), Row(*DELEGATE, State.OK, "")]
    here += [Row("compilers", name, State.OK, "") for name in (PREBUILT, "C++ for this machine")]
    assert {row.name: row.is_ok for row in _commands(here)}["bundle"] is False
    rows = [*here, Row("compilers", "ziglang for aarch64-linux-gnu", State.OK, "")]
    row = next(row for row in _commands(rows) if row.name == "bundle")
    assert (row.state, row.text) == (State.OK, "with ziglang for aarch64-linux-gnu")


@pytest.mark.slow
def test_this_machine_can_compile_prove_and_bundle() -> None:
    rows = examine()
    assert can_compile(rows)
    names = {(row.group, row.name): row for row in rows}
    assert names["commands", "compile, check, verify"].is_ok
    assert names["commands", "bundle"].is_ok


def test_where_tensorflow_has_no_release_the_baseline_does_not_work() -> None:
    rows = [Row(*PROVE, State.OK, ""), Row(*DELEGATE, State.OK, ""), Row(packages.GROUP, "onnx2tf", State.OK, "1.28.8")]
    baseline = next(row for row in _commands(rows) if row.name == "baseline")
    assert baseline.state is State.MISSING
    assert "no tensorflow for Python" in baseline.text
    rows.append(Row(packages.GROUP, "tensorflow", State.OK, "2.21.0"))
    assert next(row for row in _commands(rows) if row.name == "baseline").is_ok
