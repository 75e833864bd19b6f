"""Code written for earlier Pythons, NumPys and PyTorchs finds the names that it uses, and nobody else does."""

import collections
import sys
from pathlib import Path

import numpy as np
import pytest

import bnncc
from bnncc.frontend.removed_names import removed_names

NETWORK = """
import collections
from fractions import gcd
import numpy as np
import torch
from torch._six import container_abcs
from torch import nn

def pair(x):
    if isinstance(x, collections.Iterable) and isinstance(x, container_abcs.Sequence):
        return x
    return (x, x)

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(gcd(6, 9), np.int(8.5), pair(3))

    def forward(self, x):
        return self.conv(x) * np.float(0.5)
"""


def test_a_network_of_those_years_compiles(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    model = bnncc.compile(f"{tmp_path}/net.py:Network", input_shapes=["1x3x9x9"])
    assert model.traced.run_module is not None
    assert model.traced.run_module([np.ones((1, 3, 9, 9), np.float32)])[0].shape == (1, 8, 7, 7)


def test_names_are_there_for_as_long_as_they_are_needed_and_nothing_is_replaced() -> None:
    kept, before = collections.OrderedDict, set(vars(np))
    with removed_names():
        assert isinstance([], vars(collections)["Sequence"])
        assert vars(np)["int"] is int
        assert "torch._six" in sys.modules
        assert kept is collections.OrderedDict
    assert set(vars(np)) == before
    assert "torch._six" not in sys.modules
    with pytest.raises(AttributeError):
        collections.Sequence  # type: ignore[attr-defined] # noqa: B018
