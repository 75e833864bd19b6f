"""Operators that PyTorch's exporter does not know: what the file computes is what PyTorch computes, also at ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from tests.frontend.proven import file_outputs

Function = Callable[[Tensor], Tensor | tuple[Tensor, ...]]


def bags(x: Tensor, mode: str, **arguments: Any) -> Tensor:
    """Of a table of six rows of eighths, by the places of the largest."""
    table = torch.arange(-9.0, 15.0).reshape(6, 4) / 8
    return F.embedding_bag(x[0].argmax(2), table, mode=mode, **arguments)


LEVELS = torch.tensor([-1.0, 0.0, 0.5])

EXACT: dict[str, Function] = {
    "copysign": lambda x: torch.copysign(x.flip(1), x),
    "copysign of a number": lambda x: torch.copysign(x, -1.0),
    "kthvalue": lambda x: x.kthvalue(3, 1)[0],
    "kthvalue that keeps its axis": lambda x: x.kthvalue(2, 3, keepdim=True),
    "median of an axis": lambda x: x.median(2),
    "median of an even number": lambda x: x.median(3, keepdim=True)[0],
    "median of all": lambda x: x.median(),
    "cummax": lambda x: x.round().cummax(2),
    "cummin": lambda x: x.round().cummin(3),
    "adaptive max-pool": lambda x: F.adaptive_max_pool2d(x, (3, 4)),
    "adaptive max-pool to more": lambda x: F.adaptive_max_pool2d(x, (9, 1)),
    "adaptive max-pool with indices": lambda x: F.adaptive_max_pool2d(x, (3, 2), return_indices=True),
    "adaptive max-pool of a row": lambda x: F.adaptive_max_pool1d(x.flatten(2), 5),
    "squeeze of long axes": lambda x: x.squeeze(2) + x[:, :, :1].squeeze((1, 2)).unsqueeze(2),
    "right shift": lambda x: ((9 * x).to(torch.int32) >> 2).float(),
    "fake quantisation to 2 bits": lambda x: torch.fake_quantize_per_tensor_affine(x, 0.3, 1, -2, 1),
    "fake quantisation by tensors": lambda x: torch.fake_quantize_per_tensor_affine(
        x, torch.tensor(0.7), torch.tensor(0, dtype=torch.int32), -1, 0
    ),
    "left shift": lambda x: ((9 * x).to(torch.int32) << 3).float(),
    "clamp between an integer and a float": lambda x: torch.clamp(x, 0, 0.5) + x.clamp(-1.5, 1) + x.clamp(max=1.0),
    "a choice of booleans": lambda x: torch.where(x > 0, x > 0.5, x < -1).float(),
    "searchsorted": lambda x: torch.searchsorted(LEVELS, x.round()).float(),
    "searchsorted from the right, of each row's own": lambda x: torch.searchsorted(
        x.round().flip(1).sort(3)[0], x.round(), right=True
    ).float(),
    "searchsorted with a sorter": lambda x: torch.searchsorted(
        LEVELS.flip(0), x, sorter=torch.arange(3).flip(0)
    ).float(),
    "bucketize": lambda x: torch.arange(8.0).reshape(4, 2)[torch.bucketize(x.round(), LEVELS, right=True)],
    "searchsorted of many levels": lambda x: torch.searchsorted(torch.arange(-10.0, 10.0) / 4, x).float(),
    "einsum with ellipses of two ranks": lambda x: torch.einsum(
        "... d, ... l d -> ... l", x.round(), torch.arange(-9.0, 9.0).reshape(3, 6)
    ),
    "running products": lambda x: (x.sign() + 0.5).cumprod(3),
    "distances": lambda x: tuple(torch.cdist(x[0].round(), x[0].round().flip(1), p) for p in (0.0, 1.0, float("inf"))),
    "bags of sums": lambda x: bags(x, "sum"),
    "bags of means without padding": lambda x: bags(x, "mean", padding_idx=0),
    "bags of maxima": lambda x: bags(x, "max"),
    "bags of maxima without padding": lambda x: bags(x, "max", padding_idx=-6),
    "bags of weighted sums": lambda x: bags(x, "sum", per_sample_weights=torch.arange(1.0, 8.0).repeat(5, 1)),
}
ROUNDED: dict[str, Function] = {
    "fake quantisation of channels": lambda x: torch.fake_quantize_per_channel_affine(
        x, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]), torch.tensor([0, 1, -1, 0, 2], dtype=torch.int32), 1, -4, 3
    ),
    "roots of distances": lambda x: (torch.cdist(x, x.flip(1)), torch.cdist(x, x.flip(2), p=3.0), F.pdist(x[0, 0])),
    "hypot": lambda x: torch.hypot(x, x.flip(1)),
    "logsigmoid far below 0": lambda x: F.logsigmoid(200 * x),
    "cross entropy of large logits": lambda x: F.binary_cross_entropy_with_logits(
        200 * x, (x.flip(1) > 0).float(), pos_weight=torch.tensor(3.0), reduction="none"
    ),
}


class Net(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.function(x)


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_it_is_pytorchs(name: str) -> None:
    network = Net({**EXACT, **ROUNDED}[name])
    compiled = bnncc.compile(network, input_shapes=["1x5x7x6"])
    x = torch.randn(1, 5, 7, 6, generator=torch.Generator().manual_seed(3))
    result = network(x)
    expected = result if isinstance(result, tuple) else (result,)
    for found, wanted in zip(file_outputs(compiled, [x]).values(), expected, strict=True):
        if name in EXACT:
            np.testing.assert_array_equal(found, wanted.numpy())
        else:
            np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: x.mode(1)[0], "aten.mode"),
        (lambda x: torch.nextafter(x, x + 1), "prims.nextafter"),
        (lambda x: torch.linalg.inv(x[..., :6, :6]), "aten.linalg_inv_ex"),
    ],
    ids=["mode", "nextafter", "inv"],
)
def test_an_operator_without_a_form_is_named_with_its_line(function: Function, operator: str) -> None:
    with pytest.raises(bnncc.ExportError) as caught:
        bnncc.compile(Net(function), input_shapes=["1x5x7x6"])
    lines = str(caught.value).splitlines()
    assert lines[1].endswith(f"PyTorch's exporter has no ONNX form for {operator}")
    assert "test_without_onnx_form.py" in lines[2]
    assert "without Python values" not in lines[-1]


def test_a_choice_of_two_buckets_is_a_sign() -> None:
    weight = torch.where(torch.arange(64.0).reshape(8, 8, 1, 1) % 3 > 0, 1.0, -1.0)
    network = Net(lambda x: F.conv2d(2 * torch.bucketize(x, LEVELS[2:]).float() - 1, weight))
    assert [layer.reason for layer in bnncc.compile(network, input_shapes=["1x8x7x6"]).layers] == [None]


def test_bags_of_sizes_that_an_input_tells_are_refused() -> None:
    def forward(x: Tensor) -> Tensor:
        return F.embedding_bag(x[0].argmax(2).flatten(), torch.ones(6, 4), x[0, :, 0, 0].argsort())

    with pytest.raises(bnncc.BnnccError, match=r"test_without_onnx_form\.py:\d+"):
        bnncc.compile(Net(forward), input_shapes=["1x5x7x6"])


def test_an_operator_whose_form_fails_is_named_with_its_line() -> None:
    with pytest.raises(bnncc.ExportError, match=r"aten_histc(.|\n)*at test_without_onnx_form\.py:\d+ in forward"):
        bnncc.compile(Net(lambda x: x * torch.histc(x)[0]), input_shapes=["1x5x7x6"])


def test_no_line_of_the_exporters_is_the_users() -> None:
    with pytest.raises(bnncc.ExportError) as caught:
        bnncc.compile(Net(lambda x: x.histc(4)), input_shapes=["1x5x7x6"])
    assert " in aten_histc" not in str(caught.value)


def test_the_line_is_that_of_the_overload_without_a_form() -> None:
    def forward(x: Tensor) -> Tensor:
        rows = x.view(-1, 6)
        return (rows.view(torch.int32) + 1).view(torch.float32)

    with pytest.raises(bnncc.ExportError) as found:
        bnncc.compile(Net(forward), input_shapes=["1x5x7x6"])
    assert "rows.view(torch.int32)" in str(found.value)
    assert "x.view(-1, 6)" not in str(found.value).partition("TorchScript")[0]
