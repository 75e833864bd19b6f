"""Train the small forms of the four papers' networks on Fashion-MNIST: weights/NAME.pth and weights/NAME.log.

    python train.py ftbnn_small

The data is Debian's package dataset-fashion-mnist (apt-get install dataset-fashion-mnist).  A run that was stopped goes
on from its checkpoint, and ends with the same weights as one that was not stopped: on a CPU with the same number of
threads, to the bit.
"""

import argparse
import gzip
import importlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

# The networks and the files that they are in.
NETWORKS = {
    "rep_reactnet_small": "repbnn",
    "rep_recu_resnet20_small": "repbnn",
    "ftbnn_small": "ftbnn",
    "rbnet_small": "rbnet",
    "sdbnn_resnet20_small": "sdbnn",
    "sdbnn_vgg_small": "sdbnn",
}
WEIGHTS = Path(__file__).parent / "weights"
DATA = Path("/usr/share/datasets/fashion-mnist")
SEED = 0
BATCH = 128
LEARNING_RATE = 3e-3
# The part of all steps in which the learning rate rises; then it falls along a cosine.
WARM_UP = 0.1


def read_idx(path: Path) -> Tensor:
    """The uint8 array in a gzipped IDX file: two zero bytes, type, rank, then big-endian int32 sizes and the data."""
    with gzip.open(path) as file:
        rank = file.read(4)[3]
        shape = np.frombuffer(file.read(4 * rank), ">i4")
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8).reshape(shape).copy())


def load(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images, uint8 [N, 1, 28, 28], and labels, int64 [N], of the split "train" or "t10k".

    Raises SystemExit, naming the package, where they are not there.
    """
    try:
        images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz")
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename} is missing: apt-get install dataset-fashion-mnist") from error
    return images[:, None], labels.long()


def make_network(name: str) -> nn.Module:
    """One of NETWORKS, with fresh parameters."""
    network: nn.Module = getattr(importlib.import_module(NETWORKS[name]), name)()
    return network


def mirror_half(images: Tensor, generator: torch.Generator) -> Tensor:
    """The images, each mirrored with probability 1/2."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The numbers below `count` in random order, BATCH at a time; the last few, fewer than BATCH, are left out."""
    return iter(torch.randperm(count, generator=generator)[: count // BATCH * BATCH].split(BATCH))


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, device: torch.device) -> float:
    """The fraction of `images` that `network`, in eval mode, classifies correctly."""
    network.eval()
    predictions = torch.cat([network(batch.to(device).float()).argmax(1).cpu() for batch in images.split(500)])
    return (predictions == labels).float().mean().item()


class Run:
    """A training run: network, optimizer, schedule and random numbers, all that a checkpoint has to hold."""

    def __init__(self, name: str, epochs: int, images: int, device: torch.device) -> None:
        torch.manual_seed(SEED)
        self.network = make_network(name).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, LEARNING_RATE, total_steps=epochs * (images // BATCH), pct_start=WARM_UP
        )
        self.generator = torch.Generator().manual_seed(SEED)  # order and mirroring of the images
        self.device, self.epochs, self.next_epoch = device, epochs, 0

    def save(self, path: Path) -> None:
        """Write a checkpoint: whole, or the old one stays."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),
            "epochs": self.epochs,
            "next_epoch": self.next_epoch,
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def resume(self, path: Path) -> None:
        """Take over a checkpoint.  Raises SystemExit where it belongs to a run of another length."""
        state = torch.load(path)
        if state["epochs"] != self.epochs:
            raise SystemExit(f"{path} belongs to a run of {state['epochs']} epochs; delete it")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        self.next_epoch = state["next_epoch"]

    def train_epoch(self, images: Tensor, labels: Tensor) -> float:
        """One pass over the training images in random order.  Returns the mean loss."""
        self.network.train()
        if hasattr(self.network, "set_progress"):  # a network that changes in the course of training
            self.network.set_progress(self.next_epoch / max(self.epochs - 1, 1))
        total, steps = 0.0, len(images) // BATCH
        title = f"epoch {self.next_epoch + 1}/{self.epochs}"
        for batch in track(batches(len(images), self.generator), title, total=steps, transient=True):
            inputs = mirror_half(images[batch], self.generator).to(self.device).float()
            loss = F.cross_entropy(self.network(inputs), labels[batch].to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total += loss.item()
        self.next_epoch += 1
        return total / steps


def main() -> None:
    """Parse the command line, train, test, write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data-dir", type=Path, default=DATA)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="the folder for NAME.pth and NAME.log")
    parser.add_argument("--checkpoint", type=Path, help="default: NAME.checkpoint.pth in the current folder")
    arguments = parser.parse_args()
    name = arguments.network
    checkpoint = arguments.checkpoint or Path(f"{name}.checkpoint.pth")

    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = load(arguments.data_dir, "train")
    test_images, test_labels = load(arguments.data_dir, "t10k")
    run = Run(name, arguments.epochs, len(images), device)
    resumed = checkpoint.exists()
    if resumed:
        run.resume(checkpoint)
    log = arguments.output / f"{name}.log"

    def report(line: str, mode: str = "a") -> None:
        print(line, flush=True)
        with log.open(mode) as file:
            file.write(line + "\n")

    if not resumed:
        count = sum(parameter.numel() for parameter in run.network.parameters())
        report(f"{name}: {count:,} parameters, torch {torch.__version__}, {device.type}, seed {SEED}", "w")
    while run.next_epoch < run.epochs:
        start = time.perf_counter()
        loss = run.train_epoch(images, labels)
        score = accuracy(run.network, test_images, test_labels, device)
        seconds = time.perf_counter() - start
        report(f"epoch {run.next_epoch}/{run.epochs}  loss {loss:.4f}  test accuracy {score:.2%}  {seconds:.0f} s")
        run.save(checkpoint)
    torch.save({key: value.cpu() for key, value in run.network.state_dict().items()}, arguments.output / f"{name}.pth")
    score = accuracy(run.network, test_images, test_labels, device)
    report(f"test accuracy {score:.2%} on {len(test_images):,} images")


if __name__ == "__main__":
    main()
