"""How far a command is, on standard error: bars on a terminal, elsewhere a line now and then; nothing with --quiet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

from bnncc.cli.reporting import reporter

# Seconds between two lines where standard error is no terminal: a log stays short, and nobody takes it for hung.
INTERVAL = 10.0

Advance = Callable[[str, int, int], None]


class _RateColumn(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


@contextmanager
def progress_bars() -> Iterator[Advance]:
    """A bar for each kind of work, with its rate and the time left; elsewhere than on a terminal, lines.

    Yields a function that takes (what is being done, how much of it is done, how much there is).
    """
    console = Console(stderr=True)
    if reporter().quiet:
        yield lambda title, done, total: None
    elif _draws(console):
        with _bars(console) as advance:
            yield advance
    else:
        now = ""

        def note(title: str, done: int, total: int) -> None:
            nonlocal now
            now = f"{title}: {done:,} of {total:,}"

        with _lines(lambda: now):
            yield note


@contextmanager
def working(title: str) -> Iterator[None]:
    """While something runs that does not say how far it is."""
    console = Console(stderr=True)
    if reporter().quiet:
        yield
    elif _draws(console):
        with console.status(title):
            yield
    else:
        with _lines(lambda: title):
            yield


def _draws(console: Console) -> bool:
    """True where a line can be drawn anew."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def _bars(console: Console) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True) as progress:

        def advance(title: str, done: int, total: int) -> None:
            if title not in bars:
                bars[title] = progress.add_task(title)
            progress.update(bars[title], completed=done, total=total)

        yield advance


@contextmanager
def _lines(text: Callable[[], str]) -> Iterator[None]:
    """A line each INTERVAL, of a thread: what is being done may be one long call.  None while `text` is empty."""
    started, ended = time.monotonic(), threading.Event()

    def write() -> None:
        while not ended.wait(INTERVAL):
            if text():
                with contextlib.suppress(OSError, ValueError):  # standard error was closed
                    click.echo(f"{text()} ({time.monotonic() - started:.0f} s)", err=True)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
