from __future__ import annotations

import itertools
import json

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnncc.inference.runners import LceRunner
from bnncc.ir.graph import CONV_KEY, OUTPUT_CHANNELS_KEY
from bnncc.passes.threshold import Threshold, thresholds_of
from bnncc.targets.tflite.emit import emit
from tests.networks.vgg_small import BinaryConv2d
from tests.passes.helpers import Array, array_of, build, check_pass, draw, node_of, normal, operators, signs
from tests.passes.networks import assert_equals_torch, compile_randomized

CONV = "strides = [1, 1], dilations = [1, 1], group = 1, pads = [{pads}], pad_value = {pad_value}"


def layer(
    chain: str,
    *,
    channels: int = 5,
    filters: int = 6,
    kernel: int = 3,
    pads: str = "0, 0, 0, 0",
    pad_value: float = 0.0,
    multiplier: Array | None = None,
    bias: Array | None = None,
    outputs: str = "y",
    **constants: Array | float,
) -> ir.Model:
    """x ─ Sign ─ BinaryConv (c) ─ `chain` (c to f) ─ Sign (y)."""
    return build(
        f"""
        s = bnncc.Sign (x)
        c = bnncc.BinaryConv <{CONV.format(pads=pads, pad_value=pad_value)}> (s, w, m, b)
        {chain}
        y = bnncc.Sign (f)
        """,
        f"float[2, {channels}, 6, 5] x",
        outputs,
        w=signs(filters, channels, kernel, kernel, seed=4),
        m=normal(filters, seed=1) if multiplier is None else multiplier,
        b=normal(filters, seed=2) * 3 if bias is None else bias,
        **constants,
    )


def per_channel(filters: int, seed: int = 0) -> Array:
    return normal(filters, 1, 1, seed=seed)


@settings(max_examples=60)
@given(
    channels=st.integers(1, 200),
    filters=st.integers(1, 70),
    kernel=st.sampled_from([1, 2, 3]),
    gamma=st.sampled_from(["positive", "negative", "mixed", "zero"]),
    spread=st.sampled_from([0.0, 1.0, 10.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_signs_of_every_affine_equal_pytorchs_in_lces_interpreter(
    channels: int, filters: int, kernel: int, gamma: str, spread: float, seed: int
) -> None:
    # The constants are multiples of 1/4, so that PyTorch's float64 and float32 agree and exact zeros occur.
    generator = np.random.default_rng(seed)
    scale = generator.integers(1, 9, filters) / 4
    factor = {"positive": 1, "negative": -1, "zero": 0, "mixed": generator.integers(-1, 2, filters)}[gamma]
    multiplier = (scale * factor).astype(np.float32)
    bias = (np.round(generator.standard_normal(filters) * spread * 4) / 4).astype(np.float32)
    model = layer(
        "f = Identity (c)", channels=channels, filters=filters, kernel=kernel, multiplier=multiplier, bias=bias
    )
    weight = torch.from_numpy(array_of(node_of(model, "BinaryConv").inputs[1]).astype(np.float64))
    assert Threshold()(model).modified
    x = draw(model, seed)["x"]
    sums = torch.nn.functional.conv2d(torch.from_numpy(np.where(x < 0, -1.0, 1.0)), weight).numpy()
    affine = sums * multiplier[:, None, None] + bias[:, None, None]
    expected = np.where(affine < 0, -1, 1)
    content = emit(model)
    for fastest in (False, True):
        (found,) = LceRunner(content, fastest=fastest).run([x.transpose(0, 2, 3, 1)])
        np.testing.assert_array_equal(found.transpose(0, 3, 1, 2), expected)


CHAINS = {
    "f = Identity (c)": {},
    "g = Mul (c, a)\nf = Add (g, d)": {"a": per_channel(6, 5), "d": per_channel(6, 6)},
    "g = BatchNormalization (c, v, w1, w2, var)\nf = Clip (g, low, high)": {
        "v": normal(6, seed=3),
        "w1": normal(6, seed=4),
        "w2": normal(6, seed=5),
        "var": np.abs(normal(6, seed=6)),
        "low": -1.0,
        "high": 1.0,
    },
    "g = PRelu (c, a)\nf = Add (g, d)": {"a": np.abs(per_channel(6)), "d": per_channel(6, 8)},
    "g = Tanh (c)\nf = Sub (g, d)": {"d": per_channel(6) / 2},
    "g = Relu (c)\nf = Sub (g, d)": {"d": np.abs(per_channel(6)) + 1},
    "g = Neg (c)\nh = Max (g, d)\nf = Add (h, d)": {"d": per_channel(6, 3)},
    "n = Less (c, z)\np = Mul (c, a)\nq = Where (n, p, c)\nf = Add (q, d)": {
        "z": 0.0,
        "a": np.abs(per_channel(6)),
        "d": per_channel(6, 8),
    },
}


@pytest.mark.parametrize("chain", CHAINS)
def test_elementwise_operators_between_sums_and_sign_go_into_the_thresholds(chain: str) -> None:
    after = check_pass(layer(chain, **CHAINS[chain]), Threshold())
    assert operators(after) == {"bnncc.Sign": 1, "bnncc.BinaryConvSign": 1}


def test_a_sign_of_negated_signs_is_one_threshold_that_sums_of_0_do_not_reach() -> None:
    none = np.zeros(6, np.float32)
    model = layer("t = bnncc.Sign (c)\nf = Neg (t)", channels=4, multiplier=none - 1, bias=none)
    after = check_pass(model, Threshold())
    assert operators(after) == {"bnncc.Sign": 1, "bnncc.BinaryConvSign": 1}
    assert np.all(array_of(node_of(after, "BinaryConvSign").inputs[2]) == 2)  # of 36 products: even sums


def test_a_negative_slope_that_is_still_one_step_becomes_a_threshold() -> None:
    # -0.5·c - 100 for c < 0 and c - 100 above: with K = 45 sums never reach 0, so every channel is constant.
    model = layer(
        "g = PRelu (c, a)\nf = Sub (g, d)",
        multiplier=np.ones(6, np.float32),
        a=np.full((6, 1, 1), -0.5, np.float32),
        d=np.full((6, 1, 1), 100, np.float32),
    )
    after = check_pass(model, Threshold())
    assert np.all(array_of(node_of(after, "BinaryConvSign").inputs[2]) == np.inf)


@pytest.mark.parametrize(
    ("chain", "constants"),
    [
        ("g = PRelu (c, a)\nf = Sub (g, d)", {"a": np.full((6, 1, 1), -0.5, np.float32), "d": 3.0}),
        ("g = Abs (c)\nf = Sub (g, d)", {"d": 3.0}),
        ("g = Mul (c, a)\nf = Mul (g, c)", {"a": per_channel(6)}),
        ("f = Add (c, d)", {"d": normal(1, 6, 4, 3)}),
    ],
)
def test_what_is_no_single_step_per_channel_is_left_alone(chain: str, constants: dict[str, Array | float]) -> None:
    if "Mul (g, c)" in chain:
        constants = {**constants, "shift": 1.0}
        chain = chain.replace("f = Mul (g, c)", "h = Mul (g, c)\nf = Sub (h, shift)")
    model = layer(chain, multiplier=np.ones(6, np.float32), bias=np.zeros(6, np.float32), **constants)
    check_pass(model, Threshold(), modified=False)


@pytest.mark.parametrize("outputs", ["y, c", "y, f", "y, g"])
def test_sums_that_something_else_reads_stay_floats(outputs: str) -> None:
    model = layer("g = Mul (c, a)\nf = Add (g, d)", outputs=outputs, a=per_channel(6), d=per_channel(6, 1))
    check_pass(model, Threshold(), modified=False)


def test_a_second_computed_value_in_the_chain_leaves_it_alone() -> None:
    model = layer(
        "r = Slice (x, o, e, k)\ng = ReduceMean (r)\nf = Add (c, g)", o=np.array([0]), e=np.array([1]), k=np.array([1])
    )
    check_pass(model, Threshold(), modified=False)


def test_zero_padding_that_windows_reach_leaves_the_layer_alone() -> None:
    check_pass(layer("f = Identity (c)", pads="1, 1, 1, 1"), Threshold(), modified=False)


def test_padding_with_ones_becomes_thresholds() -> None:
    after = check_pass(layer("f = Identity (c)", pads="1, 1, 1, 1", pad_value=1.0), Threshold())
    assert node_of(after, "BinaryConvSign").attributes["pad_value"].as_float() == 1.0


def test_zero_padding_that_no_window_reaches_is_no_obstacle() -> None:
    model = layer("f = Identity (c)", pads="0, 0, 1, 0", kernel=2)
    model.graph.node(1).attributes["strides"] = ir.AttrInt64s("strides", [2, 1])
    for name in ("c", "f", "y"):
        next(v for n in model.graph for v in n.outputs if v.name == name).shape = ir.Shape([2, 6, 3, 4])
    check_pass(model, Threshold())


def test_exact_zeros_are_plus_one_whatever_the_sign_of_the_scale() -> None:
    # 1x1 on 4 channels: the sums are -4, -2, 0, 2, 4; ±acc + 2 is 0 at -2 or 2.
    multiplier, bias = np.array([1, -1, 1, -1, 0, 0], np.float32), np.array([2, 2, -5, -5, 0, -1], np.float32)
    model = layer("f = Identity (c)", channels=4, kernel=1, multiplier=multiplier, bias=bias)
    after = check_pass(model, Threshold())
    found = array_of(node_of(after, "BinaryConvSign").inputs[2])
    np.testing.assert_array_equal(found, [-2, -2, np.inf, np.inf, -np.inf, np.inf])


def test_negated_channels_names_and_the_traced_convolution_are_recorded() -> None:
    multiplier = np.array([1, -1, 2, -2, 3, 0], np.float32)
    model = layer("f = Identity (c)", multiplier=multiplier, bias=np.zeros(6, np.float32))
    conv = node_of(model, "BinaryConv")
    conv.metadata_props[CONV_KEY] = "c"
    conv.metadata_props[OUTPUT_CHANNELS_KEY] = json.dumps([2, 1, 0, -4, 4, 5])
    node = node_of(check_pass(model, Threshold()), "BinaryConvSign")
    assert node.outputs[0].name == "y"
    assert node.metadata_props[CONV_KEY] == "c"
    assert json.loads(node.metadata_props[OUTPUT_CHANNELS_KEY]) == [2, -2, 0, 3, 4, 5]


def test_several_readers_share_the_thresholded_signs() -> None:
    conv = CONV.format(pads="0, 0, 0, 0", pad_value=0.0)
    body = f"""
        s = bnncc.Sign (x)
        c = bnncc.BinaryConv <{conv}> (s, w, m, b)
        y = bnncc.Sign (c)
        u = bnncc.BinaryConv <{conv}> (y, v, m3, b3)
        r = Relu (y)
        """
    model = build(
        body,
        "float[2, 5, 6, 5] x",
        "u, r",
        w=signs(6, 5, 3, 3),
        m=normal(6),
        b=normal(6),
        v=signs(3, 6, 1, 1),
        m3=normal(3),
        b3=normal(3),
    )
    after = check_pass(model, Threshold())
    assert operators(after) == {"bnncc.Sign": 1, "bnncc.BinaryConvSign": 1, "bnncc.BinaryConv": 1, "Relu": 1}


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=20))
def test_a_table_is_reproduced_by_its_thresholds(rows: list[list[bool]]) -> None:
    bits, sums = np.array(rows), np.arange(-4, 5, 2, dtype=np.float32)
    found = thresholds_of(bits, sums)
    single_steps = all(sum(a != b for a, b in itertools.pairwise(row)) <= 1 for row in rows)
    assert (found is not None) == single_steps
    if found is not None:
        turned = np.where(found.negated[:, None], -sums, sums)
        np.testing.assert_array_equal(turned >= found.value[:, None], bits)


class Padded(nn.Module):
    """Two zero-padded binary convolutions and batch norms on a tiny map, and a last one without padding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 40, 3, padding=1)
        self.body = nn.Sequential(
            BinaryConv2d(40, 50, 3, padding=1, bias=False),
            nn.BatchNorm2d(50),
            BinaryConv2d(50, 33, 3, padding=1, bias=False),
            nn.BatchNorm2d(33),
            BinaryConv2d(33, 8, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(self.stem(x)).flatten(1)
        return y


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tiny_maps_are_exact_and_taps_that_only_meet_padding_do_not_keep_a_layer_from_thresholds(size: int) -> None:
    module = Padded()
    compiled, _ = compile_randomized(module, (1, 3, size, size))
    assert operators(compiled.graph)["bnncc.BinaryConvSign"] == (2 if size == 1 else 0)
    assert_equals_torch(module, compiled)
