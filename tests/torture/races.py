"""Several processes at once: on one output, on one cache; processes that are killed while others wait for them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from bnncc.runtime.library import library_path
from bnncc.runtime.trust import digest_path
from tests.torture.forked import BUILDING, Outcome, Place, bnncc, run_forked
from tests.torture.rows import REFUSED, Found, Trial, judge
from tests.torture.signals import check_many, figures
from tests.torture.subjects import Subjects

PAIRS = 8
RACERS = 3
# Seconds after which a worker is killed: while it starts, imports, measures.
WORKER_DEATHS = (0.5, 3.0, 6.0)


def _all(commands: Sequence[Callable[[], object]], places: Sequence[Place], hang: float = 60) -> list[Outcome]:
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda pair: run_forked(*pair, hang=hang), zip(commands, places, strict=True)))


def _two_compilations(index: int, subjects: Subjects, folder: Path) -> Found:
    """Of one network in two layouts, onto one file, which is one of the two in the end."""
    layouts = ("nhwc", "nchw")
    places = [Place.make(folder / layout) for layout in layouts]
    output = folder / "net.tflite"
    command = ("compile", subjects["net.onnx"], "--no-verify")
    alone = [
        run_forked(bnncc((*command, "--input-layout", layout, "-o", "alone")), place)
        for layout, place in zip(layouts, places, strict=True)
    ]
    outcomes = _all([bnncc((*command, "--input-layout", layout, "-o", output)) for layout in layouts], places)
    problems = [text for outcome in (*alone, *outcomes) for text in judge(outcome, (0,), ("alone",))]
    whole = [(place.folder / "alone").read_bytes() for place in places]
    if output.read_bytes() not in whole:
        problems.append("the file is none of the two")
    left = [path.name for path in folder.iterdir() if path.is_file() and path != output]
    return outcomes[index % 2], [*problems, *(f"left behind: {name}" for name in left)]


def _two_bundles(subjects: Subjects, folder: Path) -> Found:
    """Onto one folder: one of them may find it in the way; what is there in the end is a whole bundle."""
    places = [Place.make(folder / name) for name in "ab"]
    output = folder / "bundle"
    command = bnncc(("bundle", subjects["net.tflite"], "-o", output, "--force"))
    outcomes = _all([command, command], places)
    problems = [text for outcome in outcomes for text in judge(outcome, (0, REFUSED))]
    if all(outcome.code != 0 for outcome in outcomes):
        problems.append("none of the two is done")
    names = {path.name for path in subjects["bundle"].iterdir()}
    if {path.name for path in output.iterdir()} != names:
        problems.append("the folder is no whole bundle")
    left = [path.name for path in folder.iterdir() if path.name.startswith(".bnncc-")]
    return outcomes[0], [*problems, *(f"left behind: {name}" for name in left)]


# The cache of built delegates


def _run(subjects: Subjects, cache: Path, folder: Path, **variables: str) -> tuple[Callable[[], object], Place]:
    command = bnncc(("run", subjects["net.tflite"], "--input", subjects["images.npy"], "-o", "made.npz"))
    return command, Place.make(folder, **{"BNNCC_CACHE": str(cache), **variables})


def _copied_cache(folder: Path) -> Path:
    """A cache with this machine's delegate; returns the library."""
    cache, library = folder / "cache", library_path()
    cache.mkdir(parents=True, mode=0o700)
    for path in (library, digest_path(library)):
        shutil.copy2(path, cache)
    return cache / library.name


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


# What is done to the library and its digest; the codes that are right.
CACHES: dict[str, tuple[Callable[[Path], object], tuple[int, ...]]] = {
    "as it was built": (lambda path: None, (0,)),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), (0,)),
    "another byte": (lambda path: path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:]), (0,)),
    "empty": (lambda path: path.write_bytes(b""), (0,)),
    "without digest": (lambda path: digest_path(path).unlink(), (0,)),
    "a digest that is no text": (lambda path: digest_path(path).write_bytes(b"\xff" * 99), (0,)),
    "a digest that is a pipe": (lambda path: _replace(digest_path(path), os.mkfifo), (0, REFUSED)),
    "a library that is a pipe": (lambda path: _replace(path, os.mkfifo), (0, REFUSED)),
    "a library that is a folder": (lambda path: _replace(path, Path.mkdir), (REFUSED,)),
    "a library that is a device": (lambda path: _replace(path, lambda at: at.symlink_to("/dev/zero")), (0, REFUSED)),
    "a library that others may write": (lambda path: path.chmod(0o666), (REFUSED,)),
    "a folder that others may write": (lambda path: path.parent.chmod(0o777), (REFUSED,)),
    "a library of another user": (lambda path: os.chown(path, 12345, 12345), (REFUSED,)),
    "a folder that is a file": (lambda path: (shutil.rmtree(path.parent), path.parent.write_text("x")), (REFUSED,)),
}
# Values of BNNCC_RUNTIME.
RUNTIMES = ("/dev/zero", "/dev/null", ".", "gone", "x" * 300, sys.executable, __file__, "/etc/passwd")


def _cache(state: str, subjects: Subjects, folder: Path) -> Found:
    damage, codes = CACHES[state]
    library = _copied_cache(folder)
    try:
        damage(library)
    except PermissionError as error:  # only root gives files to others
        return Outcome(None), (f"{state} cannot be made: {error}",)
    outcome = run_forked(*_run(subjects, folder / "cache", folder / "place"), hang=BUILDING)
    problems = judge(outcome, codes, ("made",))
    with suppress(OSError):
        problems += tuple(f"left behind: {path.name}" for path in (folder / "cache").glob(".b*"))
    return outcome, problems


def _runtime(value: str, subjects: Subjects, folder: Path) -> Found:
    outcome = run_forked(*_run(subjects, folder / "cache", folder / "place", BNNCC_RUNTIME=value))
    return outcome, judge(outcome, (REFUSED,))


def _no_compiler(subjects: Subjects, folder: Path) -> Found:
    outcome = run_forked(*_run(subjects, folder / "cache", folder / "place", CXX="/gone/c++"))
    return outcome, judge(outcome, (REFUSED,))


def _no_home(subjects: Subjects, folder: Path) -> Found:
    command, place = _run(subjects, folder / "cache", folder / "place", BNNCC_CACHE="", HOME="/gone/home")
    outcome = run_forked(command, place, hang=BUILDING)
    return outcome, judge(outcome, (0, REFUSED), ("made",))


def _cache_race(subjects: Subjects, folder: Path) -> Found:
    """Several build at once, one is killed; all others run."""
    cache = folder / "cache"
    commands, places = zip(*(_run(subjects, cache, folder / str(index)) for index in range(RACERS)), strict=True)
    killed, killed_place = _run(subjects, cache, folder / "killed")

    def kill_soon(process: int) -> None:
        time.sleep(1)
        os.kill(process, signal.SIGKILL)

    victim = threading.Thread(target=run_forked, args=(killed, killed_place), kwargs={"meanwhile": kill_soon})
    victim.start()
    outcomes = _all(commands, places, BUILDING)
    victim.join()
    problems = [text for outcome in outcomes for text in judge(outcome, (0,), ("made",))]
    libraries = [path.name for path in cache.glob("*.so")]
    return outcomes[0], [*problems, *([] if len(libraries) == 1 else [f"the cache holds {libraries}"])]


# Workers


def _workers(process: int) -> list[int]:
    """The processes that a command started to measure, its own children's children too."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            if int(status.read_text().rpartition(")")[2].split()[2]) == process:  # of its process group
                found.append(int(status.parent.name))
    return [number for number in found if number != process and b"popen_loky" in _command_line(number)]


def _command_line(process: int) -> bytes:
    try:
        return (Path("/proc") / str(process) / "cmdline").read_bytes()
    except OSError:
        return b""


def _worker_death(seconds: float, subjects: Subjects, folder: Path) -> Found:
    """The rows that were measured are kept, and the next call goes on from them."""
    place = Place.make(folder)
    hit = []

    def kill_one(process: int) -> None:
        end = time.monotonic() + 30
        while not (workers := _workers(process)) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(seconds)
        for worker in _workers(process)[:1] or workers[:1]:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                hit.append(worker)

    command = check_many(subjects, "--resume", "made.npz", "--jobs", 2)
    outcome = run_forked(command, place, meanwhile=kill_one)
    # Behind the last chunk nobody misses it.
    problems = list(judge(outcome, (0, REFUSED), ("made",)))
    problems = [text for text in problems if not text.startswith("left behind") or "made.npz" not in text]
    again = run_forked(check_many(subjects, "--resume", "made.npz"), place)
    problems += judge(again, (0,), ("made",))
    if again.code == 0 and figures(place.folder / "made.json") != figures(subjects["many.json"]):
        problems.append("the resumed check has other figures than one that was not interrupted")
    return outcome, problems


class _Cluster:
    """A dask scheduler and two workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        python, quiet = sys.executable, {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        file = folder / "scheduler.json"
        self.scheduler = subprocess.Popen(
            [python, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", file],
            **quiet,
        )
        while not file.exists():
            time.sleep(0.1)
        self.address = _address(file)
        self.workers = [
            subprocess.Popen(
                [
                    python, "-m", "distributed.cli.dask_worker", self.address, "--nthreads", "1", "--no-dashboard",
                    "--no-nanny", "--local-directory", folder,
                ],
                **quiet,
            )
            for _ in range(2)
        ]  # fmt: skip

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def _address(file: Path) -> str:
    import json

    while True:
        with suppress(ValueError):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.1)


def _dask(lost: str, seconds: float, subjects: Subjects, folder: Path) -> Found:
    """A lost worker's chunks go to the other; a lost scheduler is told."""
    cluster = _Cluster(folder / "cluster")
    place = Place.make(folder / "place")

    def kill(process: int) -> None:
        time.sleep(seconds)
        (cluster.workers[0] if lost == "worker" else cluster.scheduler).kill()

    try:
        outcome = run_forked(
            check_many(subjects, "--dask", cluster.address, "--resume", "made.npz"), place, meanwhile=kill
        )
    finally:
        cluster.close()
    codes = (0,) if lost == "worker" else (0, REFUSED)  # behind the last chunk nobody misses the scheduler
    problems = list(judge(outcome, codes, ("made",)))
    problems = [text for text in problems if not text.startswith("left behind") or "made.npz" not in text]
    if outcome.code == 0 and figures(place.folder / "made.json") != figures(subjects["many.json"]):
        problems.append("the figures are others than those of one process")
    return outcome, problems


def trials() -> list[Trial]:
    """All of them."""
    found = [
        Trial(
            "two at once onto one file",
            "compile",
            "0; one of the two, whole",
            str(index),
            partial(_two_compilations, index),
        )
        for index in range(PAIRS)
    ]
    found += [
        Trial("two at once onto one folder", "bundle --force", "0, one may be 2; whole", str(index), _two_bundles)
        for index in range(PAIRS)
    ]
    for state, (_, codes) in CACHES.items():
        must = " or ".join(map(str, codes))
        found.append(Trial("cache of delegates", "run", must, state, partial(_cache, state)))
    found += [Trial("BNNCC_RUNTIME", "run", "2", value[:40], partial(_runtime, value)) for value in RUNTIMES]
    found.append(Trial("no compiler, an empty cache", "run", "2", "CXX=/gone/c++", _no_compiler))
    found.append(Trial("no home", "run", "0 or 2", "HOME=/gone/home", _no_home))
    found += [Trial(f"{RACERS} build at once, one more is killed", "run", "0", str(i), _cache_race) for i in range(1)]
    found += [
        Trial(
            "worker killed, then again", "check --jobs 2 --resume", "0 or 2, then 0 with the figures of one run",
            f"after {seconds} s", partial(_worker_death, seconds),
        )
        for seconds in WORKER_DEATHS
    ]  # fmt: skip
    found += [
        Trial(
            f"dask: {lost} killed",
            "check --dask",
            "0" if lost == "worker" else "0 or 2",
            f"after {seconds} s",
            partial(_dask, lost, seconds),
        )
        for lost, times in (("worker", (5.0, 8.0)), ("scheduler", (3.0, 6.0)))
        for seconds in times
    ]
    return found
