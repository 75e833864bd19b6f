"""Compile and prove random networks: `python -m tests.fuzz [COUNT] [SEED]`.

Stops at the first network that fails, after shrinking it, and prints its specification: add it to REGRESSIONS in
test_fuzz.py once it is mended.
"""

from __future__ import annotations

import argparse
import random
import time

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.check import check
from tests.fuzz.networks import Network, networks
from tests.fuzz.programs import Program, programs


def main() -> None:
    """Run COUNT networks from SEED (a random one, which is printed, by default)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=1000)
    parser.add_argument("seed", nargs="?", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    print(f"{arguments.count} networks from seed {arguments.seed}", flush=True)
    done = 0
    start = time.perf_counter()

    @hypothesis.seed(arguments.seed)
    @settings(max_examples=arguments.count, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.one_of(networks(), programs()))
    def run(spec: Network | Program) -> None:
        nonlocal done
        check(spec)
        done += 1
        if done % 50 == 0:
            print(f"{done} networks, {done / (time.perf_counter() - start):.2f} a second", flush=True)

    run()
    print(f"{done} networks, no mismatch")


if __name__ == "__main__":
    main()
