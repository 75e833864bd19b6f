"""What the commands print with."""

from __future__ import annotations

import io
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, cast

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

TRAILING_BLANKS = re.compile(r" +$", re.MULTILINE)
# The exit code behind Ctrl-C: 128 + SIGINT.
INTERRUPTED = 130


class _RateColumn(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each kind of work, with its rate and the time left: on a terminal, nothing elsewhere.

    Yields a function that takes (what is being done, how much of it is done, how much there is).
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def advance(title: str, done: int, total: int) -> None:
            if title not in bars:
                bars[title] = progress.add_task(title)
            progress.update(bars[title], completed=done, total=total)

        yield advance


@contextmanager
def terminated_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a closed terminal, are what Ctrl-C is: what was begun is cleaned up, what was measured is
    kept.
    """
    if threading.current_thread() is not threading.main_thread():  # only that gets signals
        yield
        return
    signals = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in signals:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)


def say_every_name() -> None:
    """File names in another encoding than standard output's, which cannot be written to it, are written as escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class _WithoutTrailingBlanks(io.TextIOBase):
    """A text stream to which lines go without the blanks that fill up a table's last column."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def write(self, text: str) -> int:
        self._stream.write(TRAILING_BLANKS.sub("", text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def output(wide: int | None = None) -> Console:
    """Standard output, without markup of its own making and without breaking lines.

    wide: columns for tables where it is no terminal.
    """
    if sys.stdout.isatty():
        return Console(highlight=False, soft_wrap=wide is None)
    file = cast(TextIO, _WithoutTrailingBlanks(sys.stdout))
    return Console(file=file, highlight=False, soft_wrap=wide is None, width=wide)


def tell_error(message: str) -> None:
    """What ended the command, on standard error."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)


def warn(message: str) -> None:
    """A line on standard error."""
    click.secho("warning: ", fg="yellow", bold=True, nl=False, err=True)
    click.echo(message, err=True)
