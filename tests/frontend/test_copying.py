"""Networks that copy.deepcopy refuses, or copies only half, are copied; the copy shares no tensor with the original."""

from __future__ import annotations

import copy
import functools
import io
import threading
import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import bnncc
from bnncc.errors import InputError
from bnncc.frontend.copying import copy_of
from bnncc.ir.evaluate import random_inputs
from bnncc.verification import verify

SHAPE = (1, 3, 8, 8)


class Net(nn.Module):
    """A sign between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.binarize(self.first(x)))

    def binarize(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0)


class Scale(nn.Parameter):
    """A parameter whose constructor takes something else than nn.Parameter's."""

    bits: int

    def __new__(cls, size: int, bits: int) -> Scale:
        return Tensor._make_subclass(cls, torch.rand(size, 1, 1) + 0.5)  # type: ignore[return-value]

    def __init__(self, size: int, bits: int) -> None:
        self.bits = bits


class WithScale(Net):
    def __init__(self) -> None:
        super().__init__()
        self.scale = Scale(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale / self.scale.bits


class RaisesKeyError(Net):
    """`getattr` raises what nobody expects."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise KeyError(name)
        return super().__getattr__(name)


class LooksInside(Net):
    """`__getattr__` reads an attribute that a new object does not have yet: an endless recursion."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "options", {"gain": 2.0})

    def __getattr__(self, name: str) -> Any:
        options = self.options
        return options[name] if name in options else super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


class Config(dict[str, Any]):
    """Attribute access to a dict, with the usual mistake."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Counter:
    """Slots, a lock, and a module."""

    __slots__ = ("__hidden", "lock", "module")

    def __init__(self, module: nn.Module) -> None:
        self.lock, self.module, self.__hidden = threading.Lock(), module, 3

    def __call__(self, x: Tensor) -> Tensor:
        with self.lock:
            return self.module(x) * self.__hidden


class Mode(Enum):
    SIGN = "sign"


class Closure(Net):
    """A lambda runs a layer of this very network."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Callable[[Tensor], Tensor] = lambda x: self.second(self.binarize(self.first(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class ComputedInInit(Net):
    """Tensors with a history, in containers: deepcopy takes leaves only."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = [{"gain": self.second.weight.abs().mean() * 2}]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.tables[0]["gain"]


class Attributes(Net):
    """A parameter that carries a number, which nn.Parameter's own copy forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.second.weight.levels = 4.0  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.second.weight.levels  # type: ignore[operator]


def with_attribute(make: Callable[[Net], Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        network = Net()
        network.extra = make(network)
        return network

    return build


def weight_norm() -> nn.Module:
    network = Net()
    torch.nn.utils.weight_norm(network.second)
    return network


def parametrized() -> nn.Module:
    network = Net()
    parametrizations.weight_norm(network.second)
    network.lock = threading.Lock()  # type: ignore[assignment]
    return network


class Signs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0)


def parametrized_by_own_class() -> nn.Module:
    network = Net()
    parametrize.register_parametrization(network.second, "weight", Signs())
    return network


def hooked() -> nn.Module:
    network = Net()
    lock = threading.Lock()

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        with lock:
            return output * 2

    network.second.register_forward_hook(hook)
    return network


def counted() -> nn.Module:
    network = Net()
    network.call = Counter(network.second)  # type: ignore[assignment]
    network.forward = types.MethodType(lambda self, x: self.call(self.binarize(self.first(x))), network)  # type: ignore[method-assign]
    return network


def shared_layer() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh())
    network.append(network[0])
    network.lock = threading.RLock()  # type: ignore[assignment]
    return network


def numbers() -> Any:
    yield 1


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lock": with_attribute(lambda _: threading.Lock()),
    "lock in containers": with_attribute(lambda _: {"a": [(threading.Lock(),)]}),
    "event": with_attribute(lambda _: threading.Event()),
    "generator": with_attribute(lambda _: numbers()),
    "random generator": with_attribute(lambda _: torch.Generator().manual_seed(3)),
    "open file": with_attribute(lambda _: open(__file__)),  # noqa: SIM115
    "module object": with_attribute(lambda _: torch),
    "lambda": with_attribute(lambda network: lambda x: network(x)),
    "partial": with_attribute(lambda network: functools.partial(network.binarize, None)),
    "weak reference": with_attribute(weakref.ref),
    "config": with_attribute(lambda network: Config(layer=[network], lock=threading.Lock())),
    "ordered": with_attribute(lambda _: OrderedDict(a=threading.Lock())),
    "defaultdict": with_attribute(lambda _: defaultdict(threading.Lock, a=threading.Lock())),
    "enumeration": with_attribute(lambda _: Mode.SIGN),
    "stream": with_attribute(lambda _: io.StringIO("text")),
    "parameter class": WithScale,
    "getattr raises": RaisesKeyError,
    "getattr recurses": LooksInside,
    "closure": Closure,
    "computed in __init__": ComputedInInit,
    "attribute of a parameter": Attributes,
    "weight_norm": weight_norm,
    "parametrized": parametrized,
    "own parametrization": parametrized_by_own_class,
    "hook": hooked,
    "slots": counted,
    "shared layer": shared_layer,
}


def tensors_of(module: nn.Module) -> set[int]:
    return {tensor.data_ptr() for tensor in [*module.parameters(), *module.buffers()]}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_computes_the_same_and_shares_no_tensor(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    copied = copy_of(network)
    x = torch.randn(SHAPE)
    assert torch.equal(copied(x), network.eval()(x))
    assert not tensors_of(copied) & tensors_of(network)
    assert len(tensors_of(copied)) == len(tensors_of(network))
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
        copied(x)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_it_compiles_to_a_file_that_is_proven(name: str) -> None:
    torch.manual_seed(0)
    compiled = bnncc.compile(NETWORKS[name](), input_shapes=[SHAPE])
    assert verify(compiled, [random_inputs(compiled.traced.model, 1)]).problems == []


def test_what_functions_have_captured_is_the_copys_own() -> None:
    network = Closure().eval()
    copied = copy_of(network)
    x = torch.randn(SHAPE)
    with torch.no_grad():
        network.second.weight.zero_()
    assert copied(x).std() > 0
    assert torch.equal(copied(x), copied.second(copied.binarize(copied.first(x))))


def test_a_parameter_keeps_its_class_and_attributes() -> None:
    copied = copy_of(WithScale())
    assert type(copied.scale) is Scale
    assert copied.scale.bits == 3
    assert set(dict(copied.named_parameters())) == {
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
        "scale",
    }


def test_references_to_the_whole_lead_to_the_copy() -> None:
    network = Net()
    network.again = [network]  # type: ignore[assignment]
    network.reference = weakref.ref(network)  # type: ignore[assignment]
    network.bound = network.binarize  # type: ignore[assignment]
    copied = copy_of(network)
    assert copied.again[0] is copied
    assert copied.reference() is copied
    assert copied.bound.__self__ is copied


def test_a_random_generator_starts_where_the_original_stands() -> None:
    network = Net()
    network.generator = torch.Generator().manual_seed(5)  # type: ignore[assignment]
    copied = copy_of(network)
    first = torch.rand(3, generator=copied.generator)
    assert torch.equal(first, torch.rand(3, generator=network.generator))  # type: ignore[call-overload]


class Untouchable(Tensor):
    """A tensor that refuses every operation."""

    def __new__(cls) -> Untouchable:
        return Tensor._make_wrapper_subclass(cls, (3,))  # type: ignore[attr-defined,no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("only on the accelerator")


def test_what_cannot_be_copied_is_named_with_its_place() -> None:
    network = nn.Sequential(Net())
    network[0].second.table = Untouchable()  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"cannot be copied: its 0\.second\.table is a Untouchable.*only on the acc"):
        bnncc.compile(network, input_shapes=[SHAPE])


def test_deepcopy_refuses_most_of_them() -> None:
    def refuses(make: Callable[[], nn.Module]) -> bool:
        try:
            copy.deepcopy(make())
        except Exception:
            return True
        return False

    assert sum(map(refuses, NETWORKS.values())) >= 12


def test_a_file_whose_network_holds_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "import threading, torch\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.conv, self.lock = nn.Conv2d(3, 4, 1), threading.Lock()\n"
        "    def forward(self, x):\n        with self.lock:\n            return self.conv(x).relu()\n"
    )
    compiled = bnncc.compile(f"{path}:Net", input_shapes=[SHAPE])
    assert verify(compiled, [random_inputs(compiled.traced.model, 1)]).problems == []


class Swaps(nn.Linear):
    """Keeps its weights apart in training, as quantised layers do, and forgets to return itself."""

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        if self.training and not mode:
            self.weight.data.sign_()
        self.training = mode


def test_a_network_whose_eval_returns_nothing_is_copied_all_the_same() -> None:
    copied = copy_of(Swaps(3, 4))
    assert isinstance(copied, Swaps)
    assert not copied.training
    assert bool((copied.weight.abs() == 1).all())
