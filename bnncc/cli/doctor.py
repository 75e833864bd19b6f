"""`bnncc doctor`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click
from rich.table import Table

from bnncc.cli.progress import working
from bnncc.cli.reporting import json_option, quiet_option, reporter
from bnncc.cli.terminal import output

if TYPE_CHECKING:
    from bnncc.doctor import Row

MARKS = {"ok": "ok", "missing": "–", "wrong": "!!"}


@click.command("doctor")
@json_option
@quiet_option
@click.pass_context
def doctor_command(context: click.Context) -> None:
    """Tell what this machine can do: packages, runtimes, compilers, and which commands work.

    Each line is of something that was tried: a file is run in each interpreter, a function compiled with each compiler,
    a small network compiled and proven.  Takes some seconds, minutes where the delegate is built.

    Exit code 0: networks can be compiled and proven here. 1: they cannot.
    """
    from bnncc.doctor import examine
    from bnncc.doctor.examine import can_compile

    with working("examining this machine"):
        rows = examine()
    works = can_compile(rows)
    reporter().document = {"compiles_and_proves": works, "rows": rows}
    console = output()
    for group, members in groupby(rows, lambda row: row.group):
        console.print(group)
        console.print(_table(list(members)))
    if not works:
        context.exit(1)


def _table(rows: list[Row]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=2)
    table.add_column(overflow="fold", min_width=12)
    table.add_column(overflow="fold")
    for row in rows:
        text = row.text + (f"; {row.advice}" if row.advice else "")
        table.add_row(MARKS[row.state.value], row.name, text)
    return table
