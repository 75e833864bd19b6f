"""What can be said of the delegate's speed on ARM without an ARM processor; repeatable, to 0.1 % and better.

First the inner loop, which takes one word of four pixels and of the filters of a panel: the cycles of llvm-mca's models
of the Cortex-A53 and the Cortex-A72, from the code that ziglang compiles of the kernel for that core.  The columns of
kinds say what instructions of one kind would take if nothing else held them up, by the model's throughput; the bound,
what all of them would take together, as they share units: on the A72 a load to all lanes needs vector units too.
"Entry" is how long the loop takes with its first operation alone: loads, their latency, and the branch.  The A72, out
of order, hides that behind the operations of the iteration before; in the model of the A53, which issues and retires in
order, it comes on top of the operations, and so the narrower a panel is, the farther it is from its bound.

Then the instructions of one inference, with each kernel, of the binary convolutions of ResNet-18 and ReActNet-A, and
of XNNPACK's float convolution of the same shape: executed by qemu, counted by a plugin (count_instructions.c) over one
and over two inferences, of which the difference is taken, so that all that is not inference cancels.  Beside them the
vector operations that the products need at least: an exclusive or, a popcount and an addition for every 128.

Milliseconds on a board follow from neither.

With --network, or --file, instead of these: whole networks in `bnncc_run`, by kind of operator and for each board.
Instructions and DRAM traffic are counted (watched.py), cycles are those of llvm-mca's models (cycles.py); beside the
range of milliseconds that follows stands the one that `bnncc inspect --latency` predicts from the operators alone.

With --costs: what `inspect` knows of the cores is fitted anew and written (calibration.py).  It takes a minute, and is
to be done after a change to the kernels.

    python benchmarks/arm.py [--sysroots DIR] [--float] [--no-cycles] [--no-instructions]
    python benchmarks/arm.py --network reactnet_a --network quicknet | --file net.tflite | --costs

Needs the package ziglang; llvm-mca (Debian's llvm-19; figures of other versions may differ); and for instructions
qemu 7.2 to 8.2 with plugins (Debian's qemu-user, not qemu-user-static), a C compiler, and for the convolutions the
folder that `python -m tests.targets.runtime.sysroot DIR` makes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import boards, calibration  # noqa: E402
from benchmarks.runtime import REACTNET_A, RESNET_18, convolution_files  # noqa: E402
from benchmarks.watched import Watcher, build_plugin, find_program  # noqa: E402
from bnncc.runtime.build import Platform, build, compiler, flags, source_folder  # noqa: E402
from tests.targets.runtime import sysroot  # noqa: E402

LLVM_MCA = ("llvm-mca-19", "llvm-mca")
ITERATIONS = 100
# File of a kernel and the core it is scheduled for.
SCHEDULES = {"neon_a53": "cortex-a53", "neon_a72": "cortex-a72"}
PIXELS, LANES = 4, 4  # of the loop's block, and of a vector
# Kinds of instructions that the products take.
KINDS = {"loads": r"ld", "logic": r"eor\s+v", "popcount": r"cnt\s+v", "addition": r"add\s+v"}
POPCOUNTS = [4, 8, 12, 16]  # of the loops over panels of one to four vectors

# Kernel, machine, processor.
KERNELS = [
    ("neon-a53", "aarch64", "cortex-a53"),
    ("neon-a72", "aarch64", "cortex-a72"),
    ("portable", "aarch64", "cortex-a72"),
    ("neon", "armv7", "cortex-a7"),
    ("portable", "armv7", "cortex-a7"),
]
EMULATORS = {"aarch64": "qemu-aarch64", "armv7": "qemu-arm"}
# The number of getppid, by which the program below shows where it is.
MARKS = {"aarch64": 173, "armv7": 64}
PROGRAM = """
import os, sys
try:
    from ai_edge_litert.interpreter import Interpreter, load_delegate
except ImportError:
    from tflite_runtime.interpreter import Interpreter, load_delegate
library, kernel, *files = sys.argv[1:]
for file in files:
    delegates = [load_delegate(library, {"kernel": kernel})] if library else []
    interpreter = Interpreter(model_path=file, num_threads=1, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    interpreter.invoke()
    for count in (1, 2):
        os.getppid()
        for _ in range(count):
            interpreter.invoke()
    os.getppid()
"""


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown, its first column to the left and all others to the right."""
    print(f"\n## {title}\n")
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def assembly(kernel: str) -> list[str]:
    """The lines of what the compiler makes of `kernel`'s file, labels and instructions."""
    source = source_folder() / "kernels" / f"{kernel}.cc"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "kernel.s"
        command = [*compiler(Platform("aarch64")), *flags(), "-g0", "-S", str(source), "-o", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        lines = [line.split("//")[0].strip() for line in output.read_text().splitlines()]
    return [line for line in lines if line and (line.endswith(":") or not line.startswith("."))]


def innermost_loops(lines: Sequence[str]) -> Iterator[list[str]]:
    """The instructions from each label to a branch back to it that have no label between them."""
    label, first = "", 0
    for index, line in enumerate(lines):
        if line.endswith(":"):
            label, first = line[:-1], index + 1
        elif label and re.fullmatch(rf"(b|cb|tb)\S*\s+(.*[\s,])?{re.escape(label)}", line):
            yield list(lines[first : index + 1])


@dataclass(frozen=True)
class Analysis:
    """llvm-mca's figures of a loop: cycles an iteration, and the least that the units allow."""

    cycles: float
    bound: float


def analyze(llvm_mca: str, core: str, loop: Sequence[str]) -> Analysis:
    """Have llvm-mca simulate `loop`; the cycles are those of later iterations, when the first ones have gone."""
    cycles, bound = [], 0.0
    for iterations in (ITERATIONS, 2 * ITERATIONS):
        command = [llvm_mca, "-mtriple=aarch64-linux-gnu", f"-mcpu={core}", f"-iterations={iterations}"]
        done = subprocess.run(command, input="\n".join(loop), capture_output=True, text=True, check=False)
        found = {
            name: re.search(rf"^{name}:\s+([\d.]+)$", done.stdout, re.M)
            for name in ("Total Cycles", "Block RThroughput")
        }
        if done.returncode != 0 or None in found.values():
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr or done.stdout}")
        total, throughput = (float(match[1]) for match in found.values() if match)
        cycles.append(total)
        bound = throughput
    return Analysis((cycles[1] - cycles[0]) / ITERATIONS, bound)


@dataclass(frozen=True)
class LoopFigures:
    """Cycles of an inner loop whose panel has so many filters, and those that its instructions need."""

    core: str
    filters: int
    instructions: int
    loads: float
    logic: float
    popcount: float
    addition: float
    bound: float  # of these together: no order of them takes less
    entry: float
    cycles: float

    def row(self) -> list[str]:
        """Its row of the table."""
        values = (self.loads, self.logic, self.popcount, self.addition, self.bound, self.entry, self.cycles)
        return [
            f"{self.core}, {PIXELS} pixels × {self.filters} filters",
            str(self.instructions),
            *(f"{value:g}" for value in values),
            f"{self.cycles / self.bound:.2f}",
        ]


def loop_figures(llvm_mca: str, kernel: str, core: str) -> list[LoopFigures]:
    """Of the loop of each width of the panel, the widest first; SystemExit where the code has not those loops."""
    loops: dict[int, list[list[str]]] = {}
    for loop in innermost_loops(assembly(kernel)):
        operations = [line.split()[0] for line in loop]
        if "eor" in operations and "cnt" in operations:
            loops.setdefault(operations.count("cnt"), []).append(loop)
    if sorted(loops) != POPCOUNTS:
        raise SystemExit(f"{kernel}: its inner loops have {sorted(loops)} popcounts instead of {POPCOUNTS}")
    found = []
    for popcounts in reversed(POPCOUNTS):
        # One loop for each kind of output, mostly alike.
        distinct = {"\n".join(loop): loop for loop in loops[popcounts]}
        cycles, text = max((analyze(llvm_mca, core, loop).cycles, text) for text, loop in distinct.items())
        kinds = [[line for line in distinct[text] if re.match(pattern, line)] for pattern in KINDS.values()]
        if any(len(lines) != popcounts for lines in kinds[1:]):
            raise SystemExit(f"{kernel}: not a loop of {popcounts} counters:\n{text}")
        loads, logic, popcount, addition = (analyze(llvm_mca, core, lines).bound for lines in kinds)
        bound = analyze(llvm_mca, core, [line for lines in kinds for line in lines]).bound
        later = {line for lines in kinds[1:] for line in lines} - {kinds[1][0]}
        entry = [line for line in distinct[text] if line not in later]
        figures = (loads, logic, popcount, addition, bound, analyze(llvm_mca, core, entry).cycles, cycles)
        found.append(LoopFigures(core, popcounts // PIXELS * LANES, len(distinct[text]), *figures))
    return found


class Counter:
    """Counts instructions under emulation, in folders and with a plugin that it makes in `work`."""

    def __init__(self, sysroots: Path, work: Path) -> None:
        self.sysroots, self.work = sysroots, work
        for machine in EMULATORS:
            if not (sysroots / machine).is_dir() or not (sysroots / f"{machine}-packages").is_dir():
                raise SystemExit(f"no {sysroots / machine}: python -m tests.targets.runtime.sysroot {sysroots}")
        self.emulators = {machine: find_program([name], "qemu-user") for machine, name in EMULATORS.items()}
        self.plugin = build_plugin("count_instructions", work)
        self.libraries = {machine: work / f"{machine}.so" for machine in EMULATORS}
        for machine, library in self.libraries.items():
            build(library, Platform(machine))

    def count(self, machine: str, processor: str, kernel: str, files: Sequence[Path]) -> list[int]:
        """Instructions of one inference of each file; with no `kernel`, without the delegate."""
        library = str(self.libraries[machine]) if kernel else ""
        emulator = [self.emulators[machine], "-plugin", f"{self.plugin},call={MARKS[machine]}"]
        arguments = ["-c", PROGRAM, library, kernel, *map(str, files)]
        try:
            shown = sysroot.run(self.sysroots, machine, arguments, processor, emulator)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"{' '.join(emulator)} failed:\n{error.stderr}") from error
        counts = [int(found) for found in re.findall(r"^instructions (\d+)$", shown, re.M)]
        if len(counts) != 3 * len(files):
            raise SystemExit(f"{machine} {kernel}: {len(counts)} counts for {len(files)} files")
        return [(c - b) - (b - a) for a, b, c in zip(counts[::3], counts[1::3], counts[2::3], strict=True)]


def instruction_rows(counter: Counter, with_float: bool) -> list[list[str]]:
    """A row for each convolution, in thousands."""
    shapes = list(dict.fromkeys([*RESNET_18, *REACTNET_A]))
    needed: list[float] = []
    binary: list[Path] = []
    plain: list[Path] = []
    for index, (size, channels, filters, kernel, stride) in enumerate(shapes):
        contents = convolution_files(size, channels, filters, kernel, stride)
        for files, content, name in zip((binary, plain), contents, ("binary", "float"), strict=True):
            files.append(counter.work / f"{index}.{name}.tflite")
            files[-1].write_bytes(content)
        needed.append(3 * kernel * kernel * channels * filters * (-(-size // stride)) ** 2 / 128)
    counts = [counter.count(machine, processor, kernel, binary) for kernel, machine, processor in KERNELS]
    if with_float:
        counts.append(counter.count("aarch64", "cortex-a72", "", plain))
    return [
        [
            f"{kernel}x{kernel}/{stride} {channels}→{filters}, {size}x{size}", f"{least / 1e3:.0f}",
            *(f"{count / 1e3:.0f} ({count / least:.2f})" for count in found),
        ]
        for (size, channels, filters, kernel, stride), least, found in zip(
            shapes, needed, zip(*counts, strict=True), strict=True
        )
    ]  # fmt: skip


def print_networks(files: Mapping[str, bytes]) -> None:
    """A table by kind of operator for each file and board, and one of their sums."""
    sums = []
    with tempfile.TemporaryDirectory() as folder:
        watcher = Watcher(Path(folder))
        for name, content in files.items():
            for board in boards.BOARDS:
                inference = boards.Inference(watcher, content, board)
                print_table(f"{name}, {board.title}, one thread", boards.KIND_HEAD, inference.rows())
                sums.append(inference.sums(name))
    print_table("Whole networks, one thread", boards.SUM_HEAD, sums)


def write_costs() -> None:
    """Fit what the cores' work costs, and write it."""
    with tempfile.TemporaryDirectory() as folder:
        calibration.write(calibration.calibrate(Watcher(Path(folder))))
    print(f"wrote {calibration.TABLE}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sysroots", type=Path, default=ROOT / "build" / "sysroots", help="where the sysroots are")
    parser.add_argument("--float", action="store_true", help="also XNNPACK's float convolutions, which takes minutes")
    parser.add_argument("--no-cycles", action="store_true", help="instructions only")
    parser.add_argument("--no-instructions", action="store_true", help="cycles of the inner loop only")
    parser.add_argument("--network", action="append", default=[], choices=boards.NAMES, help="count a whole network's")
    parser.add_argument("--file", action="append", default=[], type=Path, help="count those of a .tflite file")
    parser.add_argument("--costs", action="store_true", help="fit what work costs, and write targets/core_costs.py")
    arguments = parser.parse_args()
    if arguments.costs:
        write_costs()
    if arguments.network or arguments.file:
        print_networks(boards.read(arguments.network, arguments.file))
    if arguments.costs or arguments.network or arguments.file:
        return
    if not arguments.no_cycles:
        llvm_mca = find_program(LLVM_MCA, "llvm-19")
        version = subprocess.run([llvm_mca, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"LLVM version \S+", version)
        print_table(
            f"The inner loop: cycles of llvm-mca, {found[0] if found else 'unknown version'}",
            ["loop", "instructions", *KINDS, "bound", "entry", "cycles", "cycles / bound"],
            [row.row() for kernel, core in SCHEDULES.items() for row in loop_figures(llvm_mca, kernel, core)],
        )
    if not arguments.no_instructions:
        with tempfile.TemporaryDirectory() as folder:
            counter = Counter(arguments.sysroots.absolute(), Path(folder))
            rows = instruction_rows(counter, arguments.float)
        names = [f"{kernel}, {machine}" for kernel, machine, _ in KERNELS]
        print_table(
            "Thousands of instructions of one inference, and how many for each vector operation needed",
            ["convolution", "needed", *names, *(["float, XNNPACK, aarch64"] if arguments.float else [])],
            rows,
        )


if __name__ == "__main__":
    main()
