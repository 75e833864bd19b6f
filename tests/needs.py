"""What tests need of the machine: a test whose need is not met is skipped, and in CI fails.

A reason says what is missing and, in brackets, what brings it.  The run's last lines name each reason once
(`tests/conftest.py`).
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from bnncc.inference.lce import LceMissingError
from bnncc.inference.runners import Runtime

# Set by `.ci/run`, which installs all that is needed.
IN_CI = bool(os.environ.get("CI"))
HAS_ZIG = importlib.util.find_spec("ziglang") is not None
HAS_PYAV = importlib.util.find_spec("av") is not None
# What `python -m tests.targets.runtime.sysroot` made; empty where nothing did.
SYSROOTS = os.environ.get("BNNCC_SYSROOTS", "")

# What LCE's interpreter computes is a test's reference where there is one: on x86-64, for Python 3.10 to 3.12.
HAS_LCE = Runtime.LCE.is_available
# What files are proven in: LCE's interpreter where there is one, and LiteRT with the delegate.
RUNTIMES = (Runtime.LCE, Runtime.LITERT) if HAS_LCE or IN_CI else (Runtime.LITERT,)
NO_LCE = "no LCE's interpreter (x86-64, Python 3.10 to 3.12, NumPy 1: pip install 'bnncc[lce]')"

NO_ZIG = "no package ziglang (pip install 'bnncc[runtime]')"
NO_SYSROOTS = "BNNCC_SYSROOTS names no packages for emulated ARM (make sysroots)"


def debian(program: str, package: str = "") -> str:
    """The reason where a program of Debian's is missing."""
    return f"no {program} (Debian's package {package or program})"


def need(found: object, reason: str) -> None:
    """Inside a test or a fixture: skip where `found` is false."""
    if not found:
        (pytest.fail if IN_CI else pytest.skip)(reason)


def need_zig() -> None:
    need(HAS_ZIG, NO_ZIG)


@contextmanager
def skipped_without_lce() -> Iterator[None]:
    """Skip a test that comes to load LCE's interpreter where there is none."""
    try:
        yield
    except Exception as error:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, LceMissingError):
            reason = reason.__cause__ or reason.__context__
        if reason is None:
            raise
        need(False, NO_LCE)


def needs(found: object, reason: str) -> pytest.MarkDecorator:
    """A mark: skip where `found` is false.  In CI the test runs, and fails at what is missing."""
    return pytest.mark.skipif(not found and not IN_CI, reason=reason)


def skipped_line(reasons: Sequence[str]) -> str:
    """How many tests are skipped, and for each reason how many, as one line; reasons: one a test."""
    counts = Counter(reasons)
    kinds = [reason if len(counts) == 1 else f"{count}: {reason}" for reason, count in counts.most_common()]
    return f"{len(reasons)} skipped: {'; '.join(kinds)}"


needs_lce = needs(HAS_LCE, NO_LCE)
needs_zig = needs(HAS_ZIG, NO_ZIG)
needs_pyav = needs(HAS_PYAV, "no package av (pip install 'bnncc[video]')")
needs_sysroots = needs(SYSROOTS, NO_SYSROOTS)
