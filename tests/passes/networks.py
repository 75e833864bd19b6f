"""Compile a small network and compare its file with PyTorch in LCE's interpreter."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import nn

import bnncc
from bnncc.ir.graph import shape_of
from bnncc.model import CompiledModel
from bnncc.options import Options
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import END
from tests.needs import RUNTIMES
from tests.networks.randomize import randomize
from tests.passes.helpers import normal

INPUTS = 4
# Rounding of logits, relative to their largest magnitude; a flipped sign moves them by a hundred times as much.
TOLERANCE = 2e-6


def compile_randomized(
    module: nn.Module, shape: tuple[int, ...], options: Options | None = None
) -> tuple[CompiledModel, Counter[str]]:
    """The network with honest random parameters, compiled; and how often the file uses each operator."""
    with torch.no_grad():
        module.eval()(torch.zeros(*shape))  # gives lazy layers their shapes
    compiled = bnncc.compile(randomize(module), input_shapes=[shape], options=options or Options())
    # Behind a last LceBconv2d stands an operator of one element that computes nothing (writer._end_safely).
    return compiled, Counter(o.name for o in TfliteFile(compiled.content).operators if o.outputs[0].name != END)


def assert_equals_torch(module: nn.Module, compiled: CompiledModel) -> None:
    """The logits are PyTorch's up to rounding, on every input but one: there, a sign near zero may flip."""
    (image,) = compiled.graph.graph.inputs
    shape, wrong = shape_of(image), set()
    assert shape is not None
    for seed in range(INPUTS):
        x = normal(*shape, seed=seed)
        with torch.no_grad():
            expected = module(torch.from_numpy(x)).numpy()
        for fastest in (False, True):
            (found,) = RUNTIMES[0].load(compiled.content, fastest=fastest).run([compiled.as_stored(x)])
            error = np.abs(found - compiled.as_stored(expected)).max()
            if error > TOLERANCE * np.abs(expected).max():
                wrong.add(seed)
    assert len(wrong) <= 1, f"inputs {wrong} differ"
