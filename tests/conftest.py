"""What every run has: seeds of its own for each test, hypothesis' profiles, and one line that says what is skipped."""

from __future__ import annotations

import copy
import functools
import gc
import random
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
import torch._export.utils as export_utils
from hypothesis import HealthCheck
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from torch.onnx._internal.exporter._registration import ONNXRegistry

from bnncc.cli import progress
from tests.needs import skipped_line, skipped_without_lce

FOLDER = Path(__file__).parent
SEED = 0

# How long an example takes, or drawing it, depends on what else the machine does.
TIMELESS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# `make test`: the same examples in every run, whatever ran before.
hypothesis.settings.register_profile("test", derandomize=True, database=None, **TIMELESS)
# `make fuzz`: other examples in every run; a failure prints the line that draws its example again.
hypothesis.settings.register_profile("fuzz", database=None, print_blob=True, **TIMELESS)
hypothesis.settings.load_profile("test")

# What a command prints does not depend on how long it takes, on a slow machine as well.
progress.INTERVAL = 3600.0

# Hypothesis also draws numbers that stand in the project's modules, those that are loaded by then: what a test draws
# would depend on which tests ran before it.
providers._get_local_constants = Constants


def build_translations_once() -> None:
    """For every export torch reads the source of all its ONNX translations and lists all its operators, anew: three
    quarters of what a small network takes."""
    build = functools.cache(ONNXRegistry.from_torchlib)

    def copied(opset_version: int) -> ONNXRegistry:
        registry = copy.copy(build(opset_version))
        registry.functions = {target: list(entries) for target, entries in registry.functions.items()}
        return registry

    ONNXRegistry.from_torchlib = staticmethod(copied)  # type: ignore[method-assign, assignment]
    operators = "_collect_all_valid_cia_ops_for_namespace"
    setattr(export_utils, operators, functools.cache(getattr(export_utils, operators)))


build_translations_once()


def seed_generators() -> None:
    """Bring the libraries' own random generators to a known state."""
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.fixture(autouse=True)
def own_seed() -> None:
    """A test that draws without a generator of its own draws the same, whatever ran before it."""
    seed_generators()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """pytest-randomly, which runs the tests in another order, seeds the generators too, in front of each test."""
    if pyfuncitem.config.pluginmanager.hasplugin("randomly"):
        seed_generators()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> None:
    """What several tests share is made by the first of them, whichever that is: it has its own seed too."""
    if request.scope != "function":
        seed_generators()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    with skipped_without_lce():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with skipped_without_lce():
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> None:
    """Networks that a file makes while it is imported have the same weights whichever files were collected before."""
    if isinstance(collector, pytest.Module):
        seed_generators()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what a fixture makes for their file run in one worker, so that it is made once.

    Whole networks, those beside this file, take longest and come first: the workers end at the same time.
    """
    items.sort(key=lambda item: item.path.parent != FOLDER)
    for item in items:
        if isinstance(item, pytest.Function) and not item.get_closest_marker("xdist_group"):
            made = (found[-1] for found in item._fixtureinfo.name2fixturedefs.values())
            if any(fixture.scope != "function" and fixture.baseid.startswith("tests") for fixture in made):
                item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector need not look through torch's modules again and again."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    if reports:
        terminalreporter.line(skipped_line([report.longrepr[2].removeprefix("Skipped: ") for report in reports]))
