"""The first eager run of a network, which shows whether it takes the inputs that the user has described.

What goes wrong is told by its kind: a shape, a type, a value that is no index, or the network's own code.
"""

from __future__ import annotations

import re

import numpy as np

from bnncc.errors import BnnccError, InputError
from bnncc.frontend.export import describe_error
from bnncc.frontend.input_types import wants_integers
from bnncc.frontend.network import Network
from bnncc.frontend.recording import Recording
from bnncc.frontend.source import location_in_traceback
from bnncc.ir.evaluate import Array
from bnncc.ir.input_spec import shape_text

# How PyTorch, and code that takes shapes apart, complain about a tensor of another shape.
_SHAPE = re.compile(
    r"shape|size|dimension|dimensional|\bdims?\b|mat1 and mat2|channels|not enough values to unpack"
    r"|too many values to unpack|number of input|einsum|einops|broadcast|must match|numel|elements",
    re.IGNORECASE,
)
_INDEX = re.compile(r"index out of range|out of bounds|index -?\d+ is out|class values must be", re.IGNORECASE)

# What PyTorch says of `torch.cond` and its kind where calls are recorded; its message goes on with objects' addresses.
_HIGHER_ORDER = re.compile(r"no rule registered for HigherOrderOperator (?P<name>\w+)", re.IGNORECASE)


def first_run(network: Network, seed: int) -> tuple[Recording, list[str]]:
    """Run and record the network on random inputs, whose types and ranges are found where the user has not said them.

    Returns it with warnings.

    Raises:
        InputError: forward fails, or returns no tensor.
    """
    warnings = network.complete_inputs() if any(not spec.is_float for spec in network.inputs) else []
    try:
        recording = network.record(_random(network, seed))
    except BnnccError:
        raise
    except Exception as error:
        warnings += network.complete_inputs() if wants_integers(error) else []
        if all(spec.is_float for spec in network.inputs):
            raise _explained(network, error) from error
        try:
            recording = network.record(_random(network, seed))
        except BnnccError:
            raise
        except Exception as again:
            raise _explained(network, again) from again
    if not recording.outputs:
        raise InputError("forward returns no tensor")
    return recording, warnings


def _random(network: Network, seed: int) -> list[Array]:
    generator = np.random.default_rng(seed)
    return [spec.random(generator) for spec in network.inputs]


def _explained(network: Network, error: Exception) -> InputError:
    higher = _HIGHER_ORDER.search(str(error))
    if higher is not None:
        location = location_in_traceback(error.__traceback__)
        return InputError(
            f"forward calls torch's higher-order operator `{higher['name']}`, which chooses operators as it runs; a "
            "compiled file has no such choice"
            + (f":\n    {location}" if location else ".")
            + "\nCompute both sides and choose with torch.where, or unroll the loop."
        )
    described = f"forward fails on {', '.join(spec.text for spec in network.inputs)}:\n  {describe_error(error)}"
    text, first = str(error), network.inputs[0]
    if _INDEX.search(text) and any(not spec.is_float for spec in network.inputs):
        name = next(spec.name for spec in network.inputs if not spec.is_float)
        advice = f"\nGive the range of the values that the network takes: --input-range {name}=0:100."
    elif wants_integers(error):
        example = f"--input-shape {first.name}={shape_text(first.shape)}:int64"
        advice = f"\nIt wants integers where it gets floats, or floats where it gets integers: {example}."
    elif isinstance(error, RuntimeError | ValueError | IndexError | AssertionError) and _SHAPE.search(text):
        advice = "\nCheck the input shape (--input-shape)."
    else:
        advice = ""
    return InputError(described + advice)
