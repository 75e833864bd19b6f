"""How long a file takes on a board, predicted operator by operator from what it has to do: a range, and nothing that
was measured on the board.

Of each operator, one core, one thread:

    least = max(least cycles / clock, least bytes / most bandwidth)       arithmetic and memory overlap entirely
    most  = most cycles / clock + most bytes / least bandwidth            nothing overlaps

Cycles are the units of work (targets/tflite/work.py) times what they cost on the core (targets/core_costs.py).  Bytes
are what passes between the last cache and DRAM, by an estimate of what the cache still holds (`_Cache`).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np

from bnncc.errors import InputError
from bnncc.inspect import DAMAGE
from bnncc.targets import TARGETS, Target
from bnncc.targets.costs import Range, Work
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.work import DELEGATED, POINTWISE, is_computed_once, work
from bnncc.targets.tflite.writer import Tensor

# Of the last cache, what maps and weights are sure to have: the rest is code, tiles, and lines that meet in a set.
SURE_SHARE = 1 / 3
# Of the delegate's tiles on ARM (kTileBytes of runtime/partition.cc).
TILE_BYTES = 128 * 1024

ASSUMPTIONS = (
    "predicted from counted instructions, not measured: one thread, a core at its full clock that does nothing else",
    "kernels: bnncc's delegate, and those of bnncc_run between its operators",
    "least: all units of the core busy, in LLVM's model of it, and memory at the fastest rate published of one core, "
    "both at the same time",
    "most: every block of instructions, and then memory at the slowest published rate, one after the other",
    "left out: what branches and pages that are not at hand cost, prefetching, other programs, heat",
)


@dataclass(frozen=True)
class OperatorLatency:
    """One operator's prediction.  instructions: in all, estimated.  dram_bytes: read and written.

    is_guessed: nothing is known of such an operator; it is taken for one that only moves its outputs.
    """

    index: int
    name: str
    seconds: Range
    cycles: Range
    instructions: float
    dram_bytes: Range
    is_guessed: bool = False


@dataclass(frozen=True)
class Latency:
    """A file's prediction on a target."""

    target: Target
    operators: tuple[OperatorLatency, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS

    @property
    def seconds(self) -> Range:
        """Of one inference."""
        return _sum(operator.seconds for operator in self.operators)

    @property
    def dram_bytes(self) -> Range:
        """Read and written in one inference."""
        return _sum(operator.dram_bytes for operator in self.operators)

    @property
    def instructions(self) -> float:
        """Of one inference, estimated."""
        return sum(operator.instructions for operator in self.operators)


def predict(file: TfliteFile, target: Target) -> Latency:
    """How long one inference takes.  Raises InputError where the target has no model, or the file is damaged."""
    if not target.is_modelled:
        known = ", ".join(name for name, other in TARGETS.items() if other.is_modelled)
        raise InputError(f"there is no model of {target.name}, its core and its kernels; there is one of {known}")
    try:
        return _predict(file, target)
    except DAMAGE as error:
        raise InputError(f"the TensorFlow Lite file is damaged: {type(error).__name__}: {error}") from error


def _predict(file: TfliteFile, target: Target) -> Latency:
    least, most = dram_bytes(file, target.core_type.caches[-1].size)
    found = []
    for operator, low, high in zip(file.operators, least, most, strict=True):
        units = work(file, operator)
        is_guessed = units is None
        if units is None:
            units = {Work.CALL: 1, Work.MOVED: sum(math.prod(tensor.shape) for tensor in operator.outputs)}
        costs = [(target.core_type.costs[kind], amount) for kind, amount in units.items()]
        cycles = _sum(cost.cycles * amount for cost, amount in costs)
        moved = Range(low, max(low, high))
        seconds = Range(
            max(cycles.least / target.hertz, moved.least / target.bandwidth.most),
            cycles.most / target.hertz + moved.most / target.bandwidth.least,
        )
        instructions = sum(cost.instructions * amount for cost, amount in costs)
        found.append(OperatorLatency(operator.index, operator.name, seconds, cycles, instructions, moved, is_guessed))
    return Latency(target, tuple(found))


def _sum(ranges: Iterable[Range]) -> Range:
    return sum(ranges, Range(0, 0))


class _Cache:
    """The last cache, as if it held whole tensors, the latest used: one is there until others of its size have been
    used since, and a map that was written goes to DRAM when it leaves.
    """

    def __init__(self, size: float, drops_dead: bool) -> None:
        """drops_dead: a map that nothing reads any more is overwritten before it leaves, and never goes to DRAM."""
        self.size, self.drops_dead = size, drops_dead
        self.moved = 0
        self._held: OrderedDict[int, int] = OrderedDict()
        self._total = 0
        self._dirty: set[int] = set()

    def use(self, tensor: int, size: int, writes: bool, times: int) -> None:
        """Read or write a whole tensor, so many times; from the second time on, what fits is there."""
        if size > self.size:
            self.moved += size * (times - 1)
        if tensor in self._held:
            self._held.move_to_end(tensor)
        else:
            self.moved += size  # a line that is written is fetched first
            self._held[tensor] = size
            self._total += size
        if writes:
            self._dirty.add(tensor)
        while self._total > self.size:
            left, size = self._held.popitem(last=False)
            self._total -= size
            if left in self._dirty:
                self._dirty.remove(left)
                self.moved += size

    def end(self, tensor: int) -> None:
        """Nothing reads the tensor any more, but what takes its place in memory may still be there."""
        if self.drops_dead:
            self._dirty.discard(tensor)
            self._total -= self._held.pop(tensor, 0)


def dram_bytes(file: TfliteFile, cache_size: int) -> tuple[list[int], list[int]]:
    """Bytes between the last cache and DRAM in each operator, of the second inference: the least and the most.

    The least: as if all operators that can run tile by tile did, in a cache that holds nothing else.  The most: only
    the delegate's do, in the sure part of the cache, and maps that are not needed any more are written to DRAM as well.
    """
    least = _moved(file, _groups(file, {operator.name for operator in file.operators}), _Cache(cache_size, True))
    most = _moved(file, _groups(file, DELEGATED), _Cache(SURE_SHARE * cache_size, False))
    return least, most


def _groups(file: TfliteFile, names: Set[str]) -> list[list[Operator]]:
    """Neighbours of these names that can run on one tile of pixels after the other, as the delegate forms them
    (runtime/partition.cc): their outputs have as many pixels, and they need of each other's their own pixel only.
    """
    groups: list[list[Operator]] = []
    for operator in file.operators:
        if groups and {operator.name, groups[-1][0].name} <= names and _joins(operator, groups[-1]):
            groups[-1].append(operator)
        else:
            groups.append([operator])
    return groups


def _joins(operator: Operator, group: Sequence[Operator]) -> bool:
    if _pixels(operator) != _pixels(group[0]):
        return False
    written = {tensor.index for other in group for tensor in other.outputs}
    reads = any(tensor is not None and tensor.index in written for tensor in operator.inputs)
    return operator.name in POINTWISE or _is_pointwise_convolution(operator) or not reads


def _pixels(operator: Operator) -> int:
    return math.prod(operator.outputs[0].shape[:-1]) if operator.outputs else 0


def _is_pointwise_convolution(operator: Operator) -> bool:
    """Whether it is a convolution of 1x1 that keeps the size of its map."""
    if operator.name not in ("CONV_2D", "LceBconv2d"):
        return False
    x, filters = operator.inputs[:2]
    return (
        x is not None
        and filters is not None
        and filters.shape[1:3] == (1, 1)
        and (math.prod(x.shape[:-1]) == _pixels(operator))
    )


def _moved(file: TfliteFile, groups: Sequence[Sequence[Operator]], cache: _Cache) -> list[int]:
    """Bytes that each operator moves in the second of two inferences."""
    last_group = {tensor.index: place for place, group in enumerate(groups) for tensor in _tensors(group)}
    kept = {tensor.index for tensor in (*file.inputs, *file.outputs)}
    moved = [0] * len(file.operators)
    for _ in range(2):
        for place, group in enumerate(groups):
            written = {tensor.index for operator in group for tensor in operator.outputs}
            inside = {index for index in written if last_group[index] == place and index not in kept}
            tiles = _tiles(group, inside)
            for operator in group:
                cache.moved = 0
                for tensor, writes in _uses(file, operator):
                    times = 1 if file.data(tensor) is None else tiles  # every tile meets all weights
                    if len(group) == 1 or tensor.index not in inside:
                        cache.use(tensor.index, _bytes(tensor), writes, times)
                moved[operator.index] = cache.moved
            for tensor in _tensors(group):
                if last_group[tensor.index] == place and tensor.index not in kept and file.data(tensor) is None:
                    cache.end(tensor.index)
    return moved


def _tiles(group: Sequence[Operator], inside: Set[int]) -> int:
    """Into how many tiles the delegate cuts a group's pixels: each holds what one operator reads and writes of what
    stays inside, and a binary convolution's patches (`plan_scratch`).
    """
    most = 0
    for operator in group:
        held = sum(_bytes(tensor) for tensor in _tensors([operator]) if tensor.index in inside)
        filters = operator.inputs[1] if operator.name == "LceBconv2d" else None
        patches = 0 if filters is None else _pixels(operator) * _bytes(filters) // filters.shape[0]
        most = max(most, held + patches)
    return max(1, -(-most // TILE_BYTES)) if group[0].name in DELEGATED else 1


def _tensors(group: Iterable[Operator]) -> Iterator[Tensor]:
    for operator in group:
        yield from (tensor for tensor in (*operator.inputs, *operator.outputs) if tensor is not None)


def _uses(file: TfliteFile, operator: Operator) -> Iterator[tuple[Tensor, bool]]:
    """What it reads and writes, and whether it writes it; nothing of one that ran when the file was loaded."""
    if is_computed_once(file, operator):
        return
    yield from ((tensor, False) for tensor in operator.inputs if tensor is not None)
    yield from ((tensor, True) for tensor in operator.outputs)


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
