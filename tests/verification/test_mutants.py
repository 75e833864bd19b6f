"""A sample of the mutants of `python -m tests.verification.mutants`, which takes more files."""

from __future__ import annotations

import pytest

from tests.verification.mutants import KINDS, run


@pytest.mark.slow
def test_every_mutant_of_some_random_networks_is_found() -> None:
    made, survivors = run(files=5, each=6)
    assert survivors == []
    assert set(made) == set(KINDS)
    assert made.total() >= 20
