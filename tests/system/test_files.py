"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bnncc.errors import InputError
from bnncc.system.files import write_atomically


def test_a_new_file_gets_the_permissions_that_open_would_give(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "written", b"content")
        (tmp_path / "opened").write_bytes(b"content")
    finally:
        os.umask(mask)
    written, opened = ((tmp_path / name).stat().st_mode for name in ("written", "opened"))
    assert stat.S_IMODE(written) == stat.S_IMODE(opened) == 0o640


def test_an_older_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"older")
    path.chmod(0o604)
    write_atomically(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_an_older_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"older" * 10_000)
    write_atomically(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_older_file_keeps_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"older")
    with path.open("rb") as stream:
        write_atomically(path, b"newer")
        assert stream.read() == b"older"


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_failure_at_any_step_leaves_the_older_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "net.tflite"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(InputError, match=r"net\.tflite cannot be written: No space left on device"):
        write_atomically(path, b"newer")
    monkeypatch.undo()
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]
