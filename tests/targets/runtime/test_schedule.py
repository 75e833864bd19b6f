"""The inner loops of the NEON kernels, as ziglang compiles them, against the throughput of the core they are for.

Needs the package ziglang and llvm-mca of LLVM 19, whose models of the cores these are.
"""

from __future__ import annotations

import shutil

import pytest

from benchmarks.arm import SCHEDULES, loop_figures
from tests.needs import debian, needs, needs_zig

LLVM_MCA = shutil.which("llvm-mca-19")
FULL_PANEL = 16
pytestmark = [needs(LLVM_MCA, debian("llvm-mca-19", "llvm-19")), needs_zig]


@pytest.mark.parametrize(("kernel", "core"), SCHEDULES.items())
def test_a_full_panel_takes_at_most_1_3_of_the_cycles_its_instructions_need(kernel: str, core: str) -> None:
    assert LLVM_MCA is not None
    (figures,) = [found for found in loop_figures(LLVM_MCA, kernel, core) if found.filters == FULL_PANEL]
    assert figures.cycles <= 1.3 * figures.bound


def test_narrower_panels_do_so_too_out_of_order() -> None:
    assert LLVM_MCA is not None
    for figures in loop_figures(LLVM_MCA, "neon_a72", SCHEDULES["neon_a72"]):
        assert figures.cycles <= 1.3 * figures.bound, figures
