"""What the pages take from elsewhere: one page a command, as click has it; the files at the repository's top."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from bnncc.cli import main


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The commands' places in the navigation."""
    (entry,) = (entry for entry in config.nav or [] if "Commands" in entry)
    entry["Commands"] = [{f"bnncc {name}": f"commands/{name}.md"} for name in main.commands]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The commands' pages."""
    for name, command in main.commands.items():
        files.append(File.generated(config, f"commands/{name}.md", content=command_page(name, command)))
    for file, page in TOP_FILES.items():
        files.append(File.generated(config, page, content=top_page(file)))
    return files


# Files at the repository's top that are pages too; links in them are to pages.
TOP_FILES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "LICENSE": "license.md"}
ROOT = Path(__file__).parents[1]


def top_page(name: str) -> str:
    """The text of a file at the top, as a page."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".md"):
        return f"# License\n\n```text\n{text}```\n"
    for file, page in TOP_FILES.items():
        text = text.replace(f"]({file})", f"]({page})")
    return text.replace("](docs/", "](")


def command_page(name: str, command: click.Command) -> str:
    """Usage, what it does, and a row for each option."""
    context = click.Context(command, info_name=f"bnncc {name}")
    lines = [f"# bnncc {name}", "", f"    {command.get_usage(context).removeprefix('Usage: ')}", ""]
    lines += [" ".join(paragraph.split()) + "\n" for paragraph in (command.help or "").split("\n\n")]
    lines += ["| option | |", "| --- | --- |", *_rows(command, context), ""]
    return "\n".join(lines)


def _rows(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            option, text = (" ".join(part.split()).replace("|", "\\|") for part in record)
            yield f"| `{option}` | {_escaped(text)} |"


def _escaped(text: str) -> str:
    """What Markdown would take for a tag, outside of code."""
    return text.replace("<", "&lt;")
