"""Prove whole networks on this machine and on emulated ARM processors, and print a table in Markdown.

    python -m tests.targets.runtime.verify_emulated --sysroots DIR [--runtime NAME]... [--images N] [NETWORK[@SIZE]]...

DIR is what `python -m tests.targets.runtime.sysroot` made.  Without names, all networks of the tests and of
examples/papers, in their small forms and at their papers' sizes.  Ends with status 1 where rounding does not explain a
difference.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np

from bnncc.inference.runners import Runtime
from bnncc.ir.evaluate import Array
from bnncc.model import CompiledModel
from bnncc.verification import Verification, verify
from tests.targets.runtime import sysroot
from tests.targets.runtime.emulated_runtime import emulated
from tests.targets.runtime.named_networks import FULL_SIZES, SIZES, compiled, images
from tests.test_papers import SMALL

RUNTIMES = [*(runtime.value for runtime in Runtime), *sysroot.MACHINES]
# The errors are layer by layer, the reference's signs being fed; what the file does by itself stands behind them.
HEADER = (
    "network", "runtime", "sums equal", "signs flipped", "explained", "error of binary layers", "error at signs",
    "error of outputs", "flips free-running", "PyTorch's class", "LCE's class", "off LCE's logits", "seconds",
)  # fmt: skip


@contextlib.contextmanager
def started(name: str, sysroots: Path) -> Iterator[Runtime]:
    """The runtime of that name."""
    if name in sysroot.MACHINES:
        with emulated(sysroots, name) as runtime:
            yield cast(Runtime, runtime)
    else:
        yield Runtime(name)


def logits(runtime: Runtime, model: CompiledModel, inputs: list[Array]) -> Array:
    """The file's output on each input, free-running."""
    runner = runtime.load(model.content)
    return np.concatenate([runner.run([model.as_stored(array)])[0] for array in inputs])


def checks(found: Verification) -> tuple[str, ...]:
    """The cells from "sums equal" to "PyTorch's class"."""
    sums, signs = sum(layer.sums for layer in found.layers), sum(sign.signs for sign in found.signs)
    equal = sums - sum(layer.wrong for layer in found.layers)
    return (
        f"{equal:,} of {sums:,}",
        f"{sum(sign.flipped for sign in found.signs):,} of {signs:,}",
        f"{sum(sign.explained for sign in found.signs):,}",
        f"{max((layer.error for layer in found.layers), default=0.0):.1e}",
        f"{max((sign.error for sign in found.signs), default=0.0):.1e}",
        f"{found.output_error:.1e}",
        f"{sum(sign.free_running_flips for sign in found.signs):,}",
        "" if found.agreeing is None else f"{found.agreeing} of {found.inputs}",
    )


def against(lce: Array, found: Array) -> tuple[str, str]:
    """The cells "LCE's class" and "off LCE's logits"."""
    same = int(np.count_nonzero(found.argmax(axis=1) == lce.argmax(axis=1)))
    return f"{same} of {len(lce)}", f"{np.abs(found - lce).max() / np.abs(lce).max():.1e}"


def print_row(cells: tuple[str, ...]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def wanted(networks: list[str]) -> list[tuple[str, int]]:
    """Names and sizes; ValueError where there is no such network.  The small forms have one size."""
    found = []
    for network in networks:
        name, _, size = network.partition("@")
        if name not in SIZES or (size and (name in SMALL or not size.isdecimal())):
            raise ValueError(f"no network {network}; there are {', '.join(SIZES)}")
        found.append((name, int(size or SIZES[name])))
    return found


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sysroots", type=Path, required=True, metavar="DIR")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="may be given several times; default: all")
    parser.add_argument("--images", type=int, default=1, help="how many for each network (default: 1)")
    parser.add_argument("networks", nargs="*", default=[*SMALL, *FULL_SIZES], metavar="NETWORK[@SIZE]")
    arguments = parser.parse_args()
    try:
        networks = wanted(arguments.networks)
    except ValueError as error:
        parser.error(str(error))
    problems = []
    print_row(HEADER)
    print_row(("---",) * len(HEADER))
    for name, size in networks:
        model, inputs = compiled(name, size), images(name, size, arguments.images)
        lce = logits(Runtime.LCE, model, inputs)
        for runtime_name in arguments.runtime or RUNTIMES:
            start = time.perf_counter()
            with started(runtime_name, arguments.sysroots.absolute()) as runtime:
                found = verify(model, [[array] for array in inputs], runtime=runtime)
                seconds = time.perf_counter() - start
                compared = against(lce, logits(runtime, model, inputs))
            print_row((f"{name}, {size}x{size}", runtime_name, *checks(found), *compared, f"{seconds:.0f}"))
            problems += [f"{name}, {runtime_name}: {problem}" for problem in found.problems]
        compiled.cache_clear()
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
