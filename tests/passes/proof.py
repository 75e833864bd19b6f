"""Compile a small module and prove the file in both runtimes."""

from __future__ import annotations

from collections import Counter

import numpy as np
from torch import nn

import bnncc
from bnncc.inference.runners import Runtime
from bnncc.model import CompiledModel
from bnncc.options import Options
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify_in


def proven(module: nn.Module, *shape: int, options: Options | None = None, positive: bool = False) -> CompiledModel:
    """The module compiled for an input of `shape`, after both LCE's interpreter and LiteRT agreed with the network."""
    text = "x".join(map(str, shape))
    compiled = bnncc.compile(module.eval(), input_shapes=[text], options=options)
    generator = np.random.default_rng(5)
    images = [generator.standard_normal(shape, dtype=np.float32) for _ in range(2)]
    if positive:
        images = [np.abs(image) for image in images]
    for runtime, found in zip(Runtime, verify_in(list(Runtime), compiled, [[image] for image in images]), strict=True):
        assert found.passed, (runtime, found.problems)
        assert all(layer.sums and not layer.wrong for layer in found.layers)
    return compiled


def operators_in_file(compiled: CompiledModel) -> Counter[str]:
    """How often each operator occurs in the file."""
    return Counter(operator.name for operator in TfliteFile(compiled.content).operators)
