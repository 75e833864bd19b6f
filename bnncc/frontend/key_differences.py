"""Why the keys of a checkpoint and of a network differ, where the keys themselves tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# What takes a parameter `weight` apart: the endings of its parts' keys, its name, and what puts them together again.
_TAKEN_APART = (
    (("_g", "_v"), "torch.nn.utils.weight_norm", "torch.nn.utils.remove_weight_norm"),
    (("_orig", "_mask"), "pruning", "torch.nn.utils.prune.remove"),
    (("_orig", "_u"), "torch.nn.utils.spectral_norm", "torch.nn.utils.remove_spectral_norm"),
)
_PARAMETRIZED = ".parametrizations."
_STATISTICS = ("running_mean", "running_var")


def explain_difference(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    """A sentence on a line of its own for each cause; "" where none is known.

    Args:
        missing: keys of the network that the file lacks.  unexpected: those of the file that the network lacks.
    """
    lines = []
    for parameter, what, undo in _taken_apart(unexpected):
        lines.append(
            f"{parameter!r} is in the file as {what} keeps it, and the network has it whole: apply the same in the "
            f"network, or call {undo} before saving."
        )
    for parameter, what, _ in _taken_apart(missing):
        lines.append(f"The network has {parameter!r} as {what} keeps it, and the file does not: build it without.")
    if missing and not unexpected and all(key.rpartition(".")[2] in _STATISTICS for key in missing):
        lines.append(
            "The file has parameters and no buffers, and without its running statistics a batch norm is another one: "
            "save network.state_dict(), not its parameters()."
        )
    return "".join(f"\n{line}" for line in lines)


def _taken_apart(keys: Iterable[str]) -> list[tuple[str, str, str]]:
    """(parameter, what takes it apart, what undoes that), the first parameter of each kind."""
    known = set(keys)
    found: dict[str, tuple[str, str]] = {}
    for key in sorted(known):
        module, parametrized, rest = key.rpartition(_PARAMETRIZED)
        if parametrized:
            parameter = f"{module}.{rest.partition('.')[0]}"
            undo = "torch.nn.utils.parametrize.remove_parametrizations"
            found.setdefault("torch.nn.utils.parametrize", (parameter, undo))
        for (first, second), what, undo in _TAKEN_APART:
            parameter = key.removesuffix(first)
            if parameter != key and parameter + second in known:
                found.setdefault(what, (parameter, undo))
    return [(parameter, what, undo) for what, (parameter, undo) in found.items()]
