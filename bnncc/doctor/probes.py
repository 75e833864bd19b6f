"""What is tried, each in a process of its own (`python -m bnncc.doctor.probes NAME`), which writes its rows as JSON in
its last line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bnncc.doctor.row import PREBUILT, Row, State

RUNTIMES, COMPILERS = "runtimes", "compilers"
PROVE = "compile and prove"
CACHE = "cache folder"
# As the delegate's sources: the compiler's own headers, none of the C++ library, which ziglang is told to leave out.
SOURCE = '#include <stdint.h>\nextern "C" int64_t twice(int64_t x) { return 2 * x; }\n'


def probe_lce() -> list[Row]:
    """LCE's interpreter runs a file."""
    from bnncc.inference.runners import Runtime

    missing = Runtime.LCE.why_missing
    if missing is not None:
        return [Row(RUNTIMES, Runtime.LCE.title, State.MISSING, missing)]
    from importlib.metadata import version

    from bnncc.inference.lce_process import PYTHON_VARIABLE

    python = os.environ.get(PYTHON_VARIABLE)
    name = f"in {python}" if python else f"larq-compute-engine {version('larq-compute-engine')}"
    return [_run_tiny_file(Runtime.LCE.value, name)]


def probe_litert() -> list[Row]:
    """LiteRT runs a file with the delegate, which is built for it where there is none; the delegate's kernels."""
    from importlib.metadata import version

    from bnncc.errors import BnnccError
    from bnncc.inference.runners import Runtime
    from bnncc.runtime import kernels, library_path

    name = f"LiteRT {version('ai-edge-litert')}"
    try:
        library = library_path()
    except BnnccError as error:
        advice = "install a C++ compiler, as by apt install g++, or pip install 'bnncc[runtime]'"
        return [Row(RUNTIMES, Runtime.LITERT.title, State.MISSING, f"no delegate: {error}", advice)]
    row = _run_tiny_file(Runtime.LITERT.value, f"{name}, delegate {library}")
    return [row, Row(RUNTIMES, "kernels, fastest first", State.OK, ", ".join(kernels()))]


def _run_tiny_file(name: str, text: str) -> Row:
    import numpy as np

    from bnncc.doctor.tiny_file import tiny_file
    from bnncc.inference.runners import Runtime

    runtime = Runtime(name)
    content, x, expected = tiny_file()
    try:
        found = runtime.load(content).run([x])[0]
    except (ImportError, RuntimeError, ValueError) as error:
        return Row(RUNTIMES, runtime.title, State.WRONG, f"{text}: does not run a file: {error}")
    if not np.array_equal(found, expected):
        return Row(RUNTIMES, runtime.title, State.WRONG, f"{text}: yields other sums than the file has")
    return Row(RUNTIMES, runtime.title, State.OK, text)


def probe_prove() -> list[Row]:
    """A small network in PyTorch is traced, compiled, and its file proven in each runtime."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    from bnncc.compiler import compile as compile_network
    from bnncc.errors import BnnccError
    from bnncc.inference.runners import available_runtimes
    from bnncc.ir.evaluate import random_inputs
    from bnncc.verification import verify_in

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(32, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            signs = torch.where(x >= 0, 1.0, -1.0)
            return F.conv2d(F.pad(signs, (1, 1, 1, 1), value=1.0), torch.sign(self.conv.weight))

    try:
        compiled = compile_network(Net().eval(), input_shapes=["1x32x8x8"])
        found = verify_in(available_runtimes(), compiled, [random_inputs(compiled.traced.model, 0)])
    except BnnccError as error:
        return [Row(RUNTIMES, PROVE, State.WRONG, f"does not work: {error}")]
    problems = [problem for one in found for problem in one.problems]
    sums = sum(layer.sums for one in found for layer in one.layers)
    if problems or not sums:
        return [Row(RUNTIMES, PROVE, State.WRONG, "; ".join(problems) or "no integer sum was compared")]
    where = " and in ".join(one.runtime.title for one in found)
    return [Row(RUNTIMES, PROVE, State.OK, f"a small network: {sums:,} integer sums equal, in {where}")]


def probe_compilers() -> list[Row]:
    """Each compiler that can make a delegate compiles a function."""
    from bnncc.runtime import BuildError
    from bnncc.runtime.build import ZIG_TARGETS, Platform, compiler, zig, zig_folder
    from bnncc.runtime.prebuilt import why_not_prebuilt

    rows = []
    try:
        machine = Platform.here()
        reason = why_not_prebuilt(machine)
        state = State.OK if reason is None else State.MISSING
        rows.append(Row(COMPILERS, PREBUILT, state, reason or f"for {machine}"))
        command = compiler(machine)
        if "ziglang" in command:  # whose first shared library takes a minute: it compiles its own C library
            rows.append(_compile("ziglang for this machine", command, "-c"))
        else:
            rows.append(_compile("C++ for this machine", command, "-shared", "-fPIC"))
    except BuildError as error:
        rows.append(Row(COMPILERS, "C++ for this machine", State.MISSING, str(error), "apt install g++"))
    if zig_folder() is None:
        rows.append(Row(COMPILERS, "ziglang", State.MISSING, "not installed", "pip install 'bnncc[runtime]'"))
    else:
        rows += [
            _compile(f"ziglang for {ZIG_TARGETS[machine]}", zig(Platform(machine)), "-c")
            for machine in ("aarch64", "armv7")
        ]
    for abi in ("aarch64-linux-gnu", "arm-linux-gnueabihf"):
        rows.append(_compile(f"{abi}-g++", [f"{abi}-g++"], "-c", advice=f"apt install g++-{abi}"))
    return [*rows, _ndk()]


def _ndk() -> Row:
    from bnncc.bundle.android_toolchain import ndk_compiler
    from bnncc.runtime import BuildError

    try:
        command = ndk_compiler()
    except BuildError as error:
        advice = "unpack an NDK and let ANDROID_NDK_HOME name its folder; ziglang does without"
        return Row(COMPILERS, "Android's NDK", State.MISSING, str(error).removeprefix("--compiler ndk needs "), advice)
    return _compile("Android's NDK", [str(command), "--target=aarch64-linux-android24"], "-c")


def _compile(name: str, command: list[str], *options: str, advice: str = "") -> Row:
    """Whether the command makes an object of SOURCE, and what it calls itself."""
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "twice.cc", Path(folder) / "result"
        source.write_text(SOURCE, encoding="ascii")
        try:
            done = _call([*command, *options, str(source), "-o", str(result)])
        except FileNotFoundError:
            return Row(COMPILERS, name, State.MISSING, "not installed", advice)
        except (OSError, subprocess.TimeoutExpired) as error:
            return Row(COMPILERS, name, State.WRONG, f"cannot be run: {error}")
        if done.returncode or not result.is_file():
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
            return Row(COMPILERS, name, State.WRONG, f"does not compile: {reason}")
    version = _call([*command, "--version"]).stdout.splitlines()
    return Row(COMPILERS, name, State.OK, version[0] if version else " ".join(command))


def _call(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=120, stdin=subprocess.DEVNULL
    )


def probe_cache() -> list[Row]:
    """The folder for built delegates: can it be used, and how much is in it?"""
    from bnncc.errors import BnnccError
    from bnncc.runtime.library import CACHE_VARIABLE, cache_folder

    try:
        folder = cache_folder()
    except BnnccError as error:
        return [Row(RUNTIMES, CACHE, State.WRONG, str(error))]
    if not folder.exists():
        return [Row(RUNTIMES, CACHE, State.OK, f"{folder}, made when it is needed")]
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    text = f"{folder}: {len(files):,} {'file' if len(files) == 1 else 'files'}, {size / 1e6:.1f} MB"
    if not os.access(folder, os.W_OK):
        advice = f"let {CACHE_VARIABLE} name a folder of yours"
        return [Row(RUNTIMES, CACHE, State.WRONG, f"{text}; you may not write to it", advice)]
    return [Row(RUNTIMES, CACHE, State.OK, text)]


PROBES: dict[str, Callable[[], list[Row]]] = {
    "lce": probe_lce,
    "litert": probe_litert,
    "cache": probe_cache,
    "compilers": probe_compilers,
    "prove": probe_prove,
}


if __name__ == "__main__":
    found = PROBES[sys.argv[1]]()
    print()
    print(json.dumps([{**asdict(row), "state": row.state.value} for row in found]))
