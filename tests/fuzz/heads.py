"""Does the proof refuse right files?  `python -m tests.fuzz.heads [COUNT]` proves random heads.

A head is what cancellation spoils most: binary sums of up to 4,096 products, not scaled down, through a batch norm
whose output is much larger than what the activation lets through, into Linears.  A structure is traced once; its
parameters are drawn anew each time, in the traced graph itself, which then is the reference.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from bnncc.compiler import compile_traced
from bnncc.frontend import TracedModel
from bnncc.targets import find_target

ACTIVATIONS = {"clip": F.hardtanh, "tanh": torch.tanh, "relu": F.relu, "sigmoid": torch.sigmoid, "none": nn.Identity()}
SIZES = (64, 300, 1024, 4096)
# Of the batch norm: of sums of n products, n is the variance that they have.
VARIANCES = (1.0, 50.0, None)


class Head(nn.Module):
    """sign ─ binary Linear ─ batch norm ─ activation ─ Linear, and from there a second output by a deeper way."""

    def __init__(self, size: int, activation: str) -> None:
        super().__init__()
        self.hidden = min(size, 1024)
        self.binary = nn.Parameter(torch.randn(self.hidden, size))
        self.norm = nn.BatchNorm1d(self.hidden)
        self.fc = nn.Linear(self.hidden, 10)
        self.deep = nn.Linear(10, 7)
        self.activation = ACTIVATIONS[activation]
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        signs = torch.where(x >= 0, 1.0, -1.0)
        weight = torch.where(self.binary >= 0, 1.0, -1.0)
        y = self.fc(self.activation(self.norm(F.linear(signs, weight))))
        return y, self.deep(torch.softmax(y - y.mean(1, keepdim=True), 1) * y)


def heads() -> Iterator[tuple[str, TracedModel, float | None]]:
    """(what it is, the traced structure, the variance of its batch norm)."""
    for size, activation in itertools.product(SIZES, ACTIVATIONS):
        torch.manual_seed(0)
        traced = bnncc.compile(Head(size, activation), input_shapes=[(1, size)]).traced
        for variance in VARIANCES:
            yield f"{size} inputs, {activation}, variance {variance or size}", traced, variance


def redrawn(traced: TracedModel, variance: float | None, generator: np.random.Generator) -> TracedModel:
    """The same structure with other parameters; no module computes it, so the graph is the reference."""
    model = traced.model.clone()
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype is not ir.DataType.FLOAT or tensor.size < 2:
            continue
        shape = tuple(tensor.shape.numpy())
        array = generator.standard_normal(shape)
        if name.endswith("running_var"):
            array = (variance or float(model.graph.inputs[0].shape[1])) * generator.uniform(0.5, 2, shape)  # type: ignore[index, arg-type]
        elif name.startswith(("fc", "deep")):
            array = generator.uniform(-1, 1, shape) / max(shape[-1], 1) ** 0.5
        value.const_value = ir.tensor(array.astype(np.float32), name=name)
    return dataclasses.replace(traced, model=model, run_module=None)


def check(count: int, inputs: int = 2) -> tuple[int, list[str]]:
    """Prove `count` heads; (how many there were, what was refused)."""
    generator = np.random.default_rng(0)
    structures = list(heads())
    refused = []
    for number in range(count):
        title, traced, variance = structures[number % len(structures)]
        drawn = redrawn(traced, variance, generator)
        compiled = compile_traced(drawn, find_target("raspberry-pi-4"), bnncc.Options())
        shape = drawn.inputs[0].shape
        arrays = [[generator.standard_normal(shape, dtype=np.float32)] for _ in range(inputs)]
        found = bnncc.verify(compiled, arrays)
        if not found.passed:
            refused.append(f"{number}: {title}: {found.problems}")
            print(refused[-1], flush=True)
        if (number + 1) % 100 == 0:
            print(f"{number + 1} heads, {len(refused)} refused", flush=True)
    return count, refused


def main() -> None:
    """Prove COUNT heads and print what was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=2000)
    start = time.perf_counter()
    count, refused = check(parser.parse_args().count)
    print(f"{count} heads in {time.perf_counter() - start:.0f} s, {len(refused)} refused")


if __name__ == "__main__":
    main()
