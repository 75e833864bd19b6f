"""Honest parameters for any network, and images for it."""

import torch
from torch import nn
from torch.nn import functional as F

from .randomize import randomize


@torch.no_grad()
def honest(network: nn.Module, size: int) -> nn.Module:
    """Random parameters, distinct for every channel, with batch-norm statistics of random images."""
    randomize(network)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if not name.endswith((".weight", ".bias")):  # learnt scales, shifts and slopes of the papers' own
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        parameter[parameter == 0] = 0.01  # among millions of random weights there is a 0 at times, which no bit says
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(smooth_images(4, size))
    return network.eval()


def smooth_images(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Like normalised photos, [count, 3, size, size]: neighbouring pixels agree, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, size // 16, size // 16, generator=generator)
    return F.interpolate(coarse, scale_factor=16) + 0.3 * torch.randn(count, 3, size, size, generator=generator)
