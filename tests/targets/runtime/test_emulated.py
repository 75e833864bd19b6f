"""On emulated ARM processors the delegate computes what it computes here, bit for bit, floats included.

Needs the folder that `python -m tests.targets.runtime.sysroot DIR` makes, named by the environment variable
BNNCC_SYSROOTS, and the package ziglang, which builds the libraries.
"""

from __future__ import annotations

import re
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from bnncc.ir.evaluate import Array
from bnncc.runtime import LitertRunner
from bnncc.runtime.build import GLIBC
from tests.needs import SYSROOTS, needs_sysroots, needs_zig
from tests.targets.runtime import sysroot
from tests.targets.runtime.emulated_runtime import library
from tests.targets.runtime.float_convolution import TOLERANCE, FloatConv
from tests.targets.runtime.graphs import RandomGraph
from tests.targets.runtime.models import SAME, VALID, Conv, kept_file, pool_file, quantize_file
from tests.targets.runtime.networks import NETWORKS, compiled, inputs_of, part_between_float_convolutions
from tests.targets.tflite.compare import draw, to_file
from tests.targets.tflite.test_integers import BODIES, in_int8, model_of

pytestmark = [pytest.mark.slow, needs_sysroots, needs_zig]

SCRIPT = Path(__file__).with_name("emulated.py")

# Every kernel, on a processor of the lowest architecture that has it: an instruction beyond it ends the program.
RUNS = [
    ("aarch64", "cortex-a53", "neon-a53"),
    ("aarch64", "cortex-a53", None),
    ("aarch64", "cortex-a72", "neon-a72"),
    ("aarch64", "cortex-a72", "portable"),
    ("armv7", "cortex-a7", "neon"),
    ("armv7", "cortex-a7", "portable"),
]


def cases(rng: np.random.Generator) -> list[tuple[bytes, Array]]:
    """Files and their inputs."""
    found = [(conv.file(), conv.input()) for conv in (Conv.draw(rng, tiny=i % 8 == 0) for i in range(60))]
    for _ in range(10):
        shape = (1, int(rng.integers(3, 9)), int(rng.integers(3, 9)), int(rng.integers(1, 6)))
        words = (rng.integers(-(2**31), 2**31, shape) | rng.integers(-(2**31), 2**31, shape)).astype(np.int32)
        found.append((pool_file(shape, (2, 3), (2, 1), int(rng.choice([SAME, VALID]))), words))
        channels = int(rng.integers(1, 140))
        floats = rng.choice([-1.5, -0.0, 0.0, np.nan, 2.0], (3, channels)).astype(np.float32)
        found.append((quantize_file((3, channels), "float32"), floats))
    for seed in range(10):
        graph = RandomGraph(np.random.default_rng(seed))
        found.append((graph.file(), rng.normal(size=graph.x.shape).astype(np.float32)))
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, 3e38, -3e38]
    for dtype, scale in product(("int8", "uint8", "int16"), (0.0123, 0.0122999875, 0.125)):
        ties = (rng.integers(-600, 600, 997) / 2 * scale).astype(np.float32)
        x = np.concatenate([special, ties, np.nextafter(ties, np.float32(0)), 99 * ties]).astype(np.float32)[np.newaxis]
        found.append((kept_file(x.size, dtype, scale, 0 if dtype == "int16" else 5), x))
    for body in BODIES.values():  # layers in int8
        model = model_of(body)
        x = draw(model.graph.inputs[0], rng)
        found.append((in_int8(model, x), to_file(x)))
    return found


def run_there(
    files: list[tuple[bytes, Array]], machine: str, processor: str, kernel: str | None, folder: Path
) -> list[Array]:
    """The first output of each file on an emulated processor."""
    for index, (content, x) in enumerate(files):
        (folder / f"{index}.tflite").write_bytes(content)
        np.save(folder / f"{index}.x.npy", x)
    arguments = [str(SCRIPT), str(library(machine)), str(folder), *([kernel] if kernel else [])]
    assert sysroot.run(Path(SYSROOTS), machine, arguments, processor).split() == [str(len(files))]
    return [np.load(folder / f"{index}.y.npy") for index in range(len(files))]


@pytest.mark.parametrize(("machine", "processor", "kernel"), RUNS)
def test_emulated_processors_compute_the_same(machine: str, processor: str, kernel: str | None, tmp_path: Path) -> None:
    files = cases(np.random.default_rng(0))
    for (content, x), found in zip(files, run_there(files, machine, processor, kernel, tmp_path), strict=True):
        np.testing.assert_array_equal(found, LitertRunner(content).run([x])[0])


@pytest.mark.parametrize(("machine", "processor", "kernel"), RUNS)
def test_float_convolutions_on_emulated_processors_are_sums_of_products(
    machine: str, processor: str, kernel: str | None, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    convolutions = [FloatConv.draw(rng, channels) for channels in (1, 2, 3, 4, 5, 20, 33) for _ in range(4)]
    files = [(conv.file(), conv.arrays()[0]) for conv in convolutions]
    for conv, found in zip(convolutions, run_there(files, machine, processor, kernel, tmp_path), strict=True):
        wanted, scale = conv.expected()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * scale, err_msg=str(conv))


@pytest.mark.parametrize(("network", "shape"), NETWORKS)
@pytest.mark.parametrize(("machine", "processor"), [("aarch64", "cortex-a53"), ("armv7", "cortex-a7")])
def test_binary_layers_of_networks_compute_the_same_on_emulated_processors(
    network: str, shape: str, machine: str, processor: str, tmp_path: Path
) -> None:
    # A float convolution's sums are rounded otherwise where an instruction multiplies and adds in one step.
    content = part_between_float_convolutions(compiled(network, shape))
    (x,) = inputs_of(content)
    (found,) = run_there([(content, x)], machine, processor, None, tmp_path)
    np.testing.assert_array_equal(found, LitertRunner(content).run([x])[0])


@pytest.mark.parametrize("machine", ["aarch64", "armv7"])
def test_libraries_need_no_glibc_above_2_17_and_no_c_plus_plus_library(machine: str) -> None:
    command = ["readelf", "-W", "-d", "-V", str(library(machine))]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    versions = [tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", shown)]
    assert versions
    assert max(versions) <= tuple(map(int, GLIBC.split(".")))
    needed = set(re.findall(r"Shared library: \[([^\]]+)\]", shown))
    assert needed <= {"libc.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-armhf.so.3", "ld-linux-aarch64.so.1"}
