"""`x.data = …` in forward: traced as what it computes, or refused."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.errors import TraceMismatchError
from bnncc.frontend import InputSpec, trace_module
from bnncc.frontend.data_assignment import DataAssignment, attributes_restored


class BinarizeConv2d(nn.Conv2d):
    """As in the public PyTorch version of BinaryNet."""

    def forward(self, input: Tensor) -> Tensor:
        if input.size(1) != 3:
            input.data = input.data.sign()
        if not hasattr(self.weight, "org"):
            self.weight.org = self.weight.data.clone()
        self.weight.data = self.weight.org.sign()
        out = F.conv2d(input, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
        if self.bias is not None:
            self.bias.org = self.bias.data.clone()
            out += self.bias.view(1, -1, 1, 1).expand_as(out)
        return out


class BinarizeLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        if input.size(1) != 784:
            input.data = input.data.sign()
        if not hasattr(self.weight, "org"):
            self.weight.org = self.weight.data.clone()
        self.weight.data = self.weight.org.sign()
        return F.linear(input, self.weight) + self.bias


class BinaryNet(nn.Module):
    """The residual shares its tensor with the convolution's input, and so is binarised as well."""

    def __init__(self, branch: bool = False) -> None:
        super().__init__()
        self.stem = BinarizeConv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.conv = BinarizeConv2d(4, 4, 3, padding=1)
        self.fc = BinarizeLinear(4 * 36, 5)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        if self.branch and x.isnan().any():  # only the TorchScript exporter takes this
            raise ValueError("no number")
        x = self.bn(self.stem(x))
        x = F.hardtanh(self.conv(x) + x)
        return self.fc(x.flatten(1))


@pytest.mark.parametrize(("branch", "exporter"), [(False, "torch.export"), (True, "TorchScript")])
def test_binarynet_keeps_its_binarisation(branch: bool, exporter: str) -> None:
    traced = trace_module(BinaryNet(branch), [InputSpec("x", (1, 3, 8, 8))])
    assert traced.exporter == exporter
    signs = [node for node in traced.model.graph if node.op_type == "Sign"]
    assert len(signs) == 5  # the weights of three layers, the inputs of two


def test_weights_that_an_earlier_run_left_beside_the_parameters_are_counted_as_weights() -> None:
    network = BinaryNet(branch=True).eval()
    network(torch.randn(1, 3, 8, 8))
    traced = trace_module(network, [InputSpec("x", (1, 3, 8, 8))])
    assert traced.exporter == "TorchScript"
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert traced.float32_bytes >= 4 * sum(weight.numel() for weight in weights)


def eager_and_patched(forward: Callable[[Tensor, nn.Parameter], Tensor]) -> tuple[Tensor, Tensor]:
    weight = nn.Parameter(torch.tensor([0.5, -2.0, 3.0]))
    x = torch.tensor([1.5, -0.5, 0.25])
    with torch.no_grad():
        eager = forward(x.clone(), copy.deepcopy(weight))
        with DataAssignment() as mode:
            patched: Tensor = mode.resolve(forward(x.clone(), copy.deepcopy(weight)))
    return eager, patched


def assign_and_return(x: Tensor, weight: nn.Parameter) -> Tensor:
    x.data = x.sign()
    return x


def assign_twice(x: Tensor, weight: nn.Parameter) -> Tensor:
    weight.data = weight * 2
    weight.data = weight + x
    return weight * 1


def assign_then_in_place(x: Tensor, weight: nn.Parameter) -> Tensor:
    x.data = x.data.sign()
    x += 1
    return torch.cat([x, weight])


def assign_one_to_the_other(x: Tensor, weight: nn.Parameter) -> Tensor:
    x.data = weight.data
    weight.data = weight.data.sign()
    return torch.stack((x, weight))


@pytest.mark.parametrize("forward", [assign_and_return, assign_twice, assign_then_in_place, assign_one_to_the_other])
def test_an_assignment_means_what_it_means_in_eager_mode(forward: Callable[[Tensor, nn.Parameter], Tensor]) -> None:
    eager, patched = eager_and_patched(forward)
    np.testing.assert_array_equal(patched.numpy(), eager.numpy())


def test_attributes_that_forward_leaves_are_removed() -> None:
    layer = nn.Linear(2, 2)
    layer.kept = 1  # type: ignore[assignment]
    with attributes_restored(layer):
        layer.weight.org = layer.weight.clone()  # type: ignore[attr-defined]
        layer.new = 3  # type: ignore[assignment]
        layer.kept = 2  # type: ignore[assignment]
    assert not hasattr(layer.weight, "org")
    assert not hasattr(layer, "new")
    assert layer.kept == 1


def test_an_assignment_that_the_trace_loses_is_refused_with_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        DataAssignment, "__torch_function__", lambda self, f, types, args=(), kwargs=None: f(*args, **kwargs or {})
    )
    with pytest.raises(TraceMismatchError) as caught:
        trace_module(BinaryNet(), [InputSpec("x", (1, 3, 8, 8))])
    message = str(caught.value)
    assert "assigns to .data in forward, which exporters lose:" in message
    assert "in forward: input.data = input.data.sign()" in message
    assert "in forward: self.weight.data = self.weight.org.sign()" in message
