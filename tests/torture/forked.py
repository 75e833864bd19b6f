"""A command in a process of its own, forked from this one, which has the libraries loaded; and what became of it."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Seconds after which a command hangs.
HANG = 60.0
# And where a compiler builds the delegate first.
BUILDING = 240.0
# What a command may take, in bytes, with the libraries that it shares with this process; and what bnncc is told that
# there is.
MEMORY_LIMIT = 2**31
MEMORY_TOLD = "1G"
# Above it a command gets no address space: a fault must not take the machine with it.
ADDRESS_SPACE = 2**36
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Outcome:
    """code: the exit status, negative for a signal, None where it hung.  output: of both streams.  peak: bytes in
    memory at most.  left: files that were not there before, in the folder of outputs and in TMPDIR.
    """

    code: int | None
    output: str = ""
    seconds: float = 0.0
    peak: int = 0
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a command runs: outputs in `folder`, which is its working directory, temporary files in `temporary`."""

    folder: Path
    temporary: Path
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, **variables: str) -> Place:
        (folder / "tmp").mkdir(parents=True)
        (folder / "out").mkdir()
        return cls(folder / "out", folder / "tmp", variables)

    def files(self) -> set[str]:
        return {str(path) for folder in (self.folder, self.temporary) for path in folder.rglob("*")}


def run_forked(
    function: Callable[[], object],
    place: Place,
    *,
    hang: float = HANG,
    meanwhile: Callable[[int], None] | None = None,
) -> Outcome:
    """Call `function` in a forked process, whose exit status is that of its SystemExit, as Python would have it.

    meanwhile: called here with the number of the process when the command begins.
    """
    before = place.files()
    with tempfile.TemporaryFile() as stream:
        started = time.monotonic()
        ready, tell_ready = os.pipe()
        number = os.fork()
        if number == 0:
            _be_the_command(function, place, stream.fileno(), tell_ready)
        os.close(tell_ready)
        os.read(ready, 1)  # nothing, where it is told by the end of the process
        os.close(ready)
        if meanwhile is not None:
            meanwhile(number)
        descriptor = os.pidfd_open(number)
        hung = not select.select([descriptor], [], [], hang)[0]
        os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):  # also what it started and did not end
            os.killpg(number, signal.SIGKILL)
        _, status, usage = os.wait4(number, 0)
        seconds = time.monotonic() - started
        stream.seek(0)
        output = stream.read().decode(errors="replace")
    code = None if hung else os.waitstatus_to_exitcode(status)
    peak = 1024 * usage.ru_maxrss  # Linux counts in KiB
    return Outcome(code, output, seconds, peak, tuple(sorted(place.files() - before)))


def _be_the_command(function: Callable[[], object], place: Place, output: int, tell_ready: int) -> None:
    code: object = 70  # no code of bnncc's: what happens below happens
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        # As Python opens them, for as long as the process lives.
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8")
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)
        os.chdir(place.folder)
        os.environ.update({"TMPDIR": str(place.temporary), "BNNCC_MEMORY": MEMORY_TOLD, **place.variables})
        tempfile.tempdir = None
        faulthandler.disable()  # pytest's, which writes to the terminal
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(tell_ready, b"x")
        os.close(tell_ready)
        code = 0
        function()
    except SystemExit as error:
        code = error.code if error.code is not None else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def bnncc(arguments: Sequence[object]) -> Callable[[], object]:
    """The command line of bnncc with these arguments, for `run_forked`."""

    def call() -> None:
        from bnncc.cli import main

        sys.argv = ["bnncc", *map(str, arguments)]
        main(sys.argv[1:], prog_name="bnncc")

    return call


def load_libraries() -> None:
    """Load what the commands import, and what torch.export reads anew for each network: here, once.

    PyTorch's threads do not survive a fork; a process forked behind them would wait for them.
    """
    import ai_edge_litert.interpreter
    import torch
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    import bnncc.baseline
    import bnncc.bundle
    import bnncc.check.page
    import bnncc.check.report
    import bnncc.cli
    import bnncc.deploy
    import bnncc.verification
    from bnncc.frontend.export import OPSET
    from tests.conftest import build_translations_once  # which importing it does

    del ai_edge_litert, bnncc, build_translations_once
    ONNXRegistry.from_torchlib(opset_version=OPSET)
    torch.set_num_threads(1)
