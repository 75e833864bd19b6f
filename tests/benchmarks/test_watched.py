"""What the plugin of benchmarks/watched.py counts, against streams worked out by hand and a cache in Python."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.watched import EMULATOR, PLATFORM, Watched, Watcher
from bnncc.runtime.build import call, compiler
from bnncc.targets.description import CORTEX_A72, LINE_BYTES, Cache
from tests.needs import debian, needs, needs_zig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("watched"),
    needs(shutil.which(EMULATOR), debian(EMULATOR, "qemu-user")),
    needs_zig,
]
L1, L2 = Cache(1024, 2), Cache(8192, 4)
MATRIX = 48  # streams.cc
READ, READ_AGAIN, WRITTEN, READ_AT_LAST, PRODUCT = range(5)
# What the marks read and write besides: lines, and accesses to them.
FRAME, FRAME_ACCESSES = 16, 64


@pytest.fixture(scope="module")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> Watcher:
    return Watcher(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def streams(watcher: Watcher) -> Callable[[int, Sequence[Cache]], dict[int, Watched]]:
    program = watcher.work / "streams"
    source = Path(__file__).with_name("streams.cc")
    call([*compiler(PLATFORM), "-O2", "-DBNNCC_MARKS", str(source), "-o", str(program)])
    return lambda size, caches: watcher.run(CORTEX_A72.name, caches, [str(program), str(size)])


Streams = Callable[[int, Sequence[Cache]], dict[int, Watched]]


def test_what_fits_is_fetched_once_and_never_written_back(streams: Streams) -> None:
    found = streams(L2.size // 2, [L1, L2])
    lines = L2.size // 2 // LINE_BYTES
    assert lines <= found[READ].fills <= lines + FRAME
    assert found[READ_AGAIN].fills == 0
    # The first level has an eighth of it, and least recently used, nothing of what comes next.
    assert lines <= found[READ_AGAIN].hits[1] <= lines + FRAME
    # Of what the program wrote before, a line or two.
    assert sum(found[stream].write_backs for stream in (READ, READ_AGAIN, WRITTEN, READ_AT_LAST)) <= FRAME


def test_what_does_not_fit_is_fetched_each_time_and_written_back_once(streams: Streams) -> None:
    size = 4 * L2.size
    found = streams(size, [L1, L2])
    lines, held = size // LINE_BYTES, L2.size // LINE_BYTES
    for stream in (READ, READ_AGAIN, WRITTEN, READ_AT_LAST):
        assert lines <= found[stream].fills <= lines + FRAME, stream
    # A written line goes to memory when it leaves: the last ones while the next stream comes.
    written = found[WRITTEN].write_backs + found[READ_AT_LAST].write_backs
    assert lines <= written <= lines + FRAME
    assert held - FRAME <= found[READ_AT_LAST].write_backs <= held + L1.size // LINE_BYTES + FRAME
    assert found[READ_AGAIN].write_backs <= FRAME


def test_a_third_level_holds_what_the_second_cannot(streams: Streams) -> None:
    size = 4 * L2.size
    found = streams(size, [L1, L2, Cache(2 * size, 16)])
    lines = size // LINE_BYTES
    assert lines <= found[READ].fills <= lines + FRAME
    assert found[READ_AGAIN].fills == 0
    assert lines <= found[READ_AGAIN].hits[2] <= lines + FRAME


def test_accesses_and_instructions_of_a_product_of_matrices_are_those_of_its_loops(streams: Streams) -> None:
    found = streams(LINE_BYTES, [CORTEX_A72.caches[0]])[PRODUCT]
    accesses = 2 * MATRIX**3 + MATRIX**2
    assert accesses <= found.hits[0] + found.fills <= accesses + FRAME_ACCESSES
    # Two loads, a product and a sum (or one of both), at most a pointer or two and a branch.
    assert 3 * MATRIX**3 <= found.instructions <= 9 * MATRIX**3
    # Each line of the three matrices is fetched once: together they fit.
    lines = 3 * MATRIX**2 * 4 // LINE_BYTES
    assert lines <= found.fills <= lines + FRAME


def test_a_small_cache_misses_in_a_product_of_matrices_as_one_written_in_python_does(streams: Streams) -> None:
    found = streams(4 * L2.size, [L1, L2])[PRODUCT]  # nothing in the caches waits to be written
    fills, write_backs = traffic(product_of_matrices(), L1, L2)
    assert fills > 10 * MATRIX**2 // 16
    assert found.fills == pytest.approx(fills, rel=0.01)
    assert found.write_backs == pytest.approx(write_backs, abs=FRAME)


def product_of_matrices() -> Iterator[tuple[int, bool]]:
    """(line, whether it is written) of the program's accesses, with the matrices one behind the other."""
    size = MATRIX**2 * 4
    for i in range(MATRIX):
        for j in range(MATRIX):
            for k in range(MATRIX):
                yield (i * MATRIX + k) * 4 // LINE_BYTES, False
                yield (size + (k * MATRIX + j) * 4) // LINE_BYTES, False
            yield (2 * size + (i * MATRIX + j) * 4) // LINE_BYTES, True


def traffic(accesses: Iterator[tuple[int, bool]], near: Cache, far: Cache) -> tuple[int, int]:
    """Lines read from memory and written to it: two levels as the plugin says that they are, in dictionaries."""
    levels = [
        [OrderedDict[int, bool]() for _ in range(cache.size // cache.ways // LINE_BYTES)] for cache in (near, far)
    ]
    ways = [near.ways, far.ways]
    counts = {"fills": 0, "write_backs": 0}

    def put(level: int, line: int, dirty: bool) -> bool:
        lines = levels[level][line % len(levels[level])]
        hits = line in lines
        lines[line] = lines.pop(line, False) or dirty
        if len(lines) > ways[level]:
            left, was_dirty = lines.popitem(last=False)
            if was_dirty and level == 0:
                put(1, left, True)
            elif was_dirty:
                counts["write_backs"] += 1
        return hits

    for line, writes in accesses:
        if not put(0, line, writes) and not put(1, line, False):
            counts["fills"] += 1
    return counts["fills"], counts["write_backs"]
