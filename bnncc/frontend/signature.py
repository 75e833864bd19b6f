"""What a network's forward takes, and how flat tensors become its arguments.

names      image, boxes.0, boxes.1, options.mask
forward    (image, boxes=[…, …], options={"mask": …})
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

POSITIONAL_ONLY, KEYWORD_ONLY = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.KEYWORD_ONLY
VAR_POSITIONAL, VAR_KEYWORD = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
EMPTY = inspect.Parameter.empty


def signature_of(module: nn.Module) -> list[inspect.Parameter]:
    """All parameters of `module.forward`; of one that Python cannot tell, `*args`."""
    if isinstance(module, torch.jit.ScriptModule):
        return _script_parameters(module)
    try:
        return list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return [inspect.Parameter("args", VAR_POSITIONAL)]


def _script_parameters(module: torch.jit.ScriptModule) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            argument.name,
            KEYWORD_ONLY if argument.kwarg_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=argument.default_value if argument.has_default_value() else EMPTY,
        )
        for argument in module.forward.schema.arguments[1:]  # type: ignore[attr-defined]  # behind self
    ]


def root_of(name: str) -> str:
    """The parameter that an input is a part of: `boxes` for `boxes.0`."""
    return name.partition(".")[0]


def bind(
    parameters: Sequence[inspect.Parameter], names: Sequence[str], values: Sequence[Any]
) -> tuple[list[Any], dict[str, Any]]:
    """(positional arguments, keyword arguments) for inputs in the order of `names`.

    They go by name where forward has parameters of all these names, else by position.  Parameters without an input
    keep their defaults.
    """
    given = _nested(names, values)
    rest = next((p.name for p in parameters if p.kind is VAR_POSITIONAL), None)
    takes_any = any(p.kind is VAR_KEYWORD for p in parameters)
    own = {p.name for p in parameters if p.kind not in (VAR_POSITIONAL, VAR_KEYWORD)}
    behind = [name for name in given if rest is not None and name not in own and _is_numbered(name, rest)]
    if not all(name in own or name in behind or takes_any for name in given):
        return list(given.values()), {}
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    last = max((i for i, p in enumerate(parameters) if p.kind is POSITIONAL_ONLY and p.name in given), default=-1)
    for index, parameter in enumerate(parameters):
        if parameter.name not in own:
            continue
        goes_in_order = index <= last or (behind and parameter.kind is not KEYWORD_ONLY)
        if goes_in_order:
            positional.append(given.pop(parameter.name, parameter.default))
        elif parameter.name in given:
            keywords[parameter.name] = given.pop(parameter.name)
    positional += [given.pop(name) for name in behind]
    return positional, {**keywords, **given}


def numbered(rest: str, index: int) -> str:
    """The name of an input in `*rest`."""
    return f"{rest}_{index}"


def _is_numbered(name: str, rest: str) -> bool:
    prefix, _, index = name.rpartition("_")
    return prefix == rest and index.isdecimal()


def _nested(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Dicts and lists of the parts that names with dots say."""
    tree: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return {name: _with_lists(value) for name, value in tree.items()}


def _with_lists(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    parts = {key: _with_lists(part) for key, part in value.items()}
    if list(parts) == [str(index) for index in range(len(parts))]:
        return list(parts.values())
    return parts
