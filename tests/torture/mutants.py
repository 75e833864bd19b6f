"""Damaged files of every kind, given to every command that reads one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from tests.torture.forked import Place, bnncc, run_forked
from tests.torture.mutate import (
    Mutation,
    changed,
    damage,
    gzip_content,
    json_value,
    npy_header,
    one_of,
    onnx_field,
    png_chunk,
    safetensors_header,
    tflite_bytes,
    tflite_field,
    zip_member,
)
from tests.torture.rows import Found, Trial, judge
from tests.torture.subjects import PICTURES, SHAPE, Subjects

# What a command makes where it takes the file.
MADE = "made"
Arguments = Callable[[Subjects, Path], Sequence[object]]


# The commands, given a damaged file.


def inspect(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("inspect", path)


def run(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("run", path, "--input", subjects["images.npy"], "-o", f"{MADE}.npz")


def run_input(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("run", subjects["net.tflite"], "--input", path, "-o", f"{MADE}.npz")


def bench(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("bench", path, "--runs", 1, "--warm-up", 0, "--json", f"{MADE}.json")


def check(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("check", path, *subjects.model, "--data", subjects["data.npz"], "--json", f"{MADE}.json")


def check_data(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("check", subjects["net.tflite"], *subjects.model, "--data", path, "--html", f"{MADE}.html")


def check_folder(subjects: Subjects, path: Path) -> Sequence[object]:
    """One picture of a folder is the damaged one."""
    folder = path.parent / "pictures"
    shutil.copytree(subjects["pictures"], folder)
    (folder / "class 0" / path.name).write_bytes(path.read_bytes())
    return check_data(subjects, folder)


def check_baseline(subjects: Subjects, path: Path) -> Sequence[object]:
    return (*check_data(subjects, subjects["data.npz"]), "--baseline", path)


def check_resume(subjects: Subjects, path: Path) -> Sequence[object]:
    return (*check_data(subjects, subjects["data.npz"]), "--resume", path)


def verify(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("verify", path, *subjects.model)


def bundle(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("bundle", path, "-o", MADE)


def compile_onnx(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("compile", path, "-o", f"{MADE}.tflite")


def compile_weights(subjects: Subjects, path: Path) -> Sequence[object]:
    network = (f"{subjects['net.py']}:Net", "--input-shape", SHAPE, "--weights", path)
    return ("compile", *network, "--no-verify", "-o", f"{MADE}.tflite")


def compile_classes(subjects: Subjects, path: Path) -> Sequence[object]:
    return ("compile", subjects["net.onnx"], "--no-verify", "--classes", path, "-o", f"{MADE}.tflite")


def deploy(subjects: Subjects, path: Path) -> Sequence[object]:
    """The manifest of a bundle; `PROGRAMS` has what is called instead of ssh and scp."""
    folder = path.parent / "bundle"
    shutil.copytree(subjects["bundle"], folder)
    (folder / path.name).write_bytes(path.read_bytes())
    return ("deploy", "host.invalid", folder)


@dataclass(frozen=True)
class Attack:
    """One row.

    files: of the subjects, one of which is damaged each time.  codes: the right exit codes.  count: of mutants.
    """

    title: str
    files: tuple[str, ...]
    mutation: Mutation
    command: str
    arguments: Arguments
    codes: tuple[int, ...]
    count: int

    def trials(self, seed: int, share: float) -> Iterator[Trial]:
        """share: of `count`."""
        must = " or ".join(map(str, self.codes))
        for index in range(max(1, round(share * self.count))):
            run = partial(self._run, f"{seed} {self.title} {self.command} {index}")
            yield Trial(self.title, self.command, must, f"number {index} of seed {seed}", run)

    def _run(self, seed: str, subjects: Subjects, folder: Path) -> Found:
        """Damage a file and give it to the command."""
        random = Random(seed)
        name = random.choice(self.files)
        place = Place.make(folder, PATH=f"{subjects['programs']}:{os.environ['PATH']}")
        given = folder / "given" / Path(name).name
        given.parent.mkdir()
        given.write_bytes(changed(random, subjects[name].read_bytes(), self.mutation))
        outcome = run_forked(bnncc(self.arguments(subjects, given)), place)
        return outcome, judge(outcome, self.codes, (MADE,))


DONE_OR_REFUSED, REFUSED, COMPARED = (0, 2), (2,), (0, 1, 2)
TFLITE, NPZ = ("net.tflite",), ("data.npz", "data.packed.npz")
PICTURE_FILES = tuple(f"picture.{kind}" for kind in PICTURES)
FORGED = one_of(tflite_field, tflite_bytes)
READERS: tuple[tuple[str, Arguments, tuple[int, ...], int, int], ...] = (
    ("inspect", inspect, DONE_OR_REFUSED, 350, 300),
    ("run", run, DONE_OR_REFUSED, 200, 500),
    ("bench", bench, DONE_OR_REFUSED, 100, 150),
    ("check", check, COMPARED, 60, 25),
    ("verify", verify, COMPARED, 60, 25),
    ("bundle", bundle, DONE_OR_REFUSED, 80, 120),
    ("check --baseline", check_baseline, COMPARED, 30, 15),
)
ATTACKS: tuple[Attack, ...] = (
    *(
        Attack(".tflite, damaged", TFLITE, damage, command, arguments, REFUSED, count)
        for command, arguments, _, count, _ in READERS
    ),
    *(
        Attack(".tflite, forged: its digest is right", TFLITE, FORGED, command, arguments, codes, count)
        for command, arguments, codes, _, count in READERS
    ),
    Attack(".onnx, damaged", ("net.onnx",), damage, "compile", compile_onnx, DONE_OR_REFUSED, 80),
    Attack(".onnx, other fields", ("net.onnx",), onnx_field, "compile", compile_onnx, DONE_OR_REFUSED, 150),
    *(
        Attack(f"checkpoint: {title}", files, mutation, "compile --weights", compile_weights, DONE_OR_REFUSED, count)
        for title, files, mutation, count in (
            ("torch.save", ("weights.pth",), damage, 40),
            ("torch.save before 1.6", ("weights.old.pth",), damage, 40),
            ("zip, other members", ("weights.pth", "weights.npz"), zip_member, 40),
            (".npz", ("weights.npz",), damage, 40),
            (".safetensors", ("weights.safetensors",), damage, 40),
            (".safetensors, another header", ("weights.safetensors",), safetensors_header, 40),
            ("pickle", ("weights.pkl",), damage, 40),
            ("gzip", ("weights.pth.gz",), one_of(damage, gzip_content), 20),
            ("tar", ("weights.tar",), damage, 20),
        )
    ),
    Attack(".npz of images", NPZ, one_of(damage, zip_member), "run --input", run_input, DONE_OR_REFUSED, 150),
    Attack(".npz of images", NPZ, one_of(damage, zip_member), "check --data", check_data, DONE_OR_REFUSED, 12),
    Attack(
        ".npy of images", ("images.npy",), one_of(damage, npy_header), "run --input", run_input, DONE_OR_REFUSED, 120
    ),
    Attack("picture", PICTURE_FILES, damage, "run --input", run_input, DONE_OR_REFUSED, 250),
    Attack("PNG, other chunks", ("picture.png",), png_chunk, "run --input", run_input, DONE_OR_REFUSED, 100),
    Attack("picture of a folder", PICTURE_FILES, damage, "check --data", check_folder, DONE_OR_REFUSED, 10),
    Attack("class names", ("classes.txt",), damage, "compile --classes", compile_classes, DONE_OR_REFUSED, 30),
    Attack(
        "interrupted check", ("resume.npz",), one_of(damage, zip_member), "check --resume", check_resume,
        DONE_OR_REFUSED, 15,
    ),
    Attack(
        "manifest of a bundle", ("bundle/bundle.json",), one_of(damage, json_value), "deploy", deploy, DONE_OR_REFUSED,
        100,
    ),
)  # fmt: skip


def trials(seed: int, share: float = 1.0) -> list[Trial]:
    """All of them; share: how many of each row."""
    return [trial for attack in ATTACKS for trial in attack.trials(seed, share)]
