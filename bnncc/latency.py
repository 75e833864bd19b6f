"""How long a file takes on a board, predicted operator by operator from what it has to do: a range, and nothing that
was measured on the board.

Of each operator, one core, one thread:

    least = max(least cycles / clock, least bytes / most bandwidth)       arithmetic and memory overlap entirely
    most  = most cycles / clock + most bytes / least bandwidth            nothing overlaps

Cycles are the units of work (targets/tflite/work.py) times what they cost on the core (targets/core_costs.py).  Bytes
are what passes between the last cache and DRAM, by an estimate of what the cache still holds (`_Cache`).
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from bnncc.errors import InputError
from bnncc.inspect import DAMAGE
from bnncc.targets import TARGETS, Target
from bnncc.targets.costs import Range, Work
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.work import DELEGATED, INTEGER_ALONE, MOVES, PADS, POINTWISE, POOLS, is_computed_once, work
from bnncc.targets.tflite.writer import Tensor

# Of the last cache, what maps and weights are sure to have: the rest is code, tiles, and lines that meet in a set.
SURE_SHARE = 1 / 3
# How the delegate cuts groups into tiles (runtime/partition.cc): units of a group that a thread has at least
# (kFewestUnits); bytes of a tile (kLeastTileBytes), and the share of the second-level cache where that is more
# (kTileShare); the shares that one operator's unit may take, and that the filters may take that stay from one tile to
# the next.
FEWEST_UNITS = 7
LEAST_TILE_BYTES = 128 * 1024
TILE_SHARE = 1 / 8
UNIT_SHARE = 1 / 4
FILTER_SHARE = 1 / 2
# Of a core whose second-level cache nobody knows (`second_level_cache` of runtime/kernels/dispatch.cc).
LEAST_SECOND_LEVEL = 256 * 1024

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
    file = _without_paddings(file)
    caches = target.core_type.caches
    least, most = dram_bytes(file, caches[-1].size, max(caches[1].size, LEAST_SECOND_LEVEL))
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

    def __init__(self, whole: int, share: float, drops_dead: bool) -> None:
        """share: of the whole, what whole tensors have.  drops_dead: a map that nothing reads any more is overwritten
        before it leaves, and never goes to DRAM.
        """
        self.whole, self.size, self.drops_dead = whole, share * whole, drops_dead
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


def dram_bytes(
    file: TfliteFile, cache_size: int, second_level: int = LEAST_SECOND_LEVEL
) -> tuple[list[int], list[int]]:
    """Bytes between the last cache and DRAM in each operator, of the second inference: the least and the most.

    cache_size, second_level: bytes of the last cache, and of that by which the delegate cuts its tiles.

    The least: as if all operators that can run tile by tile did, in a cache that holds nothing else.  The most: only
    the delegate's do, in the sure part of the cache, and maps that are not needed any more are written to DRAM as well.
    """
    delegated = _delegated(file)
    everything = {operator.index for operator in file.operators}
    together = _groups(file, everything, second_level)
    as_delegated = _groups(file, delegated, second_level)
    least = _moved(file, together, delegated, _Cache(cache_size, 1, True), second_level)
    most = _moved(file, as_delegated, delegated, _Cache(cache_size, SURE_SHARE, False), second_level)
    return least, most


def _delegated(file: TfliteFile) -> set[int]:
    """The operators that the delegate claims: LCE's, those of 8-bit integers, and those of its own that are connected
    with them by maps, by others of its own (runtime/claim.cc).
    """
    maps = {
        operator.index: {tensor.index for tensor in _tensors([operator]) if file.data(tensor) is None}
        for operator in file.operators
        if operator.name in DELEGATED
        and not is_computed_once(file, operator)
        and (operator.name not in INTEGER_ALONE or operator.outputs[0].dtype == "int8")
    }
    found: set[int] = set()
    operators = [file.operators[index] for index in maps]
    reached = {one.index for one in operators if one.name.startswith("Lce") or _is_of_bytes(one)}
    while reached:
        found |= reached
        touched = set().union(*(maps[index] for index in reached))
        reached = {index for index in maps.keys() - found if maps[index] & touched}
    return found


def _is_of_bytes(operator: Operator) -> bool:
    return any(tensor.dtype in ("int8", "uint8") for tensor in _tensors([operator]))


def _without_paddings(file: TfliteFile) -> TfliteFile:
    """The file as the delegate runs it: what pads for convolutions and pools alone reads nothing any more, and these
    read the map itself (`take_paddings` of runtime/partition.cc).
    """
    delegated = _delegated(file)
    writers = {y.index: operator for operator in file.operators for y in operator.outputs}
    operators = list(file.operators)
    for operator in file.operators:
        first = operator.inputs[0] if operator.inputs else None
        padding = writers.get(first.index) if first is not None else None
        if (
            operator.name in ("CONV_2D", "MAX_POOL_2D")
            and padding is not None
            and padding.name in ("PAD", "PADV2")
            and {operator.index, padding.index} <= delegated
            and first is not None
            and _readers(file, first) == 1
        ):
            operators[padding.index] = replace(padding, inputs=())
            operators[operator.index] = replace(operator, inputs=(padding.inputs[0], *operator.inputs[1:]))
    found = copy.copy(file)
    found.operators = tuple(operators)
    return found


class _Group:
    """Operators that run on one tile of pixels after the other, as the delegate forms them (runtime/partition.cc).

    Each has a unit, the pixels of its output that it computes at least at a time; the output has so many units.
    """

    def __init__(self, first: Operator, second_level: int) -> None:
        self.operators = [first]
        self.on_demand: set[int] = set()  # maps that never are as a whole
        self._most_bytes = UNIT_SHARE * second_level  # of an operator's unit
        self.units = _pixels(first)
        self._unit = {first.index: 1}
        self._writers = {tensor.index: first for tensor in first.outputs}

    def add(self, file: TfliteFile, operator: Operator) -> bool:
        """Whether it can run in the group, of whose results it then needs those of its own tile only."""
        if self._draws_lines(file, operator):
            return True
        sources = [(x, self._writers[x.index]) for x in operator.inputs if x is not None and x.index in self._writers]
        pixels = _pixels(operator)
        if not sources:
            last = self.operators[-1]
            if pixels != _pixels(last):
                return False
            unit = self._unit[last.index]
        else:
            read, written = _locality(file, operator)
            if not written or any(math.prod(x.shape[:-1]) * written != pixels * read for x, _ in sources):
                return False
            _, source = sources[-1]
            if not self._enlarge_units(read // math.gcd(self._unit[source.index], read)):
                return False
            unit = self._unit[source.index] // read * written
        self.operators.append(operator)
        self._unit[operator.index] = unit
        self._writers.update((tensor.index, operator) for tensor in operator.outputs)
        return True

    def _draws_lines(self, file: TfliteFile, operator: Operator) -> bool:
        """Whether it is a pool whose windows overlap and the group a convolution that makes their lines as it goes
        (`draws_on_last_group`); it is in the group then.
        """
        (source, *others), (x, *_) = self.operators, operator.inputs
        width = operator.outputs[0].shape[-2] if len(operator.outputs[0].shape) == 4 else 0
        if (
            others
            or source.name != "CONV_2D"
            or _is_pointwise_convolution(source)
            or operator.name not in POOLS
            or _locality(file, operator)[1]
            or x is not source.outputs[0]
            or _readers(file, x) != 1
            or _pixels(operator) // width < FEWEST_UNITS
        ):
            return False
        self.operators.append(operator)
        self.on_demand.add(source.outputs[0].index)
        self.units = _pixels(operator) // width
        self._unit = {source.index: width, operator.index: width}
        self._writers.update((tensor.index, operator) for tensor in operator.outputs)
        return True

    def _enlarge_units(self, factor: int) -> bool:
        """False where units would be too large for the cache, or too few."""
        if factor == 1:
            return True
        if self.units % factor or self.units // factor < FEWEST_UNITS:
            return False
        for operator in self.operators:
            pixels = self._unit[operator.index] * factor
            if any(_bytes(y) * pixels > self._most_bytes * _pixels(operator) for y in operator.outputs):
                return False
        self._unit = {index: unit * factor for index, unit in self._unit.items()}
        self.units //= factor
        return True


def _groups(file: TfliteFile, joined: Set[int], second_level: int) -> list[_Group]:
    """All operators in order; those `joined` are together with their neighbours where they can run tile by tile."""
    groups: list[_Group] = []
    for operator in _in_order(file, joined):
        together = groups and {operator.index, groups[-1].operators[0].index} <= joined
        if not (together and groups[-1].add(file, operator)):
            groups.append(_Group(operator, second_level))
    return groups


def _in_order(file: TfliteFile, joined: Set[int]) -> list[Operator]:
    """The operators as they run: of those `joined`, what makes a map smaller, line by line, goes in front of the first
    one that begins another group (`advance_poolings`).
    """
    order: list[Operator] = []
    for operator in (operator for operator in file.operators if operator.inputs):
        place = len(order)
        read, written = _locality(file, operator) if operator.index in joined else (1, 1)
        if written and read > written:
            inputs = {x.index for x in operator.inputs if x is not None}
            writers = [i for i, other in enumerate(order) if inputs & {y.index for y in other.outputs}]
            place = max(writers, default=-1) + 1
            while place < len(order) and order[place].index in joined and _locality(file, order[place])[1]:
                place += 1
        order.insert(place, operator)
    return order


def _readers(file: TfliteFile, tensor: Tensor) -> int:
    """How many inputs of operators, and outputs of the file, a tensor is."""
    inputs = [x.index for operator in file.operators for x in operator.inputs if x is not None]
    return [*inputs, *(y.index for y in file.outputs)].count(tensor.index)


def _locality(file: TfliteFile, operator: Operator) -> tuple[int, int]:
    """Of each input that is no constant, pixels which are all that so many pixels of the output need; (0, 0) where
    that is the whole input.
    """
    if operator.name in POINTWISE or _is_pointwise_convolution(operator):
        return 1, 1
    *others, last = file.activations(operator)
    x, y = last.shape, operator.outputs[0].shape
    if others or len(x) < 2 or len(y) < 2:
        return 0, 0
    if operator.name in POOLS:
        return _locality_of_pool(file.options(operator), x, y)
    if operator.name in ("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"):
        return x[1] // math.gcd(x[1], y[1]) * x[2], y[1] // math.gcd(x[1], y[1]) * y[2]
    if operator.name == "RESHAPE":
        common = math.gcd(x[-1], y[-1])
        return (y[-1] // common, x[-1] // common) if common in (x[-1], y[-1]) else (0, 0)
    if operator.name not in MOVES | PADS:
        return 0, 0
    kept = _kept_axes(file, operator, x, y)
    return (math.prod(x[kept:-1]), math.prod(y[kept:-1])) if math.prod(x[:kept]) > 1 else (0, 0)


def _locality_of_pool(options: object, x: Sequence[int], y: Sequence[int]) -> tuple[int, int]:
    """Lines of windows that do not overlap."""
    height, stride = getattr(options, "filterHeight", 1), getattr(options, "strideH", 1)
    is_local = height <= stride and y[1] * stride == x[1]
    return (stride * x[2], y[2]) if is_local else (0, 0)


def _kept_axes(file: TfliteFile, operator: Operator, x: Sequence[int], y: Sequence[int]) -> int:
    """How many axes, the outermost ones and never the last, an operator that moves elements leaves as they are."""
    order = np.arange(len(x))
    if operator.name in ("REVERSE_V2", "TRANSPOSE"):
        second = operator.inputs[1]
        axes = None if second is None else file.data(second)
        if axes is None:
            return 0
        if operator.name == "TRANSPOSE":
            order = np.ravel(axes)
        else:
            order[np.ravel(axes)] = -1
    count = 0
    while count < min(len(x), len(y)) - 1 and x[count] == y[count] and order[count] == count:
        count += 1
    return count


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


def _moved(
    file: TfliteFile, groups: Sequence[_Group], delegated: Set[int], cache: _Cache, second_level: int
) -> list[int]:
    """Bytes that each operator moves in the second of two inferences."""
    last_group = {tensor.index: place for place, group in enumerate(groups) for tensor in _tensors(group.operators)}
    kept = {tensor.index for tensor in (*file.inputs, *file.outputs)}
    moved = [0] * len(file.operators)
    for _ in range(2):
        for place, group in enumerate(groups):
            operators = group.operators
            written = {tensor.index for operator in operators for tensor in operator.outputs}
            inside = {index for index in written if last_group[index] == place and index not in kept}
            tiles, tile_bytes = 1, 0
            in_tiles = inside - group.on_demand
            if operators[0].index in delegated:
                tiles, tile_bytes = _tiles(file, group, in_tiles, second_level)
            leaving = max(0.0, 1 - cache.whole / tile_bytes) if tile_bytes else 0.0  # of a tile, as it is too large
            for operator in operators:
                cache.moved = 0
                for tensor, writes in _uses(file, operator):
                    times = 1 if file.data(tensor) is None else tiles  # every tile meets all weights
                    if len(operators) == 1 or tensor.index not in inside:
                        cache.use(tensor.index, _bytes(tensor), writes, times)
                    elif tensor.index in in_tiles:
                        cache.moved += int(leaving * _bytes(tensor))
                moved[operator.index] = cache.moved
            for tensor in _tensors(operators):
                if last_group[tensor.index] == place and tensor.index not in kept and file.data(tensor) is None:
                    cache.end(tensor.index)
    return moved


def _tiles(file: TfliteFile, group: _Group, inside: Set[int], second_level: int) -> tuple[int, int]:
    """Into how many tiles the delegate cuts a group's pixels, and the bytes of one: each holds what one operator reads
    and writes of what stays inside, and a binary convolution's patches (`plan_scratch`).
    """
    most = 0
    for operator in group.operators:
        held = sum(_bytes(tensor) for tensor in _tensors([operator]) if tensor.index in inside)
        filters = operator.inputs[1] if operator.name == "LceBconv2d" else None
        patches = 0 if filters is None else _pixels(operator) * _bytes(filters) // filters.shape[0]
        most = max(most, held + patches)
    sizes = {tensor.index: _bytes(tensor) for tensor in _tensors(group.operators) if file.data(tensor) is not None}
    constants = sum(sizes.values())
    stays = constants <= FILTER_SHARE * second_level
    tile_bytes = max(LEAST_TILE_BYTES, int(TILE_SHARE * second_level)) if stays else constants
    tiles = max(1, min(-(-most // tile_bytes), group.units))
    return tiles, most // tiles


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
