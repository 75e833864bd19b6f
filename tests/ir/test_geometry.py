import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.ir.geometry import Scheme, Window, common_scheme
from tests.windows import windows

# Negative padding: a crop.
WINDOWS = windows(sizes=(1, 12), pads=(-3, 6))
many = settings(max_examples=1500)


def positions(window: Window) -> list[list[int]]:
    """What each output reads, by sliding the window until it passes the end of the padded data."""
    result = []
    start = -window.begin
    while start + (window.kernel - 1) * window.dilation < window.size + window.end:
        result.append([start + tap * window.dilation for tap in range(window.kernel)])
        start += window.stride
    return result


def inside(reads: list[list[int]], size: int) -> list[list[int]]:
    """The same with -1 for every position outside the data: all padding is alike."""
    return [[position if 0 <= position < size else -1 for position in window] for window in reads]


def tensorflow_reads(window: Window, scheme: Scheme) -> list[list[int]]:
    """TensorFlow's definition (tf.nn.convolution): SAME yields ceil(n / s), VALID ceil((n - K + 1) / s) outputs; with
    SAME, max((m - 1)·s + K - n, 0) positions are padded, the smaller half in front."""
    extent = (window.kernel - 1) * window.dilation + 1
    if scheme is Scheme.SAME:
        outputs = int(np.ceil(window.size / window.stride))
        total = max((outputs - 1) * window.stride + extent - window.size, 0)
        begin = total // 2
    else:
        outputs = max(int(np.ceil((window.size - extent + 1) / window.stride)), 0)
        begin = 0
    return [
        [output * window.stride - begin + tap * window.dilation for tap in range(window.kernel)]
        for output in range(outputs)
    ]


@many
@given(WINDOWS)
def test_outputs_and_the_padding_reached_are_those_of_a_sliding_window(window: Window) -> None:
    reads = positions(window)
    assert window.outputs == len(reads)
    assert window.reached_end == reads[-1][-1] - (window.size - 1)
    assert window.extent == reads[0][-1] - reads[0][0] + 1


@many
@given(WINDOWS)
def test_the_mirrored_window_reads_the_reversed_data_in_reversed_order(window: Window) -> None:
    reads = positions(window)
    reversed_reads = [[window.size - 1 - position for position in taps[::-1]] for taps in reads[::-1]]
    assert positions(window.mirrored()) == reversed_reads


@many
@given(WINDOWS)
def test_mirroring_twice_is_the_window_itself_but_for_padding_that_is_never_reached(window: Window) -> None:
    reads = positions(window)
    assert positions(window.mirrored().mirrored()) == reads


@many
@given(WINDOWS)
def test_the_scheme_is_the_one_whose_definition_reads_the_same(window: Window) -> None:
    reads = inside(positions(window), window.size)
    fits = {
        scheme
        for scheme in (Scheme.VALID, Scheme.SAME)
        if inside(tensorflow_reads(window, scheme), window.size) == reads
    }
    if window.scheme is Scheme.EXPLICIT:
        # Only where SAME pads differently and yet no tap shows it, which takes a kernel with gaps or a tiny map.
        exact = {scheme for scheme in fits if tensorflow_reads(window, scheme) == positions(window)}
        assert not exact
    else:
        assert window.scheme in fits


@many
@given(st.tuples(WINDOWS, WINDOWS))
def test_the_common_scheme_fits_every_axis(axes: tuple[Window, Window]) -> None:
    exact = [
        {scheme for scheme in (Scheme.VALID, Scheme.SAME) if tensorflow_reads(window, scheme) == positions(window)}
        for window in axes
    ]
    expected = exact[0] & exact[1]
    found = common_scheme(axes)
    assert (found is Scheme.EXPLICIT) == (not expected)
    assert found is Scheme.EXPLICIT or found in expected


@pytest.mark.parametrize(
    ("window", "scheme"),
    [
        (Window(8, 3, 1, 1, 1, 1), Scheme.SAME),
        (Window(8, 3, 2, 1, 1, 1), Scheme.EXPLICIT),  # PyTorch's split (1, 0)
        (Window(8, 3, 2, 1, 1, 1).mirrored(), Scheme.SAME),  # TensorFlow's (0, 1)
        (Window(7, 3, 2, 1, 1, 1), Scheme.SAME),
        (Window(224, 7, 2, 1, 3, 3), Scheme.EXPLICIT),
        (Window(224, 7, 2, 1, 3, 3).mirrored(), Scheme.SAME),
        (Window(8, 1, 2), Scheme.VALID),
        (Window(8, 1, 2).mirrored(), Scheme.EXPLICIT),
        (Window(5, 3, 1, 1, 2, 2), Scheme.EXPLICIT),
        (Window(5, 1, 1, 1, 0, -2), Scheme.EXPLICIT),  # a crop
    ],
)
def test_known_windows(window: Window, scheme: Scheme) -> None:
    assert window.scheme is scheme


def test_an_axis_that_needs_no_padding_fits_either_scheme() -> None:
    same, either, valid = Window(7, 3, 1, 1, 1, 1), Window(7, 1), Window(7, 3)
    assert common_scheme((same, either)) is Scheme.SAME
    assert common_scheme((either, either)) is Scheme.VALID
    assert common_scheme((valid, either)) is Scheme.VALID
    assert common_scheme((same, valid)) is Scheme.EXPLICIT
