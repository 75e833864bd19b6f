"""What the commands print with."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import click
from rich.console import Console

from bnncc.cli.reporting import reporter
from bnncc.system.names import shown

TRAILING_BLANKS = re.compile(r" +$", re.MULTILINE)
# Of columns: a terminal that says that it has fewer, or none, is not believed.
NARROWEST = 20
# The exit code behind Ctrl-C: 128 + SIGINT.
INTERRUPTED = 130
# That of what nobody reads: 128 + SIGPIPE, as shells have it.
READER_LEFT = 141


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
    """Prints what it is given: no markup, no emoji, no colours of its own; in a pipe no blanks at the ends of lines.

    Lines of text are broken between words, so that they fit the terminal, or 80 columns where there is none; a name
    that is longer stays whole.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        file = None if sys.stdout.isatty() else cast(TextIO, _WithoutTrailingBlanks(sys.stdout))
        super().__init__(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True, quiet=quiet)
        self.width = max(self.width, NARROWEST)

    def print(self, *objects: Any, **keywords: Any) -> None:
        super().print(*(broken(one, self.width) if isinstance(one, str) else one for one in objects), **keywords)

    def on_broken_pipe(self) -> None:
        """rich would exit with 1, which says that a file disagrees with its network."""
        raise BrokenPipeError


def broken(text: str, width: int) -> str:
    """`text` in lines of at most `width` columns where that needs no word broken; what goes on is indented."""
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip(" "))]
        lines += [line] if len(line) <= width else textwrap.wrap(
            line, width, subsequent_indent=f"{indent}    ", break_long_words=False, break_on_hyphens=False
        )  # fmt: skip
    return "\n".join(lines)


def output() -> Console:
    """Standard output for a person; nothing is printed where it is for nobody or a program."""
    return PlainConsole(quiet=not reporter().speaks)


def say(text: str) -> None:
    """A line on standard output, for a person."""
    output().print(text)


def tell_error(message: str) -> None:
    """What ended the command, on standard error."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True, color=_colour())
    click.echo(shown(message), err=True)


def warn(message: str) -> None:
    """A line on standard error, and an entry of the JSON document where there is one."""
    reporter().warnings.append(message)
    click.secho("warning: ", fg="yellow", bold=True, nl=False, err=True, color=_colour())
    click.echo(shown(message), err=True)


def _colour() -> bool | None:
    """Whether there are colours: no, or where the stream is a terminal."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None
