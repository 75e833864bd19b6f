"""Calls that name a GPU are made on the CPU; all others are as they were."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnncc.frontend.cpu_only import cpu_only

X = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: X.cuda(),
        lambda: X.cuda(1),
        lambda: X.cuda(device="cuda:1", non_blocking=True),
        lambda: X.to(0),
        lambda: X.to("cuda", torch.float32),
        lambda: X.to(device="cuda:0", dtype=torch.float32),
        lambda: X.to(device=0),
        lambda: X.to(torch.device("cuda", 1)),
        lambda: X.type("torch.cuda.FloatTensor"),
        lambda: X.type(torch.cuda.FloatTensor),
        lambda: X.new_zeros((2, 3), device="cuda") + X,
        lambda: X + torch.zeros((2, 3), device="cuda"),
        lambda: X + torch.zeros((2, 3), device=0),
        lambda: X + torch.zeros_like(X, device=torch.device("cuda:0")),
        lambda: torch.tensor(X.tolist(), device="cuda"),
        lambda: nn.Identity().cuda()(X),
        lambda: nn.Identity().to(0)(X),
    ],
)
def test_a_call_that_names_a_gpu_is_made_on_the_cpu(call: Callable[[], Tensor]) -> None:
    with cpu_only():
        result = call()
    assert result.device.type == "cpu"
    assert torch.equal(result, X)


@pytest.mark.parametrize(
    "call",
    [
        lambda: X.sum(0),
        lambda: X.mean(dim=1, keepdim=True),
        lambda: torch.einsum("ij,kj->ik", X, X),
        lambda: torch.nn.functional.pad(X, (1, 1), mode="constant", value=2.0),
        lambda: X.to(torch.float64),
        lambda: torch.ones(2, device="meta").device,
    ],
)
def test_a_call_that_names_no_gpu_is_as_it_was(call: Callable[[], Any]) -> None:
    expected = call()
    with cpu_only():
        result = call()
    assert torch.equal(result, expected) if isinstance(expected, Tensor) else result == expected
