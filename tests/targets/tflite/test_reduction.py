import numpy as np
import pytest

from bnncc.errors import UnsupportedOperatorsError
from tests.targets.tflite.compare import assert_same, node_model, operators

X = "float[2, 3, 5, 7] x"
KINDS = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axes", [(2, 3), (1,), (0, 2), (-1,), (1, 2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduction(kind, axes, keepdims):
    body = f"y = Reduce{kind}<keepdims={keepdims}>(x, a)"
    assert_same(node_model(body, X, constants={"a": np.array(axes)}))


@pytest.mark.parametrize("kind", KINDS)
def test_without_axes(kind):
    assert_same(node_model(f"y = Reduce{kind}(x)", X))
    unreduced = node_model(f"y = Reduce{kind}<noop_with_empty_axes=1>(x)", X)
    if kind in ("L1", "L2", "SumSquare"):
        with pytest.raises(UnsupportedOperatorsError, match="noop_with_empty_axes"):
            assert_same(unreduced)
    else:
        assert operators(assert_same(unreduced)) == {}


def test_axes_as_an_attribute():
    assert_same(node_model("y = ReduceMean<axes=[2, 3], keepdims=0>(x)", X, opset=13))


def test_mean_over_the_map_is_one_operator():
    constants = {"a": np.array([2, 3])}
    assert operators(assert_same(node_model("y = ReduceMean<keepdims=0>(x, a)", X, constants=constants))) == {"MEAN": 1}


def test_integers():
    for kind in ("Sum", "Max", "Min", "Prod"):
        constants = {"a": np.array([1])}
        assert_same(node_model(f"y = Reduce{kind}(x, a)", "int32[2, 3, 4] x", constants=constants))
    with pytest.raises(UnsupportedOperatorsError, match="no kernel for int32"):
        assert_same(node_model("y = ReduceMean(x)", "int32[2, 3, 4] x"))


@pytest.mark.parametrize("kind", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_arg_max(kind, axis, keepdims):
    assert_same(node_model(f"y = {kind}<axis={axis}, keepdims={keepdims}>(x)", X))


def test_arg_max_takes_the_first_of_equals():
    x = np.array([[1, 3, 3, 0]], np.float32)
    assert_same(node_model("y = ArgMax<axis=1>(x)", "float[1, 4] x"), inputs=[x])
    with pytest.raises(UnsupportedOperatorsError, match="select_last_index"):
        assert_same(node_model("y = ArgMax<axis=1, select_last_index=1>(x)", "float[1, 4] x"))


def test_normalising_a_flattened_map_keeps_its_order():
    body = "f = Flatten(x) n = ReduceL2(f, a) d = Div(f, n) y = Gemm(d, w)"
    constants = {"a": np.array([1]), "w": np.ones((105, 2), np.float32)}
    assert_same(node_model(body, X, constants=constants))


SHAPES = [("2, 5", -1), ("1, 6, 5, 4", 1), ("1, 6, 5, 4", 3), ("3, 5, 4", 0), ("7", 0)]


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_top_k(shape, axis, largest):
    body, constants = f"y, i = TopK<axis={axis}, largest={largest}>(x, k)", {"k": np.array([3])}
    assert_same(node_model(body, f"float[{shape}] x", outputs="y i", constants=constants))


def test_top_k_takes_the_first_of_equals():
    x = np.array([[1, 3, 2, 3, 3, 2]], np.float32)
    for largest in (0, 1):
        body, constants = f"y, i = TopK<largest={largest}>(x, k)", {"k": np.array([4])}
        assert_same(node_model(body, "float[1, 6] x", outputs="y i", constants=constants), inputs=[x])
