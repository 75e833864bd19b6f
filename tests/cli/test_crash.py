"""An exception that nothing expected is exit code 3, one line, and a file with the traceback."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click.testing
import pytest

from bnncc.cli import main
from bnncc.targets.tflite.reader import TfliteFile
from tests.bundle import example


def test_a_bug_is_one_line_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> TfliteFile:
        raise IndexError("list index out of range\nand more")

    monkeypatch.setattr(TfliteFile, "open", fail)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    result = click.testing.CliRunner().invoke(main, ["inspect", "net.tflite"])
    assert result.exit_code == 3
    assert len(result.output.splitlines()) == 1
    found = re.search(r"a bug in bnncc: IndexError: list index out of range; report it .* with (\S+),", result.output)
    assert found is not None
    content = Path(found[1]).read_text()
    assert "Traceback" in content
    assert "list index out of range\nand more" in content


def test_a_mistake_on_the_command_line_stays_exit_code_2() -> None:
    for arguments in (["inspect"], ["nothing"], ["compile", "--seed", "-1", "x.py:f", "-o", "x"]):
        assert click.testing.CliRunner().invoke(main, arguments).exit_code == 2


def test_the_exit_codes_are_in_the_help() -> None:
    output = click.testing.CliRunner().invoke(main, ["--help"]).output
    for line in ("0    done", "1    the file disagrees", "2    something is wrong", "3    a bug", "130  interrupted"):
        assert line in output


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "there is not enough memory"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp/x"),
            "the system refuses: /tmp/x: No space left on device",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "the system refuses: Too many open files"),
    ],
)
def test_what_the_machine_refuses_is_no_bug(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def fail(path: Path) -> TfliteFile:
        raise error

    monkeypatch.setattr(TfliteFile, "open", fail)
    result = click.testing.CliRunner().invoke(main, ["inspect", "net.tflite"])
    assert result.exit_code == 2
    assert result.output.startswith(f"error: {message}")
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_is_130_whatever_signal_it_was(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def interrupt(path: Path) -> TfliteFile:
        os.kill(os.getpid(), number)
        return TfliteFile(b"never reached")

    monkeypatch.setattr(TfliteFile, "open", interrupt)
    # A shell's background jobs ignore SIGINT.
    handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    given = signal.signal(number, handler)
    try:
        result = click.testing.CliRunner().invoke(main, ["inspect", "net.tflite"])
        assert signal.getsignal(number) == handler
    finally:
        signal.signal(number, given)
    assert result.exit_code == 130
    assert result.output == "interrupted\n"


@pytest.mark.parametrize("command", [["targets"], ["inspect", "fashion.tflite"]])
def test_a_reader_that_leaves_is_neither_a_bug_nor_a_disagreement(tmp_path: Path, command: list[str]) -> None:
    """`bnncc … | head`: 128 + SIGPIPE, as other programs."""
    example.write_model(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    program = "from bnncc.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command], stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_standard_output_that_is_closed_is_no_bug(tmp_path: Path) -> None:
    example.write_model(tmp_path)
    command = f"exec {sys.executable} -c 'from bnncc.cli import main; main()' inspect fashion.tflite >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
