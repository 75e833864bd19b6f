"""bnncc's file beside that of LCE's own converter, of larq-zoo's networks.

`keras_networks.py` makes the networks in an environment of its own (build/lce, made at the first run: TensorFlow 2.16
and larq-zoo), converts them with LCE 0.16's converter and, by tf2onnx, to ONNX, which bnncc compiles.  Then both files
run in turns on one thread, in LCE's interpreter at its best (indirect kernel and XNNPACK) and in LiteRT with bnncc's
delegate.  For both: operators; the bytes that elementwise float operators read and write; the file's size; latency, the
least and the median.  Both are compared with what Keras computes on a few images; the weights are random, so a rounding
that flips a sign spreads, in both files.  bnncc's is verified layer by layer as well.

    python benchmarks/lce/compare.py [--network NAME] [--runs N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from graph import elementwise_bytes  # noqa: E402
from turns import seconds_in_turns  # noqa: E402

import bnncc  # noqa: E402
from bnncc.inference.runners import Runtime  # noqa: E402
from bnncc.ir.evaluate import Array  # noqa: E402
from bnncc.targets.tflite.reader import TfliteFile  # noqa: E402

NETWORKS = (
    "BiRealNet", "QuickNet", "QuickNetSmall", "QuickNetLarge", "BinaryResNetE18", "RealToBinaryNet",
    "BinaryDenseNet28", "MeliusNet22", "BinaryAlexNet", "XNORNet",
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """One file.  latencies: (least, median) in milliseconds, for each runtime.  error: of the outputs against Keras',
    relative to the largest; same: on how many images it names the same class.
    """

    operators: int
    elementwise: int
    size: int
    latencies: dict[Runtime, tuple[float, float]]
    error: float
    same: int


def converted(names: list[str], folder: Path) -> None:
    """Let LCE's converter and tf2onnx write those of the networks that are not there yet."""
    missing = [name for name in names if not (folder / f"{name}.onnx").exists()]  # which is written last
    if not missing:
        return
    environment = folder / "environment"
    python = environment / "bin" / "python"
    if not (environment / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--requirement", HERE / "requirements.txt"], check=True)
        subprocess.run([*install, "--no-deps", "--requirement", HERE / "requirements_alone.txt"], check=True)
        (environment / "complete").touch()
    subprocess.run([python, HERE / "keras_networks.py", folder, *missing], check=True)


def measure(contents: list[bytes], inputs: Array, outputs: Array, runs: int) -> list[Figures]:
    """The files of one network, side by side.  inputs: [N, H, W, 3]; outputs: [N, classes], of Keras."""
    latencies: list[dict[Runtime, tuple[float, float]]] = [{} for _ in contents]
    found: list[Array] = []
    for runtime in Runtime:
        runners = [runtime.load(content, fastest=True) for content in contents]
        if not found:
            found = [np.concatenate([runner.run([image[None]])[0] for image in inputs]) for runner in runners]
        for entry, seconds in zip(latencies, seconds_in_turns(runners, inputs[:1], runs), strict=True):
            entry[runtime] = (1000 * min(seconds), 1000 * statistics.median(seconds))
    return [
        Figures(
            len(TfliteFile(content).operators),
            elementwise_bytes(TfliteFile(content)),
            len(content),
            entry,
            float(np.abs(result - outputs).max() / np.abs(outputs).max()),
            int(np.sum(result.argmax(1) == outputs.argmax(1))),
        )
        for content, entry, result in zip(contents, latencies, found, strict=True)
    ]


def row(name: str, lce: Figures, own: Figures, images: int) -> list[str]:
    """bnncc's figures, each with the ratio to LCE's converter's."""
    cells = [name, f"{own.operators} ({lce.operators})"]
    for ours, theirs in ((own.elementwise, lce.elementwise), (own.size, lce.size)):
        cells.append(f"{ours / 1e6:.2f} MB ({ours / theirs:.2f})")
    for runtime in Runtime:
        (least, median), (their_least, their_median) = own.latencies[runtime], lce.latencies[runtime]
        cells.append(f"{least:.2f} / {median:.2f} ms ({least / their_least:.2f} / {median / their_median:.2f})")
    cells.append(f"{own.same} ({lce.same}) of {images}, {own.error:.1e} ({lce.error:.1e})")
    return cells


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only this one; repeat for several")
    parser.add_argument("--runs", type=int, default=30, help="timed runs of each file")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "lce", help="where the networks are kept")
    arguments = parser.parse_args()
    names = arguments.network or list(NETWORKS)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    converted(names, arguments.folder)
    table = Table(
        "network", "operators", "elementwise", "file", *(f"{runtime.title}, least / median" for runtime in Runtime),
        "class and error, Keras'", title="bnncc (in brackets LCE's converter; of bytes and times the share of it)",
    )  # fmt: skip
    for name in names:
        data = np.load(arguments.folder / f"{name}.npz")
        compiled = bnncc.compile(arguments.folder / f"{name}.onnx")
        contents = [(arguments.folder / f"{name}.tflite").read_bytes(), compiled.content]
        lce, own = measure(contents, data["inputs"], data["outputs"], arguments.runs)
        table.add_row(*row(name, lce, own, len(data["inputs"])))
        proof = bnncc.verify(compiled, [[np.ascontiguousarray(data["inputs"][:1].transpose(0, 3, 1, 2))]])
        binary = sum(layer.reason is None for layer in compiled.layers)
        flips = sum(sign.free_running_flips for sign in proof.signs)
        found = "; ".join(proof.problems) or f"equal but for rounding, which flips {flips:,} signs"
        print(f"{name}: {binary} of {len(compiled.layers)} binary; verified: {found}", flush=True)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


if __name__ == "__main__":
    main()
