"""Compile a random network and prove the file."""

from __future__ import annotations

import numpy as np
import torch

import bnncc
from bnncc.verification import verify_in
from tests.fuzz.networks import Network, RandomNetwork
from tests.fuzz.programs import Program, ProgramNetwork, image
from tests.needs import RUNTIMES


def check(spec: Network | Program) -> bnncc.CompiledModel:
    """Compile the network and verify the file on random inputs; an AssertionError says what is wrong."""
    return check_program(spec) if isinstance(spec, Program) else check_network(spec)


def check_network(spec: Network, count: int = 1) -> bnncc.CompiledModel:
    """Verified in LCE's interpreter on `count` inputs."""
    compiled = bnncc.compile(RandomNetwork(spec), input_shapes=[(1, 3, *spec.size)])
    generator = np.random.default_rng(spec.seed)
    data = [[generator.standard_normal((1, 3, *spec.size), dtype=np.float32)] for _ in range(count)]
    found = bnncc.verify(compiled, data)
    assert found.passed, f"{spec}\n{found.problems}"
    return compiled


def check_program(spec: Program) -> bnncc.CompiledModel:
    """Verified in both runtimes; an exact program's outputs are PyTorch's to the bit as well."""
    network = ProgramNetwork(spec)
    generator = torch.Generator().manual_seed(spec.seed)
    inputs = [image(spec, generator) for _ in range(spec.inputs)]
    arrays = [x.numpy() for x in inputs]
    shapes = [spec.shape] * spec.inputs
    compiled = bnncc.compile(network, input_shapes=shapes, check_inputs=[arrays] if spec.exact else [])
    for found in verify_in(RUNTIMES, compiled, [arrays]):
        assert found.passed, f"{spec}\n{found.runtime.title}: {found.problems}"
    if spec.exact:
        with torch.no_grad():
            outputs = network(*inputs)
        expected = outputs if isinstance(outputs, tuple) else (outputs,)
        for runtime in RUNTIMES:
            results = runtime.load(compiled.content).run([compiled.as_stored(array) for array in arrays])
            for result, value in zip(results, expected, strict=True):
                wanted = compiled.as_stored(value.numpy())
                different = np.flatnonzero(result != wanted)
                assert not different.size, (
                    f"{spec}\n{runtime.title}: {different.size} of {wanted.size} elements of an exact network differ, "
                    f"the first is {result.flat[different[0]]} and should be {wanted.flat[different[0]]}"
                )
    return compiled
