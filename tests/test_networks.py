"""ReActNet-A and Bi-Real-Net-18 at 224x224, the whole way: nothing of a binary layer is left in float, and the file
computes what PyTorch computes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import bnncc
from bnncc.inference.runners import LceRunner
from bnncc.ir.modes import ReplicationMode
from bnncc.model import CompiledModel
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify, verify_in
from tests import networks
from tests.needs import RUNTIMES
from tests.networks.binarize import ScaledBinaryConv2d
from tests.networks.full_size import SHAPE, compiled, shares
from tests.targets.runtime.emulated_runtime import emulated_runtimes

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parent.parent
INPUTS = 16
# Of `bnncc compile` for ReActNet-A.
LARGEST_PEAK_BYTES = 1.5e9

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Expected:
    """What the paper's network has: binary convolutions, float ones (the stem and the shortcuts), PReLUs."""

    network: str
    binary: int
    floats: int
    prelus: int
    signs: int


NETWORKS = (
    # 13 blocks with a 3x3 and a 1x1 half; five double their channels with a second 1x1 branch on the same signs.
    Expected("reactnet_a", binary=13 + 13 + 5, floats=1, prelus=26, signs=26),
    # 4 stages of 4 layers; the first layer of the last three stages has a 1x1 convolution in its shortcut.
    Expected("bireal_net_18", binary=16, floats=1 + 3, prelus=0, signs=16),
)


@pytest.fixture(
    scope="module", params=[pytest.param(each, marks=shares(each.network), id=each.network) for each in NETWORKS]
)
def case(request: pytest.FixtureRequest) -> tuple[Expected, CompiledModel]:
    expected: Expected = request.param
    return expected, compiled(expected.network)


def image(seed: int) -> Array:
    """Like a normalised photo: smooth, so that neighbouring pixels agree, with some noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.standard_normal((1, 3, 14, 14), dtype=np.float32).repeat(16, axis=2).repeat(16, axis=3)
    return coarse + 0.3 * generator.standard_normal(SHAPE, dtype=np.float32)


def test_every_binary_convolution_is_an_lce_operator_and_nothing_around_it_is_left(
    case: tuple[Expected, CompiledModel],
) -> None:
    expected, compiled = case
    counts = Counter(operator.name for operator in TfliteFile(compiled.content).operators)
    assert counts["LceBconv2d"] == expected.binary
    assert counts["LceQuantize"] == expected.signs
    assert counts["CONV_2D"] == expected.floats
    assert counts["PRELU"] == expected.prelus
    assert counts["FULLY_CONNECTED"] == 1
    # No padding operator, no change of layout, no batch norm of its own, no sign in float.
    for unwanted in ("PAD", "PADV2", "MIRROR_PAD", "TRANSPOSE", "MUL", "SUB", "DIV", "SIGN", "LceDequantize"):
        assert counts[unwanted] == 0, unwanted


def test_every_binary_layer_of_the_source_is_binary_in_the_file(case: tuple[Expected, CompiledModel]) -> None:
    expected, compiled = case
    assert len(compiled.layers) == expected.binary
    assert [layer.module for layer in compiled.layers if layer.reason is not None] == []
    assert len({layer.module for layer in compiled.layers}) == expected.binary
    assert all(layer.source.startswith("binarize.py:") for layer in compiled.layers)


def test_the_file_is_at_least_ten_times_smaller_than_the_float_weights(case: tuple[Expected, CompiledModel]) -> None:
    _, compiled = case
    assert len(compiled.content) * 10 < compiled.float_weight_bytes


def test_the_file_is_bits_and_float_parameters_and_hardly_more(case: tuple[Expected, CompiledModel]) -> None:
    expected, compiled = case
    network = getattr(networks, expected.network)()
    binary = [module.weight for module in network.modules() if isinstance(module, ScaledBinaryConv2d)]
    bits = sum(weight.numel() for weight in binary)
    floats = sum(parameter.numel() for parameter in network.parameters()) - bits
    floats += sum(buffer.numel() for name, buffer in network.named_buffers() if "num_batches" not in name)
    assert len(compiled.content) <= 1.02 * (bits / 8 + floats * 4)


def test_at_most_three_elementwise_operators_remain_for_each_binary_convolution(
    case: tuple[Expected, CompiledModel],
) -> None:
    expected, compiled = case
    counts = Counter(operator.name for operator in TfliteFile(compiled.content).operators)
    # One Add before each sign, one for each residual, one PRELU.
    assert sum(counts[name] for name in ("ADD", "PRELU", "RELU", "MAXIMUM", "MINIMUM")) <= 3 * expected.binary
    assert counts["ADD"] <= expected.binary + expected.signs


def test_repconv_is_merged_or_repeated_with_equal_results() -> None:
    network = networks.RepReActNet(blocks=((16, 1), (32, 2)), stem=8, classes=5, beta=2, width=2)
    networks.randomize(network)
    compiled = {
        replication: bnncc.compile(network, input_shapes=["1x3x32x32"], options=bnncc.Options(replication=replication))
        for replication in (ReplicationMode.MERGE, ReplicationMode.REPEAT)
    }
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    outputs = [model.run([x.transpose(0, 2, 3, 1)])[0] for model in compiled.values()]
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-4)
    for model in compiled.values():
        assert all(layer.reason is None for layer in model.layers)
        assert verify(model, [[x]]).passed
    names = {key: Counter(o.name for o in TfliteFile(model.content).operators) for key, model in compiled.items()}
    assert names[ReplicationMode.MERGE]["LceBconv2d"] == names[ReplicationMode.REPEAT]["LceBconv2d"] == 6
    assert names[ReplicationMode.MERGE]["CONCATENATION"] + 6 == names[ReplicationMode.REPEAT]["CONCATENATION"]


def test_the_max_pools_of_vgg_small_pool_bits() -> None:
    compiled = bnncc.compile("tests.networks:vgg_small", input_shapes=["1x3x32x32"])
    counts = Counter(operator.name for operator in TfliteFile(compiled.content).operators)
    # The third pool's sign is read by the float Linear, which takes no negated channel for a negative γ: its batch norm
    # stays, as one MUL and one ADD.
    assert counts["LceBMaxPool2d"] == 2
    assert counts["MAX_POOL_2D"] == 1
    assert counts["MUL"] == 1
    reasons = {layer.module: layer.reason for layer in compiled.layers if layer.reason is not None}
    assert reasons == {"head": "its input is binary but its weights are not"}
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    assert verify(compiled, [[x]]).passed


def test_every_integer_sum_equals_the_references(case: tuple[Expected, CompiledModel]) -> None:
    expected, compiled = case
    inputs = [[image(1000)], [np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)]]
    results = verify_in(RUNTIMES, compiled, inputs)
    with emulated_runtimes() as emulated:
        results += verify_in(list(emulated.values()), compiled, inputs[:1])
    for found in results:
        assert found.passed, found.problems
        assert len(found.layers) == expected.binary
        assert all(layer.sums > 0 and layer.wrong == 0 for layer in found.layers)
        assert {layer.module for layer in compiled.layers} == {layer.module for layer in found.layers}
        assert all(sign.flipped == sign.explained for sign in found.signs)
        assert found.output_error < 1e-4


def test_free_running_the_file_names_the_same_class_or_a_rounding_flip_explains_it(
    case: tuple[Expected, CompiledModel],
) -> None:
    _, compiled = case
    assert compiled.traced.run_module is not None
    runner = LceRunner(compiled.content, fastest=True)
    differing = []
    for seed in range(INPUTS):
        x = image(seed)
        (logits,) = compiled.traced.run_module([x])
        (found,) = runner.run([compiled.as_stored(x)])
        if np.argmax(logits) != np.argmax(found):
            differing.append(x)
    # A different class is right only where the file, layer by layer, does nothing wrong and some sign flipped.
    for x in differing:
        explanation = verify(compiled, [[x]])
        assert explanation.passed, explanation.problems
        assert sum(sign.free_running_flips for sign in explanation.signs) > 0
    assert len(differing) <= INPUTS // 8


MEASURE = """
import sys
from bnncc.cli import main
import bnncc.compiler
compile_traced = bnncc.compiler.compile_traced
def differing(*arguments):
    compiled = compile_traced(*arguments)
    # Where PyTorch flips signs against ONNX Runtime, which depends on the machine, the trace is checked once more.
    run = compiled.traced.run_module
    compiled.traced.run_module = lambda inputs: [output * 1.001 for output in run(inputs)]
    return compiled
bnncc.compiler.compile_traced = differing
main(sys.argv[1:], standalone_mode=False)
# Not ru_maxrss: a child that was started by vfork inherits its parent's.
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024)
"""


def test_compiling_reactnet_a_takes_at_most_one_and_a_half_gigabytes(tmp_path: Path) -> None:
    arguments = [
        "compile",
        "tests.networks:reactnet_a",
        "--input-shape",
        "1x3x224x224",
        "-o",
        str(tmp_path / "r.tflite"),
        "--inputs",
        "1",
        "--runtime",
        "lce",  # which keeps every value
    ]
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert int(process.stdout.splitlines()[-1]) < LARGEST_PEAK_BYTES
