"""Float operators between LCE's: what is fused computes what LCE's interpreter computes operator by operator."""

from __future__ import annotations

import numpy as np

from bnncc.inference.runners import LceRunner
from bnncc.ir.evaluate import Array
from bnncc.runtime import LitertRunner, kernels
from tests.targets.runtime.graphs import RandomGraph

GRAPHS = 100


def same(found: list[Array], wanted: list[Array]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_random_graphs_compute_what_lce_s_interpreter_computes() -> None:
    for seed in range(GRAPHS):
        graph = RandomGraph(np.random.default_rng(seed))
        content = graph.file()
        x = np.random.default_rng(seed).normal(size=graph.x.shape).astype(np.float32)
        wanted = LceRunner(content).run([x])
        for kernel in kernels():
            assert same(LitertRunner(content, 1, kernel=kernel).run([x]), wanted), (seed, kernel)
        for threads in (2, 3):
            assert same(LitertRunner(content, threads).run([x]), wanted), (seed, threads)
