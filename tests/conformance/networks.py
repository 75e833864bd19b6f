"""Runs whole networks in every runtime that their files are right on, and keeps what became of their classes.

    python -m tests.conformance.networks FOLDER [RUNTIME …]

All networks of tests/networks and examples/papers, on two inputs each.  The reference is the traced network in ONNX
Runtime.  A class is the largest element along the file's last axis: of a row of logits, of a pixel of a map.

Where a class differs, the file is proven on the same inputs in the same runtime (`bnncc.verification`): fed the
reference's signs, every float is within its error bound, and a sign differs only where its float is that near to 0; and
free-running, the first signs that differ do so as well, or, where none differs, every output is within its bound.  Then
the class differs by rounding, and else the file is wrong there.

FOLDER is that of `python -m tests.conformance`, which puts the table on its page.  It keeps the files, and a runtime
whose results are there for them is not run again.  Ends with status 1 where a class differs otherwise than by rounding.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

import bnncc
from bnncc.inference.graph_runner import OrtRunner
from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import Array, random_inputs
from bnncc.model import CompiledModel
from bnncc.runtime import Platform
from bnncc.runtime.build import source_folder
from bnncc.runtime.library import built_library
from bnncc.targets.tflite import runtimes
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import Verification, verify_in
from tests.conformance import environments
from tests.conformance.batch import Outcome, run_batch
from tests.conformance.environments import Environment
from tests.conformance.kept import cores, kept, on_all_cores
from tests.conformance.matrix import write_served
from tests.conformance.page import networks_table
from tests.needs import SYSROOTS
from tests.networks.applications import APPLICATIONS
from tests.networks.strangers import NETWORKS
from tests.targets.interpreter import native
from tests.targets.runtime import named_networks
from tests.targets.runtime.emulated_runtime import served
from tests.test_papers import SMALL

# What is left in the folder for the page.
FOUND = "networks.json"
ASKED = Path(__file__).with_name("asked.py")
INPUTS = 2
# Under emulation, beside others.
SECONDS_A_NETWORK = 600.0
# So many runtimes prove a file side by side, against one reference.
PROVERS = 4
# (XNNPACK, threads).
CONFIGURATIONS, WITHOUT_XNNPACK = ((True, 2), (False, 1)), ((False, 2),)
# It is refused: it decides by its input.
NOT_COMPILED = ("branch_on_data",)


@dataclass(frozen=True)
class Subject:
    """A network's file; oldest: the runtime from which on it is right; inputs, wanted: by batch, as the file has
    them.
    """

    name: str
    content: bytes
    oldest: str
    inputs: list[list[Array]]
    wanted: list[list[Array]]


def names() -> list[str]:
    """Of all networks; full-size ones are for images of their paper's size."""
    found = (*SMALL, *named_networks.FULL_SIZES, "quicknet", "fracbnn", *APPLICATIONS, *NETWORKS)
    return [name for name in found if name not in NOT_COMPILED]


@functools.lru_cache(1)
def compiled(name: str) -> tuple[CompiledModel, list[list[Array]]]:
    """The network, and its inputs as the network takes them."""
    if name in named_networks.SIZES:
        size = named_networks.SIZES[name]
        model = named_networks.compiled(name, size)
        named_networks.compiled.cache_clear()
        return model, [[image] for image in named_networks.images(name, size, INPUTS)]
    source, shapes = {
        "quicknet": ("tests.networks:quicknet", ["1x3x224x224"]),
        "fracbnn": ("tests.networks.fracbnn:fracbnn", ["1x3x32x32"]),
        **{key: (f"tests.networks.applications:{key}", [one.input]) for key, one in APPLICATIONS.items()},
        **{key: (f"tests.networks.strangers:{key}", list(one.shapes)) for key, one in NETWORKS.items()},
    }[name]
    model = bnncc.compile(source, input_shapes=shapes, input_ranges={"ids": (0, 100)} if name == "token_ids" else None)
    return model, [random_inputs(model.traced.model, seed) for seed in range(INPUTS)]


def subject(name: str) -> Subject:
    model, inputs = compiled(name)
    return subject_of(name, model, inputs)


def subject_of(name: str, compiled: CompiledModel, inputs: Sequence[list[Array]]) -> Subject:
    reference = OrtRunner(compiled.traced.model)
    stored = [[np.ascontiguousarray(compiled.as_stored(array)) for array in arrays] for arrays in inputs]
    wanted = [[compiled.as_stored(np.asarray(array)) for array in reference.run(arrays)] for arrays in inputs]
    oldest = runtimes.oldest(runtimes.needs(TfliteFile(compiled.content)))
    return Subject(name, compiled.content, oldest, stored, wanted)


@dataclass
class Found:
    """What became of a network in a runtime.

    share: of its classes, those that are the reference's, in the worst configuration; or why there are none.
    differing: the configurations, (XNNPACK, threads), in which it is less than all.  Once the file was proven in these,
    problems: what rounding does not explain; signs: how many are the first to differ, free-running, in the worst one.
    """

    share: float | str
    differing: list[tuple[bool, int]]
    problems: list[str] | None = None
    signs: int = 0

    def add(self, share: float | str, configuration: tuple[bool, int]) -> None:
        if not isinstance(self.share, str):
            self.share = share if isinstance(share, str) else min(share, self.share)
        if not isinstance(share, str) and share < 1:
            self.differing.append(configuration)

    def prove(self, found: Verification) -> None:
        self.problems = [*(self.problems or []), *found.problems]
        self.signs = max(self.signs, sum(sign.started for sign in found.signs))


def subjects(folder: Path) -> list[Subject]:
    """All of them; compiled where the folder does not have them."""
    return kept(folder / "networks.pickle", lambda: on_all_cores(subject, names()))


def share(subject: Subject, outcome: Outcome) -> float | str:
    """How many of the classes are the reference's, or why there are none."""
    if outcome.died or outcome.refused:
        return outcome.died or outcome.refused
    pairs = []
    for wanted, found in zip(subject.wanted, outcome.outputs, strict=True):
        if found is None or [array.shape for array in wanted] != [array.shape for array in found]:
            return "other outputs"
        pairs += [(_classes(one), _classes(other)) for one, other in zip(wanted, found, strict=True) if one.ndim]
    equal = sum(np.count_nonzero(one == other) for one, other in pairs)
    return float(equal / sum(one.size for one, _ in pairs))


def _classes(array: Array) -> Array:
    return np.asarray(array.argmax(axis=-1)) if array.dtype.kind == "f" else array


def is_right(found: Found) -> bool:
    """Whether the classes are the reference's, but for those that differ by rounding."""
    return found.share == 1 or (found.problems is not None and not found.problems)


def chosen(names: set[str]) -> list[Environment]:
    """The environments that run LCE's operators, but for those of the matrix that take signs beside each form."""
    return [
        one for one in environments.OF_NETWORKS if (one.name in names or not names) and (SYSROOTS or not one.machine)
    ]


def library_of(environment: Environment) -> str:
    """The delegate for it, or ""."""
    if environment.kind == "bnncc":
        native.library()  # compiled before anything waits for it
    return str(built_library(Platform(environment.machine or "x86_64"))) if environment.delegate else ""


def run(environment: Environment, given: Sequence[Subject], folder: Path) -> dict[str, Found]:
    """By network; nothing of a file that asks for a newer runtime."""
    taken = [one for one in given if not environment.is_older_than(one.oldest)]
    forms = folder / f"networks {environment.name}.pickle"
    write_served([(one.content, True, one.inputs) for one in taken], forms)
    library = library_of(environment)
    found = {one.name: Found(1.0, []) for one in taken}
    # One thread without XNNPACK, two with it, where it can be turned off.
    for xnnpack, threads in CONFIGURATIONS if environment.has_xnnpack else WITHOUT_XNNPACK:
        command = environments.command(environment, folder, xnnpack, threads, library)
        outcomes = run_batch(command, forms, len(taken), environments.variables(environment), SECONDS_A_NETWORK)
        for one, outcome in zip(taken, outcomes, strict=True):
            found[one.name].add(share(one, outcome), (xnnpack, threads))
    forms.unlink()
    print(environment.name, flush=True)
    return found


@dataclass(frozen=True)
class Doubt:
    """A network's classes differ in a runtime's configuration."""

    environment: Environment
    configuration: tuple[bool, int]
    found: Found


def prove(name: str, doubts: Sequence[Doubt], folder: Path) -> None:
    """Prove the network's file in each of these runtimes."""
    model, inputs = compiled(name)

    def prove_in(some: Sequence[Doubt]) -> None:
        with contextlib.ExitStack() as stack:
            started = [stack.enter_context(_asked(one, folder)) for one in some]
            for one, found in zip(some, verify_in(started, model, inputs), strict=True):
                one.found.prove(found)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(prove_in, [doubts[start : start + PROVERS] for start in range(0, len(doubts), PROVERS)]))


@contextlib.contextmanager
def _asked(doubt: Doubt, folder: Path) -> Iterator[Runtime]:
    environment = doubt.environment
    xnnpack, threads = doubt.configuration
    command = environments.command(environment, folder, xnnpack, threads, library_of(environment), ASKED)
    with served(environment.name, command, environments.variables(environment)) as runtime:
        yield cast(Runtime, runtime)


def prove_doubts(results: dict[str, dict[str, Found]], folder: Path) -> None:
    """Whatever differs and was not proven."""
    by_name = {environment.name: environment for environment in environments.OF_NETWORKS}
    doubts: dict[str, list[Doubt]] = {}
    for runtime, networks in results.items():
        for name, found in networks.items():
            if found.problems is None:
                doubts.setdefault(name, []).extend(Doubt(by_name[runtime], one, found) for one in found.differing)
    for name, some in doubts.items():
        if some:
            print(f"{name} is proven in {len(some)} configurations", flush=True)
            prove(name, some, folder)


def main() -> int:
    """Run, and keep all results that are of these files."""
    folder, wanted = Path(sys.argv[1]).absolute(), set(sys.argv[2:])
    folder.mkdir(parents=True, exist_ok=True)
    given = subjects(folder)
    sources = native.hash_of(*(path for path in source_folder().rglob("*") if path.suffix in {".cc", ".h"}))
    digest = hashlib.sha256(b"".join(one.content for one in given) + sources.encode()).hexdigest()
    oldest = {one.name: one.oldest for one in given}
    print(f"{len(given)} networks", flush=True)
    path = folder / FOUND
    results = _read(path, digest)

    writing = threading.Lock()

    def run_one(environment: Environment) -> None:
        results[environment.name] = run(environment, given, folder)
        with writing:
            _write(path, digest, oldest, results)

    # The emulated ones, which take longest, first.
    waiting = [one for one in chosen(wanted) if one.name not in results]
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(run_one, sorted(waiting, key=lambda one: not one.machine)))
    prove_doubts(results, folder)
    _write(path, digest, oldest, results)
    print("\n".join(networks_table(json.loads(path.read_text()))))
    wrong = [
        f"{name} in {runtime}: {found.share}; {'; '.join(found.problems or [])}"
        for runtime, networks in results.items()
        for name, found in networks.items()
        if not is_right(found)
    ]
    print("\n".join(wrong))
    return 1 if wrong else 0


def _read(path: Path, digest: str) -> dict[str, dict[str, Found]]:
    """The results, where they are of these files."""
    held: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if held.get("digest") != digest:
        return {}
    results = {
        runtime: {name: Found(**one) for name, one in found.items()} for runtime, found in held["results"].items()
    }
    for one in (one for found in results.values() for one in found.values()):
        one.differing = [(bool(xnnpack), int(threads)) for xnnpack, threads in one.differing]
    return results


def _write(path: Path, digest: str, oldest: dict[str, str], results: dict[str, dict[str, Found]]) -> None:
    """In the order of the table."""
    ordered = {
        one.name: {name: asdict(found) for name, found in results[one.name].items()}
        for one in environments.OF_NETWORKS
        if one.name in results
    }
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps({"digest": digest, "oldest": oldest, "results": ordered}))
    partial.rename(path)


if __name__ == "__main__":
    sys.exit(main())
