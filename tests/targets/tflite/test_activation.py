import numpy as np
import pytest

from tests.targets.tflite.compare import assert_same, node_model, normal, operators

X = "float[2, 3, 5, 7] x"
# Bends, zeros and tails, where an approximation would show.
POINTS = np.concatenate(
    [np.linspace(-12, 12, 481), [0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, 80.0, -80.0]],
).astype(np.float32)


@pytest.mark.parametrize(
    "node",
    [
        "Relu(x)",
        "LeakyRelu(x)",
        "LeakyRelu<alpha=-0.5>(x)",
        "HardSwish(x)",
        "HardSigmoid(x)",
        "HardSigmoid<alpha=0.16666667, beta=0.5>(x)",
        "Sigmoid(x)",
        "Tanh(x)",
        "Elu(x)",
        "Elu<alpha=0.3>(x)",
        "Selu(x)",
        "Celu<alpha=2.0>(x)",
        "Softplus(x)",
        "Softsign(x)",
        "Mish(x)",
        "Erf(x)",
        "Gelu(x)",
        'Gelu<approximate="tanh">(x)',
    ],
)
def test_pointwise(node):
    model = node_model(f"y = {node}", f"float[{POINTS.size}] x", opset=20)
    near_zero = np.abs(POINTS) < 15
    assert_same(model, inputs=[POINTS])
    # A tail of 80 must not hide what happens around zero.
    inner = POINTS[near_zero]
    assert_same(node_model(f"y = {node}", f"float[{inner.size}] x", opset=20), inputs=[inner])
    assert_same(node_model(f"y = {node}", X, opset=20))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 6, {"RELU6": 1}),
        (-1, 1, {"RELU_N1_TO_1": 1}),
        (0, 1, {"RELU_0_TO_1": 1}),
        (0, None, {"RELU": 1}),
        (-2, 0.5, {"MAXIMUM": 1, "MINIMUM": 1}),
        (0.25, None, {"MAXIMUM": 1}),
        (None, -0.25, {"MINIMUM": 1}),
    ],
)
def test_clip(low, high, expected):
    constants = {name: np.float32(bound) for name, bound in (("l", low), ("h", high)) if bound is not None}
    body = f"y = Clip(x, {'l' if low is not None else ''}, {'h' if high is not None else ''})"
    assert operators(assert_same(node_model(body, X, constants=constants))) == expected


def test_clip_of_integers_and_with_computed_bounds():
    constants = {"l": np.int32(-2), "h": np.int32(2)}
    assert_same(node_model("y = Clip(x, l, h)", "int32[2, 3, 4, 5] x", constants=constants))
    assert_same(node_model("y = Relu(x)", "int32[2, 3, 4, 5] x"))
    assert_same(node_model("l = ReduceMin<keepdims=0>(z) y = Clip(x, l)", f"{X}, float[3] z"))


@pytest.mark.parametrize(
    "slope",
    [(1,), (3, 1, 1), (1, 3, 1, 1), (3, 5, 7), (7,), (5, 1), (2, 3, 5, 7), (1, 1, 1, 1), (2, 1, 1, 1)],
)
def test_prelu(slope):
    content = assert_same(node_model("y = PRelu(x, s)", X, constants={"s": normal(*slope)}))
    assert operators(content) == {"LEAKY_RELU" if np.prod(slope) == 1 else "PRELU": 1}


@pytest.mark.parametrize(
    ("dims", "slope"),
    [("2, 5", (5,)), ("2, 5", (1, 5)), ("2, 5, 4", (5, 1)), ("2, 5, 4, 3, 2", (5, 1, 1, 1)), ("2, 1, 4, 4", (1, 1, 1))],
)
def test_prelu_of_other_ranks(dims, slope):
    assert_same(node_model("y = PRelu(x, s)", f"float[{dims}] x", constants={"s": normal(*slope)}))


def test_prelu_with_a_computed_slope():
    assert_same(node_model("y = PRelu(x, s)", f"{X}, float[3, 1, 1] s"))


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_softmax(kind, axis):
    assert_same(node_model(f"y = {kind}<axis={axis}>(x)", X))


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_softmax_over_channels_moves_nothing(kind):
    assert sum(operators(assert_same(node_model(f"y = {kind}<axis=1>(x)", X))).values()) == 1


@pytest.mark.parametrize("dims", ["7", "2, 3, 2, 5, 4", "2, 3, 2, 2, 2, 4"])
def test_softmax_of_other_ranks(dims):
    assert_same(node_model("y = Softmax(x)", f"float[{dims}] x"))
    assert_same(node_model("y = Softmax<axis=0>(x)", f"float[{dims}] x"))
