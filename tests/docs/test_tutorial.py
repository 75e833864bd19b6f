"""The tutorial's files are written and its commands run, as they stand on the page."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import click.testing
import pytest

from bnncc.cli import main
from tests.needs import need_zig

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
# The page's blocks: their language, the file's name where they are one, and what is in them.
BLOCK = re.compile(r"^```(\w+)(?: title=\"([\w.]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(line: str) -> str:
    """What a command of the page prints."""
    words = shlex.split(line)
    if words[0] == "bnncc":
        result = click.testing.CliRunner(env={"COLUMNS": "80"}).invoke(main, words[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        return result.stdout
    assert words[0] == "python", line
    if words[1] == "-c":
        exec(words[2], {})
    else:
        runpy.run_path(words[1], run_name="__main__")
    return ""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorials_files_and_commands_do_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need_zig()
    blocks = BLOCK.findall(PAGE)
    shutil.copy(REPOSITORY / "examples" / "fashion_mnist" / "test_images.npz", tmp_path / "images.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    printed = {}
    for language, name, content in blocks:
        if name:
            Path(name).write_text(content, encoding="utf-8")
        elif language == "sh" and "test_images" not in content:
            printed.update({line.split()[1]: run(line) for line in content.splitlines()})
    assert set(printed) == {"train.py", "compile", "inspect", "check", "-c", "run", "bench", "bundle"}
    right = re.search(r"([\d.]+)%", capsys.readouterr().out)
    assert right is not None
    assert float(right[1]) > 50  # of ten classes
    assert re.search(r"binary layers +2 of 2", printed["compile"])
    assert re.search(r"verification +passed", printed["compile"])
    assert re.search(r"same class +200 +200", printed["check"])
    assert re.search(rf"top-1 accuracy +{float(right[1]):.2f}% +{float(right[1]):.2f}%", printed["check"])
    assert printed["inspect"].count("LceBconv2d") == 2
    assert json.loads(Path("net-pi/bundle.json").read_text(encoding="utf-8"))["target"] == "raspberry-pi-4"
    assert Path("report.html").is_file()
