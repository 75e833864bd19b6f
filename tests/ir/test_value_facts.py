import numpy as np
import pytest

from bnncc.ir.value_facts import has_structural_zeros, is_binary
from tests.passes.helpers import build, normal, signs

X = "float[1, 4, 6, 6] x"
CONSTANTS = {
    "zero": 0.0,
    "one": 1.0,
    "minus": -1.0,
    "half": 0.5,
    "shift": normal(1, 4, 1, 1),
    "shape": np.array([1, 4, 36]),
    "ring": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "starts": np.array([1, 0]),
    "ends": np.array([6, 6]),
    "axes": np.array([2, 3]),
    "steps": np.array([2, 2]),
    "flat_slope": np.array([0.1, 0, -0.2, 0.3], np.float32).reshape(4, 1, 1),
    "slope": np.array([0.1, 0.4, -0.2, 0.3], np.float32).reshape(4, 1, 1),
    "plus_and_minus": signs(1, 4, 6, 6),
    "ternary": np.array([1, 0, -1, 1], np.float32).reshape(1, 4, 1, 1),
    "threes": np.full((1, 4, 6, 6), 3, np.float32),
    "ints": np.ones((1, 4, 6, 6), np.int64),
}  # fmt: skip

ZEROS = {
    "relu": "y = Relu (x)",
    "zero pad": "y = Pad (x, ring)",
    "pad with an explicit zero": "y = Pad (x, ring, zero)",
    "clip at 0 from below": "y = Clip (x, zero, one)",
    "clip at 0 from above": "y = Clip (x, minus, zero)",
    "PReLU with a zero slope": "y = PRelu (x, flat_slope)",
    "LeakyRelu with slope 0": "y = LeakyRelu <alpha = 0.0> (x)",
    "step": "k = Greater (x, zero)\ny = Cast <to = 1> (k)",
    "round": "y = Round (x)",
    "hard sigmoid": "y = HardSigmoid (x)",
    "hard swish": "y = HardSwish (x)",
    "max with 0": "y = Max (x, zero)",
    "min with 0": "y = Min (zero, x)",
    "where with 0": "k = Greater (x, one)\ny = Where (k, zero, x)",
    "product with a gate of zeros": "g = Relu (x)\ny = Mul (x, g)",
    "product with a mask": "y = Mul (x, ternary)",
    "sum of two rectified values": "a = Relu (x)\nn = Neg (x)\nb = Relu (n)\ny = Add (a, b)",
    "moved relu": "r = Relu (x)\nq = Reshape (r, shape)\ny = Transpose <perm = [0, 2, 1]> (q)",
    "sliced pad": "r = Pad (x, ring)\ny = Slice (r, starts, ends, axes, steps)",
    "pooled relu": "r = Relu (x)\ny = MaxPool <kernel_shape = [2, 2]> (r)",
    "average of relu": "r = Relu (x)\ny = AveragePool <kernel_shape = [2, 2]> (r)",
    "mean of relu": "r = Relu (x)\ny = ReduceMean (r, axes)",
    "concat with relu": "r = Relu (x)\ny = Concat <axis = 1> (x, r)",
    "scaled relu": "r = Relu (x)\ny = Div (r, half)",
    "clipped relu": "r = Relu (x)\ny = Clip (r, minus, one)",
    "tanh of relu": "r = Relu (x)\ny = Tanh (r)",
    "elu of relu": "r = Relu (x)\ny = Elu (r)",
    "sign of relu": "r = Relu (x)\ny = Sign (r)",
    "erf of relu": "r = Relu (x)\ny = Erf (r)",
    "LeakyRelu of relu": "r = Relu (x)\ny = LeakyRelu (r)",
    "PReLU of a pad": "r = Pad (x, ring)\ny = PRelu (r, slope)",
    "pad of one side with ones of a relu": "r = Relu (x)\ny = Pad (r, ring, one)",
    "upsampled relu": "r = Relu (x)\ny = Resize (r, , , sizes)",
}


@pytest.mark.parametrize("name", ZEROS)
def test_zeros_by_design_are_seen(name: str) -> None:
    model = build(ZEROS[name], X, sizes=np.array([1, 4, 12, 12]), **CONSTANTS)
    assert has_structural_zeros(model.graph.outputs[0])


NO_ZEROS = {
    "convolution of relu": "r = Relu (x)\ny = Conv (r, w)",
    "shifted relu": "r = Relu (x)\ny = Add (r, shift)",
    "relu less a shift": "r = Relu (x)\ny = Sub (r, shift)",
    "pad with ones": "y = Pad (x, ring, one)",
    "pad by reflection": 'y = Pad <mode = "reflect"> (x, ring)',
    "clip at ±1": "y = Clip (x, minus, one)",
    "PReLU with slopes": "y = PRelu (x, slope)",
    "LeakyRelu": "y = LeakyRelu (x)",
    "tanh": "y = Tanh (x)",
    "sum with the input": "r = Relu (x)\ny = Add (r, x)",
    "scaled": "y = Mul (x, shift)",
    "slice": "y = Slice (x, starts, ends, axes, steps)",
    "bnncc.Sign of relu": "r = Relu (x)\ny = bnncc.Sign (r)",
    "the graph input": "y = Identity (x)",
}


@pytest.mark.parametrize("name", NO_ZEROS)
def test_zeros_by_chance_are_not_zeros_by_design(name: str) -> None:
    model = build(NO_ZEROS[name], X, w=normal(3, 4, 3, 3), **CONSTANTS)
    assert not has_structural_zeros(model.graph.outputs[0])


BINARY = {
    "sign": "y = bnncc.Sign (x)",
    "sign of relu": "r = Relu (x)\ny = bnncc.Sign (r)",
    "moved sign": "s = bnncc.Sign (x)\nq = Reshape (s, shape)\ny = Transpose <perm = [0, 2, 1]> (q)",
    "sliced sign": "s = bnncc.Sign (x)\ny = Slice (s, starts, ends, axes, steps)",
    "pooled sign": "s = bnncc.Sign (x)\ny = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (s)",
    "two signs side by side": "s = bnncc.Sign (x)\nt = bnncc.Sign (s)\ny = Concat <axis = 1> (s, t)",
    "sign beside a constant": "s = bnncc.Sign (x)\ny = Concat <axis = 1> (s, plus_and_minus)",
    "half of a split": "s = bnncc.Sign (x)\ny, z = Split <axis = 1, num_outputs = 2> (s)",
}


@pytest.mark.parametrize("name", BINARY)
def test_what_only_moves_plus_and_minus_one_is_binary(name: str) -> None:
    model = build(BINARY[name], X, **CONSTANTS)
    assert is_binary(model.graph.outputs[0])


NOT_BINARY = {
    "the input": "y = Identity (x)",
    "ONNX sign, which yields 0 as well": "y = Sign (x)",
    "padded sign": "s = bnncc.Sign (x)\ny = Pad (s, ring)",
    "average of signs": "s = bnncc.Sign (x)\ny = AveragePool <kernel_shape = [2, 2]> (s)",
    "scaled sign": "s = bnncc.Sign (x)\ny = Mul (s, half)",
    "sum of signs": "s = bnncc.Sign (x)\ny = Add (s, plus_and_minus)",
    "sign beside the input": "s = bnncc.Sign (x)\ny = Concat <axis = 1> (s, x)",
    "sign beside threes": "s = bnncc.Sign (x)\ny = Concat <axis = 1> (s, threes)",
}


@pytest.mark.parametrize("name", NOT_BINARY)
def test_what_may_be_another_number_is_not_binary(name: str) -> None:
    model = build(NOT_BINARY[name], X, **CONSTANTS)
    assert not is_binary(model.graph.outputs[0])


def test_constants_are_judged_by_their_values_and_type() -> None:
    model = build(
        "a = Add (x, plus_and_minus)\nb = Mul (a, ternary)\ny = Mul (b, threes)\nz = Neg (ints)", X, **CONSTANTS
    )
    constants = model.graph.initializers
    assert is_binary(constants["plus_and_minus"])
    assert not is_binary(constants["ternary"])
    assert not is_binary(constants["threes"])
    assert not is_binary(constants["ints"])
    assert has_structural_zeros(constants["ternary"])
    assert not has_structural_zeros(constants["shift"])
