"""Slices behind each other become one that takes the same elements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bnncc.passes.merge_slices import MergeSlices
from tests.passes.helpers import build, check_pass, operators

X = "float[2, 6, 9, 8] x"


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@st.composite
def slices(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """(start, end, axis, step) of a Slice."""
    step = draw(st.sampled_from([1, 2, 3, -1, -2]))
    return draw(st.integers(-10, 10)), draw(st.integers(-11, 11)), draw(st.integers(-4, 3)), step


@given(slices(), slices())
@settings(max_examples=80, deadline=None)
def test_two_slices_are_one_of_the_same_elements(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    shape = [range(size) for size in (2, 6, 9, 8)]
    for start, end, axis, step in (first, second):
        shape[axis] = shape[axis][start:end:step]
    assume(all(shape))
    names = [f"{part}{index}" for index in (0, 1) for part in "seak"]
    constants = dict(zip(names, (ints(number) for number in (*first, *second)), strict=True))
    body = "m = Slice (x, s0, e0, a0, k0)\nt = Slice (m, s1, e1, a1, k1)\ny = ReduceSum <keepdims = 0> (t, axes)"
    model = build(body, X, axes=ints(0, 1, 2, 3), **constants)
    assert operators(check_pass(model, MergeSlices()))["Slice"] == 1


def test_every_second_pixel_is_one_slice() -> None:
    body = "m = Slice (x, zero, end, rows, two)\ny = Slice (m, zero, end, columns, two)"
    constants = {"zero": ints(0), "end": ints(2**31), "two": ints(2), "rows": ints(2), "columns": ints(3)}
    assert operators(check_pass(build(body, X, **constants), MergeSlices())) == {"Slice": 1}


@pytest.mark.parametrize("output", ["m", "r"])
def test_a_slice_that_something_else_reads_stays(output: str) -> None:
    body = "m = Slice (x, zero, one, rows)\nr = Relu (m)\ny = Slice (m, zero, one, columns)"
    constants = {"zero": ints(0), "one": ints(1), "rows": ints(2), "columns": ints(3)}
    check_pass(build(body, X, f"y, {output}", **constants), MergeSlices(), modified=False)
