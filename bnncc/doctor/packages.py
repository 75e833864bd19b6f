"""Python and the packages that bnncc uses: which version is there, and is it one that bnncc supports?"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from bnncc._version import __version__
from bnncc.doctor.row import Row, State

GROUP = "packages"
# Extras that a user chooses, and what for; those of developers are none of a user's business.
EXTRAS = {
    "lce": "LCE's interpreter",
    "runtime": "bnncc bundle",
    "baseline": "bnncc baseline",
    "dask": "bnncc check --dask",
}


def examine_packages() -> list[Row]:
    """Python, bnncc, what it requires, and what its extras require."""
    return [_python(), Row(GROUP, "bnncc", State.OK, __version__), *_required()]


def _python() -> Row:
    found, supported = platform.python_version(), _requires_python()
    if supported is not None and not supported.contains(found, prereleases=True):
        return Row(GROUP, "Python", State.WRONG, f"{found}; bnncc supports {supported}", "use another Python")
    return Row(GROUP, "Python", State.OK, f"{found}, {platform.platform()}")


def _requires_python() -> SpecifierSet | None:
    try:
        return SpecifierSet(metadata("bnncc")["Requires-Python"])
    except PackageNotFoundError:
        return None


def _required() -> Iterator[Row]:
    try:
        lines = requires("bnncc") or []
    except PackageNotFoundError:
        yield Row(GROUP, "bnncc's metadata", State.MISSING, "bnncc is not installed as a package", "pip install .")
        return
    wanted = [Requirement(line) for line in lines]
    for extra in ("", *EXTRAS):
        for requirement in wanted:
            marker = requirement.marker
            is_base = marker is None or marker.evaluate({"extra": ""})
            if is_base if extra == "" else not is_base and marker is not None and marker.evaluate({"extra": extra}):
                yield _row(requirement, extra)


def _row(requirement: Requirement, extra: str) -> Row:
    name, supported = requirement.name, requirement.specifier
    purpose = f" ({EXTRAS[extra]})" if extra else ""
    install = f"pip install 'bnncc[{extra}]'" if extra else f"pip install '{name}{supported}'"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Row(GROUP, name, State.MISSING, f"not installed{purpose}", install)
    if not supported.contains(found, prereleases=True):
        return Row(GROUP, name, State.WRONG, f"{found}{purpose}; bnncc supports {supported}", install)
    return Row(GROUP, name, State.OK, f"{found}{purpose}")
