"""The delegate that a wheel brings, compiled when the wheel was made (`make wheels`).

`libraries/` then holds the library, its digest, and a stamp of the sources that it was made of.  In a checkout, whose
sources change, there is none.
"""

from __future__ import annotations

from pathlib import Path

from bnncc.runtime.build import Platform, stamp
from bnncc.runtime.trust import is_as_built

FOLDER = Path(__file__).parent / "libraries"
STAMP = "stamp.txt"


def prebuilt_library(target: Platform) -> Path | None:
    """The library of the wheel; None where there is none, or it does not fit."""
    return None if why_not_prebuilt(target) is not None else FOLDER / target.library


def why_not_prebuilt(target: Platform) -> str | None:
    """Why the wheel's library is not taken; None where it is."""
    library = FOLDER / target.library
    if not library.is_file():
        return f"this installation of bnncc is no wheel for {target}"
    try:
        made_of = (FOLDER / STAMP).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        made_of = ""
    if made_of != stamp(target):
        return f"{library} was made of other sources than those beside it"
    return None if is_as_built(library) else f"{library} is damaged"
