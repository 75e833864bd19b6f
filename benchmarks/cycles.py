"""Cycles of blocks of ARM instructions in llvm-mca's models of the cores, which are those that LLVM schedules by.

A block takes between two figures: `least`, what its instructions keep the busiest unit of the core occupied, or its
width, as if the core always found other work to do; and `most`, from its first instruction to its last one's end, as if
each block began when the one before has ended, all data being in the first cache.  A core in order is near the second,
one out of order near the first.  Neither knows of branches that are predicted wrongly.

Needs llvm-mc and llvm-mca 19 (Debian's llvm-19); figures of other versions may differ.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping

from benchmarks.watched import INSTRUCTION_DIGITS
from bnncc.targets.description import Range

LLVM_MC, LLVM_MCA = "llvm-mc-19", "llvm-mca-19"
TRIPLE = "aarch64-linux-gnu"
# LLVM's name of the model of each core.  The Cortex-A76 has none; the Neoverse N1 is the same design for servers (Arm
# Neoverse N1 Software Optimization Guide, 1.1), and its model is LLVM's own.
MODELS = {"cortex-a53": "cortex-a53", "cortex-a72": "cortex-a72", "cortex-a76": "neoverse-n1"}
NOTHING = "1f2003d5"  # a no-operation: what an empty block takes


def disassemble(codes: Iterable[str]) -> dict[str, list[str]]:
    """The instructions of each block of hexadecimals."""
    blocks = {code: len(code) // INSTRUCTION_DIGITS for code in codes}
    digits = "".join(blocks)
    text = "\n".join(
        " ".join(f"0x{digits[at + byte : at + byte + 2]}" for byte in range(0, INSTRUCTION_DIGITS, 2))
        for at in range(0, len(digits), INSTRUCTION_DIGITS)
    )
    shown = _call([LLVM_MC, "--disassemble", f"--triple={TRIPLE}", "-mattr=+all"], text)
    lines = iter(line.strip() for line in shown.splitlines() if line.strip() and not line.strip().startswith("."))
    found = {code: [next(lines) for _ in range(count)] for code, count in blocks.items()}
    if next(lines, None) is not None:
        raise SystemExit(f"{LLVM_MC} shows another number of instructions than there are")
    return found


def cycles(core: str, codes: Iterable[str]) -> dict[str, Range]:
    """Least and most cycles of each block."""
    blocks = disassemble([*codes, NOTHING])
    regions = "".join(
        f"# LLVM-MCA-BEGIN {name}\n" + "\n".join(lines) + f"\n# LLVM-MCA-END {name}\n"
        for name, lines in enumerate(blocks.values())
    )
    # What is called is a block of its own.
    options = [f"-mtriple={TRIPLE}", f"-mcpu={MODELS[core]}", "-iterations=1", "-call-latency=1", "--json"]
    views = [region["SummaryView"] for region in json.loads(_call([LLVM_MCA, *options], regions))["CodeRegions"]]
    summaries = dict(zip(blocks, views, strict=True))
    empty = summaries[NOTHING]["TotalCycles"]
    return {
        code: Range(view["BlockRThroughput"], max(view["BlockRThroughput"], view["TotalCycles"] - empty))
        for code, view in summaries.items()
    }


def total(counts: Mapping[str, int], of_block: Mapping[str, Range]) -> Range:
    """Cycles of all runs of all blocks."""
    pairs = [(count, of_block[code]) for code, count in counts.items()]
    return Range(sum(count * block.least for count, block in pairs), sum(count * block.most for count, block in pairs))


def _call(command: list[str], text: str) -> str:
    if shutil.which(command[0]) is None:
        raise SystemExit(f"needs {command[0]}, which is in Debian's package llvm-19")
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout
