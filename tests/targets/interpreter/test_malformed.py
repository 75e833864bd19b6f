"""Damaged files, under clang's sanitizers: an error or a result, never a crash."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.needs import debian, need
from tests.targets.interpreter.native import sanitized_driver
from tests.targets.runtime.networks import NETWORKS, compiled

MUTATIONS = 1500


@pytest.fixture(scope="module")
def driver() -> Path:
    found = sanitized_driver()
    need(found, debian("clang++ with its sanitizers", "clang"))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network.tflite"
    path.write_bytes(compiled(*NETWORKS[2]))
    return path


def run(driver: Path, *arguments: object) -> list[tuple[int, str]]:
    """How often which outcome came."""
    command = [str(driver), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [(int(line.split()[0]), line.split(maxsplit=1)[1]) for line in done.stdout.splitlines()]


def test_a_file_that_is_cut_off_is_an_error(driver: Path, network: Path) -> None:
    outcomes = run(driver, "--truncate", 16, network)
    assert sum(count for count, _ in outcomes) == -(-network.stat().st_size // 16)
    assert "ran" not in {text for _, text in outcomes}


@pytest.mark.slow
def test_changed_bytes_never_crash(driver: Path, network: Path) -> None:
    outcomes = run(driver, "--mutate", 1, MUTATIONS, network)
    assert sum(count for count, _ in outcomes) == MUTATIONS
    assert {"ran", "the file is damaged"} <= {text for _, text in outcomes}
