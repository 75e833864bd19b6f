import numpy as np
import pytest

from bnncc.errors import UnsupportedOperatorsError
from tests.targets.tflite.compare import assert_same, node_model, normal, operators

X = "float[2, 3, 5, 7] x"


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize(
    "other", ["3, 1, 1", "7", "1, 3, 1, 1", "2, 3, 5, 7", "5, 1", "1", "2, 1, 1, 1", "1, 2, 3, 5, 7"]
)
def test_broadcasting(kind, other):
    assert_same(node_model(f"y = {kind}(x, z)", f"{X}, float[{other}] z"))
    constants = {"z": normal(*(int(size) for size in other.split(",")))}
    assert_same(node_model(f"y = {kind}(z, x)", X, constants=constants))


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Less", "Where"])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("2, 3, 5, 7, 4", "3, 1, 1, 4"),
        ("2, 3, 5, 1, 4, 2", "3, 1, 6, 4, 1"),
        ("2, 3, 2, 5, 1, 4, 2", "3, 1, 1, 6, 4, 1"),
    ],
)
def test_broadcasting_beyond_the_rank_that_the_kernels_take(kind, left, right):
    """There LCE's interpreter aborts the process."""
    node = f"{kind}(x, z)" if kind != "Where" else "Where(c, x, z)"
    inputs = f"float[{left}] x, float[{right}] z" + (", bool[1] c" if kind == "Where" else "")
    assert_same(node_model(f"y = {node}", inputs))


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_integers(kind):
    constants = {"z": np.array([1, 2, -3], np.int32).reshape(3, 1, 1)}
    assert_same(node_model(f"y = {kind}(x, z)", "int32[2, 3, 5, 7] x", constants=constants))


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
def test_activation_is_fused(kind):
    content = assert_same(node_model(f"s = {kind}(x, x) y = Relu(s)", X))
    assert sum(operators(content).values()) == 1


@pytest.mark.parametrize("kind", ["Max", "Min", "Sum", "Mean"])
def test_any_number_of_operands(kind):
    inputs = "float[2, 3, 1, 7] x, float[3, 1, 1] z, float[5, 7] w"
    assert_same(node_model(f"s = {kind}(x, z, w) y = Relu(s)", inputs))
    assert operators(assert_same(node_model(f"y = {kind}(x)", X))) == {}


@pytest.mark.parametrize("kind", ["Abs", "Neg", "Exp", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Reciprocal"])
@pytest.mark.parametrize("dims", ["2, 3, 5, 7", "4", "2, 3, 2, 2, 2, 2", "2, 1, 2, 2, 2, 2, 3"])
def test_unary(kind, dims):
    assert_same(node_model(f"y = {kind}(x)", f"float[{dims}] x"))


@pytest.mark.parametrize("kind", ["Sqrt", "Log"])
def test_unary_of_positive_values(kind):
    assert_same(node_model(f"p = Abs(x) y = {kind}(p)", X))


def test_sign_of_zero_is_zero_and_halves_round_to_even():
    x = np.array([0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e-20], np.float32)
    for kind in ("Sign", "Round"):
        assert_same(node_model(f"y = {kind}(x)", "float[8] x"), inputs=[x], tolerance=0)


@pytest.mark.parametrize("kind", ["Abs", "Neg", "Sign"])
def test_unary_of_integers(kind):
    assert_same(node_model(f"y = {kind}(x)", "int32[2, 3] x"))


def test_unary_of_integers_without_a_kernel_says_so():
    with pytest.raises(UnsupportedOperatorsError, match="no kernel for int32"):
        assert_same(node_model("y = Sin(x)", "int32[2, 3] x"), expected=[])


@pytest.mark.parametrize("exponent", [np.float32(2), np.float32(3), np.float32(-1), np.int64(2), normal(3, 1, 1)])
def test_pow(exponent):
    assert_same(node_model("p = Abs(x) y = Pow(p, e)", X, constants={"e": np.asarray(exponent)}))


def test_pow_beyond_the_rank_that_the_kernel_takes():
    assert_same(node_model("y = Pow(x, e)", "float[2, 3, 2, 2, 2] x", constants={"e": np.float32(3)}))


def test_a_shift_per_channel_of_a_feature_map_moves_nothing():
    body = "c = Conv(x, w) a = Add(c, s) b = Mul(z, a) y = Relu(b)"
    constants = {"w": normal(4, 3, 1, 1), "s": normal(4, 1, 1)}
    content = assert_same(node_model(body, f"{X}, float[2, 4, 1, 1] z", constants=constants))
    assert operators(content) == {"CONV_2D": 1, "ADD": 1, "MUL": 1}


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Max", "Pow", "Greater"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_gate_per_channel_broadcasts_without_a_reshape(operator: str, swapped: bool) -> None:
    operands = "t, m" if swapped else "m, t"
    text = f"m = Abs(x) e = Exp(s) t = Reshape(e, d) y = {operator}({operands})"
    constants = {"d": np.array([1, 33, 1, 1])}
    content = assert_same(node_model(text, "float[1, 33, 4, 5] x, float[1, 33] s", constants=constants))
    assert operators(content)["RESHAPE"] == 0


@pytest.mark.parametrize("text", ["y = Mul(t, c)", "y = Add(c, t)", "u = Neg(t) y = Mul(u, c)"])
def test_a_row_that_became_a_map_keeps_that_shape_beside_constants_of_it(text: str) -> None:
    constants = {"d": np.array([1, 33, 1, 1]), "c": normal(1, 33, 1, 1)}
    assert_same(node_model(f"e = Exp(s) t = Reshape(e, d) {text}", "float[1, 33] s", constants=constants))
    text = text.replace(", c)", ", h)").replace("(c", "(h")
    assert_same(
        node_model(f"e = Exp(s) t = Reshape(e, d) {text}", "float[1, 33] s", constants=constants | {"h": np.float32(2)})
    )


def test_a_gate_per_picture_is_reshaped() -> None:
    constants = {"d": np.array([2, 33, 1, 1])}
    text = "e = Exp(s) t = Reshape(e, d) y = Mul(x, t)"
    content = assert_same(node_model(text, "float[2, 33, 4, 5] x, float[2, 33] s", constants=constants))
    assert operators(content) == {"EXP": 1, "RESHAPE": 1, "MUL": 1}


def test_squeeze_and_excite_moves_nothing():
    body = (
        "m = ReduceMean<keepdims=0>(x, a) h = Gemm(m, w) r = Relu(h) g = Gemm(r, v) s = HardSigmoid(g) "
        "t = Reshape(s, d) y = Mul(x, t)"
    )
    constants = {"a": np.array([2, 3]), "w": normal(3, 2), "v": normal(2, 3), "d": np.array([2, 3, 1, 1])}
    assert operators(assert_same(node_model(body, X, constants=constants)))["TRANSPOSE"] == 0


def test_mod_has_the_sign_of_the_divisor_and_fmod_that_of_the_dividend():
    x = np.array([[-7.5, -4, -0.5, 0, 0.5, 4, 7.5, 9]], np.float32)
    for divisor in (3.0, -3.0, 2.5):
        constants = {"c": np.array(divisor, np.float32)}
        assert_same(node_model("y = Mod<fmod=1>(x, c)", "float[1, 8] x", constants=constants), inputs=[x])
    whole = np.arange(-6, 6, dtype=np.int32).reshape(2, 6)
    for divisor in (4, -4):
        constants = {"c": np.array([divisor], np.int32)}
        assert_same(node_model("y = Mod(x, c)", "int32[2, 6] x", constants=constants), inputs=[whole])
