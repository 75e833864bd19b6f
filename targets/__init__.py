"""The devices that bnncc compiles for, and the formats it writes.

In reading order: `description` (what is known of a device), `raspberry_pi` and `android` (the devices), `tflite` (the
file).
"""

from __future__ import annotations

from collections.abc import Mapping

from bnncc.errors import InputError
from bnncc.targets import android, raspberry_pi
from bnncc.targets.description import Target

TARGETS: Mapping[str, Target] = {target.name: target for target in (*raspberry_pi.TARGETS, *android.TARGETS)}


def find_target(name: str) -> Target:
    """The target called `name`.  Raises InputError with the list of targets where there is none."""
    if name not in TARGETS:
        listing = "\n".join(f"  {target.name:24}{target.title}" for target in TARGETS.values())
        raise InputError(f"unknown target '{name}'; the targets are:\n{listing}")
    return TARGETS[name]


__all__ = ["TARGETS", "Target", "find_target"]
