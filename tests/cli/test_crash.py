"""An exception that nothing expected is exit code 3, one line, and a file with the traceback."""

from __future__ import annotations

import errno
import os
import re
import signal
from pathlib import Path

import click.testing
import pytest

from bnncc.cli import main
from bnncc.targets.tflite.reader import TfliteFile


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
