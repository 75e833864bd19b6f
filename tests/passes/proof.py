"""Compile a small module and prove the file in every runtime."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import nn

import bnncc
from bnncc.model import CompiledModel
from bnncc.options import Options
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify_in
from tests.needs import RUNTIMES


def proven(module: nn.Module, *shape: int, options: Options | None = None, positive: bool = False) -> CompiledModel:
    """The module compiled for an input of `shape`, after every runtime agreed with the network."""
    text = "x".join(map(str, shape))
    compiled = bnncc.compile(module.eval(), input_shapes=[text], options=options)
    generator = np.random.default_rng(5)
    images = [generator.standard_normal(shape, dtype=np.float32) for _ in range(2)]
    if positive:
        images = [np.abs(image) for image in images]
    for runtime, found in zip(RUNTIMES, verify_in(RUNTIMES, compiled, [[image] for image in images]), strict=True):
        assert found.passed, (runtime, found.problems)
        assert all(layer.sums and not layer.wrong for layer in found.layers)
    return compiled


def compared(x: torch.Tensor) -> torch.Tensor:
    """±1, and +1 for 0."""
    return torch.where(x >= 0, 1.0, -1.0)


def equals_pytorch(compiled: CompiledModel, module: nn.Module, x: np.ndarray[Any, Any]) -> bool:
    """True where the file's output for `x` is PyTorch's to the bit, in every runtime."""
    with torch.no_grad():
        wanted = compiled.as_stored(module(torch.from_numpy(x)).numpy())
    results = [runtime.load(compiled.content).run([compiled.as_stored(x)])[0] for runtime in RUNTIMES]
    return all(np.array_equal(result, wanted) for result in results)


def eighths(*shape: int, seed: int = 1) -> np.ndarray[Any, Any]:
    """Multiples of an eighth between -2 and 2, float32: sums of these are exact, and rounding meets its ties."""
    return np.random.default_rng(seed).integers(-16, 17, shape).astype(np.float32) / 8


def operators_in_file(compiled: CompiledModel) -> Counter[str]:
    """How often each operator occurs in the file."""
    return Counter(operator.name for operator in TfliteFile(compiled.content).operators)
