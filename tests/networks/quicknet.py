"""QuickNet as larq-zoo has it: Bannink et al., "Larq Compute Engine: Design, Benchmark and Deploy State-of-the-Art
Binarized Neural Networks", MLSys 2021, section 5.  LCE's documentation says how long it takes on a Raspberry Pi 4."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .binarize import ScaledBinaryConv2d


class Block(nn.Module):
    """sign, padding with +1, binary 3x3 convolution, ReLU, batch norm, shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ScaledBinaryConv2d(channels, channels, 3)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(F.pad(torch.sign(x), (1, 1, 1, 1), value=1.0))
        return x + self.bn(F.relu(y))


class Transition(nn.Module):
    """ReLU, 2x2 max-pool at stride 1, a depthwise 3x3 blur at stride 2, 1x1 convolution, batch norm."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.blur = nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False)
        self.conv = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.pad(F.relu(x), (0, 1, 0, 1)), 2, 1)
        return self.bn(self.conv(self.blur(x)))


class QuickNet(nn.Module):
    """A stem of a 3x3 and a depthwise convolution, both at stride 2, and a 1x1; four sections; a classifier."""

    def __init__(self, blocks: tuple[int, ...] = (4, 4, 4, 4), widths: tuple[int, ...] = (64, 128, 256, 512)) -> None:
        super().__init__()
        narrow = widths[0] // 4
        self.stem = nn.Sequential(
            nn.Conv2d(3, narrow, 3, 2, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, narrow, 3, 2, 1, groups=narrow, bias=False),
            nn.BatchNorm2d(narrow),
            nn.Conv2d(narrow, widths[0], 1, bias=False),
            nn.BatchNorm2d(widths[0]),
        )
        sections: list[nn.Module] = []
        channels = widths[0]
        for count, width in zip(blocks, widths, strict=True):
            if width != channels:
                sections.append(Transition(channels, width))
            sections += [Block(width) for _ in range(count)]
            channels = width
        self.sections = nn.Sequential(*sections)
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.sections(self.stem(x))).mean((2, 3)))
