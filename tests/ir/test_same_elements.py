import numpy as np
import pytest

from bnncc.ir.same_elements import share_elements
from tests.passes.helpers import build

X = "float[1, 5, 6, 6] x"
CONSTANTS = {
    "one": np.array([1]),
    "three": np.array([3]),
    "last": np.array([-1]),
    "before": np.array([-100]),
    "rows": np.array([2]),
    "four": np.array([0, 1, 2, 3]),
    "reversed": np.array([3, 2, 1, 0]),
    "half": np.float32(0.5),
}
BACKWARDS = "z = Slice (x, last, before, one, last)\n"

SAME = {
    "the largest channel": "z = ReduceMax (x, one)\ny = Sub (x, z)",
    "the smallest channel": "z = ReduceMin (x, one)\ny = Sub (z, x)",
    "the largest neighbour": "z = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)\ny = Sub (x, z)",
    "the third of all": "v, i = TopK <axis = 1> (x, three)\nz = Slice (v, rows, three, one)\ny = Sub (x, z)",
    "the middle channel": BACKWARDS + "y = Sub (x, z)",
    "the diagonal": "z = Transpose <perm = [0, 1, 3, 2]> (x)\ny = Sub (x, z)",
    "a move of both": "a = Transpose <perm = [0, 2, 3, 1]> (x)\n"
    "b = Transpose <perm = [0, 3, 2, 1]> (x)\ny = Sub (a, b)",
}
OTHER = {
    "even channels, backwards": "a = Gather <axis = 1> (x, four)\nz = Gather <axis = 1> (x, reversed)\ny = Sub (a, z)",
    "neighbours": "a, b, c = Split <axis = 3, num_outputs = 3> (x)\ny = Sub (a, b)",
    "the mean": "z = ReduceMean (x, one)\ny = Sub (x, z)",
    "a multiple": "z = Mul (x, half)\ny = Sub (x, z)",
}


@pytest.mark.parametrize(("name", "wanted"), [*((one, True) for one in SAME), *((one, False) for one in OTHER)])
def test_differences_in_which_an_element_meets_itself(name: str, wanted: bool) -> None:
    graph = build({**SAME, **OTHER}[name], X, **CONSTANTS).graph
    difference = graph.outputs[0].producer()
    assert difference is not None
    left, right = difference.inputs
    assert left is not None
    assert right is not None
    assert share_elements(left, right) is wanted
