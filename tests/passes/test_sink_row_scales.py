"""Computed scales of the rows of a product: as a pass and end to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.passes.sink_row_scales import SinkRowScales
from tests.passes.helpers import build, check_pass, normal, signs
from tests.passes.proof import eighths, equals_pytorch, operators_in_file, proven

Layer = Callable[[Tensor, Tensor, Tensor], Tensor]


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def size(x: Tensor) -> Tensor:
    """Of each image."""
    return x.abs().amax(tuple(range(1, x.ndim)), keepdim=True)


def convolution(**geometry: Any) -> Layer:
    return lambda x, w, b: (F.conv2d if x.ndim == 4 else F.conv1d)(sign(x) * size(x), w, b, **geometry)


LAYERS: dict[str, tuple[Layer, tuple[int, ...], tuple[int, ...]]] = {
    "rows of a Linear": (lambda x, w, b: F.linear(sign(x) * x.abs().mean(-1, keepdim=True), w, b), (8, 64), (24, 64)),
    "rows that are divided": (lambda x, w, b: F.linear(sign(x) / x.abs().amax(1, True), w, b), (8, 40), (24, 40)),
    "scales of either sign": (lambda x, w, b: F.linear(x[:, :1] * sign(x), w, b), (8, 40), (24, 40)),
    "positions": (lambda x, w, b: F.linear(sign(x) * x.abs().amax(-1, True), w, b), (2, 8, 64), (24, 64)),
    "{0, 1}": (lambda x, w, b: F.linear((x > 0).float() * x.abs().mean(1, True), w, b), (8, 64), (24, 64)),
    "two scales": (lambda x, w, b: F.linear(sign(x) * size(x) * x[:, :1] * 0.5, w, b), (8, 64), (24, 64)),
    "a step of a sequence": (
        lambda x, w, b: F.linear((sign(x) * x.abs().mean(-1, True))[1], w, b),
        (3, 8, 64),
        (24, 64),
    ),
    "a step that is cut out": (
        lambda x, w, b: F.linear((x.abs().mean(-1, True) * sign(x))[1:2].squeeze(0), w, b),
        (3, 8, 64),
        (24, 64),
    ),
    "rows of all images": (
        lambda x, w, b: F.linear((sign(x) / x.abs().amax(-1, True)).view(-1, 64), w, b),
        (2, 8, 64),
        (24, 64),
    ),
    "scales a channel": (
        lambda x, w, b: F.conv2d(sign(x) * size(x) * (torch.arange(32.0) % 1 + 2).view(1, -1, 1, 1), w, b, padding=1),
        (1, 32, 6, 8),
        (24, 32, 3, 3),
    ),
    "flattened": (lambda x, w, b: F.linear((sign(x) * size(x)).flatten(1), w, b), (2, 33, 2, 4), (24, 264)),
    "images": (convolution(padding=1), (2, 32, 6, 8), (24, 32, 3, 3)),
    "strides": (convolution(padding=1, stride=2), (1, 33, 6, 8), (24, 33, 3, 3)),
    "groups": (convolution(padding=1, groups=2), (1, 64, 6, 8), (24, 32, 3, 3)),
    "sequences": (convolution(padding=1), (2, 40, 16), (24, 40, 3)),
    "padded on two sides": (
        lambda x, w, b: F.conv2d(F.pad(sign(x) * size(x), (1, 0, 0, 2)), w, b),
        (1, 32, 6, 8),
        (24, 32, 3, 3),
    ),
    "pixels": (
        lambda x, w, b: F.conv2d(sign(x) * x.abs().amax(1, keepdim=True), w, b),
        (1, 32, 6, 8),
        (24, 32, 1, 1),
    ),
    "every other pixel": (
        lambda x, w, b: F.conv2d(sign(x) * x.abs().amax(1, keepdim=True), w, b, (2, 1)),
        (1, 32, 6, 8),
        (24, 32, 1, 1),
    ),
}


class Scaled(nn.Module):
    """A layer of signs that are scaled."""

    def __init__(self, layer: Layer, shape: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = layer
        self.weight, self.bias = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randint(-9, 9, shape[:1]) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, sign(self.weight), self.bias)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_scaled_signs_is_bits(name: str) -> None:
    layer, shape, weight = LAYERS[name]
    network = Scaled(layer, weight)
    compiled = proven(network, *shape)
    found = operators_in_file(compiled)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert found["LceBconv2d"] == (2 if name == "groups" else 1)
    assert found["LceDequantize"] == found["CONV_2D"] == found["FULLY_CONNECTED"] == 0
    assert len(compiled.content) < network.weight.numel() / 8 + 8000
    if name != "rows that are divided":
        assert equals_pytorch(compiled, network, eighths(*shape))


@pytest.mark.parametrize(
    ("body", "shape", "weight", "sunk"),
    [
        ("t = Mul (s, r)\ny = Gemm <transB = 1> (t, w)", "float[4, 6] x, float[4, 1] r", (5, 6), True),
        ("t = Mul (r, s)\ny = MatMul (t, w)", "float[3, 4, 6] x, float[4, 1] r", (6, 5), True),
        ("t = Mul (s, r)\ny = Gemm <transB = 1> (t, w)", "float[4, 6] x, float[1, 6] r", (5, 6), False),
        ("t = Div (r, s)\ny = Gemm <transB = 1> (t, w)", "float[4, 6] x, float[4, 1] r", (5, 6), False),
        ("t = Mul (s, r)\ny = Conv (t, w)", "float[2, 6, 5, 7] x, float[2, 1, 1, 1] r", (4, 6, 3, 3), True),
        ("t = Mul (s, r)\ny = Conv (t, w)", "float[2, 6, 5, 7] x, float[2, 1, 5, 7] r", (4, 6, 3, 3), False),
        ("t = Mul (s, r)\ny = Conv (t, w)", "float[2, 6, 5, 7] x, float[2, 1, 5, 7] r", (4, 6, 1, 1), True),
        (
            "t = Mul (s, r)\ny = Conv <strides = [2, 1]> (t, w)",
            "float[2, 6, 5, 7] x, float[2, 1, 5, 7] r",
            (4, 6, 1, 1),
            True,
        ),
        ("t = Mul (s, r)\ny = Conv (t, w)", "float[2, 6, 5, 7] x, float[2, 6, 1, 1] r", (4, 6, 3, 3), False),
        ("t = Mul (x, r)\ny = Conv (t, w)", "float[2, 6, 5, 7] x, float[2, 1, 1, 1] r", (4, 6, 3, 3), False),
    ],
)
def test_a_scale_sinks_where_the_product_does_not_sum_over_it(
    body: str, shape: str, weight: tuple[int, ...], sunk: bool
) -> None:
    model = build(("" if "(x" in body else "s = bnncc.Sign (x)\n") + body, shape, w=signs(*weight))
    check_pass(model, SinkRowScales(), modified=sunk)


def test_float_weights_keep_their_scaled_input() -> None:
    body = "s = bnncc.Sign (x)\nt = Mul (s, r)\ny = Gemm <transB = 1> (t, w)"
    model = build(body, "float[4, 6] x, float[4, 1] r", w=normal(5, 6))
    check_pass(model, SinkRowScales(), modified=False)
