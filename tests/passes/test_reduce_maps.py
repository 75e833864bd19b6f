"""Reductions of a flattened map are those of the map: as a pass and end to end."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.ir.graph import shape_of
from bnncc.passes.reduce_maps import ReduceMaps
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify
from tests.passes.helpers import Array, build, check_pass, normal, operators
from tests.passes.proof import compared

CONSTANTS: dict[str, Array] = {
    "flat": np.array([2, -1]),
    "map": np.array([2, 3, 4, 5]),
    "rows": np.array([1]),
    "low": np.array(-0.5, np.float32),
    "weights": normal(60, 2),
    "each": normal(60),
}
REDUCED = {
    "mean of magnitudes": "a = Abs (f)\ny = ReduceMean <keepdims = 0> (a, rows)",
    "maximum": "y = ReduceMax (f, rows)",
    "scaled by its norm": "n = ReduceL2 (f, rows)\nd = Div (f, n)\ny = Reshape (d, map)",
    "standardised": "m = ReduceMean (f, rows)\nc = Sub (f, m)\ns = Mul (c, c)\nv = ReduceMean (s, rows)\n"
    "r = Sqrt (v)\nd = Div (c, r)\ne = Max (d, low)\ny = Reshape (e, map)",
}


def flattened(behind: str, outputs: str = "y") -> ir.Model:
    """x [2, 3, 4, 5] ─ Reshape [2, 60] (f) ─ `behind`."""
    text = f"f = Reshape (x, flat)\n{behind}"
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    given = {name: array for name, array in CONSTANTS.items() if name in words}
    return build(text, "float[2, 3, 4, 5] x", outputs, **given)


@pytest.mark.parametrize("name", REDUCED)
def test_the_map_is_reduced_over_its_three_axes(name: str) -> None:
    after = check_pass(flattened(REDUCED[name]), ReduceMaps())
    shapes = [shape_of(node.outputs[0]) for node in after.graph]
    assert (2, 60) not in shapes
    assert operators(after).keys() == operators(flattened(REDUCED[name])).keys()


@pytest.mark.parametrize(
    "model",
    [
        flattened("m = ReduceMean (f, rows)\nc = Sub (f, m)\ny = MatMul (c, weights)"),
        flattened("a = Mul (f, each)\ny = ReduceMean (a, rows)"),
        flattened("y = ReduceMean (f, rows)", "y, f"),
        flattened("a = Abs (f)\ny = Reshape (a, map)"),
    ],
    ids=["a Linear reads it", "numbers of its elements", "an output", "nothing is reduced"],
)
def test_what_asks_for_the_order_of_its_elements_stays(model: ir.Model) -> None:
    check_pass(model, ReduceMaps(), modified=False)


class Centred(nn.Module):
    """A map less its mean, in front of signs, and times its largest magnitude, both of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        flat = self.stem(x).flatten(1)
        largest = flat.abs().max(1)[0].view(-1, 1, 1, 1)
        signs = compared((flat - flat.mean(1, keepdim=True)).view(-1, 8, 6, 6))
        return F.conv2d(signs, compared(self.weight)) * largest


def test_a_network_transposes_nothing() -> None:
    torch.manual_seed(0)
    network = Centred().eval()
    compiled = bnncc.compile(network, input_shapes=["1x3x8x8"])
    assert [layer.reason for layer in compiled.layers] == [None]
    assert not {"TRANSPOSE", "RESHAPE"} & {one.name for one in TfliteFile(compiled.content).operators}
    assert verify(compiled, [[normal(1, 3, 8, 8)]]).passed
