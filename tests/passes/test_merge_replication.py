"""Repetition along the channels: found in every spelling, merged into the convolution or spelled as one Concat."""

import json

import numpy as np
import onnx_ir as ir
import pytest
import torch

from bnncc.ir.graph import OUTPUT_CHANNELS_KEY
from bnncc.ir.modes import ReplicationMode
from bnncc.passes.fold_affine import FoldAffine
from bnncc.passes.fold_constants import FoldConstants
from bnncc.passes.merge_replication import MergeReplication
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from bnncc.targets import find_target
from tests.passes.helpers import Array, build, check_pass, export, node_of, normal, operators, signs

X = "float[1, 5, 6, 7] x"
TILED = [0, 1, 2, 0, 1, 2]
INTERLEAVED = [0, 0, 1, 1, 2, 2]
# Behind v [1, 3, 6, 7]: r [1, 6, 6, 7], and the channels of v that it holds.
SPELLINGS = {
    "concat": ("r = Concat <axis = 1> (v, v)", TILED),
    "tile": ("r = Tile (v, tiles)", TILED),
    "gather": ("r = Gather <axis = 1> (v, tiled)", TILED),
    "gather interleaved": ("r = Gather <axis = 1> (v, interleaved)", INTERLEAVED),
    "gather in any order": ("r = Gather <axis = 1> (v, shuffled)", [2, 0, 1, 1, 0, 2]),
    "expand": ("a = Unsqueeze (v, one)\ne = Expand (a, copies)\nr = Reshape (e, shape)", TILED),
    "expand interleaved": ("a = Unsqueeze (v, two)\ne = Expand (a, pairs)\nr = Reshape (e, shape)", INTERLEAVED),
    "stack": ("a = Unsqueeze (v, two)\ne = Concat <axis = 2> (a, a)\nr = Reshape (e, shape)", INTERLEAVED),
}
CONSTANTS: dict[str, Array | float] = {
    "tiles": np.array([1, 2, 1, 1]), "tiled": np.array(TILED), "interleaved": np.array(INTERLEAVED),
    "shuffled": np.array([2, 0, 1, 1, 0, 2]), "one": np.array([1]), "two": np.array([2]),
    "copies": np.array([1, 2, 3, 6, 7]), "pairs": np.array([1, 3, 2, 6, 7]), "shape": np.array([1, 6, 6, 7]),
    "w": 0.3 * signs(3, 5, 3, 3), "b": normal(3), "g": normal(1, 6, 1, 1), "h": normal(1, 6, 1, 1),
}  # fmt: skip
CONV = "s = bnncc.Sign (x)\nv = Conv <pads = [1, 1, 1, 1]> (s, w, b)\n"
AFFINE = "\nm = Mul (r, g)\ny = Add (m, h)"


def model_of(body: str, outputs: str = "y", x: str = X, **more: Array | float) -> ir.Model:
    used = {
        name: array
        for name, array in {**CONSTANTS, **more}.items()
        if name in body.replace(",", " ").replace(")", " ").replace("(", " ").split()
    }
    model = build(body, x, outputs, **used)
    RecognizeBinaryConv()(model)
    return model


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_merged_into_one_convolution(spelling: str) -> None:
    body, channels = SPELLINGS[spelling]
    model = model_of(CONV + body + AFFINE)
    check_pass(model, MergeReplication(ReplicationMode.MERGE))
    check_pass(model, FoldAffine())
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1}
    node = node_of(model, "BinaryConv")
    assert json.loads(node.metadata_props[OUTPUT_CHANNELS_KEY]) == channels
    assert node.outputs[0].name == "y"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_one_copy_where_it_is_repeated(spelling: str) -> None:
    body, channels = SPELLINGS[spelling]
    model = model_of(CONV + body + AFFINE)
    check_pass(
        model,
        MergeReplication(ReplicationMode.REPEAT),
        modified="Concat <axis = 1>" not in body and "Gather" not in body,
    )
    FoldAffine()(model)
    copy = "Concat" if channels == TILED and "Gather" not in body else "Gather"
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1, copy: 1, "Mul": 1, "Add": 1}


def test_both_ways_compute_the_same() -> None:
    merged, repeated = (model_of(CONV + SPELLINGS["tile"][0] + AFFINE) for _ in range(2))
    MergeReplication(ReplicationMode.MERGE)(merged)
    MergeReplication(ReplicationMode.REPEAT)(repeated)
    from tests.passes.helpers import assert_same

    FoldAffine()(merged)
    FoldAffine()(repeated)
    merged_again = merged.clone()
    assert_same(repeated, merged_again)


@pytest.mark.parametrize(
    "between",
    [
        "u = Mul (c, k)\nn = BatchNormalization (u, gamma, beta, mean, variance)\nv = Neg (n)",
        "v = PRelu (c, slopes)",
        "u = Mul (c, k)\nv = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (u)",
        "u = Clip (c, low, high)\nv = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (u)",
    ],
)
def test_what_works_channel_by_channel_may_stand_in_between(between: str) -> None:
    vectors = {name: np.abs(normal(3, seed=seed)) for seed, name in enumerate(("gamma", "beta", "mean", "variance"))}
    model = model_of(
        CONV.replace("v =", "c =") + between + "\n" + SPELLINGS["gather in any order"][0] + AFFINE,
        k=normal(1, 3, 1, 1), slopes=normal(3, 1, 1), low=-0.5, high=0.7, **vectors,
    )  # fmt: skip
    check_pass(model, MergeReplication(ReplicationMode.MERGE))
    FoldAffine()(model)
    left = operators(model)
    assert left["Gather"] == 0
    assert left["BatchNormalization"] + left["Neg"] == 0


def test_the_copies_own_operators_may_stand_in_front_of_the_concat() -> None:
    body = """k0 = Mul (v, g0)
a0 = Add (k0, h0)
p0 = PRelu (a0, s0)
k1 = Mul (v, g1)
p1 = PRelu (k1, s1)
q1 = Add (p1, h1)
y = Concat <axis = 1> (p0, q1)"""
    vectors = {f"{name}{i}": normal(1, 3, 1, 1, seed=i + 2 * j) for i in (0, 1) for j, name in enumerate("ghs")}
    model = model_of(CONV + body, **vectors)
    check_pass(model, MergeReplication(ReplicationMode.MERGE))
    FoldAffine()(model)
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1, "PRelu": 1, "Add": 1}


def test_a_concatenation_of_different_values_is_left_alone() -> None:
    body = CONV + "u = Conv <pads = [1, 1, 1, 1]> (s, w)\ny = Concat <axis = 1> (u, v)"
    check_pass(model_of(body), MergeReplication(ReplicationMode.MERGE), modified=False)


def test_a_convolution_that_something_else_reads_stays_beside_the_merged_one() -> None:
    model = model_of(CONV + "t = Tanh (v)\n" + SPELLINGS["tile"][0] + AFFINE, "y, t")
    check_pass(model, MergeReplication(ReplicationMode.MERGE))
    FoldAffine()(model)
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 2, "Tanh": 1}


def test_a_float_convolution_is_merged_too() -> None:
    body = "v = Conv <pads = [1, 1, 1, 1]> (x, w, b)\n" + SPELLINGS["expand interleaved"][0] + AFFINE
    model = model_of(body, w=normal(3, 5, 3, 3))
    check_pass(model, MergeReplication(ReplicationMode.MERGE))
    FoldAffine()(model)
    assert operators(model) == {"Conv": 1}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_float_convolution_of_copies_reads_the_value_once(spelling: str) -> None:
    model = model_of(
        "v = Tanh (x)\n" + SPELLINGS[spelling][0] + "\ny = Conv (r, u, b)",
        x="float[1, 3, 6, 7] x",
        u=normal(3, 6, 3, 3),
    )
    check_pass(model, MergeReplication())
    assert operators(model) == {"Tanh": 1, "Conv": 1}


def test_copies_of_signs_stay_copies() -> None:
    model = model_of(
        "v = bnncc.Sign (x)\n" + SPELLINGS["concat"][0] + "\ny = Conv (r, u)",
        x="float[1, 3, 6, 7] x",
        u=signs(4, 6, 3, 3),
    )
    check_pass(model, MergeReplication(), modified=False)
    assert operators(model) == {"bnncc.Sign": 1, "Concat": 1, "bnncc.BinaryConv": 1}


def test_a_copy_that_a_sign_and_a_shortcut_read_is_merged() -> None:
    body = (
        CONV
        + SPELLINGS["tile"][0]
        + "\na = Add (r, h)\nz = bnncc.Sign (a)\nq = Conv <pads = [1, 1, 1, 1]> (z, u)\ny = Add (q, r)"
    )
    model = model_of(body, u=0.2 * signs(6, 6, 3, 3))
    check_pass(model, MergeReplication(ReplicationMode.MERGE))
    assert operators(model)["Tile"] == 0


@pytest.mark.parametrize(
    ("channels", "kernel", "size", "merges"), [(64, 1, 28, True), (32, 3, 56, True), (1024, 3, 7, False)]
)
def test_the_cost_model_weighs_arithmetic_against_traffic(channels: int, kernel: int, size: int, merges: bool) -> None:
    pads = kernel // 2
    conv = f"v = Conv <pads = [{pads}, {pads}, {pads}, {pads}]> (s, w)"
    body = f"s = bnncc.Sign (x)\n{conv}\nr = Concat <axis = 1> (v, v)" + AFFINE
    constants = {
        "w": signs(channels, channels, kernel, kernel),
        "g": normal(1, 2 * channels, 1, 1),
        "h": normal(1, 2 * channels, 1, 1),
    }
    model = build(body, f"float[1, {channels}, {size}, {size}] x", **constants)
    RecognizeBinaryConv()(model)
    MergeReplication(cost=find_target("raspberry-pi-4").cost)(model)
    assert (operators(model)["Concat"] == 0) is merges


@pytest.mark.parametrize(
    "repeat",
    [
        lambda x: torch.repeat_interleave(x, 2, 1),
        lambda x: x.repeat(1, 2, 1, 1),
        lambda x: torch.cat([x, x, x], 1),
        lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1, -1).reshape(1, 8, 4, 4),
        lambda x: x[:, :, None].expand(1, 4, 2, 4, 4).flatten(1, 2),
        lambda x: x[:, [0, 1, 2, 3, 0, 1, 2, 3]],
        lambda x: torch.tile(x, (1, 2, 1, 1)),
        lambda x: torch.stack([x, x], 2).flatten(1, 2),
        lambda x: torch.index_select(x, 1, torch.arange(8) % 4),
    ],
)
def test_torchs_ways_to_repeat_are_merged(repeat: torch.nn.Module) -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(repeat(self.conv(x)))

    from bnncc.ir.pass_runner import PassRunner
    from bnncc.passes import PIPELINE

    model = export(Network(), 1, 3, 6, 6)
    steps = [step for step in PIPELINE if step.make not in (MergeReplication,)]
    PassRunner().run(model, steps)
    check_pass(model, MergeReplication(ReplicationMode.MERGE), without_source=lambda node: True)
    FoldConstants()(model)
    assert operators(model) == {"Conv": 1, "Tanh": 1}


def test_booleans_that_are_repeated_along_the_channels_stay() -> None:
    check_pass(
        build(
            "c = Greater (x, zero)\nr = Expand (c, shape)\ny = Cast <to = 1> (r)",
            "float[1, 1, 6, 7] x",
            zero=0.0,
            shape=np.array([1, 6, 6, 7]),
        ),
        MergeReplication(ReplicationMode.MERGE),
        modified=False,
    )
