"""`bnncc targets`."""

from __future__ import annotations

import click


@click.command("targets")
def targets_command() -> None:
    """List the devices that --target takes."""
    from bnncc.targets import TARGETS

    for target in TARGETS.values():
        click.echo(f"{target.name:24}{target.title} ({target.abi}, {target.cores} x {target.core})")
