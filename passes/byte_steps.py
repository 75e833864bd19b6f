"""A function of a byte as two values and a jump: known by computing it of all 256 bytes.

    x = (q / 255 − μ) / σ,   y = 1 where x ≥ 0, else -1          y = 1  ⟺  q ≥ t  ⟺  q − (t − ½) > 0

Composed, as `steps.py` does it, the threshold is 255·μ, and where that is a byte, the sign of x at it is what the
network's own roundings make of 51/255 − 0.2.  So here the expression is computed in float32, operator by operator, as
the network has it.  The threshold lies half-way between two bytes, where no later rounding reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from bnncc.ir.evaluate import Array, between, given_name, session
from bnncc.ir.graph import shape_of
from bnncc.passes.steps import Steps

# The least of the 256 values of each type.
_LEAST = {ir.DataType.UINT8: 0, ir.DataType.INT8: -128}
_VALUES = 256


def casts_of_bytes(graph: ir.Graph) -> Iterator[tuple[ir.Value, ir.Node]]:
    """(input, Cast to float32) of every graph input of 8-bit integers, as often as it is cast."""
    for value in graph.inputs:
        for use in list(value.uses()):
            if is_byte(use.node.outputs[0]):
                yield value, use.node


def is_byte(value: ir.Value) -> bool:
    """True for a graph input of 8-bit integers as float32."""
    node = value.producer()
    if node is None or node.domain != "" or node.op_type != "Cast" or value.dtype is not ir.DataType.FLOAT:
        return False
    source = node.inputs[0]
    return source is not None and source.dtype in _LEAST and source.is_graph_input()


def steps_of_byte(model: ir.Model, byte: ir.Value, value: ir.Value) -> Steps | None:
    """The two values and the threshold of every channel of `value`, a function of `byte` element by element.

    None where a channel takes more values, jumps more than once, or is another function at other places.
    """
    table = _table(model, byte, value)
    if table is None or not np.isfinite(table).all():
        return None
    low, high = table.min(), table.max()
    jumps = (table[:, 1:] != table[:, :-1]).sum(axis=1)
    if low == high or not np.isin(table, (low, high)).all() or np.any(jumps > 1) or not np.any(jumps):
        return None
    before = (table == table[:, :1]).sum(axis=1)
    count = len(table)
    return Steps(
        low=np.full(count, float(low)),
        high=np.full(count, float(high)),
        threshold=np.where(jumps == 1, _least(byte) + before - 0.5, np.inf),
        rising=np.where(jumps == 1, table[:, 0] == low, table[:, 0] == high),
        at=np.full(count, np.nan),
    )


def _table(model: ir.Model, byte: ir.Value, value: ir.Value) -> Array | None:
    """[C, bytes]: what each channel of `value` is for each byte; None where its places differ."""
    shape = shape_of(byte)
    if shape is None or len(shape_of(value) or ()) < 2:
        return None
    runner = session(between(model, [byte], [value]))
    columns = []
    for number in range(_least(byte), _least(byte) + _VALUES):
        (result,) = runner.run([value.name or ""], {given_name(byte.name or ""): np.full(shape, number, np.float32)})
        by_channel = np.moveaxis(np.asarray(result), 1, 0)
        by_channel = by_channel.reshape(len(by_channel), -1)
        if np.any(by_channel != by_channel[:, :1]):
            return None
        columns.append(by_channel[:, 0].astype(np.float64))
    return np.stack(columns, axis=1)


def _least(byte: ir.Value) -> int:
    """The least that a graph input of 8-bit integers, of which `byte` is the Cast, may hold."""
    node = byte.producer()
    source = None if node is None else node.inputs[0]
    assert source is not None
    assert source.dtype is not None
    return _LEAST[source.dtype]
