"""The costs that predict a file's latency, against an inference that is watched."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from benchmarks.boards import Inference
from benchmarks.cycles import LLVM_MC, LLVM_MCA, cycles
from benchmarks.watched import EMULATOR, Watcher
from bnncc.targets import find_target
from tests.needs import debian, needs, needs_zig
from tests.networks import randomize
from tests.networks.binarize import ScaledBinaryConv2d

# A kernel that changes makes the costs wrong: `make costs` fits them anew.
TOLERANCE = 0.2
# The windows and patches that operators keep for themselves are not in the model.
DRAM_TOLERANCE = 0.25
SIZE = 40

pytestmark = needs(shutil.which(LLVM_MC) and shutil.which(LLVM_MCA), debian(LLVM_MCA, "llvm-19"))


def watches(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that emulates."""
    marks = [
        pytest.mark.slow,
        pytest.mark.xdist_group("watched"),
        needs(shutil.which(EMULATOR), debian(EMULATOR, "qemu-user")),
        needs_zig,
    ]
    for mark in marks:
        test = mark(test)
    return test


class Net(nn.Module):
    """Shapes that the costs were not fitted to; only what is worth a prediction: no operator of a few microseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 5, 1, 2)
        self.conv3x3 = ScaledBinaryConv2d(64, 96, 3, 2, 1)
        self.conv1x1 = ScaledBinaryConv2d(96, 192, 1)
        self.depthwise = nn.Conv2d(96, 96, 3, padding=1, groups=96)
        self.fc = nn.Linear(192, 500)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3x3(torch.sign(self.stem(x)))
        x = self.depthwise(F.max_pool2d(x, 3, 1, 1))
        return self.fc(self.conv1x1(torch.sign(x * torch.sigmoid(x) - 0.1)).mean((2, 3)))


@pytest.fixture(scope="module")
def inference(tmp_path_factory: pytest.TempPathFactory) -> Inference:
    torch.manual_seed(0)
    content = bytes(bnncc.compile(randomize(Net()), input_shapes=[(1, 3, SIZE, SIZE)]).content)
    return Inference(Watcher(tmp_path_factory.mktemp("latency")), content, find_target("raspberry-pi-4"))


@pytest.mark.parametrize(
    "name", ["CONV_2D", "LceBconv2d", "DEPTHWISE_CONV_2D", "LOGISTIC", "MAX_POOL_2D", "LceQuantize", "FULLY_CONNECTED"]
)
@watches
def test_the_instructions_and_cycles_of_an_operator_are_as_predicted(inference: Inference, name: str) -> None:
    indices = [index for index, other in inference.names.items() if other == name]
    assert indices
    for index in indices:
        predicted, counted = inference.predicted.operators[index], inference.figures[index]
        assert predicted.instructions == pytest.approx(counted.instructions, rel=TOLERANCE)
        assert predicted.cycles.least == pytest.approx(counted.cycles.least, rel=TOLERANCE)
        assert predicted.cycles.most == pytest.approx(counted.cycles.most, rel=TOLERANCE)


@watches
def test_the_whole_network_is_as_predicted(inference: Inference) -> None:
    counted = sum(figure.instructions for figure in inference.figures.values())
    assert inference.predicted.instructions == pytest.approx(counted, rel=TOLERANCE / 2)
    moved = sum(operator.dram_bytes for operator in inference.watched.values())
    estimate = inference.predicted.dram_bytes
    assert (1 - DRAM_TOLERANCE) * estimate.least <= moved <= (1 + DRAM_TOLERANCE) * estimate.most


# fmla vN.4s, v1.4s, v2.4s, eight times: v8 to v15; and v8 alone.
APART = "".join(f"{0x20 + register:02x}cc224e" for register in range(8, 16))
IN_A_CHAIN = "28cc224e" * 8


@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a72", "cortex-a76"])
def test_a_block_takes_what_its_unit_takes_or_what_its_chain_takes(core: str) -> None:
    found = cycles(core, [APART, IN_A_CHAIN])
    # At most two of them start in a cycle on any of the cores; one after the other, each waits for the one before.
    assert found[APART].least >= 4
    assert found[IN_A_CHAIN].least == found[APART].least
    assert found[IN_A_CHAIN].most > 1.5 * found[APART].most
    assert found[APART].most >= found[APART].least
