from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.ir.graph import INPUT_CHANNELS_KEY, NEGATED_KEY
from bnncc.ir.modes import Padding
from bnncc.ir.pass_runner import PassRunner
from bnncc.options import Options
from bnncc.passes import PIPELINE
from bnncc.passes.sink_moves import SinkMoves
from bnncc.verification import verify
from tests.networks.vgg_small import BinaryConv2d
from tests.passes.helpers import Array, build, check_pass, export, node_of, normal, operators, signs
from tests.passes.networks import assert_equals_torch, compile_randomized
from tests.passes.proof import operators_in_file
from tests.targets.tflite.test_lce import assert_equal_in_lce

CONV = "bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [0, 0, 0, 0], pad_value = 0.0>"


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


CONSTANTS: dict[str, Array] = {
    "two": ints(2),
    "three": ints(3),
    "one_to": ints(1),
    "six": ints(6),
    "c32": ints(32),
    "c64": ints(64),
    "frame": ints(0, 0, 1, 1, 0, 0, 1, 1),
    "fill": np.array(-0.3, np.float32),
    "zero": np.array(0, np.float32),
    "parts": ints(32, 32),
    "wide": ints(1, 1, 2, 1),
    "rows": ints(3, 0, 1, 1, 2),
    "flat_map": ints(1, 64, 24, 1),
    "same_map": ints(1, 64, 4, 6),
}


def sunk(
    move: str, moved: int, *, channels: int = 64, inputs: str = "", modified: bool = True, outputs: str = "y"
) -> ir.Model:
    """x ─ `move` (x to t) ─ Sign (s) ─ BinaryConv ─ y, after the pass."""
    words = set(move.replace("(", " ").replace(")", " ").replace(",", " ").split())
    model = build(
        f"{move}\ns = bnncc.Sign (t)\ny = {CONV} (s, w, m, b)",
        f"float[1, {channels}, 6, 4] x{inputs}",
        outputs,
        w=signs(3, moved, 1, 1),
        m=np.ones(3, np.float32),
        b=np.zeros(3, np.float32),
        **{name: array for name, array in CONSTANTS.items() if name in words},
    )
    return check_pass(model, SinkMoves(), modified=modified)


SUNK = [
    ("t = Slice (x, one_to, six, two)", 64, {"STRIDED_SLICE": 1}),
    ("t = Slice (x, c32, c64, one_to)", 32, {"STRIDED_SLICE": 1}),
    ("t = Concat <axis = 1> (x, x)", 128, {"CONCATENATION": 1}),
    ("r = Relu (x)\nq = Sub (r, fill)\nt = Concat <axis = 1> (x, q)", 128, {"CONCATENATION": 1}),
    ("t = Pad (x, frame, fill)", 64, {"PADV2": 1}),
    ('t = Pad <mode = "reflect"> (x, frame)', 64, {"MIRROR_PAD": 1}),
    ('t = Pad <mode = "wrap"> (x, frame)', 64, {"GATHER": 2}),
    ("t = Tile (x, wide)", 64, {"TILE": 1}),
    ("t = Gather <axis = 2> (x, rows)", 64, {"GATHER": 1}),
    ("t = Reshape (x, flat_map)", 64, {"RESHAPE": 1}),
    ("t = Transpose <perm = [0, 1, 3, 2]> (x)", 64, {"TRANSPOSE": 1}),
    ("t = SpaceToDepth <blocksize = 2> (x)", 256, {"SPACE_TO_DEPTH": 1}),
    ("q = Slice (x, one_to, six, two)\nt = Tile (q, wide)", 64, {"STRIDED_SLICE": 1, "TILE": 1}),
]


@pytest.mark.parametrize(("move", "moved", "expected"), SUNK, ids=[entry[0] for entry in SUNK])
def test_moves_go_below_the_sign_and_run_on_words(move: str, moved: int, expected: dict[str, int]) -> None:
    found = assert_equal_in_lce(sunk(move, moved))
    assert expected.items() <= found.items()
    assert found["LceQuantize"] == (2 if "Relu" in move else 1)


LEFT = [
    ("t = Concat <axis = 1> (x, x)", 37, 74),
    ("t = Slice (x, two, six, one_to)", 37, 4),
    ("t = Pad (x, frame, fill)", 37, 37),
    ("t = Pad (x, frame, zero)", 64, 64),
    ("t = SpaceToDepth <blocksize = 2> (x)", 37, 148),
    ("t = Slice (x, two, three, two)", 64, 64),
    ("t = Relu (x)", 64, 64),
]


@pytest.mark.parametrize(("move", "channels", "moved"), LEFT, ids=[entry[0] for entry in LEFT])
def test_moves_that_cut_words_or_drop_most_elements_stay(move: str, channels: int, moved: int) -> None:
    sunk(move, moved, channels=channels, modified=False)


def test_a_move_that_something_else_reads_stays() -> None:
    sunk("t = Slice (x, one_to, six, two)\nz = Relu (t)", 64, outputs="y, z", modified=False)


def test_a_sign_that_no_packed_operator_reads_keeps_its_move() -> None:
    model = build(
        "t = Slice (x, one_to, six, two)\ny = bnncc.Sign (t)",
        "float[1, 64, 6, 4] x",
        **{name: CONSTANTS[name] for name in ("one_to", "six", "two")},
    )
    check_pass(model, SinkMoves(), modified=False)


def test_both_halves_of_a_split_are_packed_together() -> None:
    model = build(
        f"""
        p, q = Split <axis = 1> (x, parts)
        s = bnncc.Sign (p)
        r = bnncc.Sign (q)
        y = {CONV} (s, w, m, b)
        z = {CONV} (r, w, m, b)
        """,
        "float[1, 64, 6, 4] x",
        "y, z",
        w=signs(3, 32, 1, 1),
        m=np.ones(3, np.float32),
        b=np.zeros(3, np.float32),
        parts=CONSTANTS["parts"],
    )
    after = check_pass(model, SinkMoves())
    assert operators(after) == {"bnncc.Sign": 1, "Split": 1, "bnncc.BinaryConv": 2}
    assert assert_equal_in_lce(after) == {"LceQuantize": 1, "SPLIT": 1, "LceBconv2d": 2}


@pytest.mark.parametrize(
    ("parts", "moves"),
    [("p00, p01, p10, p00", {"STRIDED_SLICE": 3, "CONCATENATION": 1}), ("p00, p10, p01, p11", {"SPACE_TO_DEPTH": 1})],
    ids=["some", "all pixels of a block"],
)
def test_strided_slices_share_one_packing(parts: str, moves: dict[str, int]) -> None:
    slices = [f"p{r}{c} = Slice (x, s{r}{c}, e, axes, st)" for r in (0, 1) for c in (0, 1) if f"p{r}{c}" in parts]
    model = build(
        "\n".join(slices) + f"\nt = Concat <axis = 1> ({parts})\ns = bnncc.Sign (t)\ny = {CONV} (s, w, m, b)",
        "float[1, 64, 6, 4] x",
        w=signs(3, 256, 1, 1),
        m=np.ones(3, np.float32),
        b=np.zeros(3, np.float32),
        e=ints(100, 100),
        axes=ints(2, 3),
        st=ints(2, 2),
        **{f"s{r}{c}": ints(r, c) for r in (0, 1) for c in (0, 1) if f"p{r}{c}" in parts},
    )
    after = check_pass(model, SinkMoves())
    assert assert_equal_in_lce(after) == {"LceQuantize": 1, **moves, "LceBconv2d": 1}


class Unshuffled(nn.Module):
    def __init__(self, channels: int, block: int, *, sign_first: bool) -> None:
        super().__init__()
        self.block, self.sign_first = block, sign_first
        self.conv = nn.Conv2d(channels * block**2, 5, 3, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.from_numpy(signs(*self.conv.weight.shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.sign_first:
            y: torch.Tensor = self.conv(F.pixel_unshuffle(torch.sign(x), self.block))
        else:
            y = self.conv(torch.sign(F.pixel_unshuffle(x, self.block)))
        return y


def recognized(module: nn.Module, *shape: int) -> ir.Model:
    """The module exported, with bnncc.Sign and BinaryConv."""
    model = export(module, *shape)
    steps = [step.name for step in PIPELINE]
    PassRunner().run(model, PIPELINE[: steps.index("sink-moves")])
    return model


@pytest.mark.parametrize("sign_first", [False, True])
@pytest.mark.parametrize("block", [2, 3])
def test_pixel_unshuffle_is_one_operator_on_words_and_its_order_goes_into_the_weights(
    sign_first: bool, block: int
) -> None:
    model = recognized(Unshuffled(32, block, sign_first=sign_first), 1, 32, 6 * block, 4 * block)
    after = check_pass(model, SinkMoves())
    assert assert_equal_in_lce(after) == {"LceQuantize": 1, "SPACE_TO_DEPTH": 1, "LceBconv2d": 1}
    order = json.loads(node_of(after, "BinaryConv").metadata_props[INPUT_CHANNELS_KEY])
    positions = torch.arange(32 * block**2).reshape(1, 32, block, block)  # traced channel at (c, row, column)
    expected = positions[0].permute(1, 2, 0).reshape(-1)
    assert order == expected.tolist()


def test_pixel_unshuffle_of_channels_that_share_words_stays() -> None:
    model = recognized(Unshuffled(20, 2, sign_first=False), 1, 20, 12, 8)
    assert not SinkMoves()(model).modified


class Focus(nn.Module):
    """The pixels of blocks as channels, in the order of these rows and columns."""

    def __init__(self, *places: tuple[int, int]) -> None:
        super().__init__()
        self.places = places

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[..., row::2, :][..., column::2] for row, column in self.places], 1)


@pytest.mark.parametrize(
    "blocks",
    [nn.PixelUnshuffle(2), Focus((0, 0), (1, 0), (0, 1), (1, 1)), Focus((1, 1), (0, 0), (1, 0), (0, 1))],
    ids=["pixel_unshuffle", "slices by columns", "slices in any order"],
)
def test_a_float_convolution_reads_blocks_of_pixels_in_the_order_of_space_to_depth(blocks: nn.Module) -> None:
    after = check_pass(recognized(nn.Sequential(blocks, nn.Conv2d(12, 5, 3)), 1, 3, 10, 8), SinkMoves())
    assert operators(after) == {"SpaceToDepth": 1, "Conv": 1}


def test_slices_that_are_no_blocks_stay() -> None:
    module = nn.Sequential(Focus((0, 0), (1, 0), (0, 1), (1, 0)), nn.Conv2d(12, 5, 3))
    assert not SinkMoves()(recognized(module, 1, 3, 10, 8)).modified


@pytest.mark.parametrize("channels", [5, 32, 40])
@pytest.mark.parametrize("sign_first", [False, True])
def test_a_binary_linear_on_flattened_maps_is_a_convolution(channels: int, sign_first: bool) -> None:
    move = "s = bnncc.Sign (x)\nf = Flatten (s)\n" if sign_first else "g = Flatten (x)\nf = bnncc.Sign (g)\n"
    features = channels * 6 * 4
    model = build(
        f"{move}t = Reshape (f, shape)\ny = {CONV} (t, w, m, b)",
        f"float[2, {channels}, 6, 4] x",
        w=signs(7, features, 1, 1),
        m=np.ones(7, np.float32),
        b=np.zeros(7, np.float32),
        shape=ints(2, features, 1, 1),
    )
    after = check_pass(model, SinkMoves())
    assert assert_equal_in_lce(after) == {"LceQuantize": 1, "LceBconv2d": 1}


def test_negated_features_keep_their_flatten() -> None:
    model = build(
        f"g = Flatten (x)\nf = bnncc.Sign (g)\nt = Reshape (f, shape)\ny = {CONV} (t, w, m, b)",
        "float[2, 5, 6, 4] x",
        w=signs(7, 120, 1, 1),
        m=np.ones(7, np.float32),
        b=np.zeros(7, np.float32),
        shape=ints(2, 120, 1, 1),
    )
    next(v for n in model.graph for v in n.outputs if v.name == "f").metadata_props[NEGATED_KEY] = "[3]"
    assert not SinkMoves()(model).modified


class SpaceToDepthNet(nn.Module):
    """A float stem, pixel_unshuffle, and binary convolutions on words."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32))
        self.body = nn.Sequential(
            BinaryConv2d(128, 64, 1, bias=False), nn.BatchNorm2d(64), BinaryConv2d(64, 10, 4, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(F.pixel_unshuffle(self.stem(x), 2)).flatten(1)
        return y


@pytest.mark.parametrize("frame", list(Padding))
def test_a_network_with_pixel_unshuffle_stays_in_bits_in_every_frame(frame: Padding) -> None:
    module = SpaceToDepthNet()
    compiled, found = compile_randomized(module, (1, 3, 16, 16), Options(padding=frame))
    assert found["SPACE_TO_DEPTH"] == found["LceQuantize"] == 1
    assert operators(compiled.graph)["bnncc.BinaryConvSign"] == 1
    assert_equals_torch(module, compiled)


class TwoBranches(nn.Module):
    """Two binary convolutions of one value, concatenated, and what follows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.left = nn.Sequential(BinaryConv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.right = nn.Sequential(BinaryConv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.last = BinaryConv2d(2 * width, 5, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y: torch.Tensor = self.last(torch.cat([self.left(x), self.right(x)], 1)).mean((2, 3))
        return y


@pytest.mark.parametrize(("width", "quantized"), [(64, 1), (40, 2)])
def test_halves_of_whole_words_are_concatenated_packed(width: int, quantized: int) -> None:
    module = TwoBranches(width)
    compiled, found = compile_randomized(module, (1, 3, 8, 8))
    assert found["LceQuantize"] == quantized
    assert found["CONCATENATION"] == 1
    assert operators(compiled.graph)["bnncc.BinaryConvSign"] == (2 if quantized == 1 else 0)
    assert_equals_torch(module, compiled)


class ChannelsLast(nn.Module):
    """Signs of [N, H, W, C], as a network that was ported from TensorFlow has them."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.from_numpy(normal(3, 3, 40, 33)))

    def forward(self, x: Tensor) -> Tensor:
        signs = F.pad(torch.where(x >= 0, 1.0, -1.0).permute(0, 3, 1, 2), (1, 1, 1, 1), value=1.0)
        return F.conv2d(signs, torch.sign(self.kernel).permute(3, 2, 0, 1)).permute(0, 2, 3, 1)


class ScaledRows(nn.Module):
    """Rows [N, L, C] of ±0.7, times ±1."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 48)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.sign(x + 0.1) * 0.7, torch.sign(self.linear.weight), self.linear.bias)


class Shuffled(nn.Module):
    """A map of ±1 of 10 channels, of which four make one of twice the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(10, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(torch.where(x >= 0, 1.0, -1.0), 2)
        return F.conv2d(x, torch.where(self.conv.weight >= 0, 0.5, -0.5), self.conv.bias)


class Grouped(nn.Module):
    """The channels of ±1, a third of which goes to each of three places: a reshape, a transpose, a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.where(x >= 0, 1.0, -1.0).view(1, 3, 4, 5, 7).transpose(1, 2).reshape(1, 12, 7, 5)
        return F.conv2d(x, torch.where(self.conv.weight >= 0, 0.5, -0.5), self.conv.bias)


MOVED_AS_FLOATS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "transpose": (ChannelsLast(), (1, 7, 6, 40)),
    "reshape": (ScaledRows(), (1, 16, 64)),
    "pixel shuffle": (Shuffled(), (1, 40, 5, 3)),
    "several moves": (Grouped(), (1, 12, 5, 7)),
}


@pytest.mark.parametrize(("network", "shape"), MOVED_AS_FLOATS.values(), ids=MOVED_AS_FLOATS)
def test_what_moves_no_words_moves_floats_in_front_of_the_sign(network: nn.Module, shape: tuple[int, ...]) -> None:
    compiled = bnncc.compile(network.eval(), input_shapes=[shape])
    operators = operators_in_file(compiled)
    assert operators["LceQuantize"] == 1
    assert "LceDequantize" not in operators
    found = verify(compiled, [[normal(*shape)]])
    assert found.passed, found.problems
    assert [sign.signs for sign in found.signs] == [np.prod(shape)]
