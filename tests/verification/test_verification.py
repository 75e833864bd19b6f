"""Verification finds faults that are put into a file on purpose, names the layer, and counts right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from torch import Tensor, nn

import bnncc
from bnncc.ir.modes import SignOfZero
from bnncc.model import CompiledModel
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import pack, unpack
from bnncc.verification import Verification, verify
from tests.networks import randomize
from tests.networks.binarize import PolynomialSign, ScaledBinaryConv2d

Array = npt.NDArray[np.float32]
Change = Callable[[Array], None]
WIDTH = 16
# The input's zeros, of which a random one has none, are no reason for a float layer.
PLUS_ONE = bnncc.Options(sign_of_zero=SignOfZero.PLUS_ONE)
# Where the fault goes in: the operator's output in the file starts with this module path.
BINARY_LAYERS = {"conv1": "bn1", "conv2": "bn2", "conv3": "bn3"}


class Net(nn.Module):
    """A float stem, a binary 3x3 layer of stride 2 and one of stride 1 around a PReLU, a binary 1x1 layer, a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.binarize = PolynomialSign()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.conv1 = ScaledBinaryConv2d(WIDTH, WIDTH, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.act = nn.PReLU(WIDTH)
        self.conv2 = ScaledBinaryConv2d(WIDTH, WIDTH, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(WIDTH)
        self.conv3 = ScaledBinaryConv2d(WIDTH, WIDTH, 1)
        self.bn3 = nn.BatchNorm2d(WIDTH)
        self.fc = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(self.binarize(self.stem(x)))))
        x = self.bn2(self.conv2(self.binarize(x))) + x
        x = self.bn3(self.conv3(self.binarize(x))) + x
        return self.fc(x.mean((2, 3)))


class SignOfInput(nn.Module):
    """The first sign reads the input, by way of a convolution that changes nothing, so that a test decides which values
    are exactly 0 by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(8, 8, 1, bias=False)
        self.conv = ScaledBinaryConv2d(8, 8, 3)
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(torch.sign(self.same(x))))


def random_inputs(count: int, *shape: int) -> list[list[Array]]:
    generator = np.random.default_rng(1)
    return [[generator.standard_normal(shape, dtype=np.float32)] for _ in range(count)]


INPUTS = random_inputs(2, 1, 3, 8, 8)


@pytest.fixture(scope="module")
def compiled() -> CompiledModel:
    torch.manual_seed(0)
    return bnncc.compile(randomize(Net()), input_shapes=["1x3x8x8"])


@pytest.fixture(scope="module")
def sign_of_input() -> CompiledModel:
    torch.manual_seed(0)
    network = randomize(SignOfInput())
    network.same.weight.data = torch.eye(8).view(8, 8, 1, 1)  # type: ignore[union-attr]
    return bnncc.compile(network, input_shapes=["1x8x6x6"])


def operator_of(file: TfliteFile, output: str, name: str) -> Operator:
    (found,) = [o for o in file.operators if o.name == name and o.outputs[0].name.startswith(output)]
    return found


def with_constant(compiled: CompiledModel, output: str, name: str, index: int, change: Change) -> CompiledModel:
    """The file with input `index` of one operator changed by `change`, which works in place."""
    file, model = TfliteFile(compiled.content), unpack(compiled.content)
    tensor = operator_of(file, output, name).inputs[index]
    assert tensor is not None
    data = file.data(tensor)
    assert data is not None
    array = data.copy()
    change(array)
    assert np.any(array != data)
    model.buffers[model.subgraphs[0].tensors[tensor.index].buffer].data = array.reshape(-1).view(np.uint8)
    return dataclasses.replace(compiled, content=pack(model))


def with_options(compiled: CompiledModel, output: str, **changed: int) -> CompiledModel:
    """The file with FlexBuffer options of one LceBconv2d changed."""
    file, model = TfliteFile(compiled.content), unpack(compiled.content)
    operator = operator_of(file, output, "LceBconv2d")
    options = {**flexbuffers.Loads(file.custom_options(operator)), **changed}
    content = np.frombuffer(flexbuffers.Dumps(dict(sorted(options.items()))), np.uint8)
    model.subgraphs[0].operators[operator.index].customOptions = content
    return dataclasses.replace(compiled, content=pack(model))


def problems_of(compiled: CompiledModel) -> list[str]:
    found = verify(compiled, INPUTS)
    assert found.passed == (not found.problems)
    return found.problems


def naming(problems: list[str], kind: str) -> set[str]:
    """The names in the problems that start with `kind`: "layer 'conv1': …" → conv1."""
    return {problem.split("'")[1] for problem in problems if problem.startswith(kind + " ")}


def flip_one_bit(words: Array) -> None:
    words.view(np.uint8).reshape(-1)[0] ^= 1


def largest_by_one_percent(values: Array) -> None:
    values.reshape(-1)[np.argmax(np.abs(values))] *= 1.01


def smallest_by_one_percent(values: Array) -> None:
    values.reshape(-1)[np.argmin(np.abs(values))] *= 1.01


# A right file


def test_a_right_file_passes_with_every_sum_equal_and_the_counts_of_a_hand_calculation(compiled: CompiledModel) -> None:
    found = verify(compiled, INPUTS)
    assert found.passed
    assert found.inputs == found.agreeing == 2
    maps = {"conv1": 4 * 4, "conv2": 4 * 4, "conv3": 4 * 4}
    assert [(layer.module, layer.sums, layer.wrong) for layer in found.layers] == [
        (module, 2 * WIDTH * size, 0) for module, size in maps.items()
    ]
    assert [sign.signs for sign in found.signs] == [2 * WIDTH * 8 * 8, 2 * WIDTH * 4 * 4, 2 * WIDTH * 4 * 4]
    assert sum(sign.zeros for sign in found.signs) == 0
    assert all(sign.flipped == sign.explained for sign in found.signs)
    assert found.output_error < 1e-5


@pytest.mark.parametrize("padding", ["mirrored", "one-padded"])
def test_both_ways_of_padding_pass(compiled: CompiledModel, padding: str) -> None:
    options = bnncc.Options(padding=type(compiled.options.padding)(padding))
    again = bnncc.compiler.compile_traced(compiled.traced, compiled.target, options)
    found = verify(again, INPUTS)
    assert found.passed
    assert sum(layer.wrong for layer in found.layers) == 0


def test_progress_is_told_after_each_input(compiled: CompiledModel) -> None:
    told: list[tuple[int, int]] = []
    verify(compiled, INPUTS, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


# Faults in binary layers


@pytest.mark.parametrize("layer", BINARY_LAYERS)
def test_one_flipped_weight_bit_makes_sums_of_that_layer_wrong_and_of_no_other(
    compiled: CompiledModel, layer: str
) -> None:
    found = verify(with_constant(compiled, BINARY_LAYERS[layer], "LceBconv2d", 1, flip_one_bit), INPUTS)
    assert {check.module for check in found.layers if check.wrong} == {layer}
    # One weight of one output channel: each sum that it enters is off by 2.
    (check,) = [check for check in found.layers if check.wrong]
    assert check.largest_error == 2
    assert 0 < check.wrong <= check.sums / WIDTH
    assert naming(found.problems, "layer") == {layer}
    assert any("integer sums" in problem for problem in found.problems)


@pytest.mark.parametrize("change", [largest_by_one_percent, smallest_by_one_percent])
@pytest.mark.parametrize("layer", BINARY_LAYERS)
def test_one_multiplier_that_is_off_by_one_percent_is_found_in_its_layer(
    compiled: CompiledModel, layer: str, change: Change
) -> None:
    found = verify(with_constant(compiled, BINARY_LAYERS[layer], "LceBconv2d", 2, change), INPUTS)
    assert naming(found.problems, "layer") == {layer}
    assert sum(check.wrong for check in found.layers) == 0


@pytest.mark.parametrize("layer", BINARY_LAYERS)
def test_one_bias_that_is_off_by_one_percent_is_found_in_its_layer(compiled: CompiledModel, layer: str) -> None:
    wrong = with_constant(compiled, BINARY_LAYERS[layer], "LceBconv2d", 3, largest_by_one_percent)
    assert naming(problems_of(wrong), "layer") == {layer}


def test_two_faults_are_both_named(compiled: CompiledModel) -> None:
    wrong = with_constant(compiled, "bn1", "LceBconv2d", 2, largest_by_one_percent)
    assert naming(problems_of(with_constant(wrong, "bn2", "LceBconv2d", 1, flip_one_bit)), "layer") == {
        "conv1",
        "conv2",
    }


def test_ones_instead_of_zeros_around_a_binary_layer_are_found(compiled: CompiledModel) -> None:
    found = verify(with_options(compiled, "bn2", pad_values=1), INPUTS)
    assert {check.module for check in found.layers if check.wrong} == {"conv2"}
    assert naming(found.problems, "layer") == {"conv2"}
    # Only the border of a 4x4 map meets padding.
    (check,) = [check for check in found.layers if check.wrong]
    assert check.wrong <= check.sums * 12 / 16


def test_the_other_split_of_the_padding_is_found(compiled: CompiledModel) -> None:
    # The even map at stride 2: SAME pads (0, 1) there, where PyTorch pads (1, 0).  The mirrored frame makes them equal;
    # taken without turning the kernel it is wrong.
    options = bnncc.Options(padding=type(compiled.options.padding)("mirrored"))
    mirrored = bnncc.compiler.compile_traced(compiled.traced, compiled.target, options)

    def turn_back(words: Array) -> None:
        words[:] = words[:, ::-1, ::-1].copy()

    found = verify(with_constant(mirrored, "bn1", "LceBconv2d", 1, turn_back), INPUTS)
    assert {check.module for check in found.layers if check.wrong} == {"conv1"}


# Faults elsewhere


@pytest.mark.parametrize(
    ("output", "operator", "index", "kind", "name"),
    [
        ("stem", "CONV_2D", 1, "layer", "stem"),
        ("stem", "CONV_2D", 2, "layer", "stem"),
        ("act", "PRELU", 1, "sign", "binarize"),
        ("output", "FULLY_CONNECTED", 1, "layer", "fc"),
        ("output", "FULLY_CONNECTED", 2, "layer", "fc"),
    ],
    ids=["float weight", "float bias", "PReLU slope", "Linear weight", "Linear bias"],
)
def test_one_float_parameter_that_is_off_by_one_percent_is_found_where_it_is(
    compiled: CompiledModel, output: str, operator: str, index: int, kind: str, name: str
) -> None:
    wrong = with_constant(compiled, output, operator, index, largest_by_one_percent)
    problems = problems_of(wrong)
    assert naming(problems, kind) == {name}
    if kind == "sign":
        assert naming(problems, "layer") == set()


def test_a_float_convolution_with_the_other_padding_is_named(compiled: CompiledModel) -> None:
    file, model = TfliteFile(compiled.content), unpack(compiled.content)
    options = model.subgraphs[0].operators[operator_of(file, "stem", "CONV_2D").index].builtinOptions
    assert options.padding == schema.Padding.SAME
    options.padding = schema.Padding.VALID
    assert "stem" in " ".join(problems_of(dataclasses.replace(compiled, content=pack(model))))


def test_a_binary_convolution_with_the_other_padding_is_named(compiled: CompiledModel) -> None:
    (problem,) = problems_of(with_options(compiled, "bn2", padding=1))
    assert "LceBconv2d 'bn2" in problem
    assert "(1, 2, 2, 16), not (1, 4, 4, 16)" in problem


# Exact zeros


def zeroed(share: float) -> tuple[Array, int]:
    (x,) = random_inputs(1, 1, 8, 6, 6)[0]
    count = round(share * x.size)
    x.reshape(-1)[np.random.default_rng(2).permutation(x.size)[:count]] = 0
    return x, count


def test_rare_exact_zeros_at_a_sign_are_counted_and_hide_nothing_else(sign_of_input: CompiledModel) -> None:
    x, count = zeroed(0.05)
    found: Verification = verify(sign_of_input, [[x]])
    assert count == 14
    assert [(sign.signs, sign.zeros) for sign in found.signs] == [(8 * 6 * 6, count)]
    assert found.passed
    assert found.layers[0].wrong == 0
    # PyTorch itself sees 0 there.
    assert found.free_error > 1e-2
    wrong = with_constant(sign_of_input, "", "LceBconv2d", 1, flip_one_bit)
    assert naming(verify(wrong, [[x]]).problems, "layer") == {"conv"}


def test_what_the_file_computes_for_a_zero_is_what_it_computes_for_a_positive_number(
    sign_of_input: CompiledModel,
) -> None:
    x, _ = zeroed(0.05)
    run_module = sign_of_input.traced.run_module
    assert run_module is not None
    (expected,) = run_module([np.where(x == 0, np.float32(1), x)])
    (found,) = sign_of_input.run([sign_of_input.as_stored(x)])
    np.testing.assert_allclose(found, sign_of_input.as_stored(expected), rtol=0, atol=1e-5)


def test_zeros_that_are_no_chance_are_a_problem(sign_of_input: CompiledModel) -> None:
    x, count = zeroed(0.5)
    (problem,) = verify(sign_of_input, [[x]]).problems
    assert problem.startswith("sign ")
    assert f"{count} of {x.size} values are exactly 0" in problem


@pytest.mark.parametrize("of_zero", [0, 1])
def test_a_sign_that_moved_counts_zeros_where_that_of_0_is_0(of_zero: int) -> None:
    """In front of a max-pool it is a value that the network does not have."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Conv2d(8, 8, 1, groups=8, bias=False)
            nn.init.ones_(self.same.weight)
            self.conv = ScaledBinaryConv2d(8, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.max_pool2d(self.same(x), 2)
            return self.conv(torch.where(x >= 0, 1.0, -1.0) if of_zero else torch.sign(x))

    options = bnncc.Options() if of_zero else PLUS_ONE
    compiled = bnncc.compile(randomize(Pooled()), input_shapes=["1x8x8x8"], options=options)
    assert [operator.name for operator in TfliteFile(compiled.content).operators].count("LceBMaxPool2d") == 1
    compiled = dataclasses.replace(compiled, options=bnncc.Options())
    x = np.abs(np.random.default_rng(0).standard_normal((1, 8, 8, 8))).astype(np.float32)
    x *= np.where(np.random.default_rng(1).random(x.shape) < 0.5, np.float32(0), np.float32(-1))
    found = verify(compiled, [[x]])
    (moved,) = (sign for sign in found.signs if sign.signs == x.size)
    assert moved.zeros == (0 if of_zero else np.count_nonzero(x == 0))
    assert bool(found.problems) == (not of_zero)


def test_zeros_that_the_user_reads_as_plus_one_are_no_problem() -> None:
    class SignOfPixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = ScaledBinaryConv2d(8, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.sign(x))

    compiled = bnncc.compile(randomize(SignOfPixels()), input_shapes=["1x8x6x6"], options=PLUS_ONE)
    x, count = zeroed(0.5)
    found = verify(compiled, [[x]])
    assert (found.problems, found.zeros) == ([], count)


# Rounding that is no fault


class Clipped(nn.Module):
    """Sums of 4,608 products, not scaled down, clipped to ±1 in front of a shift by their mean and the next sign."""

    def __init__(self) -> None:
        super().__init__()
        self.binarize = PolynomialSign()
        self.conv1 = ScaledBinaryConv2d(512, 8, 3, 1, 1)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = ScaledBinaryConv2d(8, 8, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv1(self.binarize(x))).clamp(-1, 1)
        return self.conv2(self.binarize(x + x.mean((2, 3), keepdim=True)))


def test_what_cancels_in_lces_arithmetic_may_be_large_beside_clipped_values() -> None:
    torch.manual_seed(0)
    network = randomize(Clipped())
    with torch.no_grad():
        network.conv1.weight.copy_(torch.sign(network.conv1.weight))
        network.bn.running_var.fill_(0.5)
    compiled = bnncc.compile(network, input_shapes=["1x512x8x8"], options=PLUS_ONE)
    found = verify(compiled, random_inputs(4, 1, 512, 8, 8))
    assert found.problems == []


def test_a_fault_of_one_percent_behind_a_clip_is_still_found() -> None:
    torch.manual_seed(0)
    compiled = bnncc.compile(randomize(Clipped()), input_shapes=["1x512x8x8"], options=PLUS_ONE)
    wrong = with_constant(compiled, "bn", "LceBconv2d", 2, largest_by_one_percent)
    assert naming(verify(wrong, random_inputs(2, 1, 512, 8, 8)).problems, "layer") == {"conv1"}


class SignOfASign(nn.Module):
    """Larq's sign, in which the inner one decides and the outer one makes +1 of 0, behind a batch norm and a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(WIDTH)
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sign(torch.sign(self.norm(nn.functional.max_pool2d(x, 2))) + 0.1)
        return nn.functional.conv2d(x, torch.where(self.conv.weight >= 0, 1.0, -1.0), padding=1)


def test_flips_in_front_of_a_sign_of_a_sign_are_explained() -> None:
    network = SignOfASign()
    randomize(network, 3)
    compiled = bnncc.compile(network, input_shapes=[f"1x{WIDTH}x24x24"])
    norm = network.norm
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    threshold = (norm.running_mean.double() - norm.bias.double() / scale).detach().numpy()
    generator = np.random.default_rng(0)
    x = threshold.reshape(1, -1, 1, 1) * (1 + generator.integers(-2, 3, (1, WIDTH, 24, 24)) * 2.0**-24)
    x[:, :, :12] += generator.standard_normal((1, WIDTH, 12, 24))
    result = verify(compiled, [[x.astype(np.float32)]])
    assert result.problems == []
    assert sum(sign.flipped for sign in result.signs) > 50
    assert all(sign.flipped == sign.explained for sign in result.signs)
