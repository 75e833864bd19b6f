"""Weights with zeros, as sums of ±1 filters: as a pass and end to end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.ir.modes import ZeroWeights
from bnncc.options import Options
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from bnncc.passes.weight_terms import Terms, few_values, input_twice, two_values, zeros_twice
from tests.passes.helpers import Array, build, check_pass, normal, operators, signs
from tests.passes.proof import eighths, equals_pytorch, operators_in_file, proven

X = "float[2, 6, 5, 7] x"


def with_zeros(weight: Array, rows: list[int], seed: int = 0) -> Array:
    """Two zeros in each of these filters."""
    generator, weight = np.random.default_rng(seed), weight.copy()
    for row in rows:
        weight[row].reshape(-1)[generator.choice(weight[row].size, 2, replace=False)] = 0
    return weight


def scaled(*shape: int) -> Array:
    """±α_o with powers of two and one α of 0.75."""
    scales = 2.0 ** np.arange(shape[0]) * 0.75
    return (signs(*shape) * scales.reshape(-1, *(1,) * (len(shape) - 1))).astype(np.float32)


@pytest.mark.parametrize("split", [zeros_twice, input_twice])
def test_the_terms_add_up_to_the_weights_and_are_their_signs_less_thresholds(split: object) -> None:
    weight = with_zeros(scaled(5, 6, 3, 2), [1, 4])
    terms = (zeros_twice if split is zeros_twice else input_twice)(weight, weight).terms
    total = np.zeros(weight.shape)
    for term in terms:
        copies = np.split(term.filters, len(term.thresholds), axis=1)
        for copy, threshold in zip(copies, term.thresholds, strict=True):
            total[list(term.rows)] += copy
            np.testing.assert_array_equal(np.sign(copy), np.sign(weight[list(term.rows)] - threshold))
    np.testing.assert_array_equal(total, weight)


@pytest.mark.parametrize(
    ("attributes", "inputs", "shape", "rows", "expected"),
    [
        ("<pads = [1, 1, 1, 1], strides = [2, 1]>", "s", (5, 6, 3, 3), [3], {"bnncc.BinaryConv": 2, "Pad": 1}),
        ("<pads = [1, 1, 1, 1]>", "s", (9, 6, 3, 3), [2, 5], {"bnncc.BinaryConv": 2, "Pad": 1, "Gather": 1}),
        ("<dilations = [2, 1]>", "s", (5, 6, 3, 3), [0, 1, 2, 3, 4], {"bnncc.BinaryConv": 1, "Concat": 1}),
        ("<pads = [0, 1, 2, 0]>", "t", (5, 6, 3, 3), [1], {"bnncc.BinaryConv": 2, "Pad": 1}),
        ("<group = 2, pads = [1, 1, 1, 1]>", "s", (6, 3, 3, 3), [1, 2, 5], {"bnncc.BinaryConv": 2}),
    ],
    ids=["one filter", "distant filters", "all filters", "{0, 1} input", "groups"],
)
def test_convolutions_become_binary_ones_of_the_same_sum(
    attributes: str, inputs: str, shape: tuple[int, ...], rows: list[int], expected: dict[str, int]
) -> None:
    model = build(
        f"s = bnncc.Sign (x)\nh = Mul (s, half)\nt = Add (h, plus)\nc = Conv {attributes} ({inputs}, w, b)\n"
        "y = BatchNormalization (c, g, e, m, v)",
        X, w=with_zeros(scaled(*shape), rows), b=normal(shape[0]), g=normal(shape[0], seed=1), e=normal(shape[0]),
        m=normal(shape[0]), v=np.abs(normal(shape[0], seed=2)) + 1, half=-0.5, plus=0.5,
    )  # fmt: skip
    found = operators(check_pass(model, RecognizeBinaryConv()))
    assert {name: found[name] for name in expected} == expected
    assert found["Conv"] == 0
    # What stands behind the sum of two is in their multipliers; behind one, the next pass folds it.
    assert found["BatchNormalization"] == (found["bnncc.BinaryConv"] == 1)


@pytest.mark.parametrize("layer", ["Gemm <transB = 1, alpha = 0.5> (s, w, b)", "MatMul (s, w)"])
def test_products_become_binary_ones_of_the_same_sum(layer: str) -> None:
    weight = with_zeros(scaled(5, 21), [1, 3])
    given = weight if "Gemm" in layer else np.ascontiguousarray(weight.T)
    constants = {"b": normal(5)} if "Gemm" in layer else {}
    model = build(f"s = bnncc.Sign (x)\ny = {layer}", "float[4, 21] x", w=given, **constants)
    found = operators(check_pass(model, RecognizeBinaryConv()))
    assert found["bnncc.BinaryConv"] == 2
    assert found["Gemm"] + found["MatMul"] == 0


class Zeros(nn.Module):
    """A stem, a sign, a layer of given weights, a batch norm with negative γ; a second sign and layer if `deep`."""

    def __init__(self, weight: Tensor, deep: bool = False, unit: bool = False, **geometry: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        channels = weight.shape[1] * geometry.get("groups", 1)
        self.weight, self.geometry, self.deep, self.unit = nn.Parameter(weight), geometry, deep, unit
        self.stem = nn.Conv2d(3, channels, 1)
        self.norm = nn.BatchNorm2d(len(weight))
        self.second = nn.Parameter(torch.randn(5, len(weight), 1, 1))
        with torch.no_grad():
            self.norm.weight.copy_(torch.randn(len(weight)))
            self.norm.bias.copy_(torch.randn(len(weight)))
            self.norm.running_var.copy_(torch.rand(len(weight)) * 30 + 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        bits = (x > 0).float() if self.unit else torch.where(x >= 0, 1.0, -1.0)
        y = self.norm(F.conv2d(bits, self.weight, **self.geometry))
        return F.conv2d(torch.where(y >= 0, 1.0, -1.0), torch.sign(self.second)) if self.deep else y


@pytest.mark.parametrize("unit", [False, True], ids=["±1", "{0, 1}"])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("shape", "rows", "geometry", "convolutions"),
    [
        ((64, 64, 3, 3), [7], {"padding": 1}, 2),
        ((33, 40, 3, 3), [2, 5, 31], {"padding": 1, "stride": 2}, 2),
        ((128, 128, 3, 3), [2, 40, 90], {"padding": 1, "groups": 2}, 4),
        ((64, 64, 3, 3), list(range(64)), {"padding": 1}, 1),
        ((48, 33, 3, 3), list(range(48)), {}, 1),
    ],
)
def test_a_network_with_zeros_among_its_weights_is_bits_and_exact(
    shape: tuple[int, ...], rows: list[int], geometry: dict[str, int], convolutions: int, deep: bool, unit: bool
) -> None:
    compiled = proven(
        Zeros(torch.from_numpy(with_zeros(signs(*shape) * 0.3, rows)), deep, unit, **geometry), 1, 3, 9, 8
    )
    found = operators_in_file(compiled)
    assert [layer.reason for layer in compiled.layers] == [None] * (1 + deep)
    assert found["LceBconv2d"] == convolutions + deep
    assert found["CONV_2D"] == 1
    assert any("0" in clause and "as +1 and as -1" in clause for clause in compiled.layers[0].explanation)


def test_one_zero_costs_one_filter_and_no_floats() -> None:
    weight = signs(128, 128, 3, 3)
    sizes = []
    for zeros in ([], [9]):
        sizes.append(len(proven(Zeros(torch.from_numpy(with_zeros(weight, zeros)), padding=1), 1, 3, 6, 6).content))
    # The filter is 144 bytes; the rest is the operators'.
    assert sizes[1] - sizes[0] < 3000


class Rows(nn.Module):
    """A Linear, or a product of every position of a sequence, with zeros; a Conv1d likewise."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        bits = torch.where(x >= 0, 1.0, -1.0)
        return F.conv1d(bits, self.weight, padding=1) if self.weight.ndim == 3 else F.linear(bits, self.weight)


@pytest.mark.parametrize(("weight", "shape"), [((12, 40), (3, 40)), ((12, 40), (2, 5, 40)), ((12, 40, 3), (1, 40, 11))])
def test_linears_and_sequences_with_zeros_are_bits_and_exact(weight: tuple[int, ...], shape: tuple[int, ...]) -> None:
    compiled = proven(Rows(torch.from_numpy(with_zeros(scaled(*weight), [0, 7]))), *shape)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert operators_in_file(compiled)["LceBconv2d"] == 2


def test_zeros_stay_floats_on_request_and_are_named() -> None:
    weight = torch.from_numpy(with_zeros(signs(16, 32, 3, 3), [3]))
    compiled = proven(Zeros(weight), 1, 3, 6, 6, options=Options(zero_weights=ZeroWeights.FLOAT))
    assert [layer.word for layer in compiled.layers] == ["weights-exactly-zero"]
    assert operators_in_file(compiled)["LceBconv2d"] == 0


def two_valued(*shape: int) -> Array:
    """β_o ± α_o: β of both signs, a filter without one, a filter of one value."""
    along = (-1, *(1,) * (len(shape) - 1))
    center = np.random.default_rng(3).integers(-4, 5, shape[0]) / 8
    center[0], center[1], center[3] = 0, -0.25, 2.0**-11  # far less than α, and yet no rounding
    weight = center.reshape(along) + signs(*shape) * (np.arange(shape[0]) % 3 + 1).reshape(along) / 4
    weight[2] = -0.375
    return weight.astype(np.float32)


def test_two_values_with_an_offset_are_signs_and_a_filter_of_ones() -> None:
    weight = two_valued(7, 6, 3, 3)
    terms = two_values(weight, 1.0, 1)
    assert terms is not None
    first, ones = terms.terms
    assert ones.factors is not None
    np.testing.assert_array_equal(first.filters + ones.factors.reshape(-1, 1, 1, 1) * ones.filters, weight)
    assert two_values(normal(4, 6, 3, 3), 1.0, 1) is None
    assert two_values(normal(4, 2), 1.0, 1) is None


@pytest.mark.parametrize(
    "layer", ["Conv <pads = [1, 1, 1, 1], strides = [2, 1]> (t, w, b)", "Conv <group = 3> (t, w, b)"]
)
def test_two_valued_weights_on_two_valued_inputs_keep_their_sum(layer: str) -> None:
    weight = two_valued(6, 2 if "group" in layer else 6, 3, 3)
    model = build(
        f"s = bnncc.Sign (x)\nh = Mul (s, c)\nt = Add (h, d)\ny = {layer}", X, w=weight, b=normal(6), c=1.3, d=0.26
    )
    found = operators(check_pass(model, RecognizeBinaryConv()))
    assert found["bnncc.BinaryConv"] == 2
    assert found["Conv"] == 0


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("unit", [False, True], ids=["±1", "{0, 1}"])
@pytest.mark.parametrize(
    ("shape", "geometry"),
    [((64, 64, 3, 3), {"padding": 1}), ((33, 40, 3, 3), {"stride": 2}), ((128, 128, 3, 3), {"groups": 2})],
)
def test_a_network_of_two_valued_weights_is_bits_and_exact(
    shape: tuple[int, ...], geometry: dict[str, int], unit: bool, deep: bool
) -> None:
    compiled = proven(Zeros(torch.from_numpy(two_valued(*shape)), deep, unit, **geometry), 1, 3, 9, 8)
    assert [layer.reason for layer in compiled.layers] == [None] * (1 + deep)
    assert operators_in_file(compiled)["CONV_2D"] == 1
    assert operators_in_file(compiled)["LceBconv2d"] == 2 * geometry.get("groups", 1) + deep


@pytest.mark.parametrize(("weight", "shape"), [((12, 40), (3, 40)), ((12, 40, 3), (1, 40, 11))])
def test_linears_and_sequences_of_two_values_are_bits_and_exact(
    weight: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    compiled = proven(Rows(torch.from_numpy(two_valued(*weight))), *shape)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert operators_in_file(compiled)["LceBconv2d"] == 2


def of_values(values: list[float], *shape: int, scales: bool = True) -> Array:
    """Filters of these values; times powers of two; the second of the first value alone, the third of two."""
    generator, along = np.random.default_rng(4), (-1, *(1,) * (len(shape) - 1))
    chosen = generator.integers(0, len(values), shape)
    chosen[1] = 0
    chosen[2] %= 2
    size = 2.0 ** (np.arange(shape[0]) % 3) if scales else np.ones(shape[0])
    return (np.array(values)[chosen] * size.reshape(along)).astype(np.float32)


def sum_of(terms: Terms, shape: tuple[int, ...]) -> Array:
    """The filters that the terms add up to; theirs must be the signs less their thresholds."""
    total = np.zeros(shape)
    for term in terms.terms:
        filters = term.filters
        if term.factors is not None:
            filters = filters * term.factors.reshape(-1, *(1,) * (len(shape) - 1))
        total += filters
    return total


VALUES = {
    "two bits": [-1.5, -0.5, 0.5, 1.5],
    "two magnitudes": [-2.0, -0.25, 0.25, 2.0],
    "signed": [-2.0, -1.0, 0.0, 1.0],
    "unsigned": [0.0, 0.5, 1.0, 1.5],
    "three values": [-0.5, 0.25, 1.0],
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_up_to_four_values_are_sums_of_signs(values: list[float]) -> None:
    weight = of_values(values, 7, 6, 3, 3)
    terms = few_values(weight, 1.0, 1)
    assert terms is not None
    assert len(terms.terms) == (2 if values[0] == -values[-1] else 3)
    np.testing.assert_allclose(sum_of(terms, weight.shape), weight, rtol=0, atol=1e-6)
    assert few_values(normal(4, 6, 3, 3), 1.0, 1) is None


def of_any_values() -> Array:
    """Filters of three and four values at any distances, of two of them, and of one."""
    weight = of_values([-1.1, 0.0, 0.7], 7, 6, 3, 3)
    weight[1] = np.array([-0.9, -0.1, 0.25, 1.3])[np.arange(54).reshape(6, 3, 3) % 4]
    weight[3], weight[4] = 0, -0.3
    return weight


def test_up_to_four_values_at_any_distances_are_one_term_less_and_an_offset() -> None:
    weight = of_any_values()
    terms = few_values(weight, 1.0, 1)
    assert terms is not None
    assert len(terms.terms) == 4
    np.testing.assert_allclose(sum_of(terms, weight.shape), weight, rtol=0, atol=1e-6)
    weight[1, 0, 0, 0] = 0.8
    assert few_values(weight, 1.0, 1) is None


def test_trained_ternary_weights_are_bits_and_exact() -> None:
    weight = of_values([-1.125, 0.0, 0.75], 64, 64, 3, 3)
    network = Convolved(torch.from_numpy(weight), padding=1)
    compiled = proven(network, 1, 64, 12, 12)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert operators_in_file(compiled) == {"LceQuantize": 1, "LceBconv2d": 3, "ADD": 2, "MUL": 1}
    assert equals_pytorch(compiled, network, eighths(1, 64, 12, 12))


def test_a_filter_of_one_magnitude_needs_no_second_term() -> None:
    weight = of_values(VALUES["two bits"], 7, 6, 3, 3)
    weight[4] = signs(6, 3, 3)
    terms = few_values(weight, 1.0, 1)
    assert terms is not None
    assert not terms.terms[1].filters[[1, 4]].any()
    np.testing.assert_array_equal(sum_of(terms, weight.shape), weight)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize(
    ("shape", "geometry"),
    [((64, 64, 3, 3), {"padding": 1}), ((65, 40, 3, 3), {"stride": 2, "padding": 1}), ((128, 64, 3, 3), {"groups": 2})],
)
def test_a_network_of_up_to_four_values_a_weight_is_bits_and_exact(
    shape: tuple[int, ...], geometry: dict[str, int], values: list[float]
) -> None:
    weight = of_values(values, *shape)
    network = Convolved(torch.from_numpy(weight), **geometry)
    channels = shape[1] * geometry.get("groups", 1)
    compiled = proven(network, 1, channels, 20, 18)
    assert [layer.reason for layer in compiled.layers] == [None]
    found = operators_in_file(compiled)
    assert found["CONV_2D"] == 0
    assert found["LceBconv2d"] == (2 if values[0] == -values[-1] else 3) * geometry.get("groups", 1)
    # Strides of an even map pad where TensorFlow does not: what that adds is a map.
    assert len(compiled.content) < 3 * weight.size / 8 + 12000 + (3 * 4 * 65 * 90 if "stride" in geometry else 0)
    assert equals_pytorch(compiled, network, eighths(1, channels, 20, 18))


class Convolved(nn.Module):
    """Signs, convolved with given weights."""

    def __init__(self, weight: Tensor, **geometry: int) -> None:
        super().__init__()
        self.weight, self.geometry = nn.Parameter(weight), geometry

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(torch.where(x >= 0, 1.0, -1.0), self.weight, **self.geometry)


@pytest.mark.parametrize(("weight", "shape"), [((256, 512), (40, 512)), ((64, 64, 3), (1, 64, 400))])
def test_linears_and_sequences_of_two_bit_weights_are_bits_and_exact(
    weight: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    network = Rows(torch.from_numpy(of_values(VALUES["two bits"], *weight)))
    compiled = proven(network, *shape)
    assert [layer.reason for layer in compiled.layers] == [None]
    assert operators_in_file(compiled)["LceBconv2d"] == 2
    assert equals_pytorch(compiled, network, eighths(*shape))


def test_a_small_layer_of_two_bit_weights_stays_float_and_is_named() -> None:
    (layer,) = proven(Convolved(torch.from_numpy(of_values(VALUES["signed"], 8, 8, 1, 1))), 1, 8, 5, 5).layers
    assert layer.word == "few-values"
