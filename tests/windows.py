"""Windows of convolutions and pools for property tests: one axis, made so that at least one window fits."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from bnncc.ir.geometry import Window

Range = tuple[int, int]


@st.composite
def windows(
    draw: st.DrawFn,
    *,
    sizes: Range = (1, 9),
    kernels: Range = (1, 7),
    strides: Range = (1, 3),
    dilations: Range = (1, 3),
    pads: Range = (0, 6),
    widest_pad: Callable[[int], int] | None = None,
) -> Window:
    """A window within the given limits (both ends included), whose span is at most the padded size.

    widest_pad: how much padding a kernel takes on either side, where that may be less than `pads` says.
    """
    size = draw(st.integers(*sizes))
    kernel = draw(st.integers(kernels[0], min(kernels[1], (size + 2 * pads[1] - 1) // dilations[0] + 1)))
    widest = pads[1] if widest_pad is None else min(pads[1], widest_pad(kernel))
    fitting = (size + 2 * widest - 1) // (kernel - 1) if kernel > 1 else dilations[1]
    dilation = draw(st.integers(dilations[0], min(dilations[1], fitting)))
    missing = (kernel - 1) * dilation + 1 - size
    begin = draw(st.integers(max(pads[0], missing - widest), widest))
    end = draw(st.integers(max(pads[0], missing - begin), widest))
    return Window(size, kernel, draw(st.integers(*strides)), dilation, begin, end)
