"""The binary file beside the float TensorFlow Lite file of the same network.

For every network: the size of both files; on how many inputs each names the class that PyTorch names (test images of
the shipped network, normally distributed noise for the others, whose parameters are random); latency of one image in
LCE's interpreter at its best (indirect kernel and XNNPACK), on one thread, the median of runs that take turns.

The float file is made by onnx2tf and TensorFlow (`pip install 'bnncc[baseline]'`), which takes minutes for the large
networks, and is proven to be the network before it is measured.  Latencies say nothing about an ARM board.

    python benchmarks/baseline.py [--network NAME] [--runs N] [--inputs N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from turns import seconds_in_turns  # noqa: E402

from bnncc.baseline import make_baseline  # noqa: E402
from bnncc.compiler import compile_traced  # noqa: E402
from bnncc.frontend import trace  # noqa: E402
from bnncc.inference.runners import LceRunner  # noqa: E402
from bnncc.ir.evaluate import Array  # noqa: E402
from bnncc.options import Options  # noqa: E402
from bnncc.targets import find_target  # noqa: E402

TARGET = "raspberry-pi-4"
EXAMPLE = ROOT / "examples" / "fashion_mnist"
HEADER = (
    "network", "binary file", "float file", "smaller", "same class, binary", "same class, float", "binary", "float",
    "faster",
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """What to trace, and the images to run (all of `images`, or noise)."""

    title: str
    source: str
    shape: str
    weights: Path | None = None
    images: Path | None = None

    def inputs(self, count: int) -> list[Array]:
        """Images in NCHW, one a batch."""
        shape = tuple(map(int, self.shape.split("x")))
        if self.images is not None:
            return list(np.load(self.images)["images"].astype(np.float32).reshape(-1, *shape))
        generator = np.random.default_rng(0)
        return [generator.standard_normal(shape, dtype=np.float32) for _ in range(count)]


NETWORKS = {
    "reactnet_a": Network("ReActNet-A, 224x224", "tests.networks:reactnet_a", "1x3x224x224"),
    "bireal_net_18": Network("Bi-Real-Net-18, 224x224", "tests.networks:bireal_net_18", "1x3x224x224"),
    "fashion_mnist": Network(
        "Fashion-MNIST, 28x28",
        f"{EXAMPLE}/net.py:make_net",
        "1x1x28x28",
        EXAMPLE / "net.pth",
        EXAMPLE / "test_images.npz",
    ),
}


def row(network: Network, runs: int, count: int) -> list[str]:
    """Make both files and compare them."""
    traced = trace(network.source, weights=network.weights, input_shapes=[network.shape])
    binary = compile_traced(traced, find_target(TARGET), Options()).content
    baseline = make_baseline(traced).content
    inputs = network.inputs(count)
    assert traced.run_module is not None
    reference = [int(np.argmax(traced.run_module([image])[0])) for image in inputs]
    runners = [LceRunner(content, fastest=True) for content in (binary, baseline)]
    stored = [np.ascontiguousarray(image.transpose(0, 2, 3, 1)) for image in inputs]
    same = [
        sum(int(np.argmax(runner.run([image])[0])) == found for image, found in zip(stored, reference, strict=True))
        for runner in runners
    ]
    mine, other = map(statistics.median, seconds_in_turns(runners, stored[0], runs))
    return [
        network.title, size(binary), size(baseline), f"{len(baseline) / len(binary):.1f}x",
        *(f"{number:,} of {len(inputs):,}" for number in same),
        f"{mine * 1000:.2f} ms", f"{other * 1000:.2f} ms", f"{other / mine:.2f}x",
    ]  # fmt: skip


def size(content: bytes) -> str:
    """1,234,567 bytes as 1.23 MB."""
    return f"{len(content) / 1e6:.2f} MB" if len(content) >= 1e6 else f"{len(content) / 1e3:.1f} kB"


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="only this one; repeat for several")
    parser.add_argument("--runs", type=int, default=50, help="timed runs of each file")
    parser.add_argument("--inputs", type=int, default=20, help="random images of the networks without test images")
    arguments = parser.parse_args()
    rows = [HEADER, ["---"] * len(HEADER)]
    rows += [row(NETWORKS[name], arguments.runs, arguments.inputs) for name in arguments.network or NETWORKS]
    for entries in rows:
        print(f"| {' | '.join(entries)} |")


if __name__ == "__main__":
    main()
