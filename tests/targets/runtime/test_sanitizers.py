"""Inference with sanitizers in the delegate: AddressSanitizer with UndefinedBehaviorSanitizer, and ThreadSanitizer.

Needs g++ with its sanitizers' libraries; Python itself and the interpreter are as they are, so that only the delegate's
own reads, writes and arithmetic are watched.  What lies in the interpreter's one block of tensors has no borders there:
`make fuzz-runtime` gives every tensor a block of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnncc.ir.evaluate import Array
from bnncc.runtime import LitertRunner, kernels
from bnncc.runtime.build import flags, source_folder, sources
from tests.needs import debian, need
from tests.targets.runtime.graphs import RandomGraph
from tests.targets.runtime.models import Conv

COMPILER = shutil.which("g++")
SCRIPT = Path(__file__).with_name("sanitized.py")
SANITIZERS = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
# Python frees less than it allocates at its end; a finding of UndefinedBehaviorSanitizer alone would only be printed.
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1", "TSAN_OPTIONS": "halt_on_error=1"}


def runtime_of(sanitizer: str) -> Path | None:
    """The library that has to be loaded before all others, or None where the compiler has none."""
    if COMPILER is None:
        return None
    command = [COMPILER, f"-print-file-name={SANITIZERS[sanitizer]}"]
    found = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    return found.resolve() if found.is_absolute() else None


def without_random_addresses() -> list[str]:
    """What to put before a command; nothing where the system does not let it.  ThreadSanitizer wants fixed places."""
    command = ["setarch", "-R"]
    found = shutil.which("setarch") and subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if found and found.returncode == 0 else []


def cases(rng: np.random.Generator) -> list[tuple[bytes, Array]]:
    """Files and their inputs."""
    convolutions = [Conv.draw(rng, tiny=i % 8 == 0) for i in range(16)] + [Conv.draw_short(rng) for _ in range(8)]
    graphs = [RandomGraph(rng) for _ in range(12)]
    return [
        *((conv.file(), conv.input()) for conv in convolutions),
        *((graph.file(), rng.normal(size=graph.x.shape).astype(np.float32)) for graph in graphs),
    ]


@pytest.fixture(scope="module")
def case_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for index, (content, x) in enumerate(cases(np.random.default_rng(0))):
        (folder / f"{index}.tflite").write_bytes(content)
        np.save(folder / f"{index}.x.npy", x)
        np.save(folder / f"{index}.y.npy", LitertRunner(content).run([x])[0])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_a_sanitizer_finds_nothing_in_inference(sanitizer: str, case_folder: Path, tmp_path: Path) -> None:
    runtime = runtime_of(sanitizer)
    need(runtime, debian(f"g++ with {SANITIZERS[sanitizer]}", "g++"))
    library = tmp_path / "delegate.so"
    command = [str(COMPILER), *flags(), "-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-shared"]
    exports = f"-Wl,--version-script={source_folder() / 'exports.map'}"
    subprocess.run([*command, *map(str, sources()), "-o", str(library), "-lpthread", exports], check=True)
    environment = [*without_random_addresses(), "env", f"LD_PRELOAD={runtime}"]
    for kernel in kernels():
        arguments = [sys.executable, str(SCRIPT), str(library), str(case_folder), "3", kernel]
        done = subprocess.run(
            [*environment, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **OPTIONS}
        )
        assert done.returncode == 0, done.stderr[-8000:]
        assert done.stdout.split() == [str(len(list(case_folder.glob("*.tflite"))))]
