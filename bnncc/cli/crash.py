"""What the command line does with an exception that nothing expected: one line, and the rest in a file."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback

import click

from bnncc._version import __version__

# The exit code behind a bug: not 1, which says that the file disagrees with the network.
CRASHED = 3


def report_crash(error: Exception) -> int:
    """Write the traceback to a temporary file and name it on standard error.  Returns the exit code."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    cause = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    content = (
        f"bnncc {__version__}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv}\n\n"
        + "".join(traceback.format_exception(error))
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="bnncc-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as stream:
            stream.write(content)
        where = f"report it to bnncc's authors with {stream.name}, which has the traceback"
    except OSError:
        where = f"report it to bnncc's authors with this:\n{content}"
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(f"a bug in bnncc: {cause}; {where}", err=True)
    return CRASHED
