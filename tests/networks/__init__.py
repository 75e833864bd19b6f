"""Full-size networks for the tests, written from the papers, with honest random parameters."""

import torch

from .birealnet import BiRealNet18
from .quicknet import QuickNet
from .randomize import randomize
from .reactnet import ReActNet
from .rep_reactnet import RepReActNet
from .vgg_small import VggSmall


def reactnet_a() -> ReActNet:
    """ReActNet-A for 224x224 images with random parameters."""
    network = ReActNet()
    randomize(network)
    return network


def bireal_net_18() -> BiRealNet18:
    """Bi-Real-Net-18 for 224x224 images with random parameters."""
    network = BiRealNet18()
    randomize(network)
    return network


def quicknet() -> QuickNet:
    """QuickNet for 224x224 images with random parameters."""
    network = QuickNet()
    randomize(network)
    return network


def rep_reactnet_a() -> RepReActNet:
    """ReActNet-A, twice as wide, with RepConv (β = 4), for 224x224 images, with random parameters."""
    network = RepReActNet()
    randomize(network)
    return network


def vgg_small() -> VggSmall:
    """VGG-small for 32x32 images with random parameters."""
    network = VggSmall((128, 128, 256, 256, 512, 512), padding=1)
    network(torch.zeros(2, 3, 32, 32))  # gives the lazy Linear its size
    randomize(network)
    return network


__all__ = [
    "BiRealNet18",
    "QuickNet",
    "ReActNet",
    "RepReActNet",
    "VggSmall",
    "bireal_net_18",
    "quicknet",
    "randomize",
    "reactnet_a",
    "rep_reactnet_a",
    "vgg_small",
]
