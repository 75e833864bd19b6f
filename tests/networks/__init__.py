"""Full-size networks for the tests, written from the papers, with honest random parameters."""

from .birealnet import BiRealNet18
from .randomize import randomize
from .reactnet import ReActNet


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


__all__ = ["BiRealNet18", "ReActNet", "bireal_net_18", "randomize", "reactnet_a"]
