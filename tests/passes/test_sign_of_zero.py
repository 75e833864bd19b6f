"""torch.sign has three values where zeros are no chance; the file has them too, or the reading that the user gives."""

from collections.abc import Callable
from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.cli import main
from bnncc.ir.modes import SignOfZero
from bnncc.options import FileMetadata
from bnncc.targets.tflite.reader import TfliteFile

SHAPE = (1, 4, 7, 6)
Operand = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """sign(operand(x)), convolved with ±1."""

    def __init__(self, operand: Operand, sign: Operand = torch.sign) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.operand, self.sign = operand, sign
        self.weight = nn.Parameter(torch.randn(8, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.sign(self.operand(x)), torch.where(self.weight >= 0, 1.0, -1.0), padding=1)


def pixels(low: int = 0) -> np.ndarray:
    """A picture of which a third is 0."""
    generator = np.random.default_rng(1)
    image = generator.integers(low, 256, SHAPE)
    return np.where(generator.random(SHAPE) < 0.3, 0, image).astype(np.float32)


def run(compiled: "bnncc.CompiledModel", image: np.ndarray) -> np.ndarray:
    return compiled.run([compiled.as_stored(image)])[0]


def expected(compiled: "bnncc.CompiledModel", network: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return compiled.as_stored(network.eval()(torch.from_numpy(image)).numpy())


# What only moves, pads or scales a picture leaves its zeros where they are, or brings some; and integers stay integers.
OPERANDS: dict[str, Operand] = {
    "itself": lambda x: x,
    "scaled": lambda x: x / 255,
    "negated": lambda x: -2 * x,
    "padded": lambda x: F.pad(x, (1, 1, 1, 1)),
    "moved": lambda x: x.flip(3).roll(1, 1),
    "pooled": lambda x: F.max_pool2d(x, 2, 1),
    "shifted by a whole number": lambda x: x - 128,
    "clipped": lambda x: (x - 100).clamp(0, 50),
    "rounded": lambda x: torch.round((x - 128) / 64),
    "squared relu": lambda x: F.relu(x - 100) ** 2,
    "pooled relu": lambda x: F.max_pool2d(F.relu(x - 100.5), 2, 1),
}


def clipped(x: Tensor, low: float = -1, high: float = 1) -> Tensor:
    """At a bound for most pixels, and 0 for no whole number."""
    return (x / 9 - 7.03).clamp(low, high)


# Clips rest at their bounds, and sums of these cancel: +1 of one branch and -1 of the other.
OPERANDS |= {
    "a sum of clips": lambda x: clipped(x) + clipped(x.flip(3)),
    "a difference of a ReLU6 and a scaled clip": lambda x: clipped(x, 0, 6) - 6 * clipped(x.flip(3)),
    "a sum of three clips": lambda x: (
        F.pad(clipped(x) + clipped(x.flip(3)), (1, 0)) + F.pad(clipped(x), (0, 1), value=2)
    ),
    "a clip of a sum of clips": lambda x: (
        (clipped(x, -2, 3) + clipped(x.flip(3), -3, 3)).clamp(-9, 1) - clipped(x.flip(2))
    ),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_the_sign_of_a_picture_is_pytorchs(name: str) -> None:
    network = Net(OPERANDS[name])
    compiled = bnncc.compile(network, input_shapes=[SHAPE])
    for image in (pixels(), pixels(-255), np.full(SHAPE, 128, np.float32)):
        np.testing.assert_array_equal(run(compiled, image), expected(compiled, network, image))


@pytest.mark.parametrize(
    "sign",
    [
        lambda x: torch.where(x >= 0, 1.0, -1.0),
        lambda x: torch.where(x > 0, 1.0, -1.0),
        lambda x: (x > 0).float() * 2 - 1,
        lambda x: (x > 0).float(),
        lambda x: 1 - 2 * (x <= 0).float(),
    ],
)
@pytest.mark.parametrize("name", ["itself", "scaled", "shifted by a whole number"])
def test_two_valued_signs_of_a_picture_are_bits_and_exact_at_zero(sign: Operand, name: str) -> None:
    network = Net(OPERANDS[name], sign)
    compiled = bnncc.compile(network, input_shapes=[SHAPE])
    assert [layer.reason for layer in compiled.layers] == [None]
    for image in (pixels(), pixels(-255), np.full(SHAPE, 128, np.float32)):
        np.testing.assert_array_equal(run(compiled, image), expected(compiled, network, image))


def test_the_report_names_the_sign_its_line_and_the_ways_out() -> None:
    (layer,) = bnncc.compile(Net(OPERANDS["itself"]), input_shapes=[SHAPE]).layers
    assert layer.reason is not None
    assert "torch.sign (test_sign_of_zero.py:" in layer.reason
    assert "0 by design" in layer.reason
    assert "torch.where(x >= 0, 1.0, -1.0)" in layer.reason
    assert "--sign-of-zero plus-one" in layer.reason


def test_so_does_that_of_signs_times_their_mean_magnitude() -> None:
    network = Net(OPERANDS["itself"], lambda x: torch.sign(x) * x.abs().mean((1, 2, 3), keepdim=True))
    (layer,) = bnncc.compile(network, input_shapes=[SHAPE]).layers
    assert layer.word == "zeros-by-design"
    (layer,) = bnncc.compile(network, input_shapes=[SHAPE], options=bnncc.Options(sign_of_zero="plus-one")).layers
    assert layer.reason is None


@pytest.mark.parametrize("name", ["itself", "scaled", "moved", "pooled", "shifted by a whole number"])
def test_plus_one_is_the_reading_that_was_asked_for_in_bits(name: str) -> None:
    options = bnncc.Options(sign_of_zero=SignOfZero.PLUS_ONE)
    compiled = bnncc.compile(Net(OPERANDS[name]), input_shapes=[SHAPE], options=options)
    assert [layer.reason for layer in compiled.layers] == [None]
    read_so = Net(OPERANDS[name], lambda x: torch.where(x >= 0, 1.0, -1.0))
    np.testing.assert_array_equal(run(compiled, pixels()), expected(compiled, read_so, pixels()))
    assert FileMetadata.read(TfliteFile(compiled.content)).options.sign_of_zero is SignOfZero.PLUS_ONE


CHANCE: dict[str, Operand] = {
    "normalised": lambda x: (x / 255 - 0.456) / 0.225,
    "centred": lambda x: x / 255 - 0.5,
    "convolved": lambda x: F.conv2d(x, torch.linspace(-1, 1, 144).view(4, 4, 3, 3)),
}


@pytest.mark.parametrize("operand", CHANCE.values(), ids=CHANCE)
def test_zeros_that_are_chance_leave_the_layer_in_bits(operand: Operand) -> None:
    compiled = bnncc.compile(Net(operand), input_shapes=[SHAPE])
    assert [layer.reason for layer in compiled.layers] == [None]


def test_the_command_line_takes_the_reading(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Conv2d):\n    def __init__(self):\n"
        "        super().__init__(4, 8, 3, bias=False)\n\n    def forward(self, x):\n"
        "        return nn.functional.conv2d(torch.sign(x), torch.sign(self.weight))\n"
    )
    arguments = ["compile", f"{tmp_path}/net.py:Net", "--input-shape", "1x4x7x6", "-o", f"{tmp_path}/net.tflite"]
    runner = click.testing.CliRunner(env={"COLUMNS": "400"})
    exact, read_so = runner.invoke(main, arguments), runner.invoke(main, [*arguments, "--sign-of-zero", "plus-one"])
    assert exact.exit_code == read_so.exit_code == 0
    assert "in float [zeros-by-design]: Conv" in exact.stdout
    assert "net.py:10 in forward" in exact.stdout
    assert "in float" not in read_so.stdout


class Attention(nn.Module):
    """{0, 1} by ±1, computed both, whose sign ±1 weights read: the sums are whole numbers, and often 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(24, 32))

    def forward(self, x: Tensor) -> Tensor:
        signs = torch.where(x >= 0, 1.0, -1.0)
        scores = (signs @ signs.transpose(1, 2) > 2).float()
        heard = scores @ torch.where(x.roll(1, 1) >= 0.5, 1.0, -1.0)
        return F.linear(torch.sign(heard), torch.where(self.weight >= 0, 1.0, -1.0))


def test_sums_of_two_computed_maps_are_0_by_design() -> None:
    network = Attention().eval()
    compiled = bnncc.compile(network, input_shapes=["1x16x32"])
    x = np.random.default_rng(0).standard_normal((1, 16, 32)).astype(np.float32)
    np.testing.assert_array_equal(run(compiled, x), expected(compiled, network, x))
    last = compiled.layers[-1]
    assert last.reason is None or "by design" in last.reason
