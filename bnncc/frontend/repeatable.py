"""Does forward compute the same function in every call?  A file does; random numbers and state it would freeze.

Two calls of one copy of the network are watched (`dataflow.py`), on two inputs.  Where they draw no random numbers,
change neither parameter nor buffer, and compute their outputs by the same operators from the same constants, that is
all.  Otherwise the outputs decide: fresh copies with different seeds must agree with each other, and a copy in its
second call with a fresh one.  So a counter that only counts is no reason to refuse, nor are weights that the first call
centres or binarizes for all that follow.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bnncc.errors import FrozenValueError
from bnncc.frontend.data_assignment import DATA_SET
from bnncc.frontend.dataflow import Flow, observe
from bnncc.frontend.flatten_outputs import FlattenOutputs
from bnncc.frontend.source import SourceLocation, location_in_stack
from bnncc.ir.evaluate import Array
from bnncc.ir.rounding import ROUNDING, relative_error

# With the last but one, the first number that each generator draws is below 0.02, and with the last above 0.98: what
# forward does rarely, as leaving a layer out, it does with one of them and not with the other.
_SEEDS = (1, 2, 3, 4, 5, 6, 114_642, 101_306)
# So many lines are quoted.
_QUOTED = 5
_ANYWHERE = "a line outside of the network's own files"


def check_repeatable(
    make: Callable[[], FlattenOutputs], inputs: Sequence[Sequence[Tensor]]
) -> tuple[list[str], Flow, Flow | None]:
    """Raise FrozenValueError where forward is random or remembers.

    Args:
        make: a fresh copy of the network.
        inputs: two sets.

    Returns:
        Warnings; what the first call did; and the second, where every call on that input does the same.
    """
    first, second = ([tensor.clone() for tensor in one] for one in inputs[:2])
    with _seeded(0):
        copy = make()
        before, generators = _identities(copy), _generators()
        flow = observe(copy, first)
        again = observe(copy, second)
        draws = _generators() != generators or bool(flow.random)
        remembers = flow.fingerprints != again.fingerprints or bool(flow.state_writes) or _identities(copy) != before
    if draws:
        _check_random(make, second)
    if remembers:
        with _seeded(0):
            fresh = observe(make(), second)
        if not _same(again, fresh, ROUNDING):
            raise FrozenValueError(_state_message(make, first, flow))
    return _warnings(flow), flow, None if draws or remembers else again


def first_difference(one: Flow, other: Flow) -> SourceLocation | None:
    """The line of the first operator that is not the same in two runs."""
    nothing = (None, None)
    for (left, line), (right, other_line) in zip_longest(one.operations, other.operations, fillvalue=nothing):
        if left != right:
            return line or other_line
    return None


def _check_random(make: Callable[[], FlattenOutputs], inputs: Sequence[Tensor]) -> None:
    flows: list[Flow] = []
    for seed in _SEEDS:
        with _seeded(seed):
            flows.append(observe(make(), inputs))
        if not _same(flows[0], flows[-1], 0.0):
            break
    else:
        return
    lines = flows[0].random or [first_difference(flows[0], flows[-1])]
    where = "It draws at" if flows[0].random else "Its results differ from"
    raise FrozenValueError(
        "forward is random: its outputs are not the same in two calls, and a file would keep one of them.  "
        f"{where}\n{_list(lines)}\n  Make it deterministic in eval mode, as nn.Dropout is: `if self.training: …`."
    )


def _state_message(make: Callable[[], FlattenOutputs], inputs: Sequence[Tensor], flow: Flow) -> str:
    assigned = _assignments(make, inputs)
    lines: list[str] = [f"{name}, at {line or _ANYWHERE}" for name, line in {**flow.state_writes, **assigned}.items()]
    if not lines:
        with _seeded(0):
            copy = make()
            line = first_difference(*(observe(copy, [tensor.clone() for tensor in inputs]) for _ in range(2)))
        lines = [
            f"something outside of its modules, or reads what changes by itself, as a clock, at {line or _ANYWHERE}"
        ]
    return (
        "forward remembers: it changes what its next call computes from, so that one input has several results, and a "
        f"file would keep one of them.  It changes\n{_list(lines)}\n  {_advice(make, inputs)} in eval mode: "
        "`if self.training: …`."
    )


def _advice(make: Callable[[], FlattenOutputs], inputs: Sequence[Tensor]) -> str:
    """What else helps a network whose first input decides what all later calls compute."""
    with _seeded(0):
        copy = make()
        _, second, third = (observe(copy, [tensor.clone() for tensor in inputs]) for _ in range(3))
    if not _same(second, third, ROUNDING):
        return "Leave that out"
    return (
        "Only its first call does so, as in quantizers that are set up by the first input: give the weights of a "
        "network that has been trained, whose state says that this is done.  Or leave that out"
    )


def _warnings(flow: Flow) -> list[str]:
    if not flow.batch_statistics:
        return []
    lines = list(dict.fromkeys(flow.batch_statistics))
    return [
        "batch norms normalise by the batch's own statistics, in eval mode too, and so does the file; their running "
        f"statistics, which forward changes, are not used:\n{_list(lines)}"
    ]


def _list(lines: Sequence[object]) -> str:
    more = [f"    … and {len(lines) - _QUOTED} more"] if len(lines) > _QUOTED else []
    return "\n".join([*(f"    {line or _ANYWHERE}" for line in lines[:_QUOTED]), *more])


def _same(one: Flow, other: Flow, most: float) -> bool:
    if list(one.values) != list(other.values):
        return False
    pairs = zip(map(_array, one.values.values()), map(_array, other.values.values()), strict=True)
    return all(relative_error(left, right) <= most for left, right in pairs)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().to(torch.float32).numpy()


def _identities(network: nn.Module) -> list[tuple[str, int, int]]:
    """Which tensors the parameters and buffers are, and where these lie."""
    named = (*network.named_parameters(), *network.named_buffers())
    return [(name, id(tensor), _address(tensor)) for name, tensor in named]


def _address(tensor: Tensor) -> int:
    return tensor.data_ptr() if tensor.layout == torch.strided else 0


def _assignments(make: Callable[[], FlattenOutputs], inputs: Sequence[Tensor]) -> dict[str, SourceLocation | None]:
    """The attributes of modules, and the contents of parameters and buffers, that forward replaces, with the line."""
    network = make()
    tensors = {
        id(tensor): name for name, tensor in (*network.network.named_parameters(), *network.network.named_buffers())
    }
    paths = {id(module): name for name, module in network.network.named_modules()}
    found: dict[str, SourceLocation | None] = {}
    plain = nn.Module.__setattr__

    def noted(module: nn.Module, name: str, value: Any) -> None:
        before = getattr(module, name, None)
        if before is not None and before is not value and id(module) in paths:
            path = paths[id(module)]
            found[f"{path}.{name}" if path else name] = location_in_stack(sys._getframe(1))
        plain(module, name, value)

    with mock.patch.object(nn.Module, "__setattr__", noted), _seeded(0), _DataWrites(tensors, found):
        network.outputs(*[tensor.clone() for tensor in inputs])
    return found


class _DataWrites(TorchFunctionMode):
    """Notes where `x.data = y` gives one of the tensors, whose names go by id, other contents."""

    def __init__(self, names: Mapping[int, str], found: dict[str, SourceLocation | None]) -> None:
        super().__init__()
        self._names, self._found = names, found

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func == DATA_SET and id(args[0]) in self._names:
            self._found[self._names[id(args[0])]] = location_in_stack(sys._getframe(1))
        return func(*args, **(kwargs or {}))


def _generators() -> object:
    """The states of the generators that a forward may draw from."""
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), pickle.dumps(np.random.get_state())


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """All generators seeded, and put back afterwards."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
