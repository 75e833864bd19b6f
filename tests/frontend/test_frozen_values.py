"""What forward decides in Python by its input is refused or named; what cannot reach an output is neither."""

import logging
import math
import pdb
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnncc
from bnncc.errors import FrozenValueError
from bnncc.frontend import InputSpec, trace_module
from bnncc.options import FileMetadata
from bnncc.targets.tflite.reader import TfliteFile

SHAPE = (1, 3, 6, 6)
SPEC = [InputSpec("x", SHAPE)]
Forward = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """A forward of its own; a convolution, a buffer and a nested module to use in it."""

    def __init__(self, function: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv = nn.Conv2d(3, 4, 1)
        self.register_buffer("limit", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def branch(net: Net, x: Tensor) -> Tensor:
    if x.max() > 1:
        x = x / 255
    return net.conv(x)


def branch_of_any(net: Net, x: Tensor) -> Tensor:
    return net.conv(x.clamp(min=0)) if torch.any(x < -100) else net.conv(x)


def both_false(net: Net, x: Tensor) -> Tensor:
    """Neither comparison alone changes the branch."""
    if x.max() > 100 and x.min() > 100:
        x = x / 255
    return net.conv(x)


def both_true(net: Net, x: Tensor) -> Tensor:
    if x.max() > 1 or x.min() < -1:
        x = x / 255
    return net.conv(x)


def loop(net: Net, x: Tensor) -> Tensor:
    for _ in range(int(x.sum())):
        x = x * 2
    return net.conv(x)


def while_loop(net: Net, x: Tensor) -> Tensor:
    while x.abs().max() > 1:
        x = x / 2
    return net.conv(x)


def early_return(net: Net, x: Tensor) -> Tensor:
    if bool((x > 5).any()):
        return x
    return net.conv(x)


def item(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * math.sqrt(x.abs().max().item())


def compared_item(net: Net, x: Tensor) -> Tensor:
    return net.conv(x + 1 if x.mean().item() > 0.9 else x)


def to_numpy(net: Net, x: Tensor) -> Tensor:
    return net.conv(torch.from_numpy(np.tanh(x.detach().numpy())))


def array(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * float(np.asarray(x).max())


def to_list(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * max(x.flatten().tolist())


def index_of_list(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * [1.0, 2.0, 3.0][x.sum((2, 3)).argmax()]


def text(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * len(str(x.mean()))


def sign_in_text(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * (2 if "-" in str(x.amin()) else 3)


def text_of_boolean(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * {"tensor(True)": 2, "tensor(False)": 3}[str(x.amin() > 0)]


def word_in_text(net: Net, x: Tensor) -> Tensor:
    return net.conv(x + 1 if "nan" in str(x) else x)


def formatted(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * float(f"{x.mean():.1f}")


def equal(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) if torch.equal(x, x.abs()) else net.conv(x + 1)


def caught_assertion(net: Net, x: Tensor) -> Tensor:
    try:
        assert x.min() >= -100
    except AssertionError:
        x = x.clamp(min=0)
    return net.conv(x)


def side_that_fails_here(net: Net, x: Tensor) -> Tensor:
    """Taken on this input, the other side raises an error of an operator: that is no guard."""
    if (x > 100).any():
        x = x - x.flatten().tolist().index(1.0)
    return net.conv(x)


REFUSED = [
    branch, branch_of_any, both_false, both_true, loop, while_loop, early_return, item, compared_item, to_numpy,
    array, to_list, index_of_list, text, sign_in_text, text_of_boolean, word_in_text, formatted, equal,
    caught_assertion, side_that_fails_here,
]  # fmt: skip


@pytest.mark.parametrize("function", REFUSED)
def test_what_decides_over_the_output_is_refused_with_its_line(function: Forward) -> None:
    with pytest.raises(
        FrozenValueError, match=r"(?s)decides in Python.*test_frozen_values\.py:\d+ in .*freeze"
    ) as caught:
        trace_module(Net(function), SPEC)
    assert f" in {function.__name__}: " in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_branch_inside_a_nested_module_is_refused_once_for_all_its_copies() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - 1 if x.mean() > 0.5 else x

    with pytest.raises(FrozenValueError, match="in forward: return x - 1 if") as caught:
        trace_module(nn.Sequential(Inner(), nn.Conv2d(3, 3, 1), Inner(), Inner()), [InputSpec("input", SHAPE)])
    assert str(caught.value).count("return x - 1 if") == 1


# What cannot reach an output


def guards(net: Net, x: Tensor) -> Tensor:
    assert x.min() >= -100, "out of range"
    torch._assert(x.max() < 100, "out of range")
    if x.isnan().any():
        pdb.set_trace()
    if x.isnan().any():
        breakpoint()
    if torch.isinf(x).any():
        raise ValueError("infinite")
    if not torch.isfinite(x).all():
        sys.exit(1)
    return net.conv(x)


def prints(net: Net, x: Tensor) -> Tensor:
    print(x.mean().item(), x, f"{x.max():.2f}")
    logging.info("%s", x.std().item())
    if x.max() > 1:
        print("large", x.abs().mean().item())
    y = net.conv(x)
    print(["a", "b", "c", "d"][int(y.sum((2, 3)).argmax())])
    return y


def statistics(net: Net, x: Tensor) -> Tensor:
    net.last_mean = x.mean().item()  # type: ignore[assignment]
    return net.conv(x)


def constants(net: Net, x: Tensor) -> Tensor:
    """Of parameters and buffers, not of the input."""
    assert isinstance(net.limit, Tensor)
    if net.limit < 0.7 and net.conv.weight.max() > 0:
        x = x * net.limit.item()
    return net.conv(x) * int(net.conv.weight.abs().sum() + 1)


def both_sides_alike(net: Net, x: Tensor) -> Tensor:
    if x.max() > 1:
        return net.conv(x)
    return net.conv(x)


@pytest.mark.parametrize("function", [guards, prints, statistics, constants, both_sides_alike])
def test_what_cannot_reach_an_output_is_no_reason_to_refuse(function: Forward) -> None:
    traced = trace_module(Net(function), SPEC)
    assert traced.frozen == ()
    assert not any(warning.startswith("frozen for") for warning in traced.warnings)


# Sizes


def masked(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * x[x > 0].mean()


def count_of_nonzero(net: Net, x: Tensor) -> Tensor:
    for _ in range((x > 0).nonzero().shape[0] // 20):
        x = x * 2
    return net.conv(x)


def unique(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) * x.unique().sum()


@pytest.mark.parametrize("function", [masked, count_of_nonzero, unique])
@pytest.mark.parametrize("freeze", [False, True])
def test_a_shape_that_depends_on_data_is_a_clear_error(function: Forward, freeze: bool) -> None:
    with pytest.raises(
        FrozenValueError, match=r"(?s)shape depends on the input.*test_frozen_values\.py:\d+ in"
    ) as caught:
        trace_module(Net(function), SPEC, freeze_branches=freeze)
    assert function.__name__ in str(caught.value)


def test_what_a_mask_only_assigns_has_a_static_shape() -> None:
    def assigned(net: Net, x: Tensor) -> Tensor:
        x = x.clone()
        x[x > 0.5] = 0.25
        return net.conv(x)

    assert trace_module(Net(assigned), SPEC).frozen == ()


# --freeze-branches


class BinaryBranch(nn.Module):
    """Pixels of 0 to 255 are scaled, others are not; then a sign with a threshold and a binary convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        if x.max() > 1:
            x = x / 255
        signs = torch.where(x - 0.5 >= 0, 1.0, -1.0)
        return nn.functional.conv2d(signs, torch.where(self.weight >= 0, 1.0, -1.0))


@pytest.mark.parametrize("largest", [1, 255])
def test_frozen_branches_are_those_of_the_first_given_input_and_are_recorded(largest: int) -> None:
    network = BinaryBranch()
    generator = np.random.default_rng(3)
    image = (generator.random(SHAPE) * largest).astype(np.float32)
    compiled = bnncc.compile(network, input_shapes=[SHAPE], check_inputs=[[image]], freeze_branches=True)
    (line,) = compiled.traced.frozen
    assert line.endswith(f"in forward: if x.max() > 1: ({largest > 1})")
    assert FileMetadata.read(TfliteFile(compiled.content)).frozen_branches == (line,)
    assert any(line in warning for warning in compiled.traced.warnings)
    found = compiled.run([compiled.as_stored(image)])[0]
    np.testing.assert_array_equal(found, compiled.as_stored(network(torch.from_numpy(image)).detach().numpy()))
    # Where the branch goes the other way the file stays with its own, and the verification knows.
    other = image * np.float32(255 if largest == 1 else 1 / 255)
    assert bnncc.verify(compiled, [[image], [other]]).passed
    assert compiled.traced.run_module is not None
    assert compiled.traced.run_as_written is not None
    kept, written = (run([other])[0] for run in (compiled.traced.run_module, compiled.traced.run_as_written))
    assert not np.array_equal(kept, written)
    np.testing.assert_array_equal(compiled.run([compiled.as_stored(other)])[0], compiled.as_stored(kept))
    np.testing.assert_array_equal(written, network(torch.from_numpy(other)).detach().numpy())


def test_a_frozen_loop_keeps_its_turns() -> None:
    traced = trace_module(Net(while_loop), SPEC, freeze_branches=True, check_inputs=[[np.full(SHAPE, 3.0, np.float32)]])
    (line,) = traced.frozen
    assert line.endswith("while x.abs().max() > 1: (True, False)")
    assert traced.run_module is not None
    small = np.full(SHAPE, 0.5, np.float32)
    net = Net(while_loop)
    np.testing.assert_allclose(
        traced.run_module([small])[0], net.conv(torch.from_numpy(small) / 4).detach().numpy(), rtol=1e-6
    )


def test_without_anything_to_freeze_the_option_changes_nothing() -> None:
    traced = trace_module(Net(lambda net, x: net.conv(x)), SPEC, freeze_branches=True)
    assert traced.frozen == ()
    assert traced.exporter == "torch.export"
