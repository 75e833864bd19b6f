"""The traced graph of a network that bnncc built holds the module's own weights; of a caller's module, its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from bnncc.frontend import input_specs, trace_module
from bnncc.frontend.shared_weights import share_weights
from bnncc.frontend.trace import trace

NETWORK = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
"""


def weight_of(model: ir.Model) -> np.ndarray:  # type: ignore[type-arg]
    tensor = model.graph.initializers["0.weight"].const_value
    assert tensor is not None
    return tensor.numpy()


def test_equal_weights_share_memory_and_others_stay() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model = trace_module(module, input_specs(module, ["1x3x8x8"], [])).model
    assert not np.shares_memory(weight_of(model), module[0].weight.detach().numpy())
    with torch.no_grad():
        module[0].bias += 1
    share_weights(model, module)
    assert np.shares_memory(weight_of(model), module[0].weight.detach().numpy())
    bias = model.graph.initializers["0.bias"].const_value
    assert bias is not None
    assert not np.shares_memory(bias.numpy(), module[0].bias.detach().numpy())
    np.testing.assert_array_equal(bias.numpy() + 1, module[0].bias.detach().numpy())


def test_a_network_of_the_command_line_is_held_once_and_runs_as_before(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    traced = trace(f"{tmp_path / 'net.py'}:make", input_shapes=["1x3x8x8"])
    assert traced.run_module is not None
    network = traced.run_module.__self__  # type: ignore[attr-defined]
    assert np.shares_memory(weight_of(traced.model), network.module[0].weight.detach().numpy())
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), dtype=np.float32)
    before = weight_of(traced.model).copy()
    traced.run_module([x])
    np.testing.assert_array_equal(weight_of(traced.model), before)
