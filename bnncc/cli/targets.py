"""`bnncc targets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bnncc.cli.reporting import json_option, quiet_option, reporter
from bnncc.cli.terminal import say

if TYPE_CHECKING:
    from bnncc.targets import Target


@click.command("targets")
@json_option
@quiet_option
def targets_command() -> None:
    """List the devices that --target takes."""
    from bnncc.targets import TARGETS
    from bnncc.targets.released import span_text

    for target in TARGETS.values():
        cores = f"{target.cores} x {target.core}"
        say(f"{target.name:22} {target.title:30} {cores:14} {span_text(target.runtimes)}")
    reporter().document = {"targets": [_entry(target) for target in TARGETS.values()]}


def _entry(target: Target) -> dict[str, Any]:
    names = ("name", "title", "abi", "cores", "core", "runtimes")
    return {name: getattr(target, name) for name in names}
