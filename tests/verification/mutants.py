"""Is a fault in a file found?  `python -m tests.verification.mutants [FILES] [MUTANTS]` puts faults into files.

A mutant is the file of a random network with one constant or option changed, in its bytes:

    weight      one weight (slope, shift, scale) moved by 1e-3 of its tensor's largest; a bit of a binary one
    bias        a bias dropped
    swap        two output channels of a filter, a bias or a multiplier exchanged
    padding     ±1 instead of 0 around a binary convolution, and the other way round; another constant in a PADV2

What no verification on these inputs can tell from the file itself is left out, and why is said in `is_equivalent`,
which knows nothing of the verification.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import hypothesis
import numpy as np
import numpy.typing as npt
from flatbuffers import flexbuffers
from hypothesis import HealthCheck, Phase, given, settings

import bnncc
from bnncc.inference.runners import Runtime
from bnncc.model import CompiledModel
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import pack, unpack
from tests.fuzz.networks import Network, RandomNetwork, networks

Array = npt.NDArray[np.float32]
CHANGE = 1e-3
UNIT = 2.0**-24
# Where an operator of the file has its filter and its bias (of LceBconv2d, the multiplier is in between).
FILTERS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "LceBconv2d": 1, "PRELU": 1, "ADD": 1, "MUL": 1}
BIASES = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "LceBconv2d": 3}
KINDS = ("weight", "bias", "swap", "padding")


@dataclass
class Mutant:
    """A changed file: what was changed, in which operator."""

    kind: str
    operator: Operator
    content: bytes

    def __str__(self) -> str:
        return f"{self.kind} of {self.operator.name} '{self.operator.outputs[0].name}'"


def specifications(count: int) -> list[Network]:
    """Random networks, always the same."""
    found: list[Network] = []

    @hypothesis.seed(0)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(networks())
    def collect(spec: Network) -> None:
        found.append(spec)

    collect()
    return found[:count]


def compiled(spec: Network) -> tuple[CompiledModel, list[list[Array]]]:
    """The network's file, and the inputs that it is verified on."""
    model = bnncc.compile(RandomNetwork(spec), input_shapes=[(1, 3, *spec.size)])
    generator = np.random.default_rng(spec.seed)
    return model, [[generator.standard_normal((1, 3, *spec.size), dtype=np.float32)] for _ in range(2)]


def mutants(content: bytes, inputs: Sequence[Sequence[Array]], count: int, seed: int) -> Iterator[Mutant]:
    """Up to `count` mutants, of all kinds in turn, that are not equivalent on `inputs` (as the file stores them)."""
    file, generator = TfliteFile(content), np.random.default_rng(seed)
    makers: dict[str, Callable[[TfliteFile, Operator, np.random.Generator], bytes | None]] = {
        "weight": _with_weight, "bias": _without_bias, "swap": _with_swap, "padding": _with_padding,
    }  # fmt: skip
    made, tries = 0, 0
    while made < count and tries < 8 * count:
        kind = KINDS[tries % len(KINDS)]
        tries += 1
        padded = [one for one in file.operators if one.name in ("LceBconv2d", "PADV2")]
        pool = padded if kind == "padding" else file.operators
        if not pool:
            continue
        operator = pool[int(generator.integers(len(pool)))]
        changed = makers[kind](file, operator, generator)
        if changed is None:
            continue
        mutant = Mutant(kind, operator, changed)
        if not is_equivalent(file, mutant, inputs):
            made += 1
            yield mutant


def is_equivalent(file: TfliteFile, mutant: Mutant, inputs: Sequence[Sequence[Array]]) -> bool:
    """True where the operator, on what it is given in the file, cannot show the change.

    Either it yields the same bits: a weight whose inputs are all 0, a channel that the clip takes away, padding that
    no window reaches.  Or the change is smaller than what rounding may amount to in any order of the sum, n · u · Σ|w
    x|, everywhere (Higham, Accuracy and Stability of Numerical Algorithms, 2002, equation 3.5): then the changed
    operator is as right as the other.
    """
    given = [tensor for tensor in mutant.operator.inputs if tensor is not None and file.data(tensor) is None]
    changed = TfliteFile(mutant.content)
    values = Runtime.LCE.load(file.variant(file.inputs, given))
    try:
        own, other = (
            Runtime.LCE.load(one.variant(given, [one.operators[mutant.operator.index].outputs[0]]))
            for one in (file, changed)
        )
    except RuntimeError:
        return True  # no runtime takes it: to find that is no merit
    worst = _worst_rounding(file, mutant.operator)
    for arrays in inputs:
        operands = values.run(arrays)
        (right,), (wrong,) = own.run(operands), other.run(operands)
        if right.shape != wrong.shape or right.dtype != np.float32:
            if not np.array_equal(right, wrong):
                return False
            continue
        effect = np.abs(right.astype(np.float64) - wrong)
        if np.any(effect > (worst(operands) if worst is not None else 0.0)):
            return False
    return True


def _worst_rounding(file: TfliteFile, operator: Operator) -> Callable[[list[Array]], Array] | None:
    """n · u · Σ|w x| of a float convolution or Linear; None for any other operator."""
    if operator.name not in ("CONV_2D", "FULLY_CONNECTED"):
        return None
    model = unpack(file.content)
    for tensor in operator.inputs[1:3]:
        data = None if tensor is None else file.data(tensor)
        if tensor is not None and data is not None:
            buffer = model.buffers[model.subgraphs[0].tensors[tensor.index].buffer]
            buffer.data = np.abs(data).reshape(-1).view(np.uint8)
    absolute = TfliteFile(pack(model))
    given, weight = operator.inputs[0], operator.inputs[1]
    assert given is not None
    assert weight is not None
    runner = Runtime.LCE.load(absolute.variant([given], [absolute.operators[operator.index].outputs[0]]))
    count = int(np.prod(weight.shape[1:]))
    if any(getattr(file.options(operator), "fusedActivationFunction", 0) == kind for kind in (2, 3)):
        return None  # a clip would hide how large the sum is
    return lambda operands: count * UNIT * runner.run([np.abs(operands[0])])[0].astype(np.float64)


def _constant(file: TfliteFile, operator: Operator, places: dict[str, int]) -> tuple[int, Array] | None:
    """(the tensor, its array) of the operator's constant, None where it has none."""
    place = places.get(operator.name)
    tensor = operator.inputs[place] if place is not None and place < len(operator.inputs) else None
    data = None if tensor is None else file.data(tensor)
    return None if tensor is None or data is None or not data.any() else (tensor.index, data.copy())  # type: ignore[return-value]


def _replaced(file: TfliteFile, operator: Operator, tensor: int, array: Array) -> bytes:
    """The file with one operator's constant replaced; others that share it keep theirs."""
    model = unpack(file.content)
    graph = model.subgraphs[0]
    entry, buffer = graph.tensors[tensor], model.buffers[graph.tensors[tensor].buffer]
    copy, content = type(entry)(), type(buffer)()
    vars(copy).update(vars(entry))
    vars(content).update(vars(buffer))
    content.data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    model.buffers.append(content)
    copy.buffer, copy.name = len(model.buffers) - 1, entry.name + b"/mutant"
    graph.tensors.append(copy)
    reader = graph.operators[operator.index]
    reader.inputs = [len(graph.tensors) - 1 if index == tensor else index for index in reader.inputs]
    return pack(model)


def _with_weight(file: TfliteFile, operator: Operator, generator: np.random.Generator) -> bytes | None:
    found = _constant(file, operator, FILTERS)
    if found is None:
        return None
    tensor, array = found
    flat, index = array.reshape(-1), int(generator.integers(array.size))
    if array.dtype == np.float32:
        flat[index] += CHANGE * np.abs(array).max()
    else:  # a bit, which must be one of an input channel that there is
        flat[index] ^= 1
    return _replaced(file, operator, tensor, array)


def _without_bias(file: TfliteFile, operator: Operator, generator: np.random.Generator) -> bytes | None:
    found = _constant(file, operator, BIASES)
    return None if found is None else _replaced(file, operator, found[0], np.zeros_like(found[1]))


def _with_swap(file: TfliteFile, operator: Operator, generator: np.random.Generator) -> bytes | None:
    places = [FILTERS, BIASES, {"LceBconv2d": 2}]
    found = _constant(file, operator, places[int(generator.integers(len(places)))])
    if found is None:
        return None
    tensor, array = found
    axis = array.ndim - 1 if operator.name in ("DEPTHWISE_CONV_2D", "PRELU", "ADD", "MUL") else 0
    if array.ndim == 0 or array.shape[axis] < 2:
        return None
    first, second = generator.permutation(array.shape[axis])[:2]
    order = np.arange(array.shape[axis])
    order[[first, second]] = order[[second, first]]
    return _replaced(file, operator, tensor, array.take(order, axis))


def _with_padding(file: TfliteFile, operator: Operator, generator: np.random.Generator) -> bytes | None:
    if operator.name == "PADV2":
        found = _constant(file, operator, {"PADV2": 2})
        return None if found is None else _replaced(file, operator, found[0], -found[1])
    if operator.name != "LceBconv2d":
        return None
    options = flexbuffers.Loads(file.custom_options(operator))
    if options["padding"] != 0:  # VALID
        return None
    model = unpack(file.content)
    content = flexbuffers.Dumps(dict(sorted({**options, "pad_values": 1 - options["pad_values"]}.items())))
    model.subgraphs[0].operators[operator.index].customOptions = np.frombuffer(content, np.uint8)
    return pack(model)


def run(files: int, each: int) -> tuple[Counter[str], list[str]]:
    """(how many mutants of each kind there were, those that were not found)."""
    made, survivors = Counter[str](), list[str]()
    for number, spec in enumerate(specifications(files)):
        model, inputs = compiled(spec)
        assert bnncc.verify(model, inputs).passed, spec
        stored = [[model.as_stored(array) for array in arrays] for arrays in inputs]
        for mutant in mutants(model.content, stored, each, seed=number):
            made[mutant.kind] += 1
            if bnncc.verify(dataclasses.replace(model, content=mutant.content), inputs).passed:
                survivors.append(f"network {number}: {mutant}")
    return made, survivors


def main() -> None:
    """Print how many mutants of each kind were made, and those that were not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="?", type=int, default=20)
    parser.add_argument("mutants", nargs="?", type=int, default=12)
    arguments = parser.parse_args()
    made, survivors = run(arguments.files, arguments.mutants)
    print(f"{made.total()} mutants: {dict(made)}; {len(survivors)} not found")
    print("\n".join(survivors))


if __name__ == "__main__":
    main()
