"""The notebook runs, cell by cell, and finds what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "fashion_mnist" / "notebook.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_with_what_it_prints() -> None:
    printed = "".join(text for cell in CELLS for output in cell["outputs"] for text in output["text"])
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    assert "passed: True; 31,360 integer sums, 0 wrong" in printed
    assert "/" not in printed  # no path of a machine


@pytest.mark.slow
def test_the_notebook_trains_compiles_and_checks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(NOTEBOOK.parent)
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in CELLS:
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
    printed = capsys.readouterr().out
    assert "passed: True; 31,360 integer sums, 0 wrong" in printed  # 32 channels · (14² + 7²) places · 4 images
    assert "the same class on 200 of 200 images" in printed
    assert isinstance(names["right"], float)
    assert names["right"] > 0.6  # of ten classes
