"""A file is written whole or not at all."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from bnncc.errors import InputError
from bnncc.system.files import check_writable, keep_apart, read_whole, write_atomically


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


@pytest.mark.parametrize("step", ["fsync", "fchmod", "link", "replace"])
def test_a_failure_at_any_step_leaves_the_older_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "net.tflite"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(InputError, match=r"net\.tflite cannot be written: No space left on device"):
        write_atomically(path, b"newer")
    monkeypatch.undo()
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"), [(make_fifo, "a pipe"), (make_socket, "a socket"), (Path.mkdir, "a directory")]
)
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_refused_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str, linked: bool
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(Path("there"))
    before = Path("there").lstat()
    path = tmp_path / "there"
    if linked:
        path = tmp_path / "link"
        path.symlink_to("there")
    for refuse in (check_writable, lambda name: write_atomically(name, b"content")):
        with pytest.raises(InputError, match=f"is {kind}"):
            refuse(path)
    assert Path("there").lstat() == before


def test_a_device_is_refused_and_stays() -> None:
    before = Path("/dev/null").stat()
    for refuse in (check_writable, lambda name: write_atomically(name, b"content")):
        with pytest.raises(InputError, match="/dev/null is a device"):
            refuse(Path("/dev/null"))
    assert Path("/dev/null").stat().st_rdev == before.st_rdev


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "folder" / "older", tmp_path / "folder" / "missing"):
        link = tmp_path / f"link to {target.name}"
        link.symlink_to(target)
        if target.name == "older":
            target.write_bytes(b"older")
        check_writable(link)
        write_atomically(link, b"newer")
        assert link.is_symlink()
        assert target.read_bytes() == b"newer"
    assert len(list(tmp_path.iterdir())) == 3


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for refuse in (check_writable, lambda name: write_atomically(name, b"content")):
        with pytest.raises(InputError, match="cannot be written"):
            refuse(tmp_path / "a")


def test_the_longest_name_is_written_and_a_longer_one_refused(tmp_path: Path) -> None:
    longest = tmp_path / ("ä" * 127 + "x")
    check_writable(longest)
    write_atomically(longest, b"content")
    assert longest.read_bytes() == b"content"
    for refuse in (check_writable, lambda name: write_atomically(name, b"content")):
        with pytest.raises(
            InputError, match=r"cannot be written: (its name is longer than 255 bytes|File name too long)"
        ):
            refuse(tmp_path / ("x" * 256))
    assert list(tmp_path.iterdir()) == [longest]


def test_a_name_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(tmp_path / "a\0b")


def test_an_interruption_leaves_the_older_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "net.tflite"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"newer")
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "fchmod", "link"])
def test_nothing_is_left_where_the_process_is_killed_before_the_file_is_whole(tmp_path: Path, step: str) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"older")
    number = os.fork()
    if number == 0:
        setattr(os, step, lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL))
        write_atomically(path, b"newer")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == -signal.SIGKILL
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_unnamed_files_takes_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse_unnamed(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse_unnamed)
    write_atomically(tmp_path / "net.tflite", b"content")
    assert (tmp_path / "net.tflite").read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [tmp_path / "net.tflite"]


@pytest.mark.parametrize(
    ("make", "kind"), [(make_fifo, "a pipe"), (make_socket, "a socket"), (Path.mkdir, "a directory")]
)
def test_what_is_no_regular_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(Path("there"))
    with pytest.raises(InputError, match=f"is {kind}; name a file"):
        read_whole(tmp_path / "there")


def test_a_device_without_end_and_a_name_that_no_file_has_are_not_read(tmp_path: Path) -> None:
    for path, reason in (
        (Path("/dev/zero"), "is a device"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "a\0b", "null byte"),
        (tmp_path / "gone", "does not exist"),
    ):
        with pytest.raises(InputError, match=reason):
            read_whole(path)


def test_a_file_that_is_larger_than_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNNCC_MEMORY", "1M")
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(InputError, match=r"sparse takes 1,024\.0 GiB, and the limit is"):
        read_whole(tmp_path / "sparse")


def test_an_output_is_none_of_the_inputs_and_no_other_output_under_any_name(tmp_path: Path) -> None:
    read = tmp_path / "net.onnx"
    read.write_bytes(b"x")
    (tmp_path / "hard").hardlink_to(read)
    (tmp_path / "soft").symlink_to(read)
    (tmp_path / "folder").mkdir()
    for name in ("net.onnx", "hard", "soft", "folder/../net.onnx"):
        with pytest.raises(InputError, match=r"^-o: .* is what the command reads"):
            keep_apart({"-o": tmp_path / name}, ["no such file", read])
    for name in ("page", "folder/../page"):
        with pytest.raises(InputError, match=r"^--html: .* is what --json writes as well"):
            keep_apart({"--json": tmp_path / "page", "--html": tmp_path / name}, [read])
    keep_apart({"-o": tmp_path / "net.tflite", "--html": None, "--json": tmp_path / "page"}, [read, "net.py", "", None])
