"""Unpickle without running code: a drop-in `pickle_module` for `torch.load`.

A pickle names classes and functions, and unpickling imports and calls them: so a checkpoint can run anything.  Here a
name is looked up in one short table, of what tensors, arrays and plain containers are made of.  Any other becomes a
placeholder class of that name, whose instances keep what the pickle says of them.  Nothing is imported.

    c['args'] = argparse.Namespace(lr=0.1)      Placeholder of "argparse.Namespace" with the entries {"lr": 0.1}
    c['model'] = Net()                          Placeholder of "net.Net" with the entries {"_parameters": {…}, …}

What the table gives are `_Function`s, not the functions and classes themselves, because a pickle may also set
attributes of whatever it has on its stack; theirs cannot be set.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
import torch

# torch.load asks its pickle module for it.
UnpicklingError = pickle.UnpicklingError


class Placeholder:
    """An instance of a class that is not imported.

    entries: its attributes, and its items where it is a kind of dict.  items: of a kind of list.
    """

    def __new__(cls, *arguments: Any, **keywords: Any) -> Placeholder:
        made = super().__new__(cls)
        made.entries = dict(keywords)
        made.items = []
        for argument in arguments:
            # A torch.fx.GraphModule is rebuilt from the dict of its attributes; a kind of dict from its items.
            if isinstance(argument, Mapping):
                made.entries.update(argument)
        return made

    entries: dict[Any, Any]
    items: list[Any]

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, Mapping):
                self.entries.update(part)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, value: Any) -> None:
        self.items.append(value)

    def extend(self, values: Any) -> None:
        self.items.extend(values)

    def add(self, value: Any) -> None:
        pass


class NumPyArray:
    """An array or NumPy scalar as the pickle builds it, in two steps.  `array()` gives it, None for Python objects."""

    def __init__(self, *state: Any) -> None:
        self._state = state

    def __setstate__(self, state: Any) -> None:
        _, *self._state = state

    def array(self) -> np.ndarray[Any, Any] | None:
        """Raises pickle.UnpicklingError where the bytes are not those of the array."""
        match self._state:
            case (shape, NumPyType() as kind, order, bytes() | bytearray() | str() as content):
                raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
                if kind.code[:1] not in "bifuc":
                    return None
                try:
                    flat = np.frombuffer(raw, np.dtype(kind.byte_order + kind.code))
                    return flat.reshape(tuple(shape), order="F" if order else "C").copy(order="C")
                except (TypeError, ValueError) as error:
                    raise UnpicklingError(f"a NumPy array is damaged: {error}") from error
        return None


class NumPyType:
    """A NumPy dtype: its code, as "f4", and its byte order."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.byte_order = str(code).lstrip("<>=|"), "<" if str(code)[:1] != ">" else ">"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.byte_order = state[1]


class _Function:
    """What may be called.  `dtype`: torch.load reads it off storage types."""

    __slots__ = ("_function", "dtype")

    def __init__(self, function: Callable[..., Any], dtype: torch.dtype | None = None) -> None:
        self._function, self.dtype = function, dtype

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        pass


def _scalar(kind: Any, content: Any = b"") -> NumPyArray:
    return NumPyArray((), kind, False, content)


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> NumPyArray:
    return NumPyArray(shape, kind, order == "F", bytes(content))


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How pickles of protocol 2 spell bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _reconstruct_object(kind: Any, *_: Any) -> Any:
    """How protocols 0 and 1 make an object without calling its class."""
    return kind() if isinstance(kind, type) and issubclass(kind, Placeholder) else None


def _storage_from_bytes(content: bytes) -> Any:
    """The storage of a tensor that pickle itself wrote: a file of torch.save, the one before 1.6, in the pickle."""
    if bytes(content[:2]) == b"PK":  # torch.load would take a TorchScript archive for code to load
        raise UnpicklingError("a zip archive in place of a tensor's storage")
    return torch.load(io.BytesIO(content), map_location="cpu", pickle_module=sys.modules[__name__], weights_only=False)


def _tensor_from_numpy(data: Any, dtype: torch.dtype, *_: Any) -> Any:
    array = data.array() if isinstance(data, NumPyArray) else None
    return None if array is None else torch.from_numpy(array).to(dtype)


_TABLE: dict[str, Callable[..., Any]] = {
    **{
        f"torch._utils.{name}": getattr(torch._utils, name)
        for name in (
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
            "_rebuild_qtensor",
            "_rebuild_sparse_tensor",
            "_rebuild_meta_tensor_no_storage",
        )
    },
    "torch._utils._rebuild_device_tensor_from_numpy": _tensor_from_numpy,
    "torch._tensor._rebuild_from_type_v2": lambda function, kind, arguments, state: function(*arguments),
    "torch.serialization._get_layout": torch.serialization._get_layout,
    "torch.storage._load_from_bytes": _storage_from_bytes,
    "torch.Size": torch.Size,
    "torch.device": lambda *_: torch.device("cpu"),
    "torch.nn.parameter.Parameter": lambda data=None, *_: data,
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": lambda *_: {},
    "collections.Counter": dict,
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.tuple": tuple,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.bytearray": bytearray,
    "builtins.complex": complex,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstruct_object,
    "numpy.dtype": NumPyType,
    "numpy.ndarray": NumPyArray,
    "numpy.core.multiarray._reconstruct": lambda *_: NumPyArray(),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
}
# Python 2's names, and NumPy 2's.
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class Unpickler(pickle.Unpickler):
    """Makes placeholders of what is not in the table."""

    def __init__(self, file: IO[bytes], **keywords: Any) -> None:
        super().__init__(file, **keywords)
        self._made: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        module = _MODULES.get(module, module).replace("numpy._core", "numpy.core")
        path = f"{module}.{name}"
        if path not in self._made:
            self._made[path] = _named(module, name)
        return self._made[path]


def _named(module: str, name: str) -> Any:
    path = f"{module}.{name}"
    if path in _TABLE:
        return _Function(_TABLE[path])
    if name == "UntypedStorage" and module in ("torch", "torch.storage"):
        return _Function(lambda *_: None, torch.uint8)
    if module == "torch":
        value = getattr(torch, name, None)
        if isinstance(value, torch.dtype | torch.layout | torch.qscheme | torch.memory_format):
            return value
    return type(name, (Placeholder,), {"__module__": module})


def load(file: IO[bytes], **keywords: Any) -> Any:
    """What `pickle.load` would give, with placeholders.

    Raises:
        pickle.UnpicklingError, EOFError, ValueError and others: it is no whole pickle.
    """
    return Unpickler(file, **keywords).load()
