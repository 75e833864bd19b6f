"""Find, import and call the user's code the way its repository expects: from its own folder, with its own arguments."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import nn

from bnncc.errors import BnnccError, InputError
from bnncc.frontend.cpu_only import cpu_only
from bnncc.frontend.legacy_functions import legacy_functions
from bnncc.frontend.removed_names import removed_names
from bnncc.frontend.source import location_in_traceback
from bnncc.frontend.user_file import Elsewhere, import_user_file, place_of


@dataclass
class UserCode:
    """The surroundings that the user's code needs whenever it runs: its folders on sys.path, its modules imported.

    Modules that were imported from these folders are in `sys.modules` only while `active()`, so that two repositories
    that both have a `utils.py` can be used in one process.

    elsewhere: finds what the user's file means by its own name.
    """

    folders: list[Path] = field(default_factory=list)
    modules: dict[str, ModuleType] = field(default_factory=dict)
    elsewhere: Elsewhere | None = None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Make the folders and their modules importable; restore sys.path and sys.modules afterwards."""
        path = list(sys.path)
        writes_bytecode = sys.dont_write_bytecode
        hidden = {name: sys.modules[name] for name in self.modules if name in sys.modules}
        before = set(sys.modules) - set(hidden)
        sys.path[:0] = [str(folder) for folder in self.folders]
        sys.dont_write_bytecode = True
        sys.modules.update(self.modules)
        finder = contextlib.nullcontext() if self.elsewhere is None else self.elsewhere.active()
        try:
            with finder:
                yield
        finally:
            sys.path[:] = path
            sys.dont_write_bytecode = writes_bytecode
            for name in set(sys.modules) - before:
                if name in self.modules or self._is_own(sys.modules[name]):
                    self.modules[name] = sys.modules.pop(name)
            sys.modules.update(hidden)

    def _is_own(self, module: ModuleType) -> bool:
        place = place_of(module)
        return place is not None and any(
            place.is_relative_to(folder) and "site-packages" not in place.parts for folder in self.folders
        )


def load_module(source: str, arguments: Mapping[str, object]) -> tuple[nn.Module, UserCode]:
    """The network that `source` names, and the surroundings it has to run in.

    Args:
        source: "path/to/file.py:callable" or "package.module:callable".  The callable is a function or class that
            returns an nn.Module, or an nn.Module itself.
        arguments: keywords for the callable.

    Raises:
        InputError: the file, the callable or its result cannot be used; the message quotes the user's line.
    """
    found, code = load_object(source)
    if isinstance(found, nn.Module):
        if arguments:
            raise InputError(f"{source} is a network already and takes no arguments ({', '.join(arguments)})")
        return found, code
    network = call(found, source, arguments, code, "an nn.Module")
    if not isinstance(network, nn.Module):
        raise InputError(f"{_call_text(source, arguments)} returned a {type(network).__name__}, not an nn.Module")
    return network, code


def load_object(source: str) -> tuple[Any, UserCode]:
    """What "path/to/file.py:name" or "package.module:name" names, and its surroundings.  Raises InputError."""
    location, colon, name = source.rpartition(":")
    if not colon or not location or not name:
        raise InputError(
            f"cannot read {source!r}: write path/to/file.py:callable, package.module:callable or a .onnx file"
        )
    code = UserCode([Path.cwd()])
    is_file = location.endswith(".py")
    if is_file:
        file = Path(location).resolve()
        if not file.is_file():
            raise InputError(f"there is no file {location}")
        if file.parent != Path.cwd():
            code.folders.insert(0, file.parent)
    with _running(code, source):
        try:
            module = _import_file(file, code) if is_file else importlib.import_module(location)
        except BaseException as error:
            refuse(f"importing {location} failed", error)
        return _attribute(module, name, location), code


def call(found: Any, source: str, arguments: Mapping[str, object], code: UserCode, wanted: str) -> Any:
    """What the user's callable returns, which should be `wanted`.  Raises InputError that quotes the user's line."""
    if not callable(found):
        raise InputError(f"{source} is a {type(found).__name__}, not a callable that returns {wanted}")
    name, text = source.rpartition(":")[2], _call_text(source, arguments)
    with _running(code, source):
        try:
            inspect.signature(found).bind(**arguments)
        except TypeError as error:
            raise InputError(
                f"cannot call {text}: {error}; its signature is {name}{inspect.signature(found)}. "
                "Give the missing values as name=value arguments, or name a function without parameters"
            ) from error
        except ValueError:
            pass  # A callable without a signature: the call itself will tell.
        try:
            return found(**arguments)
        except BaseException as error:
            refuse(f"{text} failed", error)


def _call_text(source: str, arguments: Mapping[str, object]) -> str:
    name = source.rpartition(":")[2]
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


@contextlib.contextmanager
def _running(code: UserCode, source: str) -> Iterator[None]:
    """As the user's script runs on a machine without a GPU, without gradients."""
    here = _sys_argv(source.rpartition(":")[0])
    with code.active(), cpu_only(), legacy_functions(), removed_names(), torch.no_grad(), here:
        yield


def refuse(what: str, error: BaseException) -> NoReturn:
    """Raise an InputError that quotes `error` and the user's line; an interruption is passed on."""
    if isinstance(error, KeyboardInterrupt | GeneratorExit | BnnccError):
        raise error
    location = location_in_traceback(error.__traceback__)
    message = f"{what}: {type(error).__name__}: {error}"
    if isinstance(error, SystemExit):
        message = f"{what}: the code ended the process (exit status {error.code}), as argument parsers do"
    if isinstance(error, ModuleNotFoundError):
        message += ". Install it, or start bnncc from the folder that the repository expects"
    raise InputError(message + (f"\n  at {location}" if location else "")) from error


def _attribute(module: ModuleType, name: str, location: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            candidates = [
                key
                for key, value in vars(module).items()
                if getattr(value, "__module__", None) == module.__name__
                and (inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, nn.Module)))
            ]
            hint = f"; it defines {', '.join(candidates)}" if candidates else ""
            raise InputError(f"{location} has no {name!r}{hint}")
        found = getattr(found, part)
    return found


def _import_file(file: Path, code: UserCode) -> ModuleType:
    """Import `file` under its stem; as part of its package where it uses relative imports."""
    try:
        module, code.elsewhere = import_user_file(file)
    except ImportError as error:
        if "relative import" not in str(error):
            raise
    else:
        return module
    root = file.parent
    while (root.parent / "__init__.py").is_file() and root.parent != root:
        root = root.parent
    code.folders.append(root.parent)
    sys.path.insert(0, str(root.parent))
    return importlib.import_module(".".join(file.relative_to(root.parent).with_suffix("").parts))


@contextlib.contextmanager
def _sys_argv(program: str) -> Iterator[None]:
    """sys.argv as if the user's file had been started without arguments."""
    saved = sys.argv
    sys.argv = [os.fspath(program)]
    try:
        yield
    finally:
        sys.argv = saved
