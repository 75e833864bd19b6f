"""Every error bnncc raises on purpose.  The message says what is wrong, where (the user's own layer and source
line where there is one) and what to do; the command line prints it without a traceback and exits with `exit_code`."""

from __future__ import annotations

from collections.abc import Sequence


class BnnccError(Exception):
    """Base class.  `exit_code` is the process's exit status; 2 means that the input or the command is at fault."""

    exit_code = 2


class InputError(BnnccError):
    """A file, callable, shape or option that the user gave cannot be used."""


class WeightsError(InputError):
    """A checkpoint that cannot be read or does not belong to the network."""


class ExportError(BnnccError):
    """The module could not be exported to ONNX."""


class TraceMismatchError(BnnccError):
    """The exported graph does not compute what the module computes."""


class FrozenValueError(BnnccError):
    """A compiled file would keep what forward computes anew in every call: a Python value that it reads from its input,
    random numbers, its own changing state."""


class UnsupportedOperatorsError(BnnccError):
    """Operators without a lowering.  `problems` holds one line for each node."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        noun = "operator has" if len(self.problems) == 1 else "operators have"
        super().__init__(
            f"{len(self.problems)} {noun} no exact TensorFlow Lite form:\n"
            + "\n".join(f"  {problem}" for problem in self.problems)
            + "\nReplace them in the network, or cut the network before them."
        )


class PassError(BnnccError):
    """A pass changed what the graph computes (found by --verify-passes): a bug in bnncc."""

    exit_code = 1


class CheckFailedError(BnnccError):
    """A check found less agreement, or a lower accuracy, than was asked for, or a layer that is not the network's."""

    exit_code = 1


class VerificationError(BnnccError):
    """The compiled file disagrees with the reference in a way that rounding does not explain."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """The first line of what another library's error says; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
