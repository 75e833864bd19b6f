"""Randomness and state that reach an output are refused with their lines; what only counts is not."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnncc.errors import FrozenValueError
from bnncc.frontend import InputSpec, repeatable, trace_module

SHAPE = (2, 3, 6, 6)
SPEC = [InputSpec("x", SHAPE)]
Forward = Callable[["Net", Tensor], Tensor]
CALLS = [0]


class Net(nn.Module):
    def __init__(self, function: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.calls = 0
        self.history: list[float] = []
        self.register_buffer("counter", torch.tensor(0.0))
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def draws(function: Callable[[Tensor], Tensor]) -> Forward:
    def forward(net: Net, x: Tensor) -> Tensor:
        return function(net.conv(x))

    return forward


RANDOM = {
    "dropout": lambda y: F.dropout(y, 0.5, training=True),
    "dropout2d": lambda y: F.dropout2d(y, 0.5, training=True),
    "rand": lambda y: y + torch.rand_like(y),
    "randn": lambda y: y + torch.randn(4, 1, 1),
    "bernoulli": lambda y: y * torch.bernoulli(torch.sigmoid(y)),
    "multinomial": lambda y: y[:, torch.multinomial(torch.ones(4), 4)],
    "randperm": lambda y: y[:, torch.randperm(4)],
    "randint": lambda y: y * torch.randint(1, 5, (1,)),
    "normal_": lambda y: y + torch.empty(1).normal_(),
    "gumbel": lambda y: F.gumbel_softmax(y, dim=1),
    "python": lambda y: y * random.random(),
    "python branch": lambda y: y if random.random() < 0.5 else -y,
    "python branch, rarely": lambda y: y if random.random() > 0.05 else -y,
    "branch, rarely": lambda y: -y if torch.rand(1) < 0.05 else y,
    "branch, nearly always": lambda y: y if torch.rand(1).item() < 0.95 else -y,
    "numpy branch, rarely": lambda y: y if np.random.rand() > 0.05 else -y,
    "numpy": lambda y: y + float(np.random.rand()),
    "numpy array": lambda y: y + torch.from_numpy(np.random.rand(6)).float(),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_random_forward_is_refused_with_its_line(name: str) -> None:
    with pytest.raises(FrozenValueError, match=r"forward is random") as caught:
        trace_module(Net(draws(RANDOM[name])), SPEC)
    assert f'"{name}": lambda' in str(caught.value)
    assert "test_repeatable.py:" in str(caught.value)


def test_the_first_numbers_of_two_seeds_are_extremes() -> None:
    """By which a branch that is taken rarely is seen."""
    *_, low, high = repeatable._SEEDS
    for seed in (low, high):
        with repeatable._seeded(seed):
            drawn = random.random(), float(np.random.rand()), float(torch.rand(1))
        assert max(drawn) < 0.02 if seed == low else min(drawn) > 0.98


def test_random_numbers_that_do_not_reach_an_output_are_no_reason_to_refuse() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        print(torch.rand(3), random.random(), F.dropout(x, 0.5, training=True).mean())
        return net.conv(x) + 0 * torch.rand(1) + F.dropout(x, 0.0, training=True).mean()

    trace_module(Net(forward), SPEC)


def test_seeded_noise_is_a_constant() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        torch.manual_seed(7)
        return net.conv(x) * random.Random(3).random()

    trace_module(Net(forward), SPEC)


def test_generators_are_where_they_were() -> None:
    network = Net(lambda net, x: net.conv(x))
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    trace_module(network, SPEC)
    assert (torch.rand(1), random.random(), np.random.rand()) == expected


# State


def counter(net: Net, x: Tensor) -> Tensor:
    net.counter += 1
    return net.conv(x) * net.counter


def counter_assigned(net: Net, x: Tensor) -> Tensor:
    net.counter = net.counter + 1
    return net.conv(x) * net.counter


def python_counter(net: Net, x: Tensor) -> Tensor:
    net.calls += 1
    return net.conv(x) * min(1.0, net.calls / 10)


def growing_list(net: Net, x: Tensor) -> Tensor:
    net.history.append(1.0)
    return net.conv(x) * len(net.history)


def global_counter(net: Net, x: Tensor) -> Tensor:
    CALLS[0] += 1
    return net.conv(x) * CALLS[0]


def running_mean(net: Net, x: Tensor) -> Tensor:
    net.mean.mul_(0.9).add_(0.1 * x.mean())  # type: ignore[operator, union-attr]
    return net.conv(x - net.mean)


def first_call_decides(net: Net, x: Tensor) -> Tensor:
    """A scale that the first input sets, as quantizers with learnt steps are initialised."""
    if net.counter == 0:
        net.mean.copy_(x.abs().mean())  # type: ignore[operator]
        net.counter.fill_(1)  # type: ignore[operator]
    return net.conv(x / net.mean)


def scaled_once_more(net: Net, x: Tensor) -> Tensor:
    net.conv.weight.data = net.conv.weight.data * 2
    return net.conv(x)


STATE = {
    counter: "counter, at test_repeatable",
    counter_assigned: "counter, at test_repeatable",
    python_counter: "calls, at test_repeatable",
    growing_list: r"test_repeatable\.py:\d+ in growing_list: return",
    global_counter: r"test_repeatable\.py:\d+ in global_counter: return",
    running_mean: "mean, at test_repeatable",
    first_call_decides: "mean, at test_repeatable",
    scaled_once_more: r"conv\.weight, at test_repeatable.*in scaled_once_more: net\.conv\.weight\.data",
}


@pytest.mark.parametrize("function", STATE)
def test_state_that_reaches_an_output_is_refused_and_named(function: Forward) -> None:
    with pytest.raises(FrozenValueError, match=rf"(?s)forward remembers.*{STATE[function]}"):
        trace_module(Net(function), SPEC)


@pytest.mark.parametrize("function", STATE)
def test_trained_weights_are_asked_for_where_only_the_first_call_writes(function: Forward) -> None:
    with pytest.raises(FrozenValueError) as caught:
        trace_module(Net(function), SPEC)
    assert ("Only its first call" in str(caught.value)) == (function is first_call_decides)


def count_only(net: Net, x: Tensor) -> Tensor:
    net.counter += 1
    net.calls += 1
    net.mean.mul_(0.9).add_(0.1 * x.mean())  # type: ignore[operator, union-attr]
    return net.conv(x)


def initialised_by_weights(net: Net, x: Tensor) -> Tensor:
    """What the first call computes from the weights is the same in every call."""
    if net.calls == 0:
        net.calls, net.scale = 1, net.conv.weight.abs().mean()
    return net.conv(x / net.scale)


def kept_once(net: Net, x: Tensor) -> Tensor:
    """BinaryNet's idiom: the weights are binarized in place, of what they were at first."""
    weight = net.conv.weight
    if not hasattr(weight, "org"):
        weight.org = weight.data.clone()  # type: ignore[attr-defined]
    weight.data = weight.org.sign()  # type: ignore[attr-defined]
    return net.conv(x)


@pytest.mark.parametrize("function", [count_only, initialised_by_weights, kept_once])
def test_state_that_does_not_change_the_function_is_no_reason_to_refuse(function: Forward) -> None:
    trace_module(Net(function), SPEC)


def test_batch_statistics_in_eval_mode_are_named() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        norm = net.norm
        return F.batch_norm(net.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, training=True)

    traced = trace_module(Net(forward), SPEC)
    (warning,) = (warning for warning in traced.warnings if "the batch's own statistics" in warning)
    assert "in forward: return F.batch_norm" in warning
    ordinary = trace_module(Net(lambda net, x: net.norm(net.conv(x))), SPEC)
    assert not any("the batch's own statistics" in warning for warning in ordinary.warnings)
