"""What a unit of each kind of work costs on a core (targets/core_costs.py), from a network made for the purpose.

The network has every kind of operator at several shapes.  Its inference is watched under emulation (watched.py), its
blocks of instructions get their cycles from llvm-mca's model of the core (cycles.py), and instructions, least and most
cycles are each fitted by least squares that are not negative.  An operator's error counts as that of a sum of events
does, against the root of its figure: so the fit keeps the sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.nn import functional as F

import bnncc
from benchmarks.cycles import cycles, total
from benchmarks.watched import Watched, Watcher
from bnncc.targets.costs import Cost, Range, Work
from bnncc.targets.description import CORTEX_A53, CORTEX_A72, CORTEX_A76, Core
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.work import CHAINED, work
from tests.networks.binarize import ScaledBinaryConv2d
from tests.networks.randomize import randomize

CORES = (CORTEX_A53, CORTEX_A72, CORTEX_A76)
TABLE = Path(__file__).resolve().parent.parent / "targets" / "core_costs.py"
SIZE = 128


class Stage(nn.Module):
    """Every kind of work on maps of `channels` channels."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.three = ScaledBinaryConv2d(inputs, channels, 3, stride, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.one = ScaledBinaryConv2d(channels, channels, 1)
        self.shortcut = nn.Conv2d(inputs, channels, 1)
        self.bottleneck = nn.Conv2d(channels, channels // 4, 3, padding=1)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.squeeze = nn.Linear(channels, channels // 4)
        self.excite = nn.Linear(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(F.avg_pool2d(x, self.stride) if self.stride > 1 else x)
        y = self.prelu(self.norm(self.three(torch.sign(x))) + shortcut)
        y = torch.relu(self.one(torch.sign(y - 0.1)) + y)
        y = self.depthwise(y) * torch.sigmoid(y)
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3))))))
        y = y * gate[:, :, None, None]
        y = F.max_pool2d(y, 3, 1, 1) - y
        narrow = torch.exp(-self.bottleneck(y).abs())
        y = y + torch.cat([narrow, narrow, narrow.transpose(2, 3), narrow], 1)
        return y + F.pad(y[:, :, 1:, 1:], (1, 0, 1, 0))


class Network(nn.Module):
    """Stages of 32 to 512 channels; stems of 7x7 and 3x3; the last layers of a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, 2, 3)
        self.second = nn.Conv2d(3, 32, 3, 2, 1)
        widths = (32, 64, 128, 256, 512)
        strides = (1, 2, 2, 2, 2)
        pairs = zip((32, *widths[:-1]), widths, strides, strict=True)
        self.stages = nn.Sequential(*(Stage(*pair) for pair in pairs))
        self.classify = nn.Linear(widths[-1], 1000)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stages(torch.relu(self.stem(x)) + self.second(x))
        return torch.softmax(self.classify(y.mean((2, 3))), 1)


def content() -> bytes:
    """The network's file."""
    torch.manual_seed(0)
    model = bnncc.compile(randomize(Network()), input_shapes=[(1, 3, SIZE, SIZE)])
    return bytes(model.content)


def figures(watched: Mapping[int, Watched], core: str) -> dict[int, Cost]:
    """Instructions and cycles of each operator."""
    of_block = cycles(core, {code for operator in watched.values() for code in operator.blocks})
    return {index: Cost(operator.instructions, total(operator.blocks, of_block)) for index, operator in watched.items()}


def chain_heads(file: TfliteFile, found: Container[int]) -> dict[int, int]:
    """Of each operator, the one whose loop it is in: itself, where something was `found` of it."""
    writers: dict[int, int] = {}
    heads: dict[int, int] = {}
    for operator in file.operators:
        read = [writers.get(tensor.index, -1) for tensor in operator.inputs if tensor is not None]
        before = max((index for index in read if index >= 0 and file.operators[index].name in CHAINED), default=-1)
        is_chained = operator.name in CHAINED and before >= 0 and operator.index not in found
        heads[operator.index] = heads[before] if is_chained else operator.index
        writers.update((tensor.index, operator.index) for tensor in operator.outputs)
    return heads


def fit(file: TfliteFile, found: Mapping[int, Cost]) -> dict[Work, Cost]:
    """Costs of each kind of work.  SystemExit where the network lacks one."""
    units: dict[int, Counter[Work]] = {operator.index: Counter() for operator in file.operators}
    heads = chain_heads(file, found)
    for operator in file.operators:
        units[heads[operator.index]].update(work(file, operator) or {})
    rows = [index for index in units if units[index] and index in found]
    kinds = list(Work)
    amounts = np.array([[units[index].get(kind, 0) for kind in kinds] for index in rows], float)
    lacking = [kind.name for kind, column in zip(kinds, amounts.T, strict=True) if not column.any()]
    if lacking:
        raise SystemExit(f"the network has nothing of {', '.join(lacking)}")
    fitted = [
        _solve(amounts, np.array([figure(found[index]) for index in rows], float))
        for figure in (lambda cost: cost.instructions, lambda cost: cost.cycles.least, lambda cost: cost.cycles.most)
    ]
    return {
        kind: Cost(instructions, Range(least, max(least, most)))
        for kind, instructions, least, most in zip(kinds, *fitted, strict=True)
    }


def _solve(amounts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """x ≥ 0 with the least sum of (amounts · x - wanted)² / wanted; columns are scaled to be alike."""
    weights = 1 / np.sqrt(wanted)
    rows = amounts * weights[:, None]
    scales = np.linalg.norm(rows, axis=0)
    solution, _ = nnls(rows / scales, wanted * weights)
    return np.asarray(solution / scales)


def calibrate(watcher: Watcher, cores: Sequence[Core] = CORES) -> dict[str, dict[Work, Cost]]:
    """Costs on each core."""
    made = content()
    file = TfliteFile(made)
    return {core.name: fit(file, figures(watcher.watch(made, core.name, core.caches), core.name)) for core in cores}


def write(costs: Mapping[str, Mapping[Work, Cost]]) -> None:
    """Write the table of the repository."""
    lines = [
        '"""What units of work cost on the cores: instructions, the least and the most cycles.',
        "",
        "Written by `make costs`; benchmarks/calibration.py says how.",
        '"""',
        "",
        "from bnncc.targets.costs import Cost, Range, Work",
        "",
        "COSTS: dict[str, dict[Work, Cost]] = {",
    ]
    for core, table in costs.items():
        lines.append(f'    "{core}": {{')
        for kind, cost in table.items():
            numbers = [f"{value:.4g}" for value in (cost.instructions, cost.cycles.least, cost.cycles.most)]
            lines.append(f"        Work.{kind.name}: Cost({numbers[0]}, Range({numbers[1]}, {numbers[2]})),")
        lines.append("    },")
    TABLE.write_text("\n".join([*lines, "}"]) + "\n")
