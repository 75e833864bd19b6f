"""Import a file of the user's under the name that its repository expects, also where others bear that name.

`net.py` is the module `net`.  But where something called `net` is imported already (`inspect.py`, `random.py`), or a
package `net` lies beside it or elsewhere on the path and the file, or what it imports, means that one by `import net`,
the file gets a name of its own, and `net` is the other:

    tools/resnet.py         from resnet import ResNet18          (means the repository's resnet.py)
    net.py                  from net.layers import BinaryConv    (means the package net/)
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_OWN_NAME = "_bnncc_user_{}"


@dataclass
class Elsewhere:
    """A finder for `sys.meta_path` that finds `name` on sys.path, but never in `file`."""

    name: str
    file: Path

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """As importlib asks for it."""
        if name != self.name or path is not None:
            return None
        found = [spec for entry in sys.path for spec in _specs_in(name, entry)]
        others = [spec for spec in found if spec.origin is None or Path(spec.origin).resolve() != self.file]
        regular = [spec for spec in others if spec.origin is not None]
        return next(iter(regular or others), None)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """While this is active, `import name` is the other one."""
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)


def _specs_in(name: str, entry: str) -> list[importlib.machinery.ModuleSpec]:
    """What `name` may be in one folder of sys.path: a package, a module, or a folder that a module hides."""
    candidates = (importlib.machinery.PathFinder.find_spec(name, [entry or "."]), _folder_in(name, entry))
    return [spec for spec in candidates if spec is not None]


def _folder_in(name: str, entry: str) -> importlib.machinery.ModuleSpec | None:
    """A folder of Python files without __init__.py."""
    folder = Path(entry or ".") / name
    if not folder.is_dir() or not any(folder.glob("*.py")):
        return None
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


def import_user_file(file: Path) -> tuple[ModuleType, Elsewhere | None]:
    """Import `file` (resolved); its folder is on sys.path.

    Returns the module, and what has to be active whenever its code runs, where its name means another one.
    Raises whatever the file raises.
    """
    name, other = file.stem, Elsewhere(file.stem, file)
    if name in sys.modules or name in sys.stdlib_module_names:
        with contextlib.suppress(ImportError):
            _import_other(name, file)
        return _import_as(_OWN_NAME.format(name), file), None
    has_other = name.isidentifier() and other.find_spec(name) is not None
    if has_other and _imports(file, name):
        with other.active():
            return _import_as(_OWN_NAME.format(name), file), other
    before = set(sys.modules)
    try:
        return _import_as(name, file), None
    except (ImportError, AttributeError) as error:
        if not has_other or name not in str(error) or "relative import" in str(error):
            raise
        # A file that it imports means the other one.
        for imported in set(sys.modules) - before:
            if _lies_beside(sys.modules[imported], file):
                del sys.modules[imported]
        with other.active():
            return _import_as(_OWN_NAME.format(name), file), other


def _import_other(name: str, file: Path) -> None:
    """Import the standard library's module, which later imports of this name should find, before `file` hides it."""
    if name not in sys.modules:
        with Elsewhere(name, file).active():
            importlib.import_module(name)


def _imports(file: Path, name: str) -> bool:
    """Whether the file imports `name`, or something inside of it, anywhere."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # the import will say it
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        else:
            continue
        if any(module.partition(".")[0] == name for module in modules):
            return True
    return False


def _lies_beside(module: ModuleType, file: Path) -> bool:
    """Whether a module belongs to the user: not to an installed package, nor to Python."""
    place = place_of(module)
    folders = (file.parent, Path.cwd())
    return (
        place is not None
        and "site-packages" not in place.parts
        and any(place.is_relative_to(folder) for folder in folders)
    )


def place_of(module: ModuleType) -> Path | None:
    """The file of a module, the folder of a package without __init__.py; None for what Python has built in, and for
    a module whose parent has left sys.modules: the path of a namespace package is looked up in its parent.
    """
    known = getattr(module, "__dict__", {})  # not every module answers getattr
    try:
        file = known.get("__file__") or next(iter(known.get("__path__") or ()), None)
    except KeyError:
        return None
    return None if file is None else Path(file)


def _import_as(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
