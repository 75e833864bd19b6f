"""Inputs of a few levels, as sums of bits: as a pass and end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.ir import ops
from bnncc.ir.graph import constant_of, new_constant
from bnncc.passes.elementwise import interpret
from bnncc.passes.levels import bits_of, levels_of
from bnncc.passes.lift_constants import LiftConstants
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from bnncc.targets.tflite.emit import emit
from bnncc.verification import verify_in
from tests.needs import RUNTIMES
from tests.passes.helpers import build, check_pass, export, normal, operators, signs
from tests.passes.proof import eighths, equals_pytorch, operators_in_file, proven

Quantizer = Callable[[Tensor], Tensor]
Layer = Callable[[Tensor, Tensor], Tensor]
THRESHOLDS = (-1.0, -0.125, 0.5)


def stairs(x: Tensor, *values: float) -> Tensor:
    """From each threshold on, the next value."""
    result = torch.full_like(x, values[0])
    for threshold, value in zip(THRESHOLDS, values[1:], strict=False):
        result = torch.where(x >= threshold, value, result)
    return result


# The quantizer; how many levels it has, and how many bits say them; whether the levels are dyadic.
QUANTIZERS: dict[str, tuple[Quantizer, int, int, bool]] = {
    "two bits": (lambda x: torch.round((x.clamp(-1, 1) + 1) * 1.5) / 1.5 - 1, 4, 2, False),
    "two bits of halves": (lambda x: torch.round(x.clamp(-1.5, 1.5) + 1.5) - 1.5, 4, 2, True),
    "ternary": (lambda x: torch.round(x.clamp(-1, 1)), 3, 2, True),
    "DoReFa, two bits": (lambda x: torch.round(x.clamp(0, 1) * 3) / 3, 4, 2, False),
    "DoReFa, three bits": (lambda x: torch.round(x.clamp(0, 1) * 7) / 7, 8, 7, False),
    "LSQ, signed": (lambda x: torch.round((x / 0.5).clamp(-2, 1)) * 0.5, 4, 2, True),
    "LSQ, unsigned": (lambda x: torch.round((x / 0.25).clamp(0, 3)) * 0.25, 4, 2, True),
    "three levels, unsigned": (lambda x: torch.round((x / 0.25).clamp(0, 2)) * 0.25, 3, 2, True),
    "floor": (lambda x: torch.floor(x.clamp(-1, 2)), 4, 2, True),
    "uneven and symmetric": (lambda x: stairs(x, -2, -0.5, 0.5, 2), 4, 2, True),
    "uneven": (lambda x: stairs(x, -2, -1, 0, 4), 4, 3, True),
    "uneven, without 0": (lambda x: stairs(x, 1, 2, 4), 3, 2, True),
    "a sign of three values": (lambda x: torch.sign(torch.round(x.clamp(-3, 3))), 3, 2, True),
    "ternary by a threshold": (lambda x: torch.sign(x) * (x.abs() > 0.75).float(), 3, 2, True),
    "straight through": (lambda x: (torch.round(x.clamp(-1, 2)) - x).detach() + x, 4, 2, True),
    "of a ReLU": (lambda x: torch.round(F.relu(x).clamp(max=3)), 4, 2, True),
}  # fmt: skip


class Quantized(nn.Module):
    """A quantizer, and what reads it."""

    def __init__(
        self, quantizer: Quantizer, layer: Callable[[Tensor, Tensor], Tensor] | None = None, *weight: int
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.quantizer, self.layer = quantizer, layer
        self.weight = nn.Parameter(torch.randn(weight or (1,)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.quantizer(x)
        return x if self.layer is None else self.layer(x, torch.where(self.weight >= 0, 1.0, -1.0))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_bits_add_up_to_the_levels(name: str) -> None:
    quantizer, count, terms, _ = QUANTIZERS[name]
    model = export(Quantized(quantizer), 1, 2, 3, 4)
    LiftConstants()(model)
    levels = next(found for one in interpret(model.graph.outputs[0])[::-1] if (found := levels_of(one.function)))
    assert len(levels.values) == count
    bits = bits_of(levels)
    assert len(bits) == terms
    x = eighths(1, 2, 999, 4)
    total = np.zeros(x.shape)
    for bit in bits:
        above = [np.where(x >= levels.thresholds[0, index], 1.0, -1.0) for index in bit.chosen]
        total += abs(bit.weight) * np.prod(above, axis=0) + bit.offset
    np.testing.assert_allclose(total, quantizer(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-6)


def convolved(**geometry: Any) -> Layer:
    return lambda x, w: (F.conv2d if x.ndim == 4 else F.conv1d)(x, w, **geometry)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_convolution_of_few_levels_is_a_sum_of_binary_ones(name: str) -> None:
    quantizer, _, terms, dyadic = QUANTIZERS[name]
    network = Quantized(quantizer, convolved(padding=1), 64, 64, 3, 3)
    compiled = proven(network, 1, 64, 12, 12)
    found = operators_in_file(compiled)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert found["LceBconv2d"] == found["LceQuantize"] == terms
    assert not {"CONV_2D", "ROUND", "FLOOR", "LceDequantize"} & set(found)
    # The filter is in the file once.  Padding with no level takes a map of what it adds at the border.
    border = 4 * 64 * 12 * 12 if name == "uneven, without 0" else 0
    assert len(compiled.content) < network.weight.numel() / 8 + 6000 + 1500 * terms + border
    if dyadic:
        assert equals_pytorch(compiled, network, eighths(1, 64, 12, 12))


TWO_BITS, SIGNED, DOREFA = (QUANTIZERS[name][0] for name in ("two bits of halves", "LSQ, signed", "LSQ, unsigned"))
LAYERS: dict[str, tuple[Layer, tuple[int, ...], tuple[int, ...]]] = {
    "stride": (convolved(padding=1, stride=2), (1, 64, 16, 16), (64, 64, 3, 3)),
    "odd channels": (convolved(padding=1), (1, 40, 12, 11), (33, 40, 3, 3)),
    "groups": (convolved(padding=1, groups=2), (1, 128, 12, 12), (128, 64, 3, 3)),
    "dilation": (convolved(padding=2, dilation=2), (1, 64, 12, 12), (64, 64, 3, 3)),
    "no padding": (convolved(), (1, 64, 12, 12), (64, 64, 3, 3)),
    "padded on two sides": (lambda x, w: F.conv2d(F.pad(x, (1, 0, 0, 2)), w), (1, 64, 12, 12), (64, 64, 3, 3)),
    "a max-pool": (lambda x, w: F.conv2d(F.max_pool2d(x, 3, 2, 1), w, padding=1), (1, 64, 20, 20), (64, 64, 3, 3)),
    "moved": (lambda x, w: F.conv2d(x.transpose(2, 3).flip(2), w, padding=1), (1, 64, 12, 10), (64, 64, 3, 3)),
    "a sequence": (convolved(padding=1), (1, 64, 200), (64, 64, 3)),
    "a Linear": (F.linear, (16, 512), (512, 512)),
    "positions": (F.linear, (2, 20, 256), (512, 256)),
    "flattened": (lambda x, w: F.linear(x.flatten(1), w), (4, 32, 6, 6), (512, 1152)),
}  # fmt: skip


@pytest.mark.parametrize("quantizer", [TWO_BITS, SIGNED, DOREFA], ids=["symmetric", "signed", "unsigned"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_of_two_bits_is_exact(name: str, quantizer: Quantizer) -> None:
    layer, shape, weight = LAYERS[name]
    network = Quantized(quantizer, layer, *weight)
    compiled = proven(network, *shape)
    found = operators_in_file(compiled)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert found["LceBconv2d"] == (4 if name == "groups" else 2)
    assert found["CONV_2D"] == found["FULLY_CONNECTED"] == found["ROUND"] == 0
    assert equals_pytorch(compiled, network, eighths(*shape))


class Shared(nn.Module):
    """A stem and batch norm, a quantizer, two layers that read it, and a batch norm behind one."""

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.quantizer, self.stem, self.norm = quantizer, nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64)
        self.wide, self.narrow = nn.Parameter(torch.randn(64, 64, 3, 3)), nn.Parameter(torch.randn(64, 64, 1, 1))
        self.behind = nn.BatchNorm2d(64)
        for norm in (self.norm, self.behind):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        levels = self.quantizer(x)
        wide = self.behind(F.conv2d(levels, torch.sign(self.wide) * 0.01, padding=1))
        return wide + F.conv2d(levels, torch.sign(self.narrow)) + x


@pytest.mark.parametrize("quantizer", [TWO_BITS, SIGNED, DOREFA], ids=["symmetric", "signed", "unsigned"])
def test_layers_share_their_bits_and_batch_norms_fold_into_their_sums(quantizer: Quantizer) -> None:
    compiled = proven(Shared(quantizer), 1, 3, 14, 14)
    found = operators_in_file(compiled)
    assert [layer.reason for layer in compiled.layers] == [None, None]
    assert found["LceQuantize"] == 2
    assert found["LceBconv2d"] == 4
    # The stem's batch norm is in its filters; the other is in the multipliers of both of its binary convolutions.
    assert found["MUL"] == 0
    assert all("4 levels, taken as the sum of 2 signs" in " ".join(layer.explanation) for layer in compiled.layers)


@pytest.mark.parametrize("step", [2 / 3, 0.4])
def test_an_exact_0_at_a_jump_is_what_float32_makes_of_it(step: float) -> None:
    """(0 + 1) / step is a tie in float32 and none of the rounded step, and sums of ±1 are 0 often."""

    def quantizer(x: Tensor) -> Tensor:
        return torch.round((x.clamp(-1, 1) + 1) / step) * step - 1

    network = Quantized(quantizer, lambda x, w: F.conv2d(x, w.sign(), padding=1), 24, 32, 3, 3)
    x = np.random.default_rng(0).integers(-1, 2, (1, 32, 7, 9)).astype(np.float32) / 2
    compiled = proven(network, *x.shape)
    assert [layer.reason for layer in compiled.layers] == [None]
    with torch.no_grad():
        wanted = compiled.as_stored(network(torch.from_numpy(x)).numpy())
    for runtime in RUNTIMES:
        (result,) = runtime.load(compiled.content).run([compiled.as_stored(x)])
        np.testing.assert_allclose(result, wanted, atol=1e-4)


def test_ternary_weights_on_few_levels_are_the_product_of_two_sums() -> None:
    def layer(x: Tensor, w: Tensor) -> Tensor:
        zeros = torch.arange(w.numel()).view(w.shape) % 5 == 0
        return F.conv2d(x, torch.where(zeros, torch.zeros(()), w), padding=1)

    network = Quantized(QUANTIZERS["ternary"][0], layer, 64, 64, 3, 3)
    compiled = proven(network, 1, 64, 12, 12)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert operators_in_file(compiled)["CONV_2D"] == 0
    assert equals_pytorch(compiled, network, eighths(1, 64, 12, 12))


def test_a_layer_that_is_faster_in_float_stays_so_and_is_named() -> None:
    network = Quantized(TWO_BITS, convolved(), 8, 8, 1, 1)
    compiled = proven(network, 1, 8, 5, 5)
    (layer,) = compiled.layers
    assert layer.word == "few-levels"
    assert layer.reason is not None
    assert "takes 4 values" in layer.reason
    assert operators_in_file(compiled)["LceBconv2d"] == 0


X = "float[2, 6, 5, 7] x"


@pytest.mark.parametrize(
    ("quantizer", "binary"),
    [
        ("c = Clip (x, low, high)\nq = Round (c)", 2),
        ("c = Clip (x, low, high)\nd = Mul (c, each)\nq = Round (d)", 0),
        ("r = Round (x)\nq = Mul (r, each)", 0),
        ("q = Clip (x, low, high)", 0),
    ],
    ids=["ternary", "channels of their own levels", "no few levels", "floats"],
)
def test_levels_that_all_channels_share_become_bits(quantizer: str, binary: int) -> None:
    given = {
        "low": np.float32(-1.2),
        "high": np.float32(1.2),
        "each": 1 + np.arange(6, dtype=np.float32)[:, None, None],
    }
    used = {name: array for name, array in given.items() if name in quantizer}
    body = f"{quantizer}\ny = Conv <pads = [1, 1, 1, 1]> (q, w, b)"
    model = build(body, X, w=signs(4, 6, 3, 3), b=normal(4), **used)
    found = operators(check_pass(model, RecognizeBinaryConv(), modified=bool(binary)))
    assert found["bnncc.BinaryConv"] == binary


def test_a_sign_of_levels_compares_what_the_bits_compare() -> None:
    """Nothing else rounds then."""

    def layer(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x, w, padding=1) + F.conv2d(torch.where(x - 0.25 >= 0, 1.0, -1.0), w, padding=1)

    network = Quantized(TWO_BITS, layer, 64, 64, 3, 3)
    compiled = proven(network, 1, 64, 12, 12)
    assert [layer.reason for layer in compiled.layers] == [None, None]
    assert operators_in_file(compiled)["ROUND"] == 0
    assert equals_pytorch(compiled, network, eighths(1, 64, 12, 12))


def test_the_layer_of_the_sign_is_that_of_the_upper_bit() -> None:
    """Where the result of the upper bit is small, only that is used."""

    def layer(x: Tensor, w: Tensor) -> Tensor:
        upper, full = F.conv2d(torch.sign(x), w, padding=1), F.conv2d(x, w, padding=1)
        return torch.where(upper > 3, full, upper)

    network = Quantized(TWO_BITS, layer, 64, 64, 3, 3)
    compiled = proven(network, 1, 64, 12, 12)
    assert [layer.reason for layer in compiled.layers] == [None, None]
    assert operators_in_file(compiled)["LceBconv2d"] == 2
    assert equals_pytorch(compiled, network, eighths(1, 64, 12, 12))


def flip_a_weight(graph: ir.Graph) -> None:
    second = [node for node in graph if ops.is_binary_conv(node)][1]
    filters = constant_of(second.inputs[1])
    assert filters is not None
    wrong = filters.copy()
    wrong[3, 4, 1, 1] *= -1
    second.replace_input_with(1, new_constant(graph, wrong, "wrong"))


def read_the_other_bit(graph: ir.Graph) -> None:
    first, second = (node for node in graph if ops.is_binary_conv(node))
    first.replace_input_with(0, second.inputs[0])


def move_a_threshold(graph: ir.Graph) -> None:
    (choice,) = (node for node in graph if node.op_type == "Where")
    threshold = constant_of(choice.inputs[1])
    assert threshold is not None
    choice.replace_input_with(1, new_constant(graph, threshold + np.float32(0.01), "wrong"))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (flip_a_weight, "its integer sums differ"),
        (read_the_other_bit, "its integer sums differ"),
        (move_a_threshold, "flipped signs are not explained by rounding"),
    ],
)
def test_a_term_that_is_wrong_is_found(spoil: Callable[[ir.Graph], None], problem: str) -> None:
    compiled = bnncc.compile(Quantized(TWO_BITS, convolved(padding=1), 64, 64, 3, 3), input_shapes=["1x64x12x12"])
    spoilt = compiled.graph.clone()
    spoil(spoilt.graph)
    wrong = replace(compiled, content=emit(spoilt, channels_last=compiled.options.channels_last))
    (found,) = verify_in(RUNTIMES[:1], wrong, [[normal(1, 64, 12, 12)]])
    assert not found.passed
    assert any(problem in text for text in found.problems)


class BothOfTwoBits(nn.Module):
    """Activations and weights of two bits."""

    def __init__(self, channels: int, geometry: dict[str, int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(channels, channels // geometry.get("groups", 1), 3, 3))
        self.geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(TWO_BITS(x), TWO_BITS(self.weight), padding=1, **self.geometry)


@pytest.mark.parametrize("geometry", [{}, {"stride": 2}, {"groups": 2}])
def test_two_bits_by_two_bits_are_four_binary_layers(geometry: dict[str, int]) -> None:
    channels, groups = 64 * geometry.get("groups", 1), geometry.get("groups", 1)
    network = BothOfTwoBits(channels, geometry)
    compiled = proven(network, 1, channels, 12, 12)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert operators_in_file(compiled)["LceBconv2d"] == 4 * groups
    assert equals_pytorch(compiled, network, eighths(1, channels, 12, 12))
