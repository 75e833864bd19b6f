"""Between which numbers a value lies: no input leads beyond, and what is rounded of it is bits for the layer behind."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.ir.evaluate import run, skeleton
from bnncc.passes.ranges import is_never_negative, range_of, whole_numbers
from tests.passes.helpers import build, normal
from tests.passes.proof import compared, operators_in_file, proven

X = "float[2, 6, 5, 7] x"
CONSTANTS: dict[str, Any] = {
    "two": 2.0,
    "half": 0.5,
    "third": 3.999,
    "minus": -1.5,
    "pads": np.array([0, 0, 1, 1, 0, 0, 0, 1]),
    "many": normal(7),
}


def constants_in(text: str) -> dict[str, Any]:
    """Those that the text reads."""
    return {name: CONSTANTS[name] for name in set(re.findall(r"\w+", text)) & CONSTANTS.keys()}


# The range of y, which random numbers up to 100 must not leave.
RANGES = {
    "t = Tanh (x)\nm = Mul (t, minus)\ny = Add (m, half)": (-1.0, 2.0),
    "s = Sigmoid (x)\ny = Mul (s, third)": (0.0, np.float32(3.999)),
    "r = Relu (x)\nn = Neg (r)\ny = MaxPool <kernel_shape = [2, 2]> (n)": (-np.inf, 0.0),
    "c = Clip (x, minus, two)\na = Abs (c)\ny = Sub (half, a)": (-1.5, 0.5),
    "c = Clip (x, minus, two)\ny = Mul (c, c)": (0.0, 4.0),
    "c = Clip (x, minus)\nr = Relu (c)\ny = Concat <axis = 1> (c, r)": (-1.5, np.inf),
    "g = Greater (x, half)\nc = Cast <to = 1> (g)\ny = Where (g, c, minus)": (-1.5, 1.0),
    "s = Sign (x)\np = Pad (s, pads, two)\ny = Min (p, half)": (-1.0, 0.5),
    "e = Exp (x)\nd = Add (e, half)\ny = Div (half, d)": (0.0, 1.0),
    "l = ReduceMin <keepdims = 0> (x)\nm = ReduceMax <keepdims = 0> (x)\na = Sub (x, l)\nb = Sub (m, l)\n"
    "d = Add (b, half)\ny = Div (a, d)": (0.0, 1.0),
    "l = ReduceMin <keepdims = 0> (x)\na = Sub (x, l)\ny = Div (a, two)": (-np.inf, np.inf),
    "y = Mul (x, many)": (-np.inf, np.inf),
}


@pytest.mark.parametrize("text", RANGES)
def test_no_input_leads_beyond_the_range(text: str) -> None:
    model = build(text, X, **constants_in(text))
    (y,) = model.graph.outputs
    least, largest = range_of(y)
    assert (least, largest) == RANGES[text]
    (found,) = run(skeleton(model), {"x": 100 * normal(2, 6, 5, 7)}).values()
    assert least <= found.min() <= found.max() <= largest


def test_a_value_is_looked_at_once_however_many_read_it() -> None:
    text = "s0 = Tanh (x)\n" + "\n".join(f"s{index + 1} = Mul (s{index}, s{index})" for index in range(22))
    (y,) = build(f"{text}\ny = Add (s22, s22)", X).graph.outputs  # 2 ** 23 ways lead to x
    assert range_of(y) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t = Tanh (x)\ny = Round (t)", (-1, 1)),
        ("t = Tanh (x)\nm = Mul (t, third)\ny = Ceil (m)", (-3, 4)),
        ("s = Sigmoid (x)\nm = Mul (s, third)\ni = Cast <to = 7> (m)\ny = Cast <to = 1> (i)", (0, 3)),
        ("f = Floor (x)\nd = Mul (f, half)\ng = Floor (d)\nm = Mul (g, two)\ny = Sub (f, m)", (0, 1)),
        ("d = Mul (x, half)\ng = Floor (d)\nm = Mul (g, two)\ny = Sub (x, m)", None),
        ("f = Floor (x)\nd = Mul (f, two)\ng = Floor (d)\nm = Mul (g, two)\ny = Sub (f, m)", None),
        ("y = Round (x)", None),
        ("t = Tanh (x)\ny = Mul (t, two)", None),
    ],
)
def test_whole_numbers_are_known_where_they_are_bounded(text: str, expected: tuple[int, int] | None) -> None:
    (y,) = build(text, X, **constants_in(text)).graph.outputs
    assert whole_numbers(y) == expected


def test_what_is_never_negative() -> None:
    text = "a = Relu (x)\nb = Abs (x)\nc = Concat <axis = 1> (a, b)\nd = AveragePool <kernel_shape = [2, 2]> (c)\ny = "
    (y,) = build(f"{text}Mul (d, half)", X, half=0.5).graph.outputs
    assert is_never_negative(y)
    (y,) = build(f"{text}Sub (d, half)", X, half=0.5).graph.outputs
    assert not is_never_negative(y)


# The divisor's elements; reduced to them, what is x of.  A square map, so that all shapes fit.
SQUARE = "float[2, 5, 5, 5] x"
OF_OTHER_ELEMENTS = {
    "transposed": "l = ReduceMin (x, last)\nm = ReduceMax (x, last)\nmin = Transpose <perm = [0, 1, 3, 2]> (l)\n"
    "max = Transpose <perm = [0, 1, 3, 2]> (m)",
    "broadcast along another axis": "l = ReduceMin <keepdims = 0> (x, last)\nm = ReduceMax <keepdims = 0> (x, last)\n"
    "min = Unsqueeze (l, rows)\nmax = Unsqueeze (m, rows)",
    "of a transposed map": "t = Transpose <perm = [0, 2, 1, 3]> (x)\nmin = ReduceMin (t, last)\n"
    "max = ReduceMax (t, last)",
    "of rows of another map": "t = Reshape (x, square)\nl = ReduceMin (t, second)\nm = ReduceMax (t, second)\n"
    "min = Reshape (l, columns)\nmax = Reshape (m, columns)",
}
OF_ITS_OWN = {
    "rows of it": "t = Reshape (x, maps)\nl = ReduceMin (t, second)\nm = ReduceMax (t, second)\n"
    "min = Reshape (l, ones)\nmax = Reshape (m, ones)",
    "of other axes": "min = ReduceMin (x, last)\nmax = ReduceMax (x, first)",
}
SHAPES: dict[str, Any] = {
    **{name: np.array([axis]) for name, axis in {"last": 3, "rows": 2, "first": 0, "second": 1}.items()},
    "square": np.array([5, 50]),
    "columns": np.array([1, 5, 1, 1]),
    "maps": np.array([10, 25]),
    "ones": np.array([2, 5, 1, 1]),
}


@pytest.mark.parametrize(("text", "is_share"), [
    *((text, False) for text in OF_OTHER_ELEMENTS.values()),
    *((text, True) for text in OF_ITS_OWN.values()),
])  # fmt: skip
def test_a_share_of_a_span_is_one_where_each_element_is_within_it(text: str, is_share: bool) -> None:
    text += "\na = Sub (x, min)\nb = Sub (max, min)\nd = Add (b, half)\ny = Div (a, d)"
    constants = {name: array for name, array in (SHAPES | CONSTANTS).items() if re.search(rf"\b{name}\b", text)}
    model = build(text, SQUARE, **constants)
    (y,) = model.graph.outputs
    assert range_of(y) == ((0.0, 1.0) if is_share else (-np.inf, np.inf))
    (found,) = run(skeleton(model), {"x": 100 * normal(2, 5, 5, 5)}).values()
    assert (found.min() >= 0 and found.max() <= 1) == is_share


class Rounded(nn.Module):
    """Functions of a map, rounded to two or three whole numbers each, in front of layers of ±1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(5, 64, 64, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        least, largest = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        bits = torch.cat([(x[:, :32] * 9).int() >> index & 1 for index in range(2)], 1)
        values = [
            torch.floor(torch.sigmoid(x) * 1.999) * 2 - 1,
            torch.round((x - least) / (largest - least)),
            torch.round(torch.tanh(x)),
            bits.float() * 2 - 1,
            torch.sign(F.avg_pool2d(F.relu(x) + F.relu(x.flip(2)), 3, 1, 1)),
        ]
        pairs = zip(values, compared(self.weight), strict=True)
        return torch.cat([F.conv2d(value, weight) for value, weight in pairs], 1)


def test_what_is_rounded_to_few_numbers_is_bits() -> None:
    compiled = proven(Rounded(), 1, 64, 12, 12)
    assert [layer.reason for layer in compiled.layers] == [None] * 5
    found = operators_in_file(compiled)
    assert found["CONV_2D"] == 0
    assert found["LceBconv2d"] == found["LceQuantize"] == 6  # of the three numbers, two
