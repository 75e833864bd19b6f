"""`bnncc deploy --adb`, with a stand-in for adb that only records what it is asked."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click.testing
import pytest

from bnncc.bundle.manifest import write_manifest
from bnncc.cli import main

FILES = ("bnncc_run", "model.tflite", "check_images.npy", "check_outputs.npy", "labels.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a bundle for Android holds, by name only."""
    path = tmp_path / "my net"
    (path / "jniLibs" / "arm64-v8a").mkdir(parents=True)
    for name in (*FILES, "jniLibs/arm64-v8a/libbnncc_runtime.so", "README.md", "BnnccDelegate.kt"):
        (path / name).write_text("")
    write_manifest(path, {"abi": "arm64-v8a"})
    return path


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in's notes: one call a line.  It fails with STATUS where an argument contains FAILS."""
    program = tmp_path / "tools" / "adb"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "if os.environ.get('FAILS', 'nothing') in ' '.join(sys.argv):\n    sys.exit(int(os.environ['STATUS']))\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return tmp_path / "calls"


def invoke(*arguments: object) -> click.testing.Result:
    result = click.testing.CliRunner().invoke(main, ["deploy", *(str(argument) for argument in arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def calls(record: Path) -> list[list[str]]:
    return [json.loads(line) for line in record.read_text().splitlines()]


def test_the_files_are_pushed_then_checked_then_measured(folder: Path, record: Path) -> None:
    result = invoke("--adb", folder, "--serial", "R58M", "--threads", 2)
    assert result.exit_code == 0, result.output
    found = calls(record)
    assert all(call[:2] == ["-s", "R58M"] for call in found)
    made, pushed, mode, checked, measured = (call[2:] for call in found)
    remote = "/data/local/tmp/bnncc/my-net"
    assert made == ["shell", f"mkdir -p {remote}"]
    assert pushed[0] == "push"
    assert pushed[-1] == f"{remote}/"
    assert [Path(path).name for path in pushed[1:-1]] == sorted(FILES)
    assert all(Path(path).is_file() for path in pushed[1:-1])
    assert mode == ["shell", f"chmod 755 {remote}/bnncc_run"]
    assert checked == ["shell", f"cd {remote} && ./bnncc_run --check --threads 2"]
    assert measured == ["shell", f"cd {remote} && ./bnncc_run --bench --threads 2"]


def test_a_check_that_fails_exits_with_1_and_is_not_followed_by_a_measurement(
    folder: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "--check")
    monkeypatch.setenv("STATUS", "3")
    result = invoke("--adb", folder)
    assert result.exit_code == 1
    assert "something else on the device" in result.output
    assert "--bench" not in record.read_text()


@pytest.mark.parametrize("step", ["mkdir", "push", "chmod", "--check", "--bench"])
def test_a_step_that_fails_ends_the_deployment(
    folder: Path, record: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setenv("FAILS", step)
    monkeypatch.setenv("STATUS", "1")
    result = invoke("--adb", folder)
    assert result.exit_code == 2
    assert "failed with status 1" in result.output
    assert step in " ".join(calls(record)[-1])


def test_a_bundle_without_a_program_for_the_shell_is_refused(folder: Path, record: Path) -> None:
    (folder / "bnncc_run").unlink()
    write_manifest(folder, {"abi": "arm64-v8a"})
    result = invoke("--adb", folder)
    assert result.exit_code == 2
    assert "has no bnncc_run" in result.output
    assert not record.exists()


def test_commands_that_do_not_fit_say_what_to_write(folder: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("pi@host", folder), "bnncc deploy --adb"),
        (("--adb", "pi@host", folder), "bnncc deploy user@host DIR, or bnncc deploy --adb DIR"),
        ((folder,), "bnncc deploy user@host DIR"),
        (("--adb", "--port", 22, folder), "--port does not go with --adb"),
        (("--serial", "R58M", "pi@host", folder), "--serial does not go without --adb"),
        (("--adb", tmp_path), "is no bundle"),
        (("--adb", "--serial", "-e", folder), "'-e' is no serial number"),
        (("--adb", "--serial", "a b", folder), "'a b' is no serial number"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert message in result.output
