"""Linears over more axes than two, as transformers have them: the file holds their rows as maps of one pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.inference.runners import Runtime
from bnncc.verification import verify, verify_in
from bnncc.verification.reference_side import Reference
from tests.passes.helpers import normal


class BinaryLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.sign(x), torch.sign(self.weight), self.bias)


@pytest.mark.parametrize("shape", [(2, 7, 20), (2, 5, 7, 20), (2, 3, 2, 3, 20)])
def test_the_signs_of_every_row_are_compared(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(20, 33), BinaryLinear(33, 40), BinaryLinear(40, 30)).eval()
    compiled = bnncc.compile(network, input_shapes=["x".join(map(str, shape))])
    rows = int(np.prod(shape[:-1]))
    for found in verify_in(list(Runtime), compiled, [[normal(*shape)]]):
        assert found.passed, found.problems
        assert [(check.module, check.signs) for check in found.signs] == [("1", rows * 33), ("2", rows * 40)]
        assert [check.sums for check in found.layers] == [rows * 40, rows * 30]
    # What the signs read is compared as well.
    assert all(point.correspondence.keeps_operand for point in Reference(compiled).points)


@pytest.mark.parametrize("shape", [(2, 20), (2, 11, 20), (2, 3, 11, 20)])
def test_zeros_at_the_signs_of_rows_are_the_only_problem(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(20, 40), BinaryLinear(40, 30, bias=False), BinaryLinear(30, 20)).eval()
    x = np.concatenate([normal(*shape)] * 5)
    compiled = bnncc.compile(network, input_shapes=["x".join(map(str, x.shape))])
    zeros = int(torch.count_nonzero(network[:2](torch.from_numpy(x)) == 0))
    found = verify(compiled, [[x]])
    assert zeros > 0
    assert sum(check.zeros for check in found.signs) == zeros
    assert found.zero_problems == len(found.problems)
