"""Prove that a compiled file computes what the network computes.

Two float programs that are both right differ by rounding, and near zero a rounding flips a sign, which then spreads.
So the file is looked at in four ways, all in one runtime, LCE's own interpreter or LiteRT with our delegate:

1. *Sums.*  Every LceBconv2d of the file, with its bits, strides and padding as they are but multiplier 1 and bias 0,
   is fed the reference's own input.  What it yields are the integer sums; they must equal the reference's, all of them.
2. *Layers.*  The same operators as they are, against the BinaryConv of the ONNX graph in ONNX Runtime: the multipliers
   and biases by rounding, the thresholds to the bit.
3. *Layer by layer.*  The file's packed tensors are fed the reference's own signs.  Then no flip can spread: every float
   layer, every float that a sign reads, and every output may be off by rounding only, and a sign may differ only where
   |x| < ε.
4. *Free-running.*  The file as a user runs it: largest error of the outputs, agreement of the classes.

Where the weights of float layers are rounded (`--weights-precision`), the file is not the network, and 3. shall not
hide a fault behind a wide tolerance.  So 1. and 2. take the file; 3. takes the float32 file of the same graph, emitted
anew; and the file must be that one with each weight rounded to the nearest step, all else equal to the bit
(`rounded_weights.py`).  What then remains is what int8 kernels do to their inputs at run time: each is fed the float32
file's own input, and must be within the bound that `bnncc.targets.tflite.precision` derives of a float kernel with the
same rounded weights.  How many signs the rounding flips is counted and reported: fed the reference's signs,
and free-running.

Where float layers run in int8 (`--quantize`), it is the same: 3. takes the float32 file, and the file must be that one
with the constants of some operators in steps of a scale (`integer_file.py`).  Each operator in int8 is then run against
the same integer arithmetic in NumPy, fed the file's own values: exact sums, and a factor in fixed point; kernels that
multiply by a float32 instead may differ by 1 (`integer_side.py`).

The reference is the traced network in ONNX Runtime, which the frontend has compared with PyTorch, and PyTorch itself.
A bit cannot say 0, which is PyTorch's sign of 0.  Such zeros are counted, and 1. to 3. take the network in which the
sign of 0 is +1, so that zeros hide nothing else; 4. compares with PyTorch as it is.

How a value of the file corresponds to one of the traced network is told by its name and metadata (`bnncc.ir.graph`).

In reading order:

- `result.py`           what was found
- `reference.py`        the value of the traced network that a value of the file stands for
- `reference_side.py`   what the network computes
- `error_bounds.py`     how far apart two right programs may be, value by value
- `unvarying.py`        what no input changes, computed once
- `steps.py`            where roundings, comparisons and choices jump
- `tolerance.py`        errors in units of what is allowed
- `rounded_weights.py`  a file whose float weights are rounded
- `integer_file.py`     a file whose float layers run in int8
- `integer_operators.py` int8 operators by their specification
- `integer_side.py`     what a file computes in int8
- `variants.py`         the file's parts that are run
- `file_side.py`        what the file computes, in one runtime
- `passes.py`           `--verify-passes`: each pass by itself
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bnncc.inference.runners import Runtime, first_runtime
from bnncc.ir.evaluate import Array
from bnncc.ir.graph import element_count
from bnncc.ir.ops import is_binary_conv, is_binary_conv_sign
from bnncc.ir.rounding import ROUNDING
from bnncc.model import CompiledModel
from bnncc.system.memory import release_unused, return_free_pages
from bnncc.verification.file_side import FileCheck
from bnncc.verification.reference_side import Reference, network_outputs
from bnncc.verification.result import (
    CHANCE_OF_ZERO,
    IntegerCheck,
    LayerCheck,
    RoundedCheck,
    SignCheck,
    StepCheck,
    Verification,
)
from bnncc.verification.tolerance import CANCELLATION, output_error
from bnncc.verification.variants import Variants

__all__ = [
    "CANCELLATION",
    "CHANCE_OF_ZERO",
    "IntegerCheck",
    "LayerCheck",
    "Progress",
    "RoundedCheck",
    "SignCheck",
    "StepCheck",
    "Verification",
    "sufficient_inputs",
    "verify",
    "verify_in",
]

# Told with the outcome of each input: (how many are done, how many there are).
Progress = Callable[[int, int], None]

# A file is verified on as many inputs as it takes to compare so many integer sums, within these numbers.
ENOUGH_SUMS = 1_000_000
FEWEST_INPUTS, MOST_INPUTS = 2, 4


def sufficient_inputs(compiled: CompiledModel) -> int:
    """How many inputs are enough to verify a file on.

    Each position of a map is a proof of its layer's filters, so one picture says more of a network for large pictures
    than a hundred of a small one; and there it takes half a second in each runtime, and as much in PyTorch.
    """
    layers = [node for node in compiled.graph.graph if is_binary_conv(node) or is_binary_conv_sign(node)]
    sums = sum(element_count(node.outputs[0]) for node in layers)
    return min(max(-(-ENOUGH_SUMS // max(sums, 1)), FEWEST_INPUTS), MOST_INPUTS)


def verify(
    compiled: CompiledModel,
    inputs: Sequence[Sequence[Array]],
    progress: Progress | None = None,
    *,
    runtime: Runtime | None = None,
) -> Verification:
    """Compare the file with the reference on each of `inputs` (one float32 array for each graph input, NCHW).

    runtime: what runs the file and the parts of it; by default LCE's interpreter where it is, else LiteRT with the
    delegate.
    """
    return verify_in([runtime or first_runtime()], compiled, inputs, progress)[0]


def verify_in(
    runtimes: Sequence[Runtime],
    compiled: CompiledModel,
    inputs: Sequence[Sequence[Array]],
    progress: Progress | None = None,
) -> list[Verification]:
    """`verify` in each of `runtimes`; the network, which takes most of the time, runs once for all of them.

    Raises TraceMismatchError where PyTorch and the traced graph differ by more than rounding on one of `inputs`.
    """
    outputs = network_outputs(compiled, inputs)  # PyTorch has its turn before anything that takes memory is kept.
    results, doubtful = _verify_against(Reference(compiled), runtimes, inputs, outputs, progress)
    if doubtful:
        # PyTorch may flip signs against ONNX Runtime, too; then it must do so by rounding alone.
        release_unused(compiled.float_weight_bytes)
        compiled.traced.check_against_module(doubtful)
    return results


def _verify_against(
    reference: Reference,
    runtimes: Sequence[Runtime],
    inputs: Sequence[Sequence[Array]],
    outputs: Sequence[Sequence[Array] | None],
    progress: Progress | None,
) -> tuple[list[Verification], list[Sequence[Array]]]:
    """(what was found in each runtime, the inputs on which PyTorch's `outputs` are not the traced graph's)."""
    variants = Variants(reference)
    checks = [FileCheck(variants, runtime) for runtime in runtimes]
    running = [check for check in checks if not check.is_refused()]
    release_unused(reference.compiled.float_weight_bytes)
    doubtful = []
    for index, (arrays, network) in enumerate(zip(inputs, outputs, strict=True) if running else ()):
        if not _check_input(reference, running, arrays, network):
            doubtful.append(arrays)
        if progress is not None:
            progress(index + 1, len(inputs))
    for check in running:
        check.check_zeros()
    return [check.result for check in checks], doubtful


def _check_input(
    reference: Reference, checks: Sequence[FileCheck], arrays: Sequence[Array], network: Sequence[Array] | None
) -> bool:
    """True where the traced graph yields what PyTorch does."""
    expected = reference.on(arrays, network)
    for check in checks:
        return_free_pages()
        check.check(expected)
    return max(map(output_error, expected.outputs, expected.network_outputs)) <= ROUNDING
