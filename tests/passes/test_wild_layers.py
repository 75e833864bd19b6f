"""Binary layers as networks spell them, compiled, run in LCE's interpreter and proven against PyTorch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.ir.modes import ReplicationMode
from bnncc.model import CompiledModel
from bnncc.options import Options
from bnncc.verification import verify
from tests.networks.binarize import ClippedSign
from tests.networks.randomize import randomize

DEFAULTS = Options()


class BinaryConv(nn.Module):
    """sign(w) · scale, per layer or per channel, of any dimension and groups."""

    def __init__(self, channels: int, filters: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1,
                 dimensions: int = 2, dilation: int = 1) -> None:  # fmt: skip
        super().__init__()
        self.shape = (filters, channels // groups, *(kernel,) * dimensions)
        self.weight = nn.Parameter(torch.empty(self.shape))
        self.settings = {"stride": stride, "padding": padding, "groups": groups, "dilation": dilation}

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(1, self.weight.ndim))
        weight = torch.sign(self.weight) * self.weight.abs().mean(axes, keepdim=True)
        return (F.conv2d if self.weight.ndim == 4 else F.conv1d)(x, weight, **self.settings)


class BinaryLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.shape = (outputs, inputs)
        self.weight = nn.Parameter(torch.empty(self.shape))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, torch.sign(self.weight) * self.weight.abs().mean(), self.bias)


def sign(x: Tensor) -> Tensor:
    return ClippedSign.apply(x)  # type: ignore[no-any-return]


class Shift(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Network(nn.Module):
    """Stem, the layers of `make`, their forward function, global pool, Linear."""

    def __init__(
        self, layers: dict[str, nn.Module], forward: Callable[[nn.ModuleDict, Tensor], Tensor], stem: int
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 1, 1), nn.BatchNorm2d(stem))
        self.layers = nn.ModuleDict(layers)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layers, self.stem(x))


def proven(module: nn.Module, *, binary: int, options: Options = DEFAULTS, size: int = 8) -> CompiledModel:
    """Compile, verify, compare with torch, and expect so many layers in bits."""
    randomize(module, 3)
    compiled = bnncc.compile(module, input_shapes=[(1, 3, size, size)], options=options)
    generator = np.random.default_rng(5)
    inputs = [[generator.standard_normal((1, 3, size, size)).astype(np.float32)] for _ in range(3)]
    result = verify(compiled, inputs)
    assert not result.problems, result.problems
    assert sum(layer.reason is None for layer in compiled.layers) == binary, compiled.layers
    for array in inputs:
        (found,) = compiled.run([compiled.as_stored(array[0])])
        with torch.inference_mode():
            expected = compiled.as_stored(module(torch.from_numpy(array[0])).numpy())
        flips = sum(check.free_running_flips for check in result.signs)
        assert flips or np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    return compiled


def network(stem: int, forward: Callable[[nn.ModuleDict, Tensor], Tensor], **layers: nn.Module) -> Network:
    return Network(layers, forward, stem)


@pytest.mark.parametrize(
    ("stem", "groups", "stride", "size"), [(64, 2, 1, 8), (64, 2, 2, 8), (20, 4, 1, 32), (96, 3, 2, 8)]
)
def test_grouped_convolutions(stem: int, groups: int, stride: int, size: int) -> None:
    model = network(
        stem,
        lambda m, x: m["bn"](m["conv"](sign(x))),
        conv=BinaryConv(stem, 8 * stem, 3, stride=stride, padding=1, groups=groups),
        bn=nn.BatchNorm2d(8 * stem),
    )
    compiled = proven(model, binary=1, size=size)
    assert sum(node.op_type == "BinaryConv" for node in compiled.graph.graph) == groups


def test_a_depthwise_convolution_stays_in_float_with_the_reason() -> None:
    model = network(32, lambda m, x: m["conv"](sign(x)), conv=BinaryConv(32, 32, 3, padding=1, groups=32))
    (layer,) = proven(model, binary=0).layers
    assert layer.reason is not None
    assert "depthwise" in layer.reason


@pytest.mark.parametrize("flatten", [True, False])
def test_linear_layers_of_odd_sizes(flatten: bool) -> None:
    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 4)
        x = torch.flatten(sign(x), 1) if flatten else sign(torch.flatten(x, 1))
        x = m["bn1"](m["fc1"](x))
        return m["bn2"](m["fc2"](sign(F.hardtanh(x))))

    model = network(
        19,
        forward,
        fc1=BinaryLinear(19 * 4, 45),
        bn1=nn.BatchNorm1d(45),
        fc2=BinaryLinear(45, 7, bias=False),
        bn2=nn.BatchNorm1d(7),
    )
    proven(model, binary=2)


def test_a_product_of_three_axes() -> None:
    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        return m["fc"](sign(x.flatten(2).transpose(1, 2)))

    proven(network(37, forward, fc=BinaryLinear(37, 11)), binary=1)


def test_a_one_dimensional_convolution() -> None:
    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        return m["bn"](m["conv"](sign(x.flatten(2))))

    model = network(21, forward, conv=BinaryConv(21, 9, 5, stride=2, padding=2, dimensions=1), bn=nn.BatchNorm1d(9))
    proven(model, binary=1)


def test_dilation_and_concatenated_and_sliced_signs() -> None:
    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        joined = torch.cat([sign(x), sign(m["shift"](x))], 1)
        return m["bn1"](m["conv1"](joined)) + m["conv2"](joined[:, 3:40])

    model = network(
        24,
        forward,
        shift=Shift(24),
        conv1=BinaryConv(48, 10, 3, padding=2, dilation=2),
        bn1=nn.BatchNorm2d(10),
        conv2=BinaryConv(37, 10, 1),
    )
    proven(model, binary=2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("activation", ["greater", "greater or equal", "scaled", "dorefa"])
def test_activations_that_are_not_plus_and_minus_one(activation: str, stride: int) -> None:
    binarizers: dict[str, Callable[[Tensor], Tensor]] = {
        "greater": lambda x: (x > 0).float(),
        "greater or equal": lambda x: torch.where(x >= 0, 1.0, 0.0),
        "scaled": lambda x: 0.37 * torch.where(x >= 0, 1.0, -1.0),
        "dorefa": lambda x: torch.round(torch.clamp(x, 0, 1)),
    }
    model = network(
        36,
        lambda m, x: m["bn"](m["conv"](binarizers[activation](x))),
        conv=BinaryConv(36, 13, 3, stride=stride, padding=1),
        bn=nn.BatchNorm2d(13),
    )
    proven(model, binary=1)


@pytest.mark.parametrize("channels", [36, 64])
@pytest.mark.parametrize("fill", [1.0, -1.0])
def test_signs_padded_with_signs(fill: float, channels: int) -> None:
    model = network(
        channels,
        lambda m, x: m["bn"](m["conv"](F.pad(sign(x), (1, 1, 1, 1), value=fill))),
        conv=BinaryConv(channels, 13, 3),
        bn=nn.BatchNorm2d(13),
    )
    proven(model, binary=1)


class RepConv(nn.Module):
    """A binary convolution whose output is repeated; a batch norm, shift and slope for each copy."""

    def __init__(self, channels: int, copies: int, spelling: str) -> None:
        super().__init__()
        self.copies, self.spelling = copies, spelling
        self.conv = BinaryConv(channels, channels, 1)
        self.bn = nn.BatchNorm2d(channels * copies)
        self.shift = Shift(channels * copies)
        self.act = nn.PReLU(channels * copies)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(sign(x))
        if self.spelling == "repeat":
            y = y.repeat(1, self.copies, 1, 1)
        elif self.spelling == "interleave":
            y = torch.repeat_interleave(y, self.copies, 1)
        else:
            y = torch.cat([y] * self.copies, 1)
        return self.act(self.shift(self.bn(y) + torch.cat([x] * self.copies, 1)))


@pytest.mark.parametrize("mode", list(ReplicationMode))
@pytest.mark.parametrize("spelling", ["repeat", "interleave", "cat"])
def test_repconv(mode: ReplicationMode, spelling: str) -> None:
    model = network(20, lambda m, x: m["b"](m["a"](x)), a=RepConv(20, 2, spelling), b=RepConv(40, 4, spelling))
    compiled = proven(model, binary=2, options=Options(replication=mode))
    sizes = sorted(node.inputs[1].shape[0] for node in compiled.graph.graph if node.op_type == "BinaryConv")
    if mode is not ReplicationMode.AUTO:
        assert sizes == ([40, 160] if mode is ReplicationMode.MERGE else [20, 40])


def test_merged_and_repeated_files_yield_the_same() -> None:
    model = network(20, lambda m, x: m["a"](x), a=RepConv(20, 2, "cat"))
    results = []
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype(np.float32)
    for mode in (ReplicationMode.MERGE, ReplicationMode.REPEAT):
        results.append(proven(model, binary=1, options=Options(replication=mode)).run([x])[0])
    assert np.abs(results[0] - results[1]).max() <= 1e-5 * np.abs(results[0]).max()


def test_xnor_nets_input_scale() -> None:
    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        k = F.conv2d(x.abs().mean(1, keepdim=True), torch.full((1, 1, 3, 3), 1 / 9), padding=1)
        return m["bn"](m["conv"](sign(x)) * k)

    proven(network(36, forward, conv=BinaryConv(36, 13, 3, padding=1), bn=nn.BatchNorm2d(13)), binary=1)


def test_a_squeeze_and_excitation_gate() -> None:
    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        gate = F.adaptive_avg_pool2d(x, 1).flatten(1)
        gate = torch.sigmoid(m["up"](F.relu(m["down"](gate))))
        return m["bn"](m["conv"](sign(x))) * gate[:, :, None, None]

    model = network(
        36,
        forward,
        conv=BinaryConv(36, 36, 3, padding=1),
        bn=nn.BatchNorm2d(36),
        down=nn.Linear(36, 9),
        up=nn.Linear(9, 36),
    )
    proven(model, binary=1)


def test_a_shift_that_depends_on_the_data() -> None:
    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        shift = torch.sigmoid(m["up"](F.relu(m["down"](F.adaptive_avg_pool2d(x, 1).flatten(1)))))
        return m["bn"](m["conv"](sign(x + 0.4 * shift[:, :, None, None])))

    model = network(
        36,
        forward,
        conv=BinaryConv(36, 36, 3, padding=1),
        bn=nn.BatchNorm2d(36),
        down=nn.Linear(36, 9),
        up=nn.Linear(9, 36),
    )
    proven(model, binary=1)


def test_a_shift_per_channel_behind_the_sign() -> None:
    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        return m["bn"](m["conv"](m["shift"](0.5 * sign(x))))

    model = network(36, forward, shift=Shift(36), conv=BinaryConv(36, 13, 1), bn=nn.BatchNorm2d(13))
    proven(model, binary=1)
