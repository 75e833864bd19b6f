"""Whom a command speaks to: a person, a program (--json), or nobody (--quiet).

With --json standard output is one JSON document and nothing else, also where the command fails; what the user's own
code prints goes to standard error.  A document of a command that failed has the entry "error": its message and the
exit code.  It may have others, as the figures of a file that disagrees with its network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

STANDARD_OUTPUT = 1
STANDARD_ERROR = 2


class Reporter:
    """What the command line says of the output of one command, and what that is so far."""

    def __init__(self) -> None:
        self.quiet = False
        self.document: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._stream: TextIO | None = None
        self._descriptor: int | None = None

    @property
    def as_json(self) -> bool:
        """True where standard output is for a program."""
        return self._stream is not None

    @property
    def speaks(self) -> bool:
        """True where standard output is for a person."""
        return not (self.quiet or self.as_json)

    def keep_output_for_json(self) -> None:
        """From here on what is printed goes to standard error, of native code and other processes as well."""
        if self.as_json:
            return
        self._stream = sys.stdout
        with contextlib.suppress(OSError, ValueError):  # it is none of the process's, or was closed
            if sys.stdout.fileno() == STANDARD_OUTPUT:
                sys.stdout.flush()
                self._descriptor = os.dup(STANDARD_OUTPUT)
                os.dup2(STANDARD_ERROR, STANDARD_OUTPUT)
        sys.stdout = sys.stderr

    def finish(self, error: str | None = None, exit_code: int = 0) -> None:
        """Print the document, once, where there is one or the command failed."""
        if self._stream is None:
            return
        stream, self._stream = self._stream, None
        sys.stdout.flush()
        sys.stdout = stream
        if self._descriptor is not None:
            os.dup2(self._descriptor, STANDARD_OUTPUT)
            os.close(self._descriptor)
            self._descriptor = None
        document = dict(self.document)
        if self.warnings:
            document["warnings"] = self.warnings
        if error is not None:
            document["error"] = {"message": error, "exit_code": exit_code}
        if document:
            stream.write(json_text(document))
            stream.flush()


def reporter() -> Reporter:
    """That of the command that runs; a new one, which speaks to a person, outside of one."""
    context = click.get_current_context(silent=True)
    if context is None:
        return Reporter()
    found = context.meta.setdefault(__name__, Reporter())  # of a command and the group alike
    assert isinstance(found, Reporter)
    return found


def quiet_option(command: Command) -> Command:
    """--quiet."""

    def callback(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        reporter().quiet = value

    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=callback,
        help="Print nothing but warnings and errors.",
    )(command)


def json_option(command: Command) -> Command:
    """--json of a command whose output is short."""

    def callback(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            reporter().keep_output_for_json()

    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,  # whatever else is wrong is told in JSON
        callback=callback,
        help="Print one JSON document, of an error too, and nothing else on standard output.",
    )(command)


def json_file_option(command: Command) -> Command:
    """--json [FILE], of a command that has many figures: its parameter `json_file`, None for standard output."""

    def callback(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
        if value is None or str(value) != "-":
            return value
        reporter().keep_output_for_json()
        return None

    return click.option(
        "--json",
        "json_file",
        metavar="[FILE]",
        type=click.Path(path_type=Path),
        is_flag=False,
        flag_value="-",
        is_eager=True,
        callback=callback,
        help="Write every figure to this file; without one, or with -, one JSON document to standard output.",
    )(command)


def asks_for_json(arguments: Sequence[str], command: click.Command | None) -> bool:
    """Whether a command line that cannot be read has --json, for standard output."""
    if command is None or "--json" not in arguments:
        return False
    option = next((one for one in command.params if "--json" in one.opts), None)
    if not isinstance(option, click.Option):
        return False
    following = arguments[arguments.index("--json") + 1 :]
    return option.is_flag or not following or following[0].startswith("-")


def json_text(document: Mapping[str, Any]) -> str:
    """ASCII: a name in another encoding, which is no text, goes through as an escape."""
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """As JSON has it: an infinite number is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value
