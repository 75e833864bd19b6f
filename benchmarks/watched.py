"""Runs an inference of `bnncc_run` on an emulated ARM core and watches it, operator by operator: the instructions that
it executes, block by block, and the traffic of a model of the core's caches (watch_operators.c).

Needs the package ziglang, qemu 7.2 to 8.2 with plugins (Debian's qemu-user, not qemu-user-static) and a C compiler.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from bnncc.runtime.build import Platform, compile_program, compiler
from bnncc.targets.description import LINE_BYTES, Cache
from bnncc.targets.tflite.reader import TfliteFile

EMULATOR = "qemu-aarch64"
# getppid on aarch64, by which targets/runtime/marks.h says which operator runs.
MARK_CALL = 173
# Static: it runs without a root file system of its own.
PLATFORM = Platform("aarch64", "musl")
INSTRUCTION_DIGITS = 8  # hexadecimals


@dataclass
class Watched:
    """What an operator did in one inference; index -1 is what runs between operators.

    blocks: how often each block of instructions ran, by its code in hexadecimals.  hits: accesses that each level of
    the caches served.  fills, write_backs: lines read from DRAM and written to it.
    """

    index: int
    blocks: Counter[str] = field(default_factory=Counter)
    hits: tuple[int, ...] = ()
    fills: int = 0
    write_backs: int = 0

    @property
    def instructions(self) -> int:
        """All that it executed."""
        return sum(count * len(code) // INSTRUCTION_DIGITS for code, count in self.blocks.items())

    @property
    def dram_bytes(self) -> int:
        """Read from DRAM and written to it."""
        return LINE_BYTES * (self.fills + self.write_backs)


def find_program(names: Sequence[str], package: str) -> str:
    """The first of these programs that is there; SystemExit where none is."""
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return found
    raise SystemExit(f"needs {names[0]}, which is in Debian's package {package}")


def build_plugin(name: str, folder: Path) -> Path:
    """Compile the plugin `name`.c of this folder into `folder`."""
    plugin = folder / f"{name}.so"
    command = [find_program(["cc", "gcc", "clang"], "gcc"), "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(plugin), str(Path(__file__).with_name(f"{name}.c"))], check=True)
    return plugin


class Watcher:
    """Watches inferences and other programs, with a plugin that it makes in `work`."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.emulator = find_program([EMULATOR], "qemu-user")
        self.plugin = build_plugin("watch_operators", work)

    @cached_property
    def program(self) -> Path:
        """`bnncc_run`, which marks what it does."""
        program = self.work / "bnncc_run"
        compile_program([*compiler(PLATFORM), "-DBNNCC_MARKS"], PLATFORM, program)
        return program

    def watch(self, content: bytes, core: str, caches: Sequence[Cache]) -> dict[int, Watched]:
        """One thread's second inference of a file with one input, by operator: the caches are as the first left them.

        core: as of qemu's -cpu; it decides which kernels run.  caches: the nearest first.
        """
        model, images = self.work / "watched.tflite", self.work / "images.npy"
        model.write_bytes(content)
        (tensor,) = TfliteFile(content).inputs
        shape = (2, *tensor.shape[1:])
        np.save(images, np.random.default_rng(0).standard_normal(shape).astype(tensor.dtype))
        return self.run(core, caches, [str(self.program), str(images), "--model", str(model), "--threads", "1"])

    def run(self, core: str, caches: Sequence[Cache], command: Sequence[str]) -> dict[int, Watched]:
        """The last inference, or whatever ends with such a mark, of a command."""
        out = self.work / "watched.txt"
        out.unlink(missing_ok=True)
        levels = [f"cache={cache.size}:{cache.ways}" for cache in caches]
        plugin = ",".join([str(self.plugin), f"call={MARK_CALL}", f"out={out}", *levels])
        done = subprocess.run(
            [self.emulator, "-cpu", core, "-plugin", plugin, *command], capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not out.exists():
            raise SystemExit(f"{' '.join(command)} on {core} failed:\n{done.stderr or done.stdout}")
        return read(out.read_text())


def read(text: str) -> dict[int, Watched]:
    """What the plugin wrote, by operator, without those that did nothing."""
    found: dict[int, Watched] = {}
    for line in text.splitlines():
        kind, index, *rest = line.split()
        watched = found.setdefault(int(index), Watched(int(index)))
        if kind == "block":
            watched.blocks[rest[1]] += int(rest[0])
        else:
            *hits, watched.fills, watched.write_backs = map(int, rest)
            watched.hits = tuple(hits)
    return {index: watched for index, watched in found.items() if watched.blocks}
