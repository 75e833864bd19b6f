"""Find the Python values that TorchScript's tracer freezes: read from an input once, and kept for all inputs.

    if x.max() > 1:                       the graph keeps the side that the traced input took
        x = x / 255
    for _ in range(int(x.sum())): …       the graph keeps so many turns
    return x * x.abs().max().item()       the graph keeps the number

Most such values do no harm, because nothing that forward returns depends on them: assertions, `if x.isnan().any():
pdb.set_trace()`, what is printed or logged.  So every place that reads one is tried: forward runs again on the same
input and is given another value there.  If it still computes its outputs from the input in the same way, operator by
operator, or raises an exception, the value is harmless; otherwise the graph is right only as long as it is what it was.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import pdb
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from bnncc.frontend.dataflow import Flow, Site, observe
from bnncc.frontend.flatten_outputs import FlattenOutputs
from bnncc.frontend.source import raised_by_statement

# What a number is replaced by, besides its neighbours and its negative: small counts, and what exceeds thresholds.
_OTHERS = (0, 1, 2, 1000, -1000)
_OTHER_FLOATS = (0.5, 1e6, -1e6)
# So many rows are tried for a result whose size depends on data.
_OTHER_ROWS = (0, 1, 2, 1000)
# A text of as many characters for other numbers.
_OTHER_DIGITS = str.maketrans("0123456789", "1234567890")
# And of numbers of the other sign, booleans that are the other one; and all that is read in a text for its presence.
_SIGN = re.compile(r"(?<![\w.+-])-?(?=\d)|\b(?:True|False)\b")
_OTHER_SIGNS = {"": "-", "-": "", "True": "False", "False": "True"}
_ALL_WORDS = "tensor([[-1.5e-07, nan], [inf, -inf], [True, False]])"
# So many values of one place are quoted.
_QUOTED_VALUES = 3
# So many readings of a place, from the first, are also replaced one by one.
_SINGLE = 2
# `a and b and c`: so many values that are only read because another one was replaced are replaced as well.
_DEPTH = 2
# After so many runs a value that was not shown to be harmless counts as one that matters.
MOST_TRIALS = 500

# By place, which of its readings are replaced by what.
_Replacements = Mapping[Site, Mapping[int, Callable[[Any], Any]]]


@dataclass(frozen=True)
class FrozenValue:
    """A Python value that forward reads from an input and that its outputs depend on.

    values: what it was on the traced input, each time that the place was reached.
    """

    site: Site
    values: tuple[Any, ...]

    def __str__(self) -> str:
        """net.py:12 in forward: if x.max() > 1: (True)"""
        place = "a line outside of the network's own files" if self.site.source is None else str(self.site.source)
        return f"{place} ({self._text})"

    @property
    def is_size(self) -> bool:
        """Whether it is the size of a tensor: no graph has it, frozen or not."""
        return self.site.kind == "size"

    @property
    def _text(self) -> str:
        if self.site.kind == "size":
            return "a size that depends on data"
        if self.site.kind in ("numpy", "tolist"):
            return f".{self.site.kind}()"
        if self.site.kind == "text":
            return "a text of its values"
        texts = list(dict.fromkeys(_number_text(value) for value in self.values))
        more = ", …" if len(texts) > _QUOTED_VALUES else ""
        return ", ".join(texts[:_QUOTED_VALUES]) + more


def find_frozen_values(make: Callable[[], FlattenOutputs], inputs: Sequence[Tensor]) -> list[FrozenValue]:
    """The values that the outputs depend on, in the order in which forward reads them.

    make: a fresh copy of the network for every run.  Raises what forward raises on `inputs`.
    """
    trials = _Trials(make, inputs)
    return [
        FrozenValue(site, tuple(values))
        for site, values in trials.natural.readings.items()
        if any(trials.reaches_outputs(group, {}, trials.natural) for group in _groups(site, values))
    ]


@dataclass(frozen=True)
class _Group:
    """Some of the readings of a place (`turns`: which of them), replaced together.  value: of the first."""

    site: Site
    turns: tuple[int, ...]
    value: Any


def _groups(site: Site, values: Sequence[Any]) -> Iterator[_Group]:
    """All readings of a place: one module after another has them.  And single ones: `a > 0 and b > 0` has two."""
    turns = range(len(values))
    yield _Group(site, tuple(turns), values[0])
    for turn in sorted({*turns[:_SINGLE], *turns[-1:]}) if len(turns) > 1 else ():
        yield _Group(site, (turn,), values[turn])


def _new_groups(found: Flow, before: Flow) -> Iterator[_Group]:
    """The readings that there were not before: behind `a and`, inside an `if`."""
    for site, values in found.readings.items():
        known = len(before.readings.get(site, ()))
        if len(values) > known:
            yield _Group(site, tuple(range(known, len(values))), values[known])


class _Trials:
    """Runs of forward on one input, with some readings replaced."""

    def __init__(self, make: Callable[[], FlattenOutputs], inputs: Sequence[Tensor]) -> None:
        self._make, self._inputs = make, inputs
        self._left = MOST_TRIALS
        self.natural = self._observe({})

    def reaches_outputs(self, group: _Group, given: _Replacements, before: Flow, depth: int = _DEPTH) -> bool:
        """Whether other values of `group`, besides those `given`, make forward compute something else.

        before: the run with the given ones.
        """
        replacements = _replacements(group.site, group.value)
        unclear = 0
        for replace in replacements:
            if not self._left:
                return True
            self._left -= 1
            own = {**given.get(group.site, {}), **dict.fromkeys(group.turns, replace)}
            trial = {**given, group.site: own}
            try:
                with _no_exit():
                    found = self._observe(trial)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                unclear += not _is_deliberate(error)
                continue
            if found.fingerprints != self.natural.fingerprints:
                return True
            if depth and any(self.reaches_outputs(new, trial, found, depth - 1) for new in _new_groups(found, before)):
                return True
        # An index out of range or a shape that does not fit: the value is used, for what could not be followed.
        return bool(replacements) and unclear == len(replacements)

    def _observe(self, replacements: _Replacements) -> Flow:
        forced = {site: partial(_replaced, turns) for site, turns in replacements.items()}
        return observe(self._make(), [tensor.clone() for tensor in self._inputs], forced)


def _replaced(replacements: Mapping[int, Callable[[Any], Any]], turn: int, value: Any) -> Any:
    return replacements[turn](value) if turn in replacements else value


def _replacements(site: Site, value: Any) -> list[Callable[[Any], Any]]:
    if site.kind == "size":
        return [partial(_resized, rows) for rows in _OTHER_ROWS]
    if site.kind == "tolist":
        return [partial(_map_list, one) for one in _replacements(Site(None, "scalar"), _first_number(value))]
    if site.kind == "text":
        return [
            lambda x: x + x,
            lambda x: x.translate(_OTHER_DIGITS),
            _with_other_signs,
            *(partial(_constant, one) for one in ("", _ALL_WORDS)),
        ]
    if site.kind == "numpy":
        if value.dtype == np.bool_:
            return [np.logical_not]
        others = [*_OTHERS, *(_OTHER_FLOATS if value.dtype.kind == "f" else ())]
        return [lambda x: x + x.dtype.type(1), lambda x: -x, *(partial(np.full_like, fill_value=one) for one in others)]
    if isinstance(value, bool):
        return [lambda x: not x]
    neighbours: list[Callable[[Any], Any]] = [lambda x: x + 1, lambda x: x - 1, lambda x: -x]
    numbers = [*_OTHERS, *(_OTHER_FLOATS if isinstance(value, float) else ())]
    kind = type(value)
    return [*neighbours, *(partial(_constant, kind(number)) for number in numbers)]


def _with_other_signs(text: str) -> str:
    return _SIGN.sub(lambda match: _OTHER_SIGNS[match[0]], text)


def _constant(value: Any, _: Any) -> Any:
    return value


def _resized(rows: int, result: Any) -> Any:
    """The first so many rows, zeros behind them; of `unique` the first result."""
    if isinstance(result, tuple | list):
        return type(result)((_resized(rows, result[0]), *result[1:]))
    kept = result[:rows]
    return torch.cat([kept, result.new_zeros((rows - len(kept), *result.shape[1:]))])


def _map_list(replace: Callable[[Any], Any], value: Any) -> Any:
    return [_map_list(replace, item) for item in value] if isinstance(value, list) else replace(value)


def _first_number(value: Any) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    return 0.0 if isinstance(value, list) else value


def _number_text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class _StoppedError(Exception):
    """What would have waited for the user, or ended the process."""


def _stop(*_: object, **__: object) -> NoReturn:
    raise _StoppedError


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    """Let a branch that forward does not take by itself neither start a debugger nor end the process."""
    with (
        mock.patch.object(pdb, "set_trace", _stop),
        mock.patch.object(builtins, "breakpoint", _stop),
        mock.patch.object(builtins, "input", _stop),
        mock.patch.object(os, "_exit", _stop),
    ):
        yield


def _is_deliberate(error: BaseException) -> bool:
    """Whether a `raise` or an assertion did it; not an operator or an index."""
    return isinstance(error, _StoppedError | AssertionError | SystemExit) or raised_by_statement(error.__traceback__)


def replay(frozen: Sequence[FrozenValue]) -> dict[Site, Callable[[int, Any], Any]]:
    """For `observing`: the network as the graph has it, with every frozen value as it was."""

    def kept(values: tuple[Any, ...], turn: int, value: Any) -> Any:
        return values[turn] if turn < len(values) else value

    return {one.site: partial(kept, one.values) for one in frozen}


def refusal(frozen: Sequence[FrozenValue]) -> str:
    """The message about values that must not be frozen, all of them sizes or none."""
    lines = "\n".join(f"    {one}" for one in frozen)
    if frozen[0].is_size:
        return (
            "forward makes a tensor whose shape depends on the input, and a compiled file has static shapes:\n"
            f"{lines}\n"
            "  Keep all elements and mask them (`torch.where(mask, x, 0)`), or do it behind the network."
        )
    return (
        f"forward decides in Python by {'values' if len(frozen) > 1 else 'a value'} of its input, and the graph would "
        f"keep what the traced input led to:\n{lines}\n"
        "  Write it as tensor operations (`torch.where(x.max() > 1, x / 255, x)`), or do it in front of the network; "
        "or keep what the traced input leads to, for all inputs, with --freeze-branches."
    )
