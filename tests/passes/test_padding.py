"""Every way to pad a binary convolution, compiled and proven: fills, modes, around the sign, on odd maps."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.targets.tflite.reader import TfliteFile

CHANNELS, FILTERS = 40, 33


class Padded(nn.Module):
    """A binary convolution whose input is padded by a Pad of its own."""

    def __init__(self, kind: str, before: bool, stride: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.before, self.stride = kind, before, stride
        self.stem = nn.Conv2d(3, CHANNELS, 1)
        self.weight = nn.Parameter(torch.randn(FILTERS, CHANNELS, 3, 3))
        self.fc = nn.Linear(FILTERS, 5)

    def pad(self, x: Tensor) -> Tensor:
        if self.kind in ("reflect", "replicate", "circular"):
            return F.pad(x, (1, 1, 2, 1), mode=self.kind)
        return F.pad(x, (1, 1, 2, 1), value=float(self.kind))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        signs = torch.sign(self.pad(x)) if self.before else self.pad(torch.sign(x))
        y = F.conv2d(signs, torch.sign(self.weight) * 0.1, stride=self.stride) + 0.03
        return self.fc(y.mean((2, 3)))


class Convolution(nn.Module):
    """A binary convolution with its own padding."""

    def __init__(self, kernel: int, **options: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.options = options
        self.stem = nn.Conv2d(3, CHANNELS, 1)
        self.weight = nn.Parameter(torch.randn(FILTERS, CHANNELS, kernel, kernel))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(torch.sign(self.stem(x)), torch.sign(self.weight) * 0.1, **self.options) + 0.01


def prove(module: nn.Module, *shape: int) -> bnncc.CompiledModel:
    compiled = bnncc.compile(module, input_shapes=[shape])
    found = bnncc.verify(compiled, [[np.random.default_rng(0).standard_normal(shape, dtype=np.float32)]])
    assert found.passed, found.problems
    assert [layer.reason for layer in compiled.layers] == [None]
    return compiled


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("kind", ["0", "1", "-1", "0.3", "reflect", "replicate", "circular"])
def test_a_pad_around_the_sign_is_exact_and_the_layer_stays_binary(kind: str, before: bool, stride: int) -> None:
    compiled = prove(Padded(kind, before, stride), 1, 3, 8, 7)
    names = [operator.name for operator in TfliteFile(compiled.content).operators]
    if kind in ("0", "1"):
        assert "LceDequantize" not in names


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (2, 2), (1, 1), (1, 6)])
@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        (3, {"padding": 1}),
        (3, {"padding": 1, "stride": 2}),
        (3, {"padding": 1, "stride": 3}),
        (3, {"padding": 2, "dilation": 2, "stride": 2}),
        (5, {"padding": 2, "stride": 2}),
        (7, {"padding": 3, "stride": 2}),
        (4, {"padding": 2}),
        (1, {"stride": 2}),
    ],
)
def test_padding_stride_and_dilation_are_exact_on_every_map(
    kernel: int, options: dict[str, int], size: tuple[int, int]
) -> None:
    prove(Convolution(kernel, **options), 1, 3, *size)
