"""What the pages and the README say of the command line exists; the pages are built without a warning."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bnncc.cli import main
from tests.needs import needs

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def command_lines(text: str) -> Iterator[str]:
    """`bnncc …` in blocks of code, continued lines as one, and in the text."""
    joined = re.sub(r" *\\\n *", " ", text)
    fenced = "\n".join(re.findall(r"^```(?:sh|console)\n(.*?)^```$", joined, re.MULTILINE | re.DOTALL))
    places = ((r"^    (bnncc .*)$", joined), (r"^(?:\$ )?(bnncc .*)$", fenced), (r"`(bnncc [^`]*)`", joined))
    for pattern, where in places:
        yield from (found[1] for found in re.finditer(pattern, where, re.MULTILINE))


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_and_options_on_a_page_exist(page: Path) -> None:
    for line in command_lines(page.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)[1:]
        assert words[0] in main.commands, line
        given = {word.split("=")[0] for word in words[1:] if word.startswith("--")}
        assert given <= options_of(main.commands[words[0]]), line


def test_the_pages_name_each_command() -> None:
    named = {line.split()[1] for page in PAGES for line in command_lines(page.read_text(encoding="utf-8"))}
    assert set(main.commands) - named == set()


@needs(importlib.util.find_spec("mkdocs"), "no mkdocs (pip install 'bnncc[docs]')")
def test_the_pages_are_built_without_a_warning_and_ask_for_nothing_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "docs")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, command_ in main.commands.items():
        page = (tmp_path / "docs" / "commands" / f"{name}.html").read_text(encoding="utf-8")
        for option in options_of(command_) - {"--help"}:
            assert not option.startswith("--") or option in page
    api = (tmp_path / "docs" / "python.html").read_text(encoding="utf-8")
    assert 'id="bnncc.compiler.compile"' in api
    for page_file in (tmp_path / "docs").rglob("*.html"):
        html = page_file.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=[\"']?(https?:[^\"' >]+)", html)
        assert loaded == [], page_file
