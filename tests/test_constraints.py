"""constraints.txt: what `make demo` and `make test` install, on every Python and platform that pyproject.toml names.

That another version of a package is right for another Python only the package index knows: `make constraints` asks it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

REPOSITORY = Path(__file__).parent.parent
# The first of each, Debian 12's, and the last before a package's pin changes.
PYTHONS = ("3.10.0", "3.11.0", "3.11.2", "3.11.7", "3.12.0", "3.13.0", "3.14.0")
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
PLATFORMS = {
    "Linux x86-64": {**LINUX, "platform_machine": "x86_64"},
    "Linux aarch64": {**LINUX, "platform_machine": "aarch64"},
    "macOS on ARM": {
        "sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"
    },
}  # fmt: skip
# What a PyTorch without CUDA does not require.
CUDA = ("nvidia-", "cuda-", "triton")


@dataclass(frozen=True)
class Environment:
    python: str
    platform: str

    def has(self, marker: Marker | None, extra: str = "") -> bool:
        return marker is None or _evaluate(str(marker), self.python, self.platform, extra)


ENVIRONMENTS = [Environment(*one) for one in itertools.product(PYTHONS, PLATFORMS)]


@cache
def _evaluate(marker: str, python: str, platform: str, extra: str) -> bool:
    return Marker(marker).evaluate(
        {
            **PLATFORMS[platform],
            "python_version": ".".join(python.split(".")[:2]),
            "python_full_version": python,
            "implementation_name": "cpython",
            "implementation_version": python,
            "platform_python_implementation": "CPython",
            "extra": extra,
        }
    )


@cache
def pins() -> list[Requirement]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def versions(environment: Environment) -> dict[str, Version]:
    """Of each package that is pinned there, by its name."""
    found: dict[str, Version] = {}
    for pin in pins():
        if environment.has(pin.marker):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} has two pins in {environment}"
            (one,) = pin.specifier
            assert one.operator == "=="
            found[name] = Version(one.version)
    return found


def check(
    whose: str, requirements: Iterable[Requirement], environment: Environment, pinned: Mapping[str, Version]
) -> None:
    """Raise AssertionError where a requirement that holds there has no pin that it allows; pinned: `versions` of it."""
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if not environment.has(requirement.marker) or (name.startswith(CUDA) and name not in pinned):
            continue
        assert name in pinned, f"{whose} requires {name}, which has no pin in {environment}"
        fits = requirement.specifier.contains(pinned[name], prereleases=True)
        assert fits, f"{whose} requires {requirement}, and {pinned[name]} is pinned in {environment}"


def test_every_requirement_has_one_pin_that_it_allows_on_every_python_and_platform() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lists = {"bnncc": project["dependencies"]} | project["optional-dependencies"]
    for environment in ENVIRONMENTS:
        pinned = versions(environment)
        for whose, texts in lists.items():
            check(whose, [one for one in map(Requirement, texts) if one.name != "bnncc"], environment, pinned)


def installed_as_pinned() -> Iterator[tuple[str, Version, SpecifierSet, list[Requirement]]]:
    """What is installed here at a pinned version: its name, that, the Pythons it is for, and what it requires."""
    pinned = {(canonicalize_name(pin.name), str(pin.specifier).removeprefix("==")) for pin in pins()}
    for one in metadata.distributions():
        name, version = canonicalize_name(one.metadata["Name"]), one.version.split("+")[0]
        if (name, version) in pinned:
            requirements = [one for one in map(Requirement, one.requires or []) if "extra ==" not in str(one.marker)]
            yield name, Version(version), SpecifierSet(one.metadata.get("Requires-Python") or ""), requirements


def test_what_is_installed_here_fits_the_pins_wherever_its_own_is_taken() -> None:
    found = list(installed_as_pinned())
    assert found
    for environment in ENVIRONMENTS:
        pinned = versions(environment)
        for name, version, pythons, requirements in found:
            if pinned.get(name) == version:
                assert pythons.contains(environment.python), f"{name} {version} has no release for {environment}"
                check(f"{name} {version}", requirements, environment, pinned)


def test_arm_gets_a_pytorch_without_cuda() -> None:
    for environment in ENVIRONMENTS:
        cuda = [name for name in versions(environment) if name.startswith(CUDA)]
        assert not cuda or environment.platform == "Linux x86-64", cuda


def test_pins_that_do_not_fit_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(*lines: str) -> None:
        monkeypatch.setattr(f"{__name__}.pins", lambda: list(map(Requirement, lines)))

    old, new = Environment("3.11.0", "Linux x86-64"), Environment("3.12.0", "Linux x86-64")
    replace("a==1; python_version < '3.12'", "a==2; python_version >= '3.11'")
    with pytest.raises(AssertionError, match="a has two pins"):
        versions(old)
    pinned = versions(new)
    check("b", [Requirement("a>=2"), Requirement("c; sys_platform == 'darwin'")], new, pinned)
    with pytest.raises(AssertionError, match="b requires a<2, and 2 is pinned"):
        check("b", [Requirement("a<2")], new, pinned)
    with pytest.raises(AssertionError, match="b requires c, which has no pin"):
        check("b", [Requirement("c")], new, pinned)
