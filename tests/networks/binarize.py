"""Binarisers with the straight-through estimators (STE) that training code leaves in the graph."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PolynomialSign(nn.Module):
    """sign(x) forward, the derivative of a piecewise polynomial backward (Bi-Real Net, section 3.3).

    The estimator is written as algebra, ``sign(x) - p(x) + p(x)`` with ``p`` detached once, so that the forward
    graph carries about twenty nodes that cancel.
    """

    def forward(self, x: Tensor) -> Tensor:
        below_minus_one = (x < -1).float()
        below_zero = (x < 0).float()
        below_one = (x < 1).float()
        p = -1 * below_minus_one + (x * x + 2 * x) * (1 - below_minus_one)
        p = p * below_zero + (-x * x + 2 * x) * (1 - below_zero)
        p = p * below_one + (1 - below_one)
        return torch.sign(x).detach() - p.detach() + p


class ClippedSign(torch.autograd.Function):
    """sign(x) forward, the gradient of hardtanh backward."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


class ScaledBinaryConv2d(nn.Module):
    """A convolution whose weights are ``mean|w| · sign(w)`` per output channel, with a clamp as their STE.

    The weights are stored flat, shape [out · in · k · k, 1], and viewed as a filter in forward.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.shape = (out_channels, in_channels, kernel, kernel)
        self.weight = nn.Parameter(torch.randn(out_channels * in_channels * kernel * kernel, 1) * 0.001)

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight.view(self.shape)
        scale = w.abs().mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True).detach()
        binary = scale * torch.sign(w)
        clipped = torch.clamp(w, -1.0, 1.0)
        return F.conv2d(x, binary.detach() - clipped.detach() + clipped, stride=self.stride, padding=self.padding)
