"""Runs whole networks in every runtime that their files are right on, and keeps what became of their classes.

    python -m tests.conformance.networks FOLDER [RUNTIME …]

All networks of tests/networks and examples/papers, on two inputs each.  The reference is the traced network in ONNX
Runtime.  A class is the largest element along the file's last axis: of a row of logits, of a pixel of a map.  FOLDER is
that of `python -m tests.conformance`, which puts the table on its page; ends with status 1 where a class differs.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import bnncc
from bnncc.inference.graph_runner import OrtRunner
from bnncc.ir.evaluate import Array, random_inputs
from bnncc.model import CompiledModel
from bnncc.runtime import Platform
from bnncc.runtime.build import source_folder
from bnncc.runtime.library import built_library
from bnncc.targets.tflite import runtimes
from bnncc.targets.tflite.reader import TfliteFile
from tests.conformance import environments
from tests.conformance.__main__ import NETWORKS as NETWORKS_FOUND
from tests.conformance.batch import Outcome, run_batch
from tests.conformance.environments import Environment
from tests.conformance.page import networks_table
from tests.needs import SYSROOTS
from tests.networks.applications import APPLICATIONS
from tests.networks.strangers import NETWORKS
from tests.targets.interpreter import native
from tests.targets.runtime import named_networks
from tests.test_papers import SMALL

INPUTS = 2
# Under emulation, beside others.
SECONDS_A_NETWORK = 600.0
# Of those that are no classifiers of pictures, and have a reference at every pixel or token: so many may fall to the
# other side by rounding.
LEAST_SHARE = 0.99
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


def subject_of(name: str, compiled: CompiledModel, inputs: Sequence[list[Array]]) -> Subject:
    reference = OrtRunner(compiled.traced.model)
    stored = [[np.ascontiguousarray(compiled.as_stored(array)) for array in arrays] for arrays in inputs]
    wanted = [[compiled.as_stored(np.asarray(array)) for array in reference.run(arrays)] for arrays in inputs]
    oldest = runtimes.oldest(runtimes.needs(TfliteFile(compiled.content)))
    return Subject(name, compiled.content, oldest, stored, wanted)


def subjects() -> Iterator[Subject]:
    """Every network; full-size ones for images of their paper's size."""
    for name in (*SMALL, *named_networks.FULL_SIZES):
        size = named_networks.SIZES[name]
        compiled = named_networks.compiled(name, size)
        yield subject_of(name, compiled, [[image] for image in named_networks.images(name, size, INPUTS)])
        named_networks.compiled.cache_clear()
    others = [
        ("quicknet", "tests.networks:quicknet", ["1x3x224x224"]),
        ("fracbnn", "tests.networks.fracbnn:fracbnn", ["1x3x32x32"]),
        *((name, f"tests.networks.applications:{name}", [one.input]) for name, one in APPLICATIONS.items()),
        *((name, f"tests.networks.strangers:{name}", list(one.shapes)) for name, one in NETWORKS.items()),
    ]
    for name, source, shapes in others:
        if name not in NOT_COMPILED:
            ranges = {"ids": (0, 100)} if name == "token_ids" else None
            compiled = bnncc.compile(source, input_shapes=shapes, input_ranges=ranges)
            inputs = [random_inputs(compiled.traced.model, seed) for seed in range(INPUTS)]
            yield subject_of(name, compiled, inputs)


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


def is_right(subject: Subject, found: float | str) -> bool:
    """Whether the classes are the reference's: all of a classifier's, nearly all of many others."""
    many = sum(_classes(array).size for wanted in subject.wanted for array in wanted) > 100 * INPUTS
    return not isinstance(found, str) and found >= (LEAST_SHARE if many else 1.0)


def chosen(names: set[str]) -> list[Environment]:
    """The environments that run LCE's operators, but for those of the matrix that take signs beside each form."""
    return [
        one for one in environments.OF_NETWORKS if (one.name in names or not names) and (SYSROOTS or not one.machine)
    ]


def run(environment: Environment, given: Sequence[Subject], folder: Path) -> dict[str, float | str]:
    """By network, its share in the worst configuration; nothing of a file that asks for a newer runtime."""
    taken = [one for one in given if not environment.is_older_than(one.oldest)]
    forms = folder / f"networks {environment.name}.pickle"
    forms.write_bytes(pickle.dumps([(one.content, True, one.inputs) for one in taken], 4))
    library = built_library(Platform(environment.machine or "x86_64")) if environment.delegate else ""
    if environment.kind == "bnncc":
        native.library()
    found: dict[str, float | str] = {}
    # One thread without XNNPACK, two with it, where it can be turned off.
    for xnnpack, threads in ((True, 2), (False, 1)) if environment.has_xnnpack else ((False, 2),):
        command = environments.command(environment, folder, xnnpack, threads, str(library))
        outcomes = run_batch(command, forms, len(taken), environments.variables(environment), SECONDS_A_NETWORK)
        for one, outcome in zip(taken, outcomes, strict=True):
            new, old = share(one, outcome), found.get(one.name, 1.0)
            found[one.name] = new if isinstance(new, str) else old if isinstance(old, str) else min(new, old)
    forms.unlink()
    print(environment.name, flush=True)
    return found


def main() -> int:
    """Run, and keep all results that are of these files."""
    folder, names = Path(sys.argv[1]).absolute(), set(sys.argv[2:])
    folder.mkdir(parents=True, exist_ok=True)
    given = list(subjects())
    sources = native.hash_of(*(path for path in source_folder().rglob("*") if path.suffix in {".cc", ".h"}))
    digest = hashlib.sha256(b"".join(one.content for one in given) + sources.encode()).hexdigest()
    print(f"{len(given)} networks", flush=True)
    path = folder / NETWORKS_FOUND
    kept = json.loads(path.read_text()) if path.exists() else {}
    results = kept["results"] if kept.get("digest") == digest else {}
    with ThreadPoolExecutor(2) as pool:
        waiting = [one for one in chosen(names) if one.name not in results]
        for environment, found in zip(waiting, pool.map(lambda one: run(one, given, folder), waiting), strict=True):
            results[environment.name] = found
            oldest = {one.name: one.oldest for one in given}
            path.write_text(json.dumps({"digest": digest, "oldest": oldest, "results": results}))
    print("\n".join(networks_table(json.loads(path.read_text()))))
    wrong = [
        f"{one.name} in {name}: {found[one.name]}"
        for name, found in results.items()
        for one in given
        if one.name in found and not is_right(one, found[one.name])
    ]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
