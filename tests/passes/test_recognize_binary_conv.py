import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.ir.graph import CONV_KEY, LEFT_IN_FLOAT_KEY
from bnncc.ir.modes import ZeroWeights
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv, split_weights
from tests.passes.helpers import Array, array_of, build, check_pass, draw, node_of, normal, operators, run_model, signs

X = "float[1, 4, 6, 7] x"
PADDED = "<pads = [1, 1, 1, 1]>"


def scaled(alphas: Array, *shape: int, seed: int = 0) -> Array:
    """Weights alpha_o · ±1 of `shape`."""
    return (signs(*shape, seed=seed) * alphas.reshape(-1, *(1,) * (len(shape) - 1))).astype(np.float32)


def conv(weight: Array, attributes: str = PADDED, *, sign: str = "bnncc.Sign", x: str = X, **more: Array) -> ir.Model:
    operands = ", ".join(["s", "w", *more])
    return build(f"s = {sign} (x)\ny = Conv {attributes} ({operands})", x, w=weight, **more)


def reason_for(model: ir.Model, zeros: ZeroWeights = ZeroWeights.EXACT, operator: str = "Conv") -> str | None:
    check_pass(model, RecognizeBinaryConv(zeros), modified=False)
    return node_of(model, operator).metadata_props.get(LEFT_IN_FLOAT_KEY)


def test_a_scale_per_channel_and_the_bias_become_multiplier_and_bias() -> None:
    alphas = np.array([1e-6, 3e-5, 1e-4, 0.02, 0.7, 1.0, 10.0], np.float32)
    bias = normal(7)
    model = conv(scaled(alphas, 7, 4, 3, 3), b=bias)
    check_pass(model, RecognizeBinaryConv())
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1}
    node = node_of(model, "BinaryConv")
    np.testing.assert_array_equal(array_of(node.inputs[1]), signs(7, 4, 3, 3))
    np.testing.assert_allclose(array_of(node.inputs[2]), alphas, rtol=1e-6)
    np.testing.assert_array_equal(array_of(node.inputs[3]), bias)
    assert node.metadata_props[CONV_KEY] == "y"


def test_a_product_that_yields_integers_is_left() -> None:
    body = "s = bnncc.Sign (x)\nq = Cast <to = 7> (s)\ny = MatMul (q, w)"
    model = build(body, "float[2, 64] x", w=signs(64, 3).astype(np.int64))
    check_pass(model, RecognizeBinaryConv(), modified=False)
    assert LEFT_IN_FLOAT_KEY not in node_of(model, "MatMul").metadata_props


@settings(max_examples=25)
@given(
    exponents=st.lists(st.floats(-6, 1), min_size=1, max_size=9),
    channels=st.integers(1, 5),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 99),
)
def test_each_channel_computes_what_torch_computes(
    exponents: list[float], channels: int, kernel: tuple[int, int], seed: int
) -> None:
    """Channel by channel, relative to its own magnitude: small scales next to large ones lose nothing."""
    alphas = (10.0 ** np.array(exponents)).astype(np.float32)
    weight = scaled(alphas, len(exponents), channels, *kernel, seed=seed)
    model = conv(weight, "<strides = [2, 1], pads = [1, 0, 2, 1]>", x=f"float[1, {channels}, 6, 7] x")
    assert RecognizeBinaryConv()(model).modified
    feeds = draw(model, seed)
    x = torch.from_numpy(np.where(feeds["x"] < 0, np.float32(-1), np.float32(1))).double()
    padded = torch.nn.functional.pad(x, (0, 1, 1, 2))
    expected = torch.nn.functional.conv2d(padded, torch.from_numpy(weight).double(), stride=(2, 1)).numpy()
    result = run_model(model, feeds)["y"]
    error = np.abs(result - expected).max(axis=(0, 2, 3))
    assert np.all(error <= 1e-6 * alphas * weight[0].size)


def test_channels_of_zeros_have_the_scale_zero() -> None:
    alphas = np.array([0.3, 0, 2, 0], np.float32)
    model = conv(scaled(alphas, 4, 4, 3, 3), b=normal(4))
    check_pass(model, RecognizeBinaryConv())
    np.testing.assert_allclose(array_of(node_of(model, "BinaryConv").inputs[2]), alphas, rtol=1e-6)


def test_the_rounding_of_a_float32_residue_is_no_difference() -> None:
    """(α·s - w) + w in float32: off by 6e-8 of 1, which is 6e-4 of α = 1e-4."""
    latent = np.random.default_rng(0).uniform(-1, 1, (5, 4, 3, 3)).astype(np.float32)
    alpha = np.float32(1e-4)
    weight = (alpha * np.sign(latent) - latent) + latent
    assert len(np.unique(np.abs(weight))) > 1, "the test itself should reach the case"
    model = check_pass(conv(weight), RecognizeBinaryConv(), tolerance=2e-3)
    np.testing.assert_allclose(array_of(node_of(model, "BinaryConv").inputs[2]), alpha, rtol=1e-3)


@pytest.mark.parametrize(
    ("attributes", "pads"),
    [
        ('<auto_pad = "SAME_UPPER", strides = [2, 2]>', [0, 1, 1, 1]),
        ('<auto_pad = "SAME_LOWER", strides = [2, 2]>', [1, 1, 0, 1]),
        ('<auto_pad = "VALID">', [0, 0, 0, 0]),
        ("<pads = [0, 1, 2, 1], dilations = [1, 2]>", [0, 1, 2, 1]),
    ],
)
def test_the_geometry_is_kept(attributes: str, pads: list[int]) -> None:
    model = check_pass(conv(scaled(np.ones(5), 5, 4, 3, 3), attributes), RecognizeBinaryConv())
    assert list(node_of(model, "BinaryConv").attributes["pads"].as_ints()) == pads


def test_ternary_weights_are_refused_with_the_count_of_zeros_where_the_user_wants_floats() -> None:
    weight = scaled(np.array([0.5, 1, 2, 4, 8], np.float32), 5, 4, 3, 3)
    weight[1, 2, 0, 1] = weight[3, 0, 2, 2] = weight[3, 1, 1, 1] = 0
    assert reason_for(conv(weight), ZeroWeights.FLOAT) == (
        "weights-exactly-zero: 3 of its 180 weights are exactly 0, which no bit says "
        "(--zero-weights exact computes their filters twice, plus-one reads them as +1)"
    )


def test_weights_that_differ_by_one_percent_are_not_binary() -> None:
    weight = scaled(np.full(5, 0.1), 5, 4, 3, 3)
    weight[2] *= np.linspace(1, 1.01, 36, dtype=np.float32).reshape(4, 3, 3)
    assert reason_for(conv(weight)) == "float-weights: its input is binary but its weights are not"


def test_float_weights_with_a_few_zeros_are_not_called_ternary() -> None:
    weight = normal(5, 4, 3, 3)
    weight[0, 0, 0, 0] = 0
    assert reason_for(conv(weight)) == "float-weights: its input is binary but its weights are not"


def test_binary_weights_with_a_float_input_are_reported() -> None:
    weight = scaled(np.ones(5), 5, 4, 3, 3)
    assert reason_for(conv(weight, sign="Tanh")) == "float-input: its weights are binary but its input is not"


@pytest.mark.parametrize(("axes", "varies"), [(1, "position"), (2, "channel")])
def test_computed_scales_that_differ_within_a_window_are_named(axes: int, varies: str) -> None:
    body = "s = bnncc.Sign (x)\na = Abs (x)\nm = ReduceMean (a, k)\np = Mul (s, m)\ny = Conv (p, w)"
    weight = scaled(np.ones(5), 5, 4, 3, 3)
    found = reason_for(build(body, X, w=weight, k=np.array([axes] if axes == 1 else [2, 3])))
    assert found is not None
    assert found.startswith(f"varying-scale: its input is signs times a scale that is computed for each {varies}")


def test_float_weights_with_a_float_input_are_not_reported() -> None:
    assert reason_for(conv(normal(5, 4, 3, 3), sign="Tanh")) is None


def test_one_weight_a_channel_says_nothing() -> None:
    depthwise = conv(normal(4, 1, 1, 1), "<group = 4>", sign="Tanh")
    assert reason_for(depthwise) is None


def free_floats(*, binary_macs: float = 0, float_macs: float = 0, moved_bytes: float = 0, operators: int = 0) -> float:
    """A target on which only bits take time."""
    return binary_macs


def joined(body: str, **constants: float) -> ir.Model:
    """Of the signs s and t of two maps, and of what is made of them, a convolution of c."""
    signs_of_both = "s = bnncc.Sign (x)\nt = bnncc.Sign (z)\nm = Mul (s, a)\n"
    weight = scaled(np.ones(5), 5, 8, 3, 3)
    return build(f"{signs_of_both}{body}\ny = Conv (c, w)", f"{X}, {X[:-1]}z", w=weight, **constants)


def test_a_product_of_joined_and_scaled_signs_is_not_called_a_float() -> None:
    model = joined("d = Concat <axis = 1> (m, t)\ne = Concat <axis = 1> (t, m)\nc = Mul (d, e)", a=0.5)
    assert reason_for(model) == "scaled-signs: its input is made of signs and scales that are not known to be one scale"


def test_levels_of_0_and_1_beside_signs_are_called_so() -> None:
    model = joined("u = Add (m, b)\nc = Concat <axis = 1> (u, t)", a=-0.5, b=0.5)
    assert str(reason_for(model)).startswith("mixed-levels: its input is ±1 in some channels")


def test_scales_that_differ_between_what_is_summed_are_reported() -> None:
    body = "s = bnncc.Sign (x)\nm = Mul (s, a)\ny = Conv (m, w)"
    scales = np.array([0.5, 1, 2, 4], np.float32).reshape(-1, 1, 1)
    assert reason_for(build(body, X, a=scales, w=scaled(np.ones(5), 5, 4, 3, 3))) == (
        "scales-of-channels: its input is ±1 times a scale that differs between its channels, which a sum of bits "
        "cannot weigh"
    )
    floats = build(body, X, a=scales, w=normal(5, 4, 3, 3))
    assert reason_for(floats) == "float-weights: its input is binary but its weights are not"


@pytest.mark.parametrize("joined", ["", "t = bnncc.Sign (x)\np = Pad (s, pads)\nj = Concat <axis = 1> (p, t)\n"])
def test_an_input_with_zeros_by_design_is_reported_where_floats_are_faster(joined: str) -> None:
    body = f"r = Relu (x)\ns = Sign (r)\n{joined}y = Conv ({'j' if joined else 's'}, w)"
    constants = {"pads": np.zeros(8, np.int64)} if joined else {}
    model = build(body, X, w=scaled(np.ones(5), 5, 8 if joined else 4, 3, 3), **constants)
    check_pass(model, RecognizeBinaryConv(cost=free_floats), modified=False)
    reason = node_of(model, "Conv").metadata_props[LEFT_IN_FLOAT_KEY]
    start = "zeros-by-design: its input is a torch.sign (net.py:1 in forward: line 1) of values that are 0 by design"
    assert reason.startswith(start)


def test_depthwise_convolutions_are_reported() -> None:
    model = conv(scaled(np.ones(4), 4, 1, 3, 3), "<group = 4>")
    reason = (
        "depthwise-conv: it is a depthwise convolution: "
        "with one input channel for an output there are no words of bits to multiply"
    )
    assert reason_for(model) == reason


@pytest.mark.parametrize(("shape", "dimensions"), [((1, 4, 3, 5, 6), 3)])
def test_other_than_two_dimensions_are_reported(shape: tuple[int, ...], dimensions: int) -> None:
    weight = scaled(np.ones(5), 5, 4, *(2,) * dimensions)
    model = conv(weight, "", x=f"float[{', '.join(map(str, shape))}] x")
    assert reason_for(model) == f"not-two-dimensional: it is a {dimensions}-D convolution"


def test_weights_and_bias_computed_at_run_time_are_reported() -> None:
    body = "s = bnncc.Sign (x)\ny = Conv (s, w)"
    model = build(body, f"{X}, float[5, 4, 3, 3] w")
    assert reason_for(model).startswith("computed-weights: its weights are computed at run time")
    biased = build("s = bnncc.Sign (x)\ny = Conv (s, w, b)", f"{X}, float[5] b", w=scaled(np.ones(5), 5, 4, 3, 3))
    assert reason_for(biased) == "computed-bias: its bias is computed at run time"


@pytest.mark.parametrize("operator", ["Gemm <transB = 1>", "Gemm", "MatMul"])
def test_a_linear_layer_of_one_output_or_one_input(operator: str) -> None:
    """One output: all weights of one magnitude are binary.  One input: one weight an output says nothing."""
    for weight, reason in (
        (scaled(np.ones(1), 1, 4), "float-input: its weights are binary but its input is not"),
        (normal(5, 1), None),
    ):
        oriented = weight if "1" in operator else np.ascontiguousarray(weight.T)
        model = build(f"y = {operator} (x, w)", f"float[3, {weight.shape[1]}] x", w=oriented)
        assert reason_for(model, operator=operator.split()[0]) == reason


def test_one_weight_tensor_may_serve_two_convolutions() -> None:
    body = """
    s = bnncc.Sign (x)
    a = Conv (s, w)
    b = Conv <strides = [2, 2]> (s, w)
    t = Tanh (x)
    c = Conv (t, w)
    y = Add (a, c)"""
    model = build(body, X, "y, b", w=scaled(np.linspace(0.1, 1, 5), 5, 4, 3, 3))
    check_pass(model, RecognizeBinaryConv())
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 2, "Tanh": 1, "Conv": 1, "Add": 1}


def test_split_weights_gives_plus_one_for_zero_and_scales_in_double_precision() -> None:
    split = split_weights(scaled(np.array([0.1, 0], np.float32), 2, 3, 1, 1))
    assert split is not None
    found, scales = split
    assert found.dtype == np.float32
    assert set(np.unique(found)) <= {-1.0, 1.0}
    assert scales.dtype == np.float64
    assert scales[0] == pytest.approx(np.float64(np.float32(0.1)), rel=1e-15)


@pytest.mark.parametrize(
    ("body", "weight", "operator", "word"),
    [
        (
            "s = bnncc.Sign (x)\ny = ConvTranspose <strides = [2, 2]> (s, w)",
            signs(4, 5, 3, 3),
            "ConvTranspose",
            "transposed-conv",
        ),
        ("s = bnncc.Sign (x)\ny = ConvTranspose (s, w)", normal(4, 5, 3, 3), "ConvTranspose", "float-weights"),
        ("s = Tanh (x)\ny = ConvTranspose (s, w)", 0.5 * signs(4, 5, 2, 2), "ConvTranspose", "transposed-conv"),
        ("s = Tanh (x)\ny = ConvTranspose (s, w)", normal(4, 5, 3, 3), "ConvTranspose", None),
        ("s = Tanh (x)\ny = MatMul (w, s)", signs(5, 6), "MatMul", "weights-first"),
        ("s = Tanh (x)\ny = MatMul (w, s)", normal(5, 6), "MatMul", None),
    ],
)
def test_transposed_convolutions_and_weights_in_front_are_named_where_something_is_binary(
    body: str, weight: Array, operator: str, word: str | None
) -> None:
    model = build(body, "float[1, 4, 6, 7] x", w=np.asarray(weight, np.float32))
    check_pass(model, RecognizeBinaryConv(), modified=False)
    reason = node_of(model, operator).metadata_props.get(LEFT_IN_FLOAT_KEY)
    assert (reason.split(":")[0] if reason else None) == word
