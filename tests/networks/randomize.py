"""Honest random parameters: a network in its initial state (γ = 1, β = 0, bias = 0) hides most compiler bugs."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm, shift, slope and bias of `module` a distinct random value, in place, and set eval mode.

    Batch-norm variances match the sums they normalise (a fan-in of mean-abs scaled ±1 products), γ is negative in
    one channel of four; shifts and biases are normal with deviation 0.3; PReLU slopes lie in (-0.1, 0.5).
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(shape: torch.Size, low: float, high: float) -> torch.Tensor:
        return torch.rand(shape, generator=generator) * (high - low) + low

    def normal(shape: torch.Size, deviation: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * deviation

    weight_scale = 1.0
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            flips = torch.where(torch.rand(child.weight.shape, generator=generator) < 0.25, -1.0, 1.0)
            child.weight.copy_(flips * uniform(child.weight.shape, 0.4, 1.6))
            child.bias.copy_(normal(child.bias.shape, 0.3))
            child.running_mean.copy_(normal(child.running_mean.shape, 0.3 * weight_scale))
            child.running_var.copy_(uniform(child.running_var.shape, 0.5, 2.0) * weight_scale**2)
        elif isinstance(child, nn.LayerNorm):
            child.weight.copy_(uniform(child.weight.shape, 0.4, 1.6))
            child.bias.copy_(normal(child.bias.shape, 0.3))
        elif isinstance(child, nn.PReLU):
            child.weight.copy_(uniform(child.weight.shape, -0.1, 0.5))
        elif isinstance(child, nn.Conv2d | nn.Linear):
            fan_in = child.weight[0].numel()
            weights = normal(child.weight.shape, fan_in**-0.5)
            child.weight.copy_(torch.where(weights == 0, fan_in**-0.5, weights))  # no bit says 0
            if child.bias is not None:
                child.bias.copy_(normal(child.bias.shape, 0.3))
            weight_scale = 1.0
        elif hasattr(child, "shape") and isinstance(getattr(child, "weight", None), nn.Parameter):
            fan_in = child.weight.numel() // child.shape[0]
            weights = normal(child.weight.shape, 0.01)
            child.weight.copy_(torch.where(weights == 0, 0.01, weights))
            weight_scale = 0.008 * fan_in**0.5
            if isinstance(getattr(child, "bias", None), nn.Parameter):
                child.bias.copy_(normal(child.bias.shape, 0.3))
        elif isinstance(getattr(child, "bias", None), nn.Parameter):
            child.bias.copy_(normal(child.bias.shape, 0.3))
    return module.eval()
