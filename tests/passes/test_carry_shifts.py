import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.ir.evaluate import run, skeleton, weights_of
from bnncc.passes.carry_shifts import CarryShifts, elementwise_elements
from tests.passes.helpers import Array, assert_same, build, check_pass, normal, operators, signs

X = "float[2, 4, 6, 6] x"
CONV = "bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1], pad_value = 0.0>"


def shift(seed: int, channels: int = 4) -> Array:
    return normal(1, channels, 1, 1, seed=seed)


def conv(seed: int) -> dict[str, Array]:
    """Constants w, m, b of a BinaryConv of four channels, with a suffix."""
    weights = signs(4, 4, 3, 3, seed=seed)
    return {f"w{seed}": weights, f"m{seed}": normal(4, seed=seed + 10), f"b{seed}": normal(4, seed=seed + 20)}


def test_a_half_block_of_reactnet_keeps_one_add_before_its_sign_and_one_for_the_residual() -> None:
    model = build(
        f"p = PRelu (x, a0)\nh = Add (p, s0)\nt = Add (h, s1)\nbits = bnncc.Sign (t)\nc = {CONV} (bits, w1, m1, b1)\n"
        "r = Add (c, h)\nu = Add (r, s2)\nq = PRelu (u, a1)\ny = Add (q, s3)",
        X,
        a0=normal(4, 1, 1, seed=30),
        a1=normal(4, 1, 1, seed=31),
        s0=shift(0),
        s1=shift(1),
        s2=shift(2),
        s3=shift(3),
        **conv(1),
    )
    found = operators(check_pass(model, CarryShifts()))
    assert found["Add"] == 3  # before the sign, for the residual, and the output's own shift
    assert found["PRelu"] == 2


def test_a_linear_without_a_bias_gets_one() -> None:
    body = "p = Relu (x)\nk = GlobalAveragePool (p)\nr = Flatten (k)\nh = Add (r, s)\ny = MatMul (h, w)"
    model = build(body, X, s=normal(1, 4), w=normal(4, 5, seed=1))
    found = operators(check_pass(model, CarryShifts()))
    assert found["Add"] == found["MatMul"] == 0
    assert found["Gemm"] == 1


@pytest.mark.parametrize(
    "body",
    [
        "h = Add (p, s0)\ny = Conv (h, f, g)",
        "h = Add (p, s0)\ny = Conv <strides = [2, 2]> (h, f)",
        "h = Add (p, s0)\nk = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (h)\ny = Conv (k, f, g)",
        "h = Add (p, s0)\nk = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (h)\ny = Conv (k, f, g)",
        "h = Sub (p, s0)\nk = GlobalAveragePool (h)\nflat = Flatten (k)\ny = Gemm <transB = 1> (flat, l)",
        "h = Add (p, s0)\nflat = Flatten (h)\ny = Gemm (flat, wide, g)",
        "h = Add (p, s0)\nk = Mul (h, s1)\ny = Conv (k, f, g)",
        "h = Add (p, s0)\nk = Slice (h, i1, last, axis, back)\nm = Concat <axis = 1> (p, k)\ny = Conv (m, f7, g)",
        "h = Add (p, s0)\nk = Add (h, p)\ny = Conv (k, f, g)",
        "h = Add (p, s0)\nk = Sub (p, h)\nn = Sub (k, p)\ny = Conv (n, f, g)",
    ],
)
def test_a_shift_disappears_in_a_bias_behind(body: str) -> None:
    model = build(
        f"p = Relu (x)\n{body}",
        X,
        s0=shift(0),
        s1=shift(1),
        f=normal(5, 4, 1, 1),
        g=normal(5),
        l=normal(7, 4),
        wide=normal(144, 5),
        f7=normal(5, 7, 1, 1),
        i1=np.array([-1]),
        last=np.array([0]),
        axis=np.array([1]),
        back=np.array([-1]),
    )
    assert elementwise_elements(check_pass(model, CarryShifts()).graph) == sum(
        288 for line in body.splitlines() if "(h, p)" in line or "(p, h)" in line or "(k, p)" in line or "Mul" in line
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("h = Add (p, s0)\ny = Conv <pads = [1, 1, 1, 1]> (h, f3, g)", 1),
        ("h = Add (p, s0)\ny = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0], count_include_pad = 1> (h)", 1),
        ("h = Add (p, s0)\ny = Relu (h)", 1),
        ("y = Add (p, s0)", 1),
        ("h = Add (p, s0)\ny = Transpose <perm = [0, 2, 3, 1]> (h)", 1),
        ("h = Add (p, spatial)\ny = Conv (h, f, g)", 1),
    ],
)
def test_a_shift_stays_where_an_operator_needs_the_value_itself(text: str, left: int) -> None:
    model = build(
        f"p = Relu (x)\n{text}",
        X,
        s0=shift(0),
        spatial=normal(1, 4, 6, 6),
        f=normal(5, 4, 1, 1),
        f3=normal(5, 4, 3, 3),
        g=normal(5),
    )
    assert operators(check_pass(model, CarryShifts(), modified=False))["Add"] == left


def test_a_shift_sinks_through_a_concatenation_into_each_convolution() -> None:
    model = build(
        f"bits = bnncc.Sign (x)\nc = {CONV} (bits, w1, m1, b1)\nd = {CONV} (bits, w2, m2, b2)\nr = Add (c, x)\n"
        "k = Concat <axis = 1> (r, d)\nh = Add (k, s0)\ny = PRelu (h, a0)",
        X,
        s0=shift(0, 8),
        a0=normal(8, 1, 1),
        **conv(1),
        **conv(2),
    )
    assert operators(check_pass(model, CarryShifts()))["Add"] == 1


def test_a_convolution_that_something_else_reads_keeps_its_bias() -> None:
    model = build(
        f"bits = bnncc.Sign (x)\nc = {CONV} (bits, w1, m1, b1)\nh = Add (c, s0)\ny = PRelu (h, a0)\nz = Relu (c)",
        X,
        "y, z",
        s0=shift(0),
        a0=normal(4, 1, 1),
        **conv(1),
    )
    check_pass(model, CarryShifts(), modified=False)


def test_a_value_that_several_operators_need_is_computed_once() -> None:
    model = build(
        "p = Relu (x)\nh = Add (p, s0)\nk = Add (h, x)\na = Relu (h)\nb = Sigmoid (h)\nc = Conv (k, f, g)\n"
        "d = Add (a, b)\ne = Add (d, s1)\ny = Conv (e, f, g)",
        X,
        "y, c",
        s0=shift(0),
        s1=shift(1),
        f=normal(5, 4, 1, 1),
        g=normal(5),
    )
    check_pass(model, CarryShifts())
    shifts = [n for n in model.graph if n.op_type == "Add" and any(v is not None and v.const_value for v in n.inputs)]
    assert len(shifts) == 1


@st.composite
def graphs(draw: st.DrawFn) -> str:
    """A body of random operators on values [2, 4, 6, 6], each reading earlier ones."""
    lines, values = [], ["x"]
    for index in range(draw(st.integers(3, 14))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        c = draw(st.integers(0, 5))
        texts = [f"Add ({a}, s{c})", f"Add (s{c}, {a})", f"Sub ({a}, s{c})", f"Sub (s{c}, {a})", f"Add ({a}, {b})"]
        texts += [f"Sub ({a}, {b})", f"Mul ({a}, s{c})", f"PRelu ({a}, s{c})", f"Conv ({a}, f, g)", f"Neg ({a})"]
        texts += [f"Conv <pads = [1, 1, 1, 1]> ({a}, f3, g)", f"MaxPool <kernel_shape = [1, 1]> ({a})", f"Relu ({a})"]
        texts += [f"AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> ({a})"]
        text = draw(st.sampled_from(texts))
        lines.append(f"v{index} = {text}")
        values.append(f"v{index}")
    return "\n".join([*lines, f"k = Concat <axis = 1> ({values[-1]}, {values[-2]})", "y = GlobalAveragePool (k)"])


@settings(max_examples=60)
@given(graphs())
def test_random_graphs_compute_the_same_with_no_more_elementwise_work(body: str) -> None:
    # The last two differ between the positions of the map.
    constants = {f"s{index}": shift(index) if index < 4 else normal(1, 4, 6, 6, seed=index) for index in range(6)}
    model = build(body, X, f=normal(4, 4, 1, 1) / 2, f3=normal(4, 4, 3, 3) / 6, g=normal(4), **constants)
    before = model.clone()
    CarryShifts()(model)
    assert_same(before, model, tolerance=1e-4)
    assert elementwise_elements(model.graph) <= elementwise_elements(before.graph)
    assert not CarryShifts()(model).modified


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("b = Add (a, s1)\ny = Sigmoid (b)", 1),
        ("b = Concat <axis = 1> (a, p)\nc = Add (b, s8)\ny = Sigmoid (c)", 1),
        ("b = Mul (a, s1)\nc = Add (b, map2)\nd = Add (c, c)\ny = Sigmoid (d)", 2),
        ("b = Slice (a, starts, ends, axes)\nc = Add (b, s2)\ny = Sigmoid (c)", 1),
        ("b = ReduceMean <keepdims = 0> (a, axes)\ny = Gemm (b, fc)", 0),
        ("b = ReduceMean (a, axes)\ny = Conv (b, f, g)", 0),
        ("b = GlobalAveragePool (a)\nc = Flatten (b)\ny = Gemm (c, fc)", 0),
        ("b = Flatten (a)\ny = Gemm (b, wide)", 0),
        ("b = MaxPool <kernel_shape = [2, 2]> (a)\ny = Sigmoid (b)", 1),
        ("b = AveragePool <kernel_shape = [2, 2]> (a)\nc = Add (b, s1)\ny = Sigmoid (c)", 2),
        ("y = Conv (a, f, g)", 1),
    ],
    ids=["shift", "concat", "scale, sum", "slice", "mean", "mean kept", "global", "flatten", "max", "average", "conv"],
)
def test_what_differs_between_positions_is_carried_where_that_can_be_said(text: str, left: int) -> None:
    constants: dict[str, Array] = {
        **{"map": normal(1, 4, 6, 6, seed=3), "map2": normal(1, 4, 6, 6, seed=4), "s1": shift(1), "s2": shift(2)},
        **{"s8": shift(8, 8), "f": normal(5, 4, 1, 1), "g": normal(5), "fc": normal(4, 5), "wide": normal(144, 5)},
        **{"starts": np.array([1, 2]), "ends": np.array([6, 5]), "axes": np.array([2, 3])},
    }
    body = f"p = Relu (x)\na = Add (p, map)\n{text}"
    used = {name: array for name, array in constants.items() if f" {name}," in body or f" {name})" in body}
    before = build(body, X, **used)
    model = before.clone()
    CarryShifts()(model)
    assert_same(before, model)
    assert sum(node.op_type == "Add" for node in model.graph) == left


def test_the_sums_are_of_float64() -> None:
    # 1e7 and 1 and -1e7: composed in float32 the 1 would be lost.
    large = np.full((1, 4, 1, 1), 1e7, np.float32) + shift(0).round()
    model = build(
        "p = Relu (x)\na = Add (p, big)\nb = Add (a, one)\nc = Sub (b, big)\ny = Conv (c, f)",
        X,
        big=large,
        one=shift(1),
        f=normal(5, 4, 1, 1),
    )
    reference = build("p = Relu (x)\nc = Add (p, one)\ny = Conv (c, f)", X, one=shift(1), f=normal(5, 4, 1, 1))
    CarryShifts()(model)
    assert_same(reference, model)


CHOICE = (
    "bits = bnncc.Sign (x)\nu = {conv} (bits, w1, m1, zero)\nf = {conv} (bits, w3, m3, b3)\n"
    "g = {comparison}\n{more}c = Where (g, f, u)\nk = Mul (c, scale)\nh = Add (k, x)\ny = Add (h, s)"
)


@pytest.mark.parametrize("comparison", ["Greater (u, t)", "LessOrEqual (t, u)", "Less (u, half)"])
def test_a_shift_behind_a_choice_goes_into_what_is_chosen_and_into_the_bound(comparison: str) -> None:
    body = CHOICE.format(conv=CONV, comparison=comparison, more="")
    used = {"t": normal(1, 4, 1, 1, seed=7)} if "t" in comparison.split("(")[1] else {"half": np.float32(0.5)}
    constants = {name: array for number in (1, 3) for name, array in conv(number).items() if name != "b1"}
    constants |= {"zero": np.zeros(4, np.float32), "scale": normal(4, 1, 1, seed=8), "s": shift(9), **used}
    model = build(body, X, **constants)
    assert operators(check_pass(model, CarryShifts()))["Add"] == 1


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"zero": normal(4, seed=3)}, ""),
        ({"m1": np.full(4, 1e-5, np.float32)}, ""),
        ({"scale": np.array([0, 1, 2, 3], np.float32).reshape(4, 1, 1)}, ""),
        ({}, "r = Relu (u)\n"),
    ],
    ids=["a bias", "a shift that hides the sums", "a scale of 0", "another reader"],
)
def test_a_shift_stays_behind_a_choice_of_which_the_bound_would_not_be_exact(
    changes: dict[str, Array], more: str
) -> None:
    body = CHOICE.format(conv=CONV, comparison="Greater (u, t)", more=more)
    constants = {name: array for number in (1, 3) for name, array in conv(number).items() if name != "b1"}
    constants |= {"zero": np.zeros(4, np.float32), "scale": normal(4, 1, 1, seed=8), "s": shift(9), "t": shift(7)}
    model = build(body, X, "y, r" if more else "y", **{**constants, **changes})
    check_pass(model, CarryShifts(), modified=False)


def test_integers_that_meet_their_bound_are_chosen_as_before() -> None:
    body = CHOICE.format(conv=CONV, comparison="GreaterOrEqual (u, t)", more="")
    halves = np.array([0.5, 1, 2, 1], np.float32)
    constants = {"w1": signs(4, 4, 3, 3, seed=1), "m1": halves, "zero": np.zeros(4, np.float32)}
    constants |= {"w3": signs(4, 4, 3, 3, seed=3), "m3": halves, "b3": halves, "scale": halves.reshape(4, 1, 1)}
    constants |= {"t": 2 * halves.reshape(1, 4, 1, 1), "s": normal(1, 4, 1, 1, seed=2).astype(np.float32)}
    model = build(body, "float[1, 4, 6, 6] x", **constants)
    changed = model.clone()
    assert CarryShifts()(changed).modified
    (before, after) = (next(node for node in one.graph if node.op_type == "Where") for one in (model, changed))
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 6)).astype(np.float32)
    results = [
        next(iter(run(skeleton(one, [node.inputs[0]]), {**weights_of(one), "x": x}).values()))
        for one, node in ((model, before), (changed, after))
    ]
    sums = next(iter(run(skeleton(model, [before.inputs[2]]), {**weights_of(model), "x": x}).values()))
    assert np.any(sums == constants["t"])
    np.testing.assert_array_equal(*results)
