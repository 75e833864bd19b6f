"""Train the network of net.py on Fashion-MNIST and write net.pth and test_images.npz beside this file.

The data is Debian's package dataset-fashion-mnist (apt-get install dataset-fashion-mnist). A run that was stopped
goes on from its checkpoint, and ends with the same weights as one that was not stopped.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from data import FOLDER, load
from net import make_net
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).parent
SEED = 0
BATCH = 128
LEARNING_RATE = 3e-3
MAX_SHIFT = 2  # pixels
EXAMPLE_IMAGES = 1000


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images; move each by up to MAX_SHIFT pixels each way, black coming in from the edge."""
    count, _, height, width = images.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    padded = F.pad(images, (MAX_SHIFT,) * 4)[:, 0]
    top, left = torch.randint(0, 2 * MAX_SHIFT + 1, (2, count, 1, 1), generator=generator)
    rows = top + torch.arange(height)[None, :, None]
    columns = left + torch.arange(width)[None, None, :]
    return padded[torch.arange(count)[:, None, None], rows, columns][:, None]


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction of `images` that `network`, in eval mode, classifies correctly."""
    network.eval()
    predictions = torch.cat([network(batch.float()).argmax(1) for batch in images.split(500)])
    return (predictions == labels).float().mean().item()


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> float:
    """One pass over the training images in random order.  Returns the mean loss."""
    network.train()
    batches = torch.randperm(len(images), generator=generator).split(BATCH)
    total = 0.0
    for batch in batches:
        inputs = augment(images[batch], generator).float()
        loss = F.cross_entropy(network(inputs), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() * len(batch)
    return total / len(images)


def main() -> None:
    """Parse the command line, train, test, write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=FOLDER)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=Path("fashion_mnist_checkpoint.pth"))
    arguments = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    images, labels = load(arguments.data_dir, "train")
    test_images, test_labels = load(arguments.data_dir, "t10k")

    network = make_net()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = arguments.epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    first_epoch = 0
    if arguments.checkpoint.exists():
        checkpoint = torch.load(arguments.checkpoint)
        if checkpoint["epochs"] != arguments.epochs:
            parser.error(f"{arguments.checkpoint} belongs to a run of {checkpoint['epochs']} epochs; delete it")
        first_epoch = checkpoint["next_epoch"]
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])

    print(f"{sum(p.numel() for p in network.parameters()):,} parameters, torch {torch.__version__}", flush=True)
    for epoch in range(first_epoch, arguments.epochs):
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(SEED + epoch)
        loss = train_epoch(network, optimizer, schedule, images, labels, generator)
        score = accuracy(network, test_images, test_labels)
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch + 1}/{arguments.epochs}  loss {loss:.4f}  test accuracy {score:.2%}  {seconds:.0f} s",
            flush=True,
        )
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save(state | {"epochs": arguments.epochs, "next_epoch": epoch + 1}, arguments.checkpoint)

    torch.save(network.state_dict(), HERE / "net.pth")
    np.savez_compressed(
        HERE / "test_images.npz",
        images=test_images[:EXAMPLE_IMAGES].numpy(),
        labels=test_labels[:EXAMPLE_IMAGES].numpy(),
    )
    print(f"accuracy on all {len(test_images):,} test images: {accuracy(network, test_images, test_labels):.2%}")
    first = accuracy(network, test_images[:EXAMPLE_IMAGES], test_labels[:EXAMPLE_IMAGES])
    print(f"accuracy on the first {EXAMPLE_IMAGES:,}, those in test_images.npz: {first:.2%}")


if __name__ == "__main__":
    main()
