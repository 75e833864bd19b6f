"""Refuse parameters that no network can be right with: NaN, infinite ones, so large ones that sums with them are
infinite, negative variances.

A constant that is no parameter may be infinite: the bounds of a Clip, an attention mask of -∞.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from bnncc.errors import InputError
from bnncc.ir import ops
from bnncc.ir.graph import describe

# Operators whose constant operands are parameters.
_WEIGHTED = {
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "PRelu",
    "LSTM",
    "GRU",
    "RNN",
    "Gather",
}
# Operators with attributes that may be infinite: a bound, a filling.
_WITH_BOUNDS = {"Clip", "Constant", "ConstantOfShape", "Pad"}
_SCALING = {"Mul", "Div", "Sub"}
# Of weights beyond this the sums in float32, which ends at 3.4e38, depend on the order in which they are taken.
LARGEST_WEIGHT = 1e30
_VARIANCE_INPUT = 4


def check_parameter_values(model: ir.Model, parameters: Collection[str] = ()) -> None:
    """Check every attribute, and every initializer that a node reads.

    Args:
        parameters: names of initializers that are parameters, whatever reads them.

    Raises:
        InputError: names the parameter, the node that reads it, and what is wrong.
    """
    for node in model.graph:
        _check_attributes(node)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point() or not value.uses():
            continue
        array = np.asarray(tensor.numpy())
        readers = [use.node for use in value.uses()]
        if not np.isfinite(array).all():
            readers = [node for node in readers if name in parameters or _is_parameter(array, node)]
            if readers:
                bad = np.argwhere(~np.isfinite(array))
                what = "NaN" if np.isnan(array).any() else "an infinite value"
                raise InputError(
                    f"the parameter {name!r} holds {what}: {len(bad)} of {array.size} values are not finite, the first "
                    f"at {bad[0].tolist()}; {describe(readers[0])} reads it. "
                    "The training diverged, or the file is damaged"
                )
        readers = [node for node in readers if node.op_type in ops.WEIGHTED]
        if readers and max(array.max(initial=0), -array.min(initial=0)) > LARGEST_WEIGHT:
            first = np.argwhere(np.abs(array) > LARGEST_WEIGHT)[0]
            raise InputError(
                f"the parameter {name!r} holds {array[tuple(first)]:.3g}, at {first.tolist()}, with which sums "
                f"leave the range of float32; {describe(readers[0])} reads it. The training diverged, or the file is "
                "damaged"
            )
        for use in value.uses():
            is_variance = use.node.op_type == "BatchNormalization" and use.idx == _VARIANCE_INPUT
            if is_variance and (array < 0).any():
                raise InputError(
                    f"the parameter {name!r} is a variance and holds negative values, the first "
                    f"{array[array < 0][0]:g} at {np.argwhere(array < 0)[0].tolist()}; {describe(use.node)} reads it. "
                    "The file is damaged"
                )


def _check_attributes(node: ir.Node) -> None:
    """Raise InputError for an attribute that is NaN, or infinite where that is no bound and no constant."""
    for attribute in node.attributes.values():
        if attribute.type != ir.AttributeType.FLOAT or attribute.is_ref():
            continue
        value = attribute.as_float()
        if np.isnan(value) or (np.isinf(value) and node.op_type not in _WITH_BOUNDS):
            raise InputError(f"the attribute {attribute.name!r} of {describe(node)} is {value}: the file is damaged")


def _is_parameter(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], node: ir.Node) -> bool:
    """Whether `node` reads a parameter where `array` holds what is not finite."""
    if node.op_type in _WEIGHTED or node.op_type in _SCALING:
        return True
    if np.isnan(array).any():
        return array.size > 1
    # A bias has one value a channel, a mask has more axes, or a single value.
    return node.op_type == "Add" and array.size > 1 and sum(size > 1 for size in array.shape) == 1
