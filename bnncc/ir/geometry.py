"""Window arithmetic of convolutions and pools along one spatial axis.

Symbols: n input size, k kernel size, d dilation, s stride, b and e padding before and after, K = (k - 1)·d + 1 the
window's extent, m = ⌊(n + b + e - K) / s⌋ + 1 outputs.  Window j covers the positions j·s - b … j·s - b + K - 1.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Scheme(enum.Enum):
    """TensorFlow Lite's two paddings, and what fits neither."""

    VALID = "VALID"
    SAME = "SAME"
    EXPLICIT = "explicit"


@dataclass(frozen=True)
class Window:
    """One axis of a convolution or pool: input size, kernel, stride, dilation, explicit padding (may be negative: a
    crop).
    """

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    begin: int = 0
    end: int = 0

    @property
    def extent(self) -> int:
        """K, how many positions a window spans."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def outputs(self) -> int:
        """m, the size of the output (floor mode)."""
        return (self.size + self.begin + self.end - self.extent) // self.stride + 1

    @property
    def reached_end(self) -> int:
        """The padding after the data that windows really reach; negative where the last positions are never read."""
        return (self.outputs - 1) * self.stride - self.begin + self.extent - self.size

    def mirrored(self) -> Window:
        """The window that yields the reversed output from the reversed input (and a reversed kernel).

        Window j covers j·s - b …; reversed, its first position is n - 1 - (j·s - b + K - 1).  With j = m - 1 - i this
        is i·s - b' for b' = (m - 1)·s - b + K - n, which is `reached_end`; what is reached after the data is then b.
        """
        return Window(self.size, self.kernel, self.stride, self.dilation, self.reached_end, self.begin)

    @property
    def scheme(self) -> Scheme:
        """Which of TensorFlow Lite's paddings covers the same positions with the same number of outputs.

        VALID yields ⌊(n - K) / s⌋ + 1 outputs.  SAME yields ⌈n / s⌉, pads max((m - 1)·s + K - n, 0) in total and puts
        the smaller half first.
        """
        if self.begin == 0 and self.outputs == (self.size - self.extent) // self.stride + 1:
            return Scheme.VALID
        if self.outputs == -(-self.size // self.stride):
            total = max((self.outputs - 1) * self.stride + self.extent - self.size, 0)
            if self.begin == total // 2 and max(self.reached_end, 0) == total - total // 2:
                return Scheme.SAME
        return Scheme.EXPLICIT


def common_scheme(windows: tuple[Window, ...]) -> Scheme:
    """The scheme that fits every axis; a VALID axis that SAME covers too (no padding reached) counts as either."""
    schemes = {window.scheme for window in windows}
    if schemes == {Scheme.VALID}:
        return Scheme.VALID
    if Scheme.EXPLICIT in schemes:
        return Scheme.EXPLICIT
    fits_same = all(
        window.scheme is Scheme.SAME or (window.outputs == -(-window.size // window.stride) and window.reached_end <= 0)
        for window in windows
    )
    return Scheme.SAME if fits_same else Scheme.EXPLICIT
