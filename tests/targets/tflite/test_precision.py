"""`--weights-precision`: what the file holds, what LCE's interpreter makes of it, which faults are found, how small it
gets.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import click.testing
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.cli import main
from bnncc.compiler import compile_traced
from bnncc.inference.graph_runner import OrtRunner
from bnncc.inference.runners import LceRunner, Runtime
from bnncc.inspect import summarize
from bnncc.ir.evaluate import random_inputs
from bnncc.model import CompiledModel
from bnncc.options import Options
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.precision import SMALLEST_ROUNDED_CONSTANT, WeightsPrecision
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import pack, unpack
from bnncc.verification import verify
from bnncc.verification.file_side import FileCheck
from bnncc.verification.reference_side import Reference
from bnncc.verification.variants import Variants
from tests.networks import randomize
from tests.networks.binarize import ScaledBinaryConv2d
from tests.networks.full_size import compiled as compiled_full_size
from tests.networks.full_size import shares
from tests.targets.tflite.compare import assert_same, draw, from_file, node_model, normal, operators, to_file

Array = npt.NDArray[np.float32]
FLOAT16, INT8 = WeightsPrecision.FLOAT16, WeightsPrecision.INT8
EXAMPLE = Path(__file__).parents[3] / "examples" / "fashion_mnist"
# The weights of the last Linear of each full-size network.
LINEARS = {"reactnet_a": 1000 * 1024, "bireal_net_18": 1000 * 512}
# Of float32 sums, taken in another order.
ROUNDING = 1e-5


@dataclasses.dataclass
class Layer:
    """One float operator with weights: its model, the axis of w that numbers the output channels, its name in the
    file.
    """

    body: str
    dims: str
    weight: Array
    axis: int
    operator: str

    def model(self, weight: Array) -> ir.Model:
        return node_model(self.body, f"float[{self.dims}] x", constants={"w": weight, "b": normal(self.channels)})

    @property
    def channels(self) -> int:
        return self.weight.shape[self.axis]

    @property
    def other_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(self.weight.ndim) if axis != self.axis)


# Channels of unequal size, as behind a folded batch norm.
LAYERS = {
    "conv": Layer(
        "y = Conv<pads=[1, 1, 1, 1]>(x, w, b)", "2, 8, 9, 7", normal(24, 8, 3, 3), 0, "CONV_2D"
    ),
    "dilated conv with relu": Layer(
        "a = Conv<dilations=[2, 2]>(x, w, b) y = Relu(a)", "1, 8, 9, 9", normal(24, 8, 3, 3), 0, "CONV_2D"
    ),
    "strided conv": Layer(
        "y = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(x, w, b)", "1, 16, 9, 9", normal(10, 16, 3, 3), 0, "CONV_2D"
    ),
    "depthwise": Layer(
        "y = Conv<pads=[1, 1, 1, 1], group=160>(x, w, b)",
        "2, 160, 6, 5", normal(160, 1, 3, 3), 0, "DEPTHWISE_CONV_2D",
    ),
    "linear": Layer("y = Gemm<transB=1>(x, w, b)", "1, 120", normal(40, 120), 0, "FULLY_CONNECTED"),
    "linear of a batch": Layer("a = Gemm(x, w, b) y = Relu(a)", "5, 120", normal(120, 40), 1, "FULLY_CONNECTED"),
    "matmul": Layer("a = MatMul(x, w) y = Add(a, b)", "2, 3, 120", normal(120, 40), 1, "FULLY_CONNECTED"),
    "flattened": Layer("f = Flatten(x) y = Gemm(f, w, b)", "1, 8, 3, 5", normal(120, 40), 1, "FULLY_CONNECTED"),
    "transposed": Layer(
        "y = ConvTranspose<strides=[2, 2]>(x, w, b)", "1, 32, 5, 5", normal(32, 16, 2, 2), 1, "TRANSPOSE_CONV"
    ),
}  # fmt: skip
for _layer in LAYERS.values():
    _scales = np.random.default_rng(7).uniform(0.1, 3, _layer.channels).astype(np.float32)
    _layer.weight = _layer.weight * np.expand_dims(_scales, _layer.other_axes)


def run(content: bytes, x: Array, fastest: bool) -> Array:
    return from_file(LceRunner(content, fastest=fastest).run([to_file(x)])[0])


# float16


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_float16_weights_give_what_the_network_with_weights_rounded_to_float16_gives(layer: Layer) -> None:
    rounded = layer.model(layer.weight.astype(np.float16).astype(np.float32))
    x = draw(rounded.graph.inputs[0], np.random.default_rng(1))
    (expected,) = OrtRunner(rounded).run([x])
    content = emit(layer.model(layer.weight), precision=FLOAT16)
    assert operators(content)["DEQUANTIZE"] == 1
    for fastest in (False, True):
        np.testing.assert_allclose(run(content, x, fastest), expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


def test_a_constant_that_is_used_twice_is_stored_and_dequantized_once() -> None:
    body = "a = Conv<pads=[1, 1, 1, 1]>(x, w) r = Sigmoid(a) y = Conv<pads=[1, 1, 1, 1]>(r, w)"
    content = emit(node_model(body, "float[1, 16, 6, 6] x", constants={"w": normal(16, 16, 3, 3)}), precision=FLOAT16)
    assert operators(content)["DEQUANTIZE"] == 1
    file = TfliteFile(content)
    assert [tensor.shape for tensor in file.tensors if tensor.dtype == "float16"] == [(16, 3, 3, 16)]


def test_a_large_constant_of_another_operator_is_float16_and_one_value_a_channel_is_not() -> None:
    large = normal(1, SMALLEST_ROUNDED_CONSTANT // 16, 4, 4)
    channels = normal(1, large.shape[1], 1, 1)
    body = "a = Mul(x, c) y = Add(a, d)"
    model = node_model(body, f"float[1, {large.shape[1]}, 4, 4] x", constants={"c": large, "d": channels})
    file = TfliteFile(emit(model, precision=FLOAT16))
    assert [tensor.shape for tensor in file.tensors if tensor.dtype == "float16"] == [(1, 4, 4, large.shape[1])]


@pytest.mark.parametrize("number", [1e5, np.inf])
def test_weights_out_of_the_range_of_float16_stay_float32(number: float) -> None:
    weight = LAYERS["linear"].weight.copy()
    weight[3, 4] = number
    assert operators(emit(LAYERS["linear"].model(weight), precision=FLOAT16))["DEQUANTIZE"] == 0


def test_a_channel_below_the_normal_numbers_of_float16_keeps_its_weights_in_float32() -> None:
    weight = LAYERS["linear"].weight.copy()
    weight[3] *= 1e-6
    assert operators(emit(LAYERS["linear"].model(weight), precision=FLOAT16))["DEQUANTIZE"] == 0


# int8


def rounded_to_int8(layer: Layer, shares_scale: bool) -> tuple[Array, Array]:
    """The weights in steps of max|w| / 127, of their output channel or of all, and Σ|w| of each channel."""
    step = np.abs(layer.weight).max(axis=None if shares_scale else layer.other_axes, keepdims=True) / 127
    rounded = (np.rint(layer.weight / step) * step).astype(np.float32)
    return rounded, np.abs(rounded).sum(axis=layer.other_axes)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "transposed"])
def test_int8_weights_are_off_by_no_more_than_the_rounding_of_the_input_explains(name: str, offset: float) -> None:
    layer = LAYERS[name]
    shares_scale = layer.weight.ndim == 2
    weight, sums = rounded_to_int8(layer, shares_scale)
    model = layer.model(weight)
    x = draw(model.graph.inputs[0], np.random.default_rng(1)) + np.float32(offset)
    (expected,) = OrtRunner(model).run([x])
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255
    by_channel = step * (sums if expected.ndim in (2, 3) else sums[:, None, None])
    content = emit(layer.model(layer.weight), precision=INT8)
    (weights,) = [tensor for tensor in TfliteFile(content).tensors if tensor.dtype == "int8"]
    assert weights.quantization is not None
    assert len(weights.quantization.scales) == (1 if shares_scale else layer.channels)
    for fastest in (False, True):
        error = np.abs(run(content, x, fastest) - expected)
        assert np.all(error <= by_channel + ROUNDING * np.abs(expected).max())
        # Of hundreds of roundings most cancel: a kernel that ignored the scales would be far off.
        assert np.sqrt(np.mean(error**2)) < (0.05 if shares_scale else 0.02) * np.sqrt(np.mean(expected**2))


def test_a_transposed_convolution_has_no_int8_kernel_and_stays_float32() -> None:
    layer = LAYERS["transposed"]
    assert emit(layer.model(layer.weight), precision=INT8) == emit(layer.model(layer.weight))


def test_a_channel_of_zeros_stays_a_channel_of_zeros() -> None:
    layer = LAYERS["linear"]
    weight = layer.weight.copy()
    weight[3] = 0
    model = layer.model(weight)
    x = draw(model.graph.inputs[0], np.random.default_rng(1))
    found = run(emit(model, precision=INT8), x, False)
    np.testing.assert_allclose(found[:, 3], OrtRunner(model).run([x])[0][:, 3], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("precision", [FLOAT16, INT8])
def test_small_weights_stay_float32(precision: WeightsPrecision) -> None:
    model = node_model("y = Conv(x, w)", "float[1, 3, 8, 8] x", constants={"w": normal(8, 3, 3, 3)})
    assert emit(model, precision=precision) == emit(model)


@pytest.mark.parametrize("precision", [FLOAT16, INT8])
def test_rounded_files_are_deterministic(precision: WeightsPrecision) -> None:
    layer = LAYERS["conv"]
    first, second = (emit(layer.model(layer.weight), precision=precision) for _ in range(2))
    assert first == second


# A network


class Net(nn.Module):
    """A float stem and depthwise convolution, two binary convolutions, a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 5, padding=2)
        self.conv1 = ScaledBinaryConv2d(32, 128, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(128)
        self.depthwise = nn.Conv2d(128, 128, 3, 1, 1, groups=128)
        self.conv2 = ScaledBinaryConv2d(128, 64, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(torch.sign(self.stem(x))))
        x = F.relu(self.depthwise(x)) + x
        return self.fc(self.bn2(self.conv2(torch.sign(x + 0.3))).mean((2, 3)))


INPUTS = [[normal(1, 3, 16, 16, seed=seed)] for seed in range(2)]


class Grouped(nn.Module):
    """A float convolution in groups, as bits and int8 weights have it: one operator, and one for each group."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 48, 3, padding=1, groups=2)
        self.conv = ScaledBinaryConv2d(48, 8, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.sign(self.grouped(self.stem(x)) + 0.1)).mean((2, 3))


@pytest.mark.parametrize("precision", [WeightsPrecision.FLOAT32, FLOAT16, INT8])
def test_convolutions_in_groups_are_proven_in_any_precision(precision: WeightsPrecision) -> None:
    torch.manual_seed(0)
    compiled = bnncc.compile(Grouped(), input_shapes=["1x3x16x16"], options=Options(weights_precision=precision))
    assert operators(compiled.content)["CONV_2D"] == (3 if precision is INT8 else 2)
    result = verify(compiled, inputs=INPUTS[:1])
    assert result.passed, result.problems


@pytest.fixture(scope="module")
def full() -> CompiledModel:
    torch.manual_seed(0)
    return bnncc.compile(randomize(Net()), input_shapes=["1x3x16x16"])


@pytest.fixture(scope="module", params=[FLOAT16, INT8], ids=["float16", "int8"])
def rounded(request: pytest.FixtureRequest, full: CompiledModel) -> CompiledModel:
    return with_precision(full, request.param)


def with_precision(compiled: CompiledModel, precision: WeightsPrecision) -> CompiledModel:
    options = dataclasses.replace(compiled.options, weights_precision=precision)
    return compile_traced(compiled.traced, compiled.target, options)


def binary_constants(compiled: CompiledModel) -> list[bytes]:
    file = TfliteFile(compiled.content)
    tensors = [tensor for entry in file.operators if entry.name == "LceBconv2d" for tensor in entry.inputs[1:]]
    arrays = [None if tensor is None else file.data(tensor) for tensor in tensors]
    return [b"" if array is None else array.tobytes() for array in arrays]


def test_bits_multipliers_and_biases_of_binary_layers_are_those_of_the_float32_file(
    full: CompiledModel, rounded: CompiledModel
) -> None:
    assert binary_constants(rounded) == binary_constants(full)
    assert len(rounded.content) < len(full.content)


def test_a_rounded_file_is_verified_and_its_flips_are_counted(rounded: CompiledModel) -> None:
    found = verify(rounded, INPUTS)
    assert found.problems == []
    assert [check.wrong for check in found.layers] == [0, 0]
    assert {(check.module, check.dtype) for check in found.rounded} == {
        (module, rounded.options.weights_precision.value) for module in ("stem", "depthwise", "fc")
    }
    # Everything but the weights is as exact as ever.
    assert found.output_error < ROUNDING
    assert sum(sign.flipped for sign in found.signs) == 0
    assert ROUNDING < found.rounded_error < 0.2
    if rounded.options.weights_precision is INT8:
        assert sum(sign.rounded_flips for sign in found.signs) > 0


Change = Callable[..., None]


def flip_lowest_bit(model: object, tensor: object) -> None:
    buffer = copy.copy(model.buffers[tensor.buffer])  # type: ignore[attr-defined]
    buffer.data = np.array(buffer.data, np.uint8)
    buffer.data[2 * (buffer.data.size // 4)] ^= 1
    model.buffers[tensor.buffer] = buffer  # type: ignore[attr-defined]


def largest_scale_by_ten_percent(model: object, tensor: object) -> None:
    scales = np.array(tensor.quantization.scale, np.float32)  # type: ignore[attr-defined]
    scales[scales.argmax()] *= np.float32(1.1)
    tensor.quantization.scale = scales  # type: ignore[attr-defined]


def shifted_zero_point(model: object, tensor: object) -> None:
    tensor.quantization.zeroPoint = np.ones(len(tensor.quantization.scale), np.int64)  # type: ignore[attr-defined]


def changed(compiled: CompiledModel, name: str, change: Change) -> CompiledModel:
    """`compiled` with a change to the constant of that name."""
    model = unpack(compiled.content)
    (tensor,) = [entry for entry in model.subgraphs[0].tensors if entry.name.decode() == name]
    change(model, tensor)
    return dataclasses.replace(compiled, content=pack(model))


def weights_of(compiled: CompiledModel, module: str) -> str:
    """The name of the stored weights of a float layer."""
    file = TfliteFile(compiled.content)
    (index,) = [i for i, check in enumerate(verify(compiled, INPUTS[:1]).rounded) if check.module == module]
    dtype = compiled.options.weights_precision.value
    return [tensor.name for tensor in file.tensors if tensor.dtype == dtype][index]


@pytest.mark.parametrize("module", ["stem", "depthwise", "fc"])
def test_one_flipped_bit_of_a_rounded_weight_is_found_in_its_layer(rounded: CompiledModel, module: str) -> None:
    found = verify(changed(rounded, weights_of(rounded, module), flip_lowest_bit), INPUTS[:1])
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"layer '{module}'")
    assert "are not the rounded float32 ones" in found.problems[0]


@pytest.mark.parametrize("change", [largest_scale_by_ten_percent, shifted_zero_point])
@pytest.mark.parametrize("module", ["stem", "depthwise", "fc"])
def test_a_wrong_scale_or_zero_point_is_found_in_its_layer(full: CompiledModel, module: str, change: Change) -> None:
    compiled = with_precision(full, INT8)
    found = verify(changed(compiled, weights_of(compiled, module), change), INPUTS[:1])
    assert any(problem.startswith(f"layer '{module}'") for problem in found.problems)


def test_one_flipped_bit_of_a_binary_weight_makes_sums_wrong(rounded: CompiledModel) -> None:
    file = TfliteFile(rounded.content)
    first = next(entry for entry in file.operators if entry.name == "LceBconv2d")
    assert first.inputs[1] is not None
    found = verify(changed(rounded, first.inputs[1].name, flip_lowest_bit), INPUTS[:1])
    assert [check.module for check in found.layers if check.wrong] == ["conv1"]
    assert {problem.split("'")[1] for problem in found.problems if problem.startswith("layer")} == {"conv1"}


def test_one_flipped_bit_of_a_bias_of_a_float_layer_is_found(rounded: CompiledModel) -> None:
    file = TfliteFile(rounded.content)
    (linear,) = [entry for entry in file.operators if entry.name == "FULLY_CONNECTED"]
    assert linear.inputs[2] is not None
    (problem,) = verify(changed(rounded, linear.inputs[2].name, flip_lowest_bit), INPUTS[:1]).problems
    assert problem.startswith("layer 'fc'")


def test_a_kernel_that_computes_something_else_is_found(rounded: CompiledModel) -> None:
    """The operator is that of a wrong file, the comparison that of the right one: as a faulty kernel would be."""
    reference = Reference(rounded)
    check = FileCheck(Variants(reference), Runtime.LCE)
    assert not check.is_refused()
    wrong = TfliteFile(changed(rounded, weights_of(rounded, "stem"), _negated_bytes).content)
    index = [entry.module for entry in check.result.rounded].index("stem")
    stem = reference.comparison.rounded[index].operator
    original = check.rounded_operators.run
    faulty = LceRunner(wrong.variant([wrong.tensors[stem.inputs[0].index]], [wrong.tensors[stem.outputs[0].index]]))

    class Faulty:
        def run(self, inputs: list[Array]) -> list[Array]:
            results = original(inputs)
            results[index] = faulty.run([inputs[0]])[0]
            return results

    check.rounded_operators = Faulty()  # type: ignore[assignment]
    check.check(reference.on(INPUTS[0], None))
    assert any(problem.startswith("layer 'stem'") for problem in check.result.problems)


def _negated_bytes(model: object, tensor: object) -> None:
    buffer = copy.copy(model.buffers[tensor.buffer])  # type: ignore[attr-defined]
    buffer.data = np.array(buffer.data, np.uint8) ^ np.uint8(0x40)
    model.buffers[tensor.buffer] = buffer  # type: ignore[attr-defined]


def test_inspect_shows_rounded_weights_and_counts_their_bytes(rounded: CompiledModel, tmp_path: Path) -> None:
    rows = summarize(TfliteFile(rounded.content))
    dtype = rounded.options.weights_precision.value
    typed = {row.weight_bytes for row in rows if row.weight_type == f" {dtype}"}
    if dtype == "float16":
        assert {row.name for row in rows if row.weight_type} == {"DEQUANTIZE"}
        assert typed == {2 * 32 * 3 * 25, 2 * 128 * 9, 2 * 100 * 64}
    else:
        # A byte a weight, and a bias and a scale of 4 bytes for each channel; a Linear has one scale.
        assert typed == {32 * 3 * 25 + 8 * 32, 128 * 9 + 8 * 128, 100 * 64 + 4 * 100 + 4}
    rounded.save(tmp_path / "net.tflite")
    result = click.testing.CliRunner().invoke(main, ["inspect", str(tmp_path / "net.tflite")])
    assert result.exit_code == 0
    assert dtype in result.output
    assert f"weights_precision {dtype}" in " ".join(result.output.split())


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_the_command_line_writes_the_file_and_says_what_rounding_did(precision: str, tmp_path: Path) -> None:
    source = """\
import torch
from tests.targets.tflite.test_precision import Net

def make():
    torch.manual_seed(0)
    return Net()
"""
    (tmp_path / "net.py").write_text(source)
    output = tmp_path / "net.tflite"
    arguments = ["compile", f"{tmp_path}/net.py:make", "--input-shape", "1x3x16x16", "-o", str(output)]
    result = click.testing.CliRunner().invoke(main, [*arguments, "--weights-precision", precision])
    assert result.exit_code == 0, result.output
    assert f"{precision}: " in result.output
    assert "the weights' rounding" in result.output
    assert output.exists()


# What else keeps float layers small: issue 3, item 16


def test_an_activation_is_applied_by_the_operator_in_front_of_it() -> None:
    weight = {"w": normal(8, 6, 3, 3)}
    for activation in (
        "y = Relu(a)",
        "l = Constant<value_float=0.0>() h = Constant<value_float=6.0>() y = Clip(a, l, h)",
    ):
        content = assert_same(node_model(f"a = Conv(x, w) {activation}", "float[1, 6, 5, 5] x", constants=weight))
        assert operators(content) == {"CONV_2D": 1}


def test_a_pad_in_front_of_a_convolution_becomes_its_padding() -> None:
    class Padded(nn.Module):
        def __init__(self, amounts: tuple[int, ...], stride: int) -> None:
            super().__init__()
            self.pad, self.conv = nn.ZeroPad2d(amounts), nn.Conv2d(3, 4, 3, stride)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.pad(x))

    for module in (Padded((1, 1, 1, 1), 1), Padded((0, 1, 0, 1), 2)):
        assert operators(bnncc.compile(module, input_shapes=["1x3x8x8"]).content) == {"CONV_2D": 1}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = Reshape(x, s) y = Reshape(a, t)", {"RESHAPE": 1}),
        ("a = Reshape(x, s) b = Reshape(a, u) y = Relu(b)", {"RELU": 1}),
        ("a = Reshape(x, s) b = Reshape(a, u) c = Relu(b) d = Relu(a) z = Reshape(d, u) y = Add(c, z)",
         {"RESHAPE": 2, "RELU": 2, "ADD": 1}),
        ("a = Transpose(x) y = Transpose(a)", {}),
        ("a = Transpose(x) b = Relu(a) y = Transpose(b)", {"RELU": 1}),
    ],
)  # fmt: skip
def test_reshapes_and_transposes_that_undo_each_other_leave_no_operator(body: str, expected: dict[str, int]) -> None:
    shapes = {"s": (2, 4, 6), "t": (4, 12), "u": (2, 24)}
    constants = {name: np.array(shape, np.int64) for name, shape in shapes.items() if f" {name})" in body}
    assert operators(assert_same(node_model(body, "float[2, 24] x", constants=constants))) == expected


def test_equal_constants_are_stored_once() -> None:
    body = "a = Add(x, c) r = Sigmoid(a) y = Add(r, d)"
    model = node_model(body, "float[1, 64, 4, 4] x", constants={"c": normal(64, 1, 1), "d": normal(64, 1, 1)})
    file = TfliteFile(assert_same(model))
    assert sum(tensor.shape[-1] == 64 and file.data(tensor) is not None for tensor in file.tensors) == 1


# Full-size networks


@pytest.mark.slow
@pytest.mark.parametrize("network", [pytest.param(name, marks=shares(name)) for name in LINEARS])
def test_full_size_networks_shrink_and_agree_with_float32(network: str) -> None:
    full, linear = compiled_full_size(network), LINEARS[network]
    inputs = [random_inputs(full.traced.model, seed) for seed in range(2)]
    expected = [full.run([full.as_stored(array) for array in arrays])[0] for arrays in inputs]
    # The first signs that rounding flips flip others: what a network of random weights does not forgive, a trained
    # one does (see below).
    for precision, saved, least in ((FLOAT16, 2, 0.999), (INT8, 3, 0.9)):
        compiled = with_precision(full, precision)
        assert len(full.content) - len(compiled.content) >= 0.99 * saved * linear
        found = [compiled.run([compiled.as_stored(array) for array in arrays])[0] for arrays in inputs]
        for one, other in zip(found, expected, strict=True):
            cosine = float(np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other))
            print(network, precision.value, len(compiled.content), len(full.content), cosine)
            assert cosine >= least
            assert np.argmax(one) == np.argmax(other)


@pytest.mark.slow
def test_a_trained_network_keeps_its_accuracy() -> None:
    net = str(EXAMPLE / "net.py:make_net")
    options = bnncc.Options(preprocessing=bnncc.Preprocessing(pixels="0..255"))
    full = bnncc.compile(net, weights=EXAMPLE / "net.pth", input_shapes=["1x1x28x28"], options=options)
    with np.load(EXAMPLE / "test_images.npz") as data:
        images = data["images"].astype(np.float32)
    for precision in (FLOAT16, INT8):
        compiled = with_precision(full, precision)
        assert verify(compiled, [[images[:1]]]).problems == []
        result = compiled.check(EXAMPLE / "test_images.npz")
        print(precision.value, len(compiled.content), result.compiled)
        assert result.accuracy_drop is not None
        assert abs(result.accuracy_drop) <= 0.005
        assert result.compiled.agreement is not None
        assert result.compiled.agreement.value >= 0.99
