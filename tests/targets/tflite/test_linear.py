import numpy as np
import pytest

from bnncc.errors import UnsupportedOperatorsError
from tests.targets.tflite.compare import assert_same, node_model, normal, operators


@pytest.mark.parametrize("transpose_a", [0, 1])
@pytest.mark.parametrize("transpose_b", [0, 1])
@pytest.mark.parametrize("scales", ["alpha=1.0, beta=1.0", "alpha=0.5, beta=-2.0"])
@pytest.mark.parametrize("bias", [None, (), (1,), (3,), (1, 3), (2, 1), (2, 3)])
def test_gemm(transpose_a, transpose_b, scales, bias):
    constants = {"w": normal(*((3, 5) if transpose_b else (5, 3)))}
    if bias is not None:
        constants["b"] = normal(*bias, seed=1)
    attributes = f"transA={transpose_a}, transB={transpose_b}, {scales}"
    body = f"y = Gemm<{attributes}>(x, w{'' if bias is None else ', b'})"
    assert_same(node_model(body, f"float[{'5, 2' if transpose_a else '2, 5'}] x", constants=constants))


def test_gemm_of_computed_matrices():
    assert_same(node_model("y = Gemm(x, w, b)", "float[2, 5] x, float[5, 3] w, float[3] b"))
    assert_same(
        node_model("y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b)", "float[2, 5] x, float[3, 5] w, float[2, 3] b")
    )
    assert_same(node_model("y = Gemm<alpha=0.5, transA=1>(x, w)", "float[5, 2] x, float[5, 3] w"))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("4, 5", "5, 3"),
        ("2, 4, 5", "5, 3"),
        ("2, 3, 4, 5", "2, 3, 5, 6"),
        ("2, 3, 4, 5", "3, 5, 6"),
        ("4, 5", "2, 3, 5, 6"),
        ("5", "5"),
        ("5", "2, 5, 3"),
        ("2, 4, 5", "5"),
        ("2, 1, 3, 4, 5", "2, 3, 5, 6"),
    ],
)
@pytest.mark.parametrize("constant", ["", "a", "b"])
def test_matmul(a, b, constant):
    shapes = {"a": a, "b": b}
    inputs = ", ".join(f"float[{dims}] {name}" for name, dims in shapes.items() if name != constant)
    constants = {constant: normal(*(int(size) for size in shapes[constant].split(",")))} if constant else None
    assert_same(node_model("y = MatMul(a, b)", inputs, constants=constants))


def test_matmul_with_a_constant_matrix_is_fully_connected():
    content = assert_same(node_model("y = MatMul(x, w)", "float[2, 3, 4, 5] x", constants={"w": normal(5, 7)}))
    assert operators(content)["FULLY_CONNECTED"] == 1
    assert operators(content)["BATCH_MATMUL"] == 0


@pytest.mark.parametrize("shape", ["2, 5, 1, 1", "2, 1, 5", "10"])
def test_a_linear_reads_rows_in_whatever_shape_they_are(shape):
    constants = {"rows": np.array([2, 5]), "w": normal(5, 7), "b": normal(7)}
    model = node_model("f = Relu(x)\nr = Reshape(f, rows)\ny = Gemm(r, w, b)", f"float[{shape}] x", constants=constants)
    assert operators(assert_same(model)) == {"RELU": 1, "FULLY_CONNECTED": 1}


@pytest.mark.parametrize("pool", ["GlobalAveragePool(x)", "Identity(x)"])
def test_flatten_of_a_feature_map_permutes_the_weights_instead(pool):
    inputs = 33 if pool.startswith("Global") else 33 * 35
    constants = {"w": normal(inputs, 4), "b": normal(4), "s": normal(inputs)}
    body = f"p = {pool} f = Flatten(p) a = Mul(f, s) y = Gemm(a, w, b)"
    content = assert_same(node_model(body, "float[2, 33, 5, 7] x", constants=constants))
    assert operators(content)["TRANSPOSE"] == 0


def test_batch_normalization_of_a_flattened_map_permutes_its_parameters():
    names = ("scale", "bias", "mean")
    constants = {name: normal(105, seed=index) for index, name in enumerate(names)}
    constants |= {"variance": np.abs(normal(105, seed=9)), "w": normal(105, 4)}
    body = "f = Flatten(x) n = BatchNormalization(f, scale, bias, mean, variance) y = MatMul(n, w)"
    content = assert_same(node_model(body, "float[2, 3, 5, 7] x", constants=constants))
    assert operators(content)["TRANSPOSE"] == 0


@pytest.mark.parametrize("dims", ["2, 3, 5, 7", "2, 3, 5", "2, 3"])
def test_batch_normalization(dims):
    constants = {name: normal(3, seed=index) for index, name in enumerate(("scale", "bias", "mean"))}
    constants["variance"] = np.abs(normal(3, seed=9))
    body = "n = BatchNormalization<epsilon=0.001>(x, scale, bias, mean, variance) y = Relu(n)"
    content = assert_same(node_model(body, f"float[{dims}] x", constants=constants))
    assert operators(content)["ADD"] == 1
    assert operators(content)["RELU"] == 0


def test_batch_normalization_with_computed_parameters_has_no_form():
    inputs = "float[2, 3] x, float[3] a, float[3] b, float[3] c, float[3] d"
    with pytest.raises(UnsupportedOperatorsError, match="the scale is not a constant"):
        assert_same(node_model("y = BatchNormalization(x, a, b, c, d)", inputs))


@pytest.mark.parametrize("constants", [{}, {"w": np.ones((3, 2), np.int64)}])
def test_a_product_of_integers_has_no_form(constants):
    inputs = "int64[2, 3] x" if constants else "int64[2, 3] x, int64[3, 2] w"
    with pytest.raises(UnsupportedOperatorsError, match="only float32 has a kernel"):
        assert_same(node_model("y = MatMul(x, w)", inputs, constants=constants))
