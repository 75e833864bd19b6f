"""Slices behind each other become one that takes the same elements."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.passes.merge_slices import MergeSlices
from tests.passes.helpers import build, check_pass, operators

SHAPE = (2, 6, 9, 8)
X = f"float{list(SHAPE)} x"


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@cache
def spellings(size: int) -> list[tuple[int, int, int]]:
    """All (start, end, step) that take something of an axis, with ends counted from either side and beyond it."""
    return [
        (start, end, step)
        for step in (1, 2, 3, -1, -2)
        for start in range(-10, 11)
        for end in range(-11, 12)
        if range(size)[start:end:step]
    ]


@st.composite
def pairs_of_slices(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """(start, end, axis, step) of two Slices behind each other; each takes something of what is there."""
    sizes, found = list(SHAPE), []
    for _ in range(2):
        axis = draw(st.integers(-len(SHAPE), len(SHAPE) - 1))
        start, end, step = draw(st.sampled_from(spellings(sizes[axis])))
        sizes[axis] = len(range(sizes[axis])[start:end:step])
        found.append((start, end, axis, step))
    return found


@given(pairs_of_slices())
@settings(max_examples=80)
def test_two_slices_are_one_of_the_same_elements(slices: list[tuple[int, int, int, int]]) -> None:
    first, second = slices
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
