"""Is a file the one that its network compiles to?  The same input gives the same bytes; what differs is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from bnncc.ir.graph import MODULE_KEY
from bnncc.model import CompiledModel
from bnncc.targets.tflite.digest import has_none
from bnncc.targets.tflite.modules import names_of_value
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import Tensor

# Float constants that are computed while compiling may be rounded otherwise on another processor: by a few units in the
# last place, and where terms cancel by so many of the largest of the tensor.
ROUNDING = 4 * 2.0**-23


@dataclass
class Differences:
    """problems: what makes it another file.  roundings: what differs by no more than another processor's rounding.

    is_same_bytes: nothing differs at all, what no inference reads included: the order of the buffers, a description.
    """

    problems: list[str] = field(default_factory=list)
    roundings: list[str] = field(default_factory=list)
    is_same_bytes: bool = False


def compare_files(content: bytes, compiled: CompiledModel) -> Differences:
    """Compare a file, operator by operator, with `compiled`, the network compiled as the file says that it was."""
    found = Differences(is_same_bytes=content == compiled.content)
    if found.is_same_bytes:
        return found
    file, fresh = TfliteFile(content), TfliteFile(compiled.content)
    if file.subgraph_count != 1:
        found.problems.append(f"the file has {file.subgraph_count} graphs, and what the network compiles to has one")
    modules = _modules(compiled)
    other = _first_other_operator(file, fresh)
    if other is not None:
        found.problems.append(f"the file's operators are not those that the network compiles to: {other}")
        return _explained(found, content)
    for operator, wanted in zip(file.operators, fresh.operators, strict=True):
        title = _title(operator, modules)
        if not _has_same_options(file, operator, fresh, wanted):
            found.problems.append(f"{title}: its options are not those that the network compiles to")
        for index, given, expected in _constants(file, operator, fresh, wanted):
            if _is_rounding(given, expected):
                found.roundings.append(f"{title}, input {index}")
            else:
                found.problems.append(f"{title}: {_change(index, given, expected)}")
    if not found.problems:
        found.problems += _other_wiring(file, fresh, modules)
    return _explained(found, content)


def _explained(found: Differences, content: bytes) -> Differences:
    """With the reason, where another bnncc made the file."""
    if found.problems and has_none(content):
        found.problems.append(
            "the file carries no digest, so an earlier bnncc made it, which may compile the network otherwise: compile "
            "it again, or check it with the bnncc that made it"
        )
    return found


def _other_wiring(file: TfliteFile, fresh: TfliteFile, modules: dict[str, str]) -> list[str]:
    """What reads, or is given out as, another value than in the network, where the operators are the same.

    Names do not tell: two tensors may have one, and one of them may have no value.  The graph's inputs correspond in
    their order, and so do what the operators yield; all that is read or given out has to.
    """
    for side in ("inputs", "outputs"):
        given, expected = ([_described(tensor) for tensor in getattr(one, side)] for one in (file, fresh))
        if given != expected:
            return [f"the file's {side} are {given}, and those that the network compiles to {expected}"]
    problems = []
    wanted_of = {tensor.index: other.index for tensor, other in zip(file.inputs, fresh.inputs, strict=True)}
    for operator, wanted in zip(file.operators, fresh.operators, strict=True):
        for index, (tensor, other) in enumerate(zip(operator.inputs, wanted.inputs, strict=True)):
            if tensor is None or other is None or file.data(tensor) is not None:
                continue
            if wanted_of.get(tensor.index) != other.index:
                problems.append(f"{_title(operator, modules)}: its input {index} is another value than in the network")
        pairs = zip(operator.outputs, wanted.outputs, strict=True)
        wanted_of |= {tensor.index: other.index for tensor, other in pairs}
    for tensor, other in zip(file.outputs, fresh.outputs, strict=True):
        if fresh.data(other) is None and wanted_of.get(tensor.index) != other.index:
            problems.append(f"the file's output '{tensor.name}' is another value than the network's")
    if not problems and file.signatures() != fresh.signatures():
        problems.append("the file's signatures, which name its inputs and outputs, are not those of the network")
    return problems


def _modules(compiled: CompiledModel) -> dict[str, str]:
    """The module path of what computes each value, by the value's name."""
    return {
        value.name or "": node.metadata_props.get(MODULE_KEY, "")
        for node in compiled.graph.graph
        for value in node.outputs
    }


def _title(operator: Operator, modules: dict[str, str]) -> str:
    name = operator.outputs[0].name
    module = next((modules[one] for one in names_of_value(name) if modules.get(one)), "")
    return f"{operator.name} of layer '{module}'" if module else f"{operator.name} '{name}'"


def _first_other_operator(file: TfliteFile, fresh: TfliteFile) -> str | None:
    described = [
        [(operator.name, len(operator.inputs), *map(_described, operator.outputs)) for operator in one.operators]
        for one in (file, fresh)
    ]
    for index, (given, wanted) in enumerate(zip(*described, strict=False)):
        if given != wanted:
            found, expected = (
                one.operators[index].name if given[0] != wanted[0] else _in_words(one.operators[index])
                for one in (file, fresh)
            )
            return f"the first that differs is number {index}, {found} where the network has {expected}"
    if len(described[0]) != len(described[1]):
        return f"{len(described[0])} where the network has {len(described[1])}"
    return None


def _in_words(operator: Operator) -> str:
    """What `_first_other_operator` compares of it."""
    outputs = (
        f"'{tensor.name}' {tensor.dtype} {'x'.join(map(str, tensor.shape))}"
        f"{f', {tensor.quantization}' if tensor.quantization else ''}"
        for tensor in operator.outputs
    )
    return f"{operator.name} of {len(operator.inputs)} inputs that yields {'; '.join(outputs)}"


def _described(tensor: Tensor) -> tuple[object, ...]:
    return tensor.name, tensor.shape, tensor.dtype, tensor.quantization


def _has_same_options(file: TfliteFile, operator: Operator, fresh: TfliteFile, wanted: Operator) -> bool:
    given, expected = file.options(operator), fresh.options(wanted)
    same = (None if given is None else vars(given)) == (None if expected is None else vars(expected))
    return same and file.custom_options(operator) == fresh.custom_options(wanted)


def _constants(
    file: TfliteFile, operator: Operator, fresh: TfliteFile, wanted: Operator
) -> Iterator[tuple[int, np.ndarray | None, np.ndarray | None]]:  # type: ignore[type-arg]
    """(which input, the file's array, the network's) of those that differ; None for what is no constant."""
    for index, (tensor, other) in enumerate(zip(operator.inputs, wanted.inputs, strict=True)):
        given, expected = _array(file, tensor), _array(fresh, other)
        is_same_value = given is not None or (tensor and tensor.name) == (other and other.name)
        if given is None and expected is None and is_same_value:
            continue
        if given is not None and expected is not None and tensor is not None and other is not None:
            same_type = tensor.dtype == other.dtype and tensor.quantization == other.quantization
            if same_type and given.shape == expected.shape and given.tobytes() == expected.tobytes():
                continue
        yield index, given, expected


def _array(file: TfliteFile, tensor: Tensor | None) -> np.ndarray | None:  # type: ignore[type-arg]
    return None if tensor is None else file.data(tensor)


def _is_rounding(given: np.ndarray | None, expected: np.ndarray | None) -> bool:  # type: ignore[type-arg]
    if given is None or expected is None or given.dtype != np.float32 or given.shape != expected.shape:
        return False
    magnitude = np.maximum(np.abs(expected), np.abs(expected).max(initial=0.0) / 16)
    return bool(np.all(np.abs(given - expected) <= ROUNDING * magnitude))


def _change(index: int, given: np.ndarray | None, expected: np.ndarray | None) -> str:  # type: ignore[type-arg]
    what = "its weights are" if index == 1 else f"its input {index} is"
    if given is None or expected is None or given.shape != expected.shape:
        return f"{what} not that of the network"
    count = int(np.count_nonzero(given != expected))
    return f"{what} not what the network compiles to: {count:,} of {given.size:,} numbers differ"
