"""A runtime for `bnncc.verification.verify` in another process, as on an emulated ARM processor.

One process serves all files, so that qemu, Python and NumPy start once.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import Array
from bnncc.runtime import Platform
from bnncc.runtime.library import built_library
from tests.needs import HAS_ZIG, SYSROOTS
from tests.targets.runtime import messages, sysroot

CAN_EMULATE = bool(SYSROOTS) and HAS_ZIG
SCRIPT = Path(__file__).with_name("served.py")
INTERPRETERS = {"aarch64": "LiteRT", "armv7": "tflite-runtime"}
# So much of what the process wrote to standard error is shown.
SHOWN_CHARACTERS = 2000


class EmulationError(Exception):
    """The other process has ended before its time; with what it wrote to standard error."""


def library(machine: str) -> Path:
    """The delegate for `machine`, built where it is not in the cache."""
    return built_library(Platform(machine))


@contextlib.contextmanager
def served(title: str, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[ServedRuntime]:
    """A runtime that lives as long as the `with` statement.

    command: of a program that answers as `messages.serve` does.  title: for a report.
    """
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        assert process.stdin is not None
        try:
            yield ServedRuntime(title, process, errors)
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # what it did not read before it ended
                process.stdin.close()


@contextlib.contextmanager
def emulated(
    folder: Path, machine: str, processor: str | None = None, kernel: str | None = None
) -> Iterator[ServedRuntime]:
    """LiteRT (aarch64) or tflite-runtime (armv7) with the delegate, under qemu, as long as the `with` statement lives.

    folder: what `sysroot` made.  processor: of qemu's names, instead of the machine's own.  kernel: instead of the one
    that the delegate takes on it.
    """
    processor = processor or sysroot.MACHINES[machine].processor
    title = f"{INTERPRETERS[machine]} with bnncc's delegate on {machine} ({processor}, emulated)"
    command = sysroot.command(folder, machine, [str(SCRIPT), str(library(machine)), *([kernel] if kernel else [])])
    with served(title, command, sysroot.environment(machine, processor)) as runtime:
        yield runtime


@contextlib.contextmanager
def emulated_runtimes() -> Iterator[dict[str, Runtime]]:
    """A runtime for each machine, by its name; none where `CAN_EMULATE` is false."""
    with contextlib.ExitStack() as stack:
        machines = sysroot.MACHINES if CAN_EMULATE else ()
        started = {machine: stack.enter_context(emulated(Path(SYSROOTS), machine)) for machine in machines}
        yield {machine: cast(Runtime, runtime) for machine, runtime in started.items()}


class ServedRuntime:
    """A runtime in another process; used like `runners.Runtime`.  Made by `served`."""

    def __init__(self, title: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.title = title
        self._process, self._errors = process, errors
        self._dropped: list[bytes] = []

    def load(self, content: bytes) -> ServedRunner:
        """The file.  RuntimeError where the interpreter does not take it."""
        return ServedRunner(self, content)

    def request(self, verb: bytes, *parts: bytes) -> list[bytes]:
        """Ask the process, and return what it answers.  RuntimeError where the interpreter refuses."""
        if self._dropped:
            # Taken first: what is dropped while the request runs stays for the next one.
            dropped, self._dropped = self._dropped, []
            self._exchange(b"drop", *dropped)
        return self._exchange(verb, *parts)

    def drop_later(self, handle: bytes) -> None:
        """Close a file with the next request: a garbage collection may come in the middle of one."""
        self._dropped.append(handle)

    def _exchange(self, verb: bytes, *parts: bytes) -> list[bytes]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            messages.send(self._process.stdin, verb, *parts)
            outcome, *answer = messages.receive(self._process.stdout)
        except (BrokenPipeError, EOFError) as error:
            status = self._process.wait()
            raise EmulationError(
                f"{self.title} ended with status {status} at '{verb.decode()}': {self._written()}"
            ) from error
        if outcome == b"refused":
            raise RuntimeError(answer[0].decode())
        return answer

    def _written(self) -> str:
        """The end of what the process wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-SHOWN_CHARACTERS:].strip() or "no message"


class ServedRunner:
    """A .tflite file, loaded in the process of an `ServedRuntime`; used like `bnncc.inference.runners.LceRunner`."""

    def __init__(self, runtime: ServedRuntime, content: bytes) -> None:
        self._runtime = runtime
        self._handle, *arrays = runtime.request(b"load", content)
        weakref.finalize(self, runtime.drop_later, self._handle)
        counts, *shapes = map(messages.to_array, arrays)
        self.input_shapes: list[tuple[int, ...]] = [tuple(map(int, shape)) for shape in shapes[: counts[0]]]
        self.output_shapes: list[tuple[int, ...]] = [tuple(map(int, shape)) for shape in shapes[counts[0] :]]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One array for each input, in the file's shapes and types, in; the outputs out."""
        parts = [messages.from_array(array) for array in inputs]
        return [messages.to_array(part) for part in self._runtime.request(b"run", self._handle, *parts)]
