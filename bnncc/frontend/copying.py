"""Copy a network, whatever its authors keep in it.

User code may change itself in forward, so every run and every export works on a copy.  `copy.deepcopy` refuses many
networks: one lock, generator, open file or tensor with a history anywhere in them, a parameter class with a constructor
of its own, a `__getattr__` that raises.  And it takes functions as they are, so that a copy's `lambda x: self.conv(x)`
would run the original's convolution.

Here modules, tensors, containers, plain objects and what functions have captured are copied part by part, without
calling constructors.  What cannot be copied, and holds none of the network's tensors or modules as far as Python can
see (a lock, a socket, an open file), the copy shares with the original.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bnncc.errors import InputError

# The part of a module that torch.compile adds to it, and that belongs to this very object.
_COMPILED = "_compiled_call_impl"
_ATOMIC = (type(None), bool, int, float, complex, str, bytes, type, types.ModuleType, types.BuiltinFunctionType, range)


def copy_of(network: nn.Module) -> nn.Module:
    """A copy in eval mode that shares no tensor and no module with `network`.

    Raises:
        InputError: names the attribute that cannot be copied.
    """
    copied: nn.Module = _Copier().copy(network)
    copied.eval()  # a `train` of the user's own may return nothing
    return copied


class _Copier:
    def __init__(self) -> None:
        # id → copy, as copy.deepcopy has it; it also fills this one where a class brings its own way of being copied.
        self._memo: dict[int, Any] = {}
        self._path: list[str] = []

    def copy(self, value: Any) -> Any:
        """The copy of `value`, the same one each time."""
        if isinstance(value, _ATOMIC):
            return value
        known = self._memo.get(id(value))
        if known is not None:
            return known
        copied = self._copied(value)
        self._memo[id(value)] = copied
        return copied

    def _copied(self, value: Any) -> Any:
        for kinds, method in self._methods.items():
            if isinstance(value, kinds):
                return method(self, value)
        return self._object(value)

    def _module(self, module: nn.Module) -> Any:
        if _copies_itself(type(module)):
            copied = self._by_its_own_way(module)
            if copied is not None:
                return copied
        new = self._remember(module, object.__new__(type(module)))
        for name, value in _attributes(module):
            self._path.append(name)
            try:
                object.__setattr__(new, name, None if name == _COMPILED else self.copy(value))
            except InputError:
                raise
            except Exception as error:
                raise InputError(
                    f"the network cannot be copied: its {'.'.join(self._readable_path())} is a "
                    f"{type(value).__name__} that refuses: {type(error).__name__}: {error}. bnncc works on copies, "
                    "because forward may change the network; set the attribute to None before you hand it over"
                ) from error
            finally:
                self._path.pop()
        return new

    def _readable_path(self) -> list[str]:
        """As Python code would name the attribute."""
        return [name for name in self._path if name not in ("_modules", "_parameters", "_buffers")]

    def _tensor(self, tensor: Tensor) -> Tensor:
        kind = type(tensor)
        own_way = kind.__deepcopy__ not in (Tensor.__deepcopy__, nn.Parameter.__deepcopy__)
        if own_way and (copied := self._by_its_own_way(tensor)) is not None:
            return copied  # type: ignore[no-any-return]
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            data = tensor.detach().clone()
            if kind is Tensor:
                new = data.requires_grad_(tensor.requires_grad and tensor.is_leaf)
            else:
                new = Tensor._make_subclass(kind, data, tensor.requires_grad)
        self._remember(tensor, new)
        if kind is not nn.Buffer or vars(tensor):
            vars(new).update({name: self.copy(value) for name, value in vars(tensor).items()})
        return new

    def _list(self, value: list[Any]) -> Any:
        new = self._remember(value, list.__new__(type(value)))
        list.extend(new, map(self.copy, value))
        return self._with_attributes(value, new)

    def _tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        items = [self.copy(item) for item in value]
        if all(item is old for item, old in zip(items, value, strict=True)):
            return value
        return tuple.__new__(type(value), items)

    def _dict(self, value: dict[Any, Any]) -> Any:
        base = OrderedDict if isinstance(value, OrderedDict) else dict
        new = self._remember(value, base.__new__(type(value)))
        if isinstance(value, defaultdict) and isinstance(new, defaultdict):
            new.default_factory = self.copy(value.default_factory)
        for key, item in base.items(value):
            self._path.append(str(key))
            base.__setitem__(new, key, self.copy(item))
            self._path.pop()
        return self._with_attributes(value, new)

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        """With copies of the modules and tensors that it has captured."""
        if not _captures_network(function, set()):
            return function
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        new = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, None, cells or function.__closure__
        )
        self._remember(function, new)
        new.__defaults__ = self.copy(function.__defaults__)
        new.__kwdefaults__ = self.copy(function.__kwdefaults__)
        new.__qualname__, new.__module__, new.__doc__ = function.__qualname__, function.__module__, function.__doc__
        vars(new).update({name: self.copy(value) for name, value in vars(function).items()})
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            if _is_filled(old):
                cell.cell_contents = self.copy(old.cell_contents)
        return new

    def _method(self, method: types.MethodType) -> types.MethodType:
        return types.MethodType(self.copy(method.__func__), self.copy(method.__self__))

    def _partial(self, value: functools.partial[Any]) -> functools.partial[Any]:
        keywords = {name: self.copy(item) for name, item in value.keywords.items()}
        return functools.partial(self.copy(value.func), *map(self.copy, value.args), **keywords)

    def _reference(self, reference: weakref.ref[Any]) -> weakref.ref[Any]:
        target = reference()
        return weakref.ref(self.copy(target)) if isinstance(target, nn.Module | Tensor) else reference

    @staticmethod
    def _generator(generator: torch.Generator) -> torch.Generator:
        new = torch.Generator(generator.device)
        new.set_state(generator.get_state())
        return new

    def _object(self, value: Any) -> Any:
        """Anything else: a plain object by its attributes, others as copy.deepcopy does it, or else the thing itself.

        An object with a finaliser is shared: the copy's would close what the original still uses.
        """
        kind = type(value)
        if hasattr(kind, "__del__"):
            return value
        if not _copies_itself(kind):
            try:
                new = object.__new__(kind)
            except TypeError:  # its state is not Python's
                pass
            else:
                return self._with_attributes(value, self._remember(value, new))
        copied = self._by_its_own_way(value)
        return value if copied is None else copied

    def _by_its_own_way(self, value: Any) -> Any:
        """What copy.deepcopy makes of `value`; None where it fails."""
        memo = dict(self._memo)
        try:
            copied = copy.deepcopy(value, memo)
        except Exception:
            return None
        self._memo.update(memo)
        return copied

    def _with_attributes(self, value: Any, new: Any) -> Any:
        for name, item in _attributes(value):
            object.__setattr__(new, name, self.copy(item))
        return new

    def _remember(self, value: Any, new: Any) -> Any:
        """Before its parts are copied: they may refer to the whole."""
        self._memo[id(value)] = new
        return new

    _methods: ClassVar[dict[Any, Callable[[_Copier, Any], Any]]] = {
        nn.Module: _module,
        Tensor: _tensor,
        list: _list,
        tuple: _tuple,
        dict: _dict,
        types.FunctionType: _function,
        types.MethodType: _method,
        functools.partial: _partial,
        weakref.ref: _reference,
        torch.Generator: lambda _, value: _Copier._generator(value),
    }


def _copies_itself(kind: type) -> bool:
    """Whether objects of this class say themselves how they are copied."""
    if issubclass(kind, nn.Module):
        return hasattr(kind, "__deepcopy__")  # what it says of pickling would go through constructors and properties
    own: set[str] = set().union(*(vars(parent) for parent in kind.__mro__ if parent is not object))
    return not own.isdisjoint(("__deepcopy__", "__getstate__", "__setstate__", "__reduce__", "__reduce_ex__"))


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Those in `__dict__` and in slots; no property and no `__getattr__` is asked."""
    with contextlib.suppress(AttributeError):  # it has slots only
        yield from list(object.__getattribute__(value, "__dict__").items())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = (
                f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
            )
            try:
                yield mangled, object.__getattribute__(value, mangled)
            except AttributeError:
                continue


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _captures_network(value: Any, seen: set[int]) -> bool:
    """Whether a function, or what it has captured, leads to a module or tensor."""
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, nn.Module | Tensor):
        return True
    if isinstance(value, types.FunctionType):
        captured = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        parts = [*captured, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    elif isinstance(value, types.MethodType):
        parts = [value.__func__, value.__self__]
    elif isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, dict):
        parts = list(value.values())
    else:
        return False
    return any(_captures_network(part, seen) for part in parts)
