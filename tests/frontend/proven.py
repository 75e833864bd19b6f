"""Compile a network, prove the file, and run it beside PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import bnncc
from bnncc import CompiledModel
from bnncc.ir.evaluate import Array, random_inputs
from bnncc.verification import verify


def proven(network: str | nn.Module, shapes: Sequence[str], **arguments: Any) -> CompiledModel:
    """The compiled network, whose file the verification has found right on two inputs."""
    compiled = bnncc.compile(network, input_shapes=shapes, **arguments)
    assert verify(compiled, [random_inputs(compiled.traced.model, seed) for seed in range(2)]).problems == []
    return compiled


def file_outputs(compiled: CompiledModel, inputs: Sequence[Tensor | Array]) -> dict[str, Array]:
    """What the file computes in LCE's interpreter for tensors in PyTorch's order, by the names of the outputs; NCHW."""
    outputs = compiled.run([compiled.as_stored(np.asarray(array)) for array in inputs])
    names = [value.name or "" for value in compiled.graph.graph.outputs]
    return {
        name: array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
        for name, array in zip(names, outputs, strict=True)
    }


def assert_close(found: Array, expected: Tensor) -> None:
    """Equal but for the rounding of float32 sums, and of the same shape."""
    reference = expected.detach().numpy()
    assert found.shape == reference.shape
    np.testing.assert_allclose(
        found, reference, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(reference).max(initial=0)))
    )


def assert_single_output(network: nn.Module, shape: tuple[int, ...], **arguments: Any) -> CompiledModel:
    """The file is proven, and computes what the module computes on other inputs."""
    compiled = proven(network, ["x".join(map(str, shape))], **arguments)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    (found,) = file_outputs(compiled, [x]).values()
    with torch.no_grad():
        assert_close(found, network.eval()(x))
    return compiled
