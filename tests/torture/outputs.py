"""Outputs that cannot be written: what is no file, full disks, folders without permission.  Nothing is left there."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.torture.forked import Outcome, Place, bnncc, run_forked
from tests.torture.rows import REFUSED, Found, Trial, judge
from tests.torture.subjects import Subjects

OLDER = b"an older file"
# The commands that write a file, given its name.
WRITERS: dict[str, Callable[[Subjects, object], Sequence[object]]] = {
    "compile -o": lambda s, path: ("compile", s["net.onnx"], "-o", path),
    "compile --dump-dir": lambda s, path: ("compile", s["net.onnx"], "--no-verify", "-o", "x", "--dump-dir", path),
    "check --json": lambda s, path: _check(s, "--json", path),
    "check --html": lambda s, path: _check(s, "--html", path),
    "check --resume": lambda s, path: _check(s, "--resume", path),
    "run -o": lambda s, path: ("run", s["net.tflite"], "--input", s["images.npy"], "-o", path),
    "bench --json": lambda s, path: ("bench", s["net.tflite"], "--runs", 1, "--json", path),
    "bundle -o": lambda s, path: ("bundle", s["net.tflite"], "-o", path),
}
# They make a folder.
FOLDERS = ("compile --dump-dir", "bundle -o")
# KiB of a disk, with an older file of 4 on it.
ROOMS = (4, 8, 12, 20, 40)
NOBODY = 65534


def _check(subjects: Subjects, *options: object) -> Sequence[object]:
    return ("check", subjects["net.tflite"], *subjects.model, "--data", subjects["data.npz"], *options)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(here)


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _to_a_device(path: Path) -> None:
    path.symlink_to("/dev/null")


# What lies where the output should: the name, what makes it.
OBSTACLES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a folder": ("there", lambda path: (path / "inside").mkdir(parents=True)),
    "a pipe": ("there", _fifo),
    "a socket": ("there", _socket),
    "links in a circle": ("there", _circle),
    "a link to a device": ("there", _to_a_device),
    "a device": ("/dev/full", lambda path: None),
    "a name of 256 bytes": ("x" * 256, lambda path: None),
    "a folder that is not there": ("gone/there", lambda path: None),
    "a folder that is a file": ("there/x", lambda path: path.parent.write_bytes(OLDER) and None),
}


def _obstacle(writer: str, obstacle: str, subjects: Subjects, folder: Path) -> Found:
    name, make = OBSTACLES[obstacle]
    place = Place.make(folder)
    if not name.startswith("/"):
        try:
            make(place.folder / name)
        except OSError as error:
            return Outcome(None), (f"{obstacle} cannot be made: {error}",)
    before = _state(place.folder)
    outcome = run_forked(bnncc(WRITERS[writer](subjects, name)), place)
    problems = [*judge(outcome, (REFUSED,))]
    if _state(place.folder) != before:
        problems.append("what was there is not what it was")
    return outcome, problems


def _state(folder: Path) -> list[tuple[str, int, bytes]]:
    """The name, mode and bytes of everything in a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        found.append((str(path), mode, path.read_bytes() if path.is_file() and not path.is_symlink() else b""))
    return found


def _unwritable(writer: str, subjects: Subjects, folder: Path) -> Found:
    """As another user than root, whom permissions do not bind."""
    place = Place.make(folder)
    for folder_of_all in (place.folder, place.temporary):
        folder_of_all.chmod(0o777)
    (place.folder / "locked").mkdir(mode=0o555)
    command = bnncc(WRITERS[writer](subjects, "locked/there"))

    def without_rights() -> None:
        if os.geteuid() == 0:
            # The capabilities that let root read and write everywhere; files of this project stay readable.
            os.setresuid(NOBODY, NOBODY, NOBODY)
        command()

    outcome = run_forked(without_rights, place)
    problems = [*judge(outcome, (REFUSED,))]
    if "no permission to write in locked" not in outcome.output and "Permission denied" not in outcome.output:
        problems.append(f"it was refused for another reason: {outcome.output.strip()[-200:]}")
    return outcome, problems


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[bool]:
    """A disk of so many KiB at `folder`.  Yields False where this process may not mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _full(writer: str, kibibytes: int, subjects: Subjects, folder: Path) -> Found:
    """Either it fits, or it is refused and everything is as it was."""
    place = Place.make(folder)
    with small_disk(place.folder, kibibytes) as is_small:
        is_folder = writer in FOLDERS
        if not is_folder and "--resume" not in writer:  # which reads what is there
            (place.folder / "made").write_bytes(OLDER)
        before = _state(place.folder)
        command = bnncc(WRITERS[writer](subjects, "made"))

        def limited() -> None:
            if not is_small:  # then no file may be larger, which fails in the same places
                resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kibibytes, 1024 * kibibytes))
            command()

        outcome = run_forked(limited, place)
        problems = [*judge(outcome, (0, REFUSED), ("made", "x"))]
        if outcome.code == REFUSED and writer == "compile --dump-dir":
            # The models before the one that did not fit stay, whole.
            problems = [text for text in problems if not text.startswith("left behind")]
            problems += _not_whole(place.folder / "made")
        elif outcome.code == REFUSED and _state(place.folder) != before:
            problems.append("what was there is not what it was")
    return outcome, problems


def _not_whole(folder: Path) -> list[str]:
    import onnx

    problems = []
    for path in folder.iterdir():
        try:
            onnx.load(path)
        except Exception as error:
            problems.append(f"{path.name} is left there and not whole: {error}")
    return problems


def _full_temporary(command: str, kibibytes: int, subjects: Subjects, folder: Path) -> Found:
    """TMPDIR is full: the command needs none, or says so."""
    place = Place.make(folder)
    arguments = {
        "compile": ("compile", *subjects.network, "-o", "made"),
        "check": _check(subjects, "--json", "made"),
        "bundle": ("bundle", subjects["net.tflite"], "-o", "made"),
    }[command]
    with small_disk(place.temporary, kibibytes):
        if kibibytes == ROOMS[0]:
            (place.temporary / "full").write_bytes(bytes(1024 * kibibytes))
        outcome = run_forked(bnncc(arguments), place)
    return outcome, judge(outcome, (0, REFUSED), ("made",))


def trials() -> list[Trial]:
    """All of them."""
    found = []
    for writer in WRITERS:
        for obstacle in OBSTACLES:
            made_on_the_way = (writer == "compile --dump-dir" and "not there" in obstacle) or (
                writer in FOLDERS and obstacle == "a folder"
            )
            if not made_on_the_way:  # a folder in a folder that is not there yet, a folder that is there
                run = partial(_obstacle, writer, obstacle)
                found.append(Trial("output that is no file", writer, "2; what is there as it was", obstacle, run))
        must = "2; nothing left"
        found.append(Trial("folder without permission", writer, must, "0555", partial(_unwritable, writer)))
        must = "0, or 2 and everything as it was"
        found += [Trial("full disk", writer, must, f"{room} KiB", partial(_full, writer, room)) for room in ROOMS]
    for command in ("compile", "check", "bundle"):
        found += [
            Trial("full TMPDIR", command, "0 or 2", f"{room} KiB", partial(_full_temporary, command, room))
            for room in ROOMS[:2]
        ]
    return found
