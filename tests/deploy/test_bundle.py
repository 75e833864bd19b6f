"""What a deployment takes of a bundle, which may be a stranger's: the files that its manifest lists, by plain names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bnncc.bundle.manifest import MANIFEST, write_manifest
from bnncc.deploy.bundle import Bundle, left_behind
from bnncc.deploy.ssh import Host
from bnncc.errors import InputError

STRANGE_NAMES = (
    "-oProxyCommand=true", "a:b", "../net.pth", "/etc/hostname", "a b", "$(true)", "a;b", "`a`", ".hidden", "",
    "a//b", ".",
)  # fmt: skip
DAMAGED = (
    "", "[]", "null", "{}", '{"abi": "x"}', '{"abi": "x", "files": "run.py"}', '{"abi": "x", "files": [1]}',
    "[" * 100_000, '{"abi": [], "files": []}',
)  # fmt: skip
NO_ADDRESSES = (
    "", "-oProxyCommand=true", "pi@-host", "-l@host", "host:path", "host/path", "a b", "$(true)", "pi@host;true", "pi@",
    "@host", "a@b@c", "ssh://host", "host\n",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "net"
    (path / "jniLibs").mkdir(parents=True)
    for name in ("model.tflite", "run.py", "jniLibs/lib.so"):
        (path / name).write_text(name)
    write_manifest(path, {"abi": "aarch64-linux-gnu"})
    return path


def list_files(folder: Path, *names: object) -> None:
    (folder / MANIFEST).write_text(json.dumps({"abi": "aarch64-linux-gnu", "files": names}))


def test_the_files_of_the_manifest_are_taken_and_nothing_else(folder: Path) -> None:
    (folder / "-oProxyCommand=true").write_text("")
    (folder / "notes.txt").write_text("")
    bundle = Bundle.open(folder)
    assert [path.relative_to(folder).as_posix() for path in bundle.files] == [
        MANIFEST, "jniLibs/lib.so", "model.tflite", "run.py",
    ]  # fmt: skip
    assert all(path.is_absolute() for path in bundle.files)
    assert [path.name for path in bundle.flat_files()] == [MANIFEST, "model.tflite", "run.py"]
    word = left_behind(bundle)
    assert word is not None
    assert "2 of net not copied" in word
    assert "'-oProxyCommand=true', 'notes.txt'" in word


def test_nothing_is_said_where_nothing_is_left_behind(folder: Path) -> None:
    assert left_behind(Bundle.open(folder)) is None


def test_a_folder_named_relatively_is_taken_by_its_absolute_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert all(path.is_absolute() for path in Bundle.open(Path(".")).files)


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_name_that_a_command_could_read_otherwise_is_refused(folder: Path, name: str) -> None:
    list_files(folder, "model.tflite", name)
    with pytest.raises(InputError, match="which is no name of a file of a bundle"):
        Bundle.open(folder)


def test_a_link_is_refused_because_it_would_copy_another_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("key")
    (folder / "labels.txt").symlink_to(tmp_path / "private")
    list_files(folder, "labels.txt")
    with pytest.raises(InputError, match=r"labels\.txt, which is not there as a plain file"):
        Bundle.open(folder)
    (folder / "labels.txt").unlink()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("")
    (folder / "inner").symlink_to(tmp_path / "outside")
    list_files(folder, "inner/file")
    with pytest.raises(InputError, match="not there as a plain file"):
        Bundle.open(folder)


def test_a_listed_file_that_is_missing_is_named(folder: Path) -> None:
    (folder / "run.py").unlink()
    with pytest.raises(InputError, match=r"lists run\.py, which is not there"):
        Bundle.open(folder)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_manifest_is_the_users_error(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_text(content)
    with pytest.raises(InputError, match=r"is no bundle|has no list of its files"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("address", "ssh", "scp"),
    [
        ("pi@raspberrypi", "pi@raspberrypi", "pi@raspberrypi"),
        ("board-3.local", "board-3.local", "board-3.local"),
        ("pi@192.168.0.7", "pi@192.168.0.7", "pi@192.168.0.7"),
        ("pi@fe80::1%eth0", "pi@fe80::1%eth0", "pi@[fe80::1%eth0]"),
        ("[::1]", "::1", "[::1]"),
    ],
)
def test_an_address_is_given_as_each_program_takes_it(address: str, ssh: str, scp: str) -> None:
    assert Host(address)._addresses() == (ssh, scp)


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="is no address"):
        Host(address)._addresses()


@pytest.mark.parametrize("name", ["%d", "a%hb", "${HOME}"])
def test_an_identity_that_ssh_would_expand_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="ssh would expand"):
        Host("host", identity=tmp_path / name)._identity(tmp_path / name)


def test_an_identity_is_a_file_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-i").write_text("")
    assert Host("host")._identity(Path("-i")) == str(tmp_path / "-i")
    with pytest.raises(InputError, match="there is no file key"):
        Host("host")._identity(Path("key"))


@pytest.mark.parametrize("kind", ["a pipe", "a link to a device", "a link to another file"])
def test_a_manifest_that_is_no_file_of_the_folder_is_not_read(folder: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other.json"
    (folder / MANIFEST).rename(other)
    if kind == "a pipe":
        os.mkfifo(folder / MANIFEST)
    else:
        (folder / MANIFEST).symlink_to("/dev/zero" if kind == "a link to a device" else other)
    with pytest.raises(InputError, match="is no bundle"):
        Bundle.open(folder)
