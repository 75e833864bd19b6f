"""Compile the small forms with their trained weights, test the files on Fashion-MNIST, and print the README's table.

    python table.py              # --record writes what was measured into weights/NAME.log, too

The data is Debian's package dataset-fashion-mnist (apt-get install dataset-fashion-mnist).  The reference is PyTorch,
the file runs in Larq Compute Engine's interpreter.  Where the two name different classes, bnncc has to prove on that
very image that nothing but the rounding of floats flipped a sign.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from train import DATA, NETWORKS, WEIGHTS, load, make_network

import bnncc
from bnncc.inference.runners import LceRunner
from bnncc.model import CompiledModel
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify

HEADER = ("network", "binary layers", "file", "float32", "reference", "compiled", "same class", "what did the work")
SHAPE = "1x1x28x28"
# How the log says what the file achieved.
RECORD = "compiled file:"


@dataclass(frozen=True)
class Measured:
    """Counts over `images`: right classes of PyTorch and of the file, and images of which both name the same."""

    images: int
    reference: int
    compiled: int
    agreeing: int

    def record(self) -> str:
        """The line of the log."""
        return (
            f"{RECORD} reference {self.reference:,}, file {self.compiled:,} of {self.images:,} images right, "
            f"same class {self.agreeing:,}"
        )


def compile_small(name: str) -> CompiledModel:
    """The small form `name` with its trained weights."""
    source = f"{Path(__file__).parent / NETWORKS[name]}.py:{name}"
    return bnncc.compile(source, weights=WEIGHTS / f"{name}.pth", input_shapes=[SHAPE])


@torch.no_grad()
def reference_classes(name: str, images: torch.Tensor) -> np.ndarray:
    """What PyTorch says, int64 [N], of uint8 images [N, 1, 28, 28]."""
    network = make_network(name).eval()
    network.load_state_dict(torch.load(WEIGHTS / f"{name}.pth"))
    return torch.cat([network(batch.float()).argmax(1) for batch in images.split(500)]).numpy()


def compiled_classes(compiled: CompiledModel, images: np.ndarray, title: str = "") -> np.ndarray:
    """What the file says, int64 [N], of uint8 images [N, 1, 28, 28]."""
    runner = LceRunner(compiled.content)
    inputs = images.astype(np.float32)[:, None]
    return np.array(
        [
            int(runner.run([compiled.as_stored(image)])[0].argmax())
            for image in track(inputs, title, transient=True, disable=not title)
        ]
    )


def is_rounding_flip(compiled: CompiledModel, image: np.ndarray) -> bool:
    """True where the file is proven on `image`, uint8 [1, 28, 28]: only rounding can have made its class another."""
    return verify(compiled, [[image.astype(np.float32)[None]]]).passed


def measure(name: str, compiled: CompiledModel, images: torch.Tensor, labels: torch.Tensor) -> Measured:
    """Both run on all images.  Raises SystemExit where rounding does not explain a difference."""
    expected = reference_classes(name, images)
    found = compiled_classes(compiled, images.numpy(), name)
    for index in np.flatnonzero(expected != found):
        if not is_rounding_flip(compiled, images[index].numpy()):
            raise SystemExit(f"{name}: image {index}: the file says {found[index]}, PyTorch {expected[index]}")
    right = labels.numpy()
    return Measured(
        len(right), int((expected == right).sum()), int((found == right).sum()), int((expected == found).sum())
    )


def work(compiled: CompiledModel) -> str:
    """Which of the paper's parts became what, read off the file and the compiler's own account."""
    clauses = [clause for layer in compiled.layers for clause in layer.explanation]
    file = TfliteFile(compiled.content)
    names = Counter(operator.name for operator in file.operators)
    merged = sum("copies of its output merged" in clause for clause in clauses)
    split = sum("split into" in clause for clause in clauses)
    packed = [o.name for o in file.operators if o.inputs and o.inputs[0] is not None and o.inputs[0].dtype == "int32"]
    parts = []
    counts = {"merged into filters": merged, "repeated": repetitions(file)}
    copies = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if copies:
        parts.append(f"RepConv: {copies}")
    if split:
        parts.append(f"groups: {split} layers split by words")
    if "SPACE_TO_DEPTH" in names:
        parts.append(f"pixel_unshuffle: {packed.count('SPACE_TO_DEPTH')} of {names['SPACE_TO_DEPTH']} on packed bits")
        parts.append(f"pixel_shuffle: {names['DEPTH_TO_SPACE']} DEPTH_TO_SPACE, batch norms in front of it")
    if "LOGISTIC" in names:
        parts.append(f"WSD: in the bits; in float: {names['LOGISTIC']} ASD branches (mean, two Linears, sigmoid)")
    return "; ".join(parts)


def repetitions(file: TfliteFile) -> int:
    """How many binary convolutions have a CONCATENATION of their output with itself behind them."""
    sums = {operator.outputs[0].index for operator in file.operators if operator.name == "LceBconv2d"}
    copied = [o.inputs for o in file.operators if o.name == "CONCATENATION"]
    return sum(
        len({tensor.index for tensor in inputs if tensor is not None}) == 1 and inputs[0].index in sums
        for inputs in copied
        if inputs[0] is not None
    )


def kilobytes(count: int) -> str:
    """`45.3 kB`."""
    return f"{count / 1e3:,.1f} kB"


def row(name: str, compiled: CompiledModel, measured: Measured) -> tuple[str, ...]:
    """The cells of HEADER."""
    binary = sum(layer.reason is None for layer in compiled.layers)
    return (
        f"`{NETWORKS[name]}.py:{name}`",
        f"{binary} of {len(compiled.layers)}",
        kilobytes(len(compiled.content)),
        kilobytes(compiled.float_weight_bytes),
        f"{measured.reference / measured.images:.2%}",
        f"{measured.compiled / measured.images:.2%}",
        f"{measured.agreeing:,} of {measured.images:,}",
        work(compiled),
    )


def record(name: str, measured: Measured) -> None:
    """Let the log's last line say what was measured."""
    log = WEIGHTS / f"{name}.log"
    lines = [line for line in log.read_text().splitlines() if not line.startswith(RECORD)]
    log.write_text("\n".join([*lines, measured.record()]) + "\n")


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK", help="default: all")
    parser.add_argument("--data-dir", type=Path, default=DATA)
    parser.add_argument("--record", action="store_true", help="write the accuracies into the logs")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.networks) - set(NETWORKS))
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    torch.set_num_threads(1)
    images, labels = load(arguments.data_dir, "t10k")
    rows = []
    for name in arguments.networks:
        compiled = compile_small(name)
        measured = measure(name, compiled, images, labels)
        rows.append(row(name, compiled, measured))
        if arguments.record:
            record(name, measured)
    for cells in (HEADER, ["---"] * len(HEADER), *rows):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
