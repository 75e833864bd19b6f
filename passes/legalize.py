"""Choose how padding is expressed, among the exact ways that LCE offers, by counting the bytes that each moves.

The choice of the frame is one for the whole network: `MirrorFrame` is tried on a copy, and kept where the pads, crops,
rotations and border corrections that are left in it move fewer bytes than those of the upright frame.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir import ops
from bnncc.ir.geometry import Scheme, Window, common_scheme
from bnncc.ir.graph import shape_of
from bnncc.ir.modes import Padding
from bnncc.ir.step import Step
from bnncc.passes.mirror_frame import MirrorFrame
from bnncc.passes.pad_with_ones import PadWithOnes
from bnncc.passes.trim_kernels import TrimKernels
from bnncc.passes.windows import is_windowed, windows_of

FLOAT_BYTES = 4
# The names of its passes: those that a file can do without, and the one that makes its padding right.
OPTIONAL, REQUIRED = ("trim-kernels", "mirror-frame"), "pad-with-ones"


def legalization(model: ir.Model, padding: Padding) -> tuple[Step, ...]:
    """The passes that bring the padding of `model` into forms that the emitter has operators for."""
    mirrored = padding is Padding.MIRRORED
    if padding is Padding.AUTO:
        copy = model.clone()
        MirrorFrame()(copy)
        mirrored = moved_bytes(copy) < moved_bytes(model)
    frame = (Step("mirror-frame", MirrorFrame, "rotate the maps, so that TensorFlow's SAME fits"),) if mirrored else ()
    return (
        Step("trim-kernels", TrimKernels, "cut the taps that only meet padding"),
        *frame,
        Step(
            "pad-with-ones", lambda: PadWithOnes(zero_padding_is_exact), "zero padding as +1 padding and a correction"
        ),
    )


def zero_padding_is_exact(windows: tuple[Window, Window]) -> bool:
    """True where LCE computes this zero padding right.

    Nothing is padded, or it is TensorFlow's SAME on a map at least as large as the kernel's extent: on smaller maps
    LCE 0.16 corrects the border wrongly (measured for kernels 1 to 7, strides and dilations 1 to 3, maps 1 to 13).
    """
    scheme = common_scheme(windows)
    large_enough = all(window.size >= window.extent for window in windows)
    return scheme is Scheme.VALID or (scheme is Scheme.SAME and large_enough)


def moved_bytes(model: ir.Model) -> int:
    """Bytes read and written by what serves padding alone: pads, slices, rotations, border corrections."""
    total = 0
    for node in model.graph:
        if node.domain == "" and node.op_type in ("Slice", "Pad"):
            total += FLOAT_BYTES * (_size(node.inputs[0]) + _size(node.outputs[0]))
        elif is_windowed(node):
            windows = windows_of(node)
            if windows is None:
                continue
            if ops.is_binary_conv(node):
                # Read, add a constant, write.
                total += 0 if zero_padding_is_exact(windows) else 3 * FLOAT_BYTES * _size(node.outputs[0])
            elif common_scheme(windows) is Scheme.EXPLICIT:
                padded = [window.size + max(window.begin, 0) + max(window.end, 0) for window in windows]
                shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
                maps = int(np.prod(shape[:2])) if shape is not None else 0
                total += FLOAT_BYTES * (_size(node.inputs[0]) + maps * padded[0] * padded[1])
    return total


def _size(value: ir.Value | None) -> int:
    shape = shape_of(value) if value is not None else None
    return int(np.prod(shape)) if shape is not None else 0
