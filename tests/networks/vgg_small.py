"""VGG-small as in the binary-network literature (Zhang et al., "LQ-Nets", ECCV 2018, section 5.1, 1-bit): six
convolutions, max-pools in front of batch norms, hardtanh in front of signs.  Input [N, 3, 32, 32]."""

import torch
from torch import Tensor, nn

from .binarize import ClippedSign, ScaledBinaryConv2d


class BinaryLayer(nn.Module):
    """sign, binary 3x3 convolution, optional 2x2 max-pool, batch norm, hardtanh."""

    def __init__(self, channels: int, out_channels: int, pool: bool) -> None:
        super().__init__()
        self.conv = ScaledBinaryConv2d(channels, out_channels, 3, 1, 1)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.bn = nn.BatchNorm2d(out_channels)
        self.clip = nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.clip(self.bn(self.pool(self.conv(ClippedSign.apply(x)))))


class VggSmall(nn.Module):
    """Float 3x3 stem, five binary layers with a max-pool after every second convolution, Linear."""

    def __init__(self, width: int = 128, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.clip = nn.Hardtanh()
        layers, channels = [], width
        for index, out_channels in enumerate((width, 2 * width, 2 * width, 4 * width, 4 * width)):
            layers.append(BinaryLayer(channels, out_channels, pool=index % 2 == 0))
            channels = out_channels
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(channels * 4 * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.clip(self.bn(self.stem(x))))
        return self.fc(torch.flatten(x, 1))
