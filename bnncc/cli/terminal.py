"""What the commands print with."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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

from bnncc.system.names import shown

TRAILING_BLANKS = re.compile(r" +$", re.MULTILINE)
# The exit code behind Ctrl-C: 128 + SIGINT.
INTERRUPTED = 130
# That of what nobody reads: 128 + SIGPIPE, as shells have it.
READER_LEFT = 141


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
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed before the command began
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for the whole process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def reader_left() -> bool:
    """True where who read standard output closed it, as `head` does; nothing more is written there then."""
    poll = select.poll()
    poll.register(1, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


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


class PlainConsole(Console):
    """Prints what it is given: no markup, no emoji, no colours of its own; in a pipe no blanks at the ends of lines."""

    def __init__(self, *, soft_wrap: bool = False, width: int | None = None) -> None:
        file = None if sys.stdout.isatty() else cast(TextIO, _WithoutTrailingBlanks(sys.stdout))
        super().__init__(file=file, highlight=False, markup=False, emoji=False, soft_wrap=soft_wrap, width=width)

    def on_broken_pipe(self) -> None:
        """rich would exit with 1, which says that a file disagrees with its network."""
        raise BrokenPipeError


def output() -> Console:
    """Standard output, without markup of its own making and without breaking lines."""
    return PlainConsole(soft_wrap=True)


def tell_error(message: str) -> None:
    """What ended the command, on standard error."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(shown(message), err=True)


def warn(message: str) -> None:
    """A line on standard error."""
    click.secho("warning: ", fg="yellow", bold=True, nl=False, err=True)
    click.echo(shown(message), err=True)
