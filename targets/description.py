"""What the compiler knows of a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A device that LCE's kernels run on.

    name: as on the command line.  title: as people call it.  abi: the GNU triple, or Android's ABI name.
    core: the core's name in compilers' `-mcpu`.  cores: how many of them.
    """

    name: str
    title: str
    abi: str
    core: str
    cores: int
