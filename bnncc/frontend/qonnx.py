"""QONNX's quantisers, as Brevitas exports them, in standard operators.

    BipolarQuant(x, s)              s · (+1 where x ≥ 0, else -1)
    Quant(x, s, z, bits)            s · (round(clip(x/s + z, min, max)) - z); of one signed bit: s · (sign(x/s + z) - z)
    Trunc(x, s, z, in, out)         s · (round(round(x/s + z) / 2^(in - out)) - z)
    Trunc(x, s, z, in, s', z', out) s' · (round(clip(round(x/s + z) / t, min, max)) - z/t),  t = s'/s as a power of two

min and max are those of the attributes `signed` and `narrow` at that many bits.  Source: the operators' definitions in
https://github.com/fastmachinelearning/qonnx/tree/main/docs/qonnx-custom-ops.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.errors import InputError
from bnncc.ir.graph import describe, inherit_source, take_over

DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "qonnx")
_QUANT = ("Quant", "IntQuant")
_INPUTS = {"BipolarQuant": (2,), "Trunc": (5, 7), "Quant": (4,), "IntQuant": (4,)}


def decompose_qonnx(model: ir.Model) -> None:
    """Replace QONNX's quantisers, in place.  Constants are initializers by now.

    Raises:
        InputError: an operator of these domains is another one, its bit width is computed, or its
            rounding is not known.
    """
    used = False
    for node in list(model.graph.all_nodes()):
        if node.domain not in DOMAINS:
            continue
        used = True
        if node.op_type not in _INPUTS or len(node.inputs) not in _INPUTS[node.op_type] or None in node.inputs:
            raise InputError(
                f"{describe(node)} with {len(node.inputs)} inputs is no operator that bnncc reads; of QONNX these are "
                "BipolarQuant, Quant, IntQuant and Trunc"
            )
        _Decomposition(node).replace()
    if used:
        for domain in DOMAINS:
            model.opset_imports.pop(domain, None)
            model.graph.opset_imports.pop(domain, None)


class _Decomposition:
    """Builds the standard operators in front of a node, and puts the last of them in its place."""

    def __init__(self, node: ir.Node) -> None:
        self._node = node
        self._made: list[ir.Node] = []

    def replace(self) -> None:
        node = self._node
        x, scale = self._input(0), self._input(1)
        if node.op_type == "BipolarQuant":
            result = self._times(self._sign(x), scale)
        elif node.op_type in _QUANT:
            result = self._quant(x, scale, self._input(2))
        else:
            result = self._trunc(x, scale, self._input(2))
        if result.producer() not in self._made:
            result = self._add("Identity", result)
        assert node.graph is not None
        inherit_source(self._made, node)
        node.graph.insert_before(node, self._made)
        take_over(node.outputs[0], result)
        node.graph.remove(node, safe=True)

    def _quant(self, x: ir.Value, scale: ir.Value, zero: ir.Value) -> ir.Value:
        shifted = self._plus(self._over(x, scale), zero)
        bits, signed = self._number(3), self._flag("signed")
        if bits == 1 and signed:
            whole = self._sign(shifted)
        else:
            whole = self._round(self._clip(shifted, bits), self._mode("ROUND"))
        return self._times(self._minus(whole, zero), scale)

    def _trunc(self, x: ir.Value, scale: ir.Value, zero: ir.Value) -> ir.Value:
        whole = self._add("Round", self._plus(self._over(x, scale), zero))
        if len(self._node.inputs) == 5:
            divisor = self._constant(2.0 ** (self._number(3) - self._number(4)))
            truncated = self._round(self._over(whole, divisor), self._mode("FLOOR"))
            return self._times(self._minus(truncated, zero), scale)
        new_scale = self._input(4)
        ratio = self._known(new_scale) / self._known(scale)
        divisor = self._constant(2.0 ** np.round(np.log2(ratio)))
        clipped = self._clip(self._over(whole, divisor), self._number(6))
        truncated = self._round(clipped, self._mode("FLOOR"))
        return self._times(self._minus(truncated, self._over(zero, divisor)), new_scale)

    def _clip(self, x: ir.Value, bits: float) -> ir.Value:
        signed, narrow = self._flag("signed"), self._flag("narrow")
        lowest = -(2.0 ** (bits - 1)) + narrow if signed else 0.0
        highest = 2.0 ** (bits - 1) - 1 if signed else 2.0**bits - 1 - narrow
        return self._add("Clip", x, self._constant(lowest), self._constant(highest))

    def _round(self, x: ir.Value, mode: str) -> ir.Value:
        if mode in ("ROUND", "HALF_EVEN"):
            return self._add("Round", x)
        if mode in ("CEIL", "FLOOR"):
            return self._add(mode.capitalize(), x)
        size = self._add("Abs", x)
        half = self._constant(0.5)
        whole = {
            "UP": lambda: self._add("Ceil", size),
            "DOWN": lambda: self._add("Floor", size),
            "HALF_UP": lambda: self._add("Floor", self._add("Add", size, half)),
            "HALF_DOWN": lambda: self._add("Ceil", self._add("Sub", size, half)),
        }
        if mode not in whole:
            raise InputError(f"{describe(self._node)} rounds by {mode!r}, which bnncc does not know")
        return self._add("Mul", self._add("Sign", x), whole[mode]())

    def _sign(self, x: ir.Value) -> ir.Value:
        is_positive = self._add("GreaterOrEqual", x, self._constant(0.0))
        return self._add("Where", is_positive, self._constant(1.0), self._constant(-1.0))

    def _over(self, x: ir.Value, scale: ir.Value) -> ir.Value:
        return x if self._is(scale, 1) else self._add("Div", x, scale)

    def _times(self, x: ir.Value, scale: ir.Value) -> ir.Value:
        return x if self._is(scale, 1) else self._add("Mul", x, scale)

    def _plus(self, x: ir.Value, zero: ir.Value) -> ir.Value:
        return x if self._is(zero, 0) else self._add("Add", x, zero)

    def _minus(self, x: ir.Value, zero: ir.Value) -> ir.Value:
        return x if self._is(zero, 0) else self._add("Sub", x, zero)

    @staticmethod
    def _is(value: ir.Value, number: float) -> bool:
        """Whether it is this number throughout; of a shape that could widen the other operand, no."""
        known = value.const_value
        return known is not None and known.size == 1 and bool(np.all(known.numpy() == number))

    def _add(self, operator: str, *inputs: ir.Value) -> ir.Value:
        made = ir.node(operator, list(inputs))
        made.name = f"{self._node.name}/{operator}_{len(self._made)}"
        made.outputs[0].name = f"{self._node.outputs[0].name}/{operator}_{len(self._made)}"
        self._made.append(made)
        return made.outputs[0]

    def _constant(self, number: float | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> ir.Value:
        tensor = ir.tensor(np.asarray(number, dtype=np.float32))
        made = ir.node("Constant", [], attributes={"value": tensor})
        made.name = f"{self._node.name}/Constant_{len(self._made)}"
        made.outputs[0].name = f"{self._node.outputs[0].name}/Constant_{len(self._made)}"
        self._made.append(made)
        return made.outputs[0]

    def _input(self, index: int) -> ir.Value:
        value = self._node.inputs[index]
        assert value is not None
        return value

    def _known(self, value: ir.Value) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        if value.const_value is None:
            raise InputError(f"{describe(self._node)} computes {value.name!r}, which must be a constant")
        return np.asarray(value.const_value.numpy(), dtype=np.float64)

    def _number(self, index: int) -> float:
        array = self._known(self._input(index))
        if array.size != 1:
            raise InputError(f"{describe(self._node)} has a bit width for each channel; bnncc reads one")
        return float(array.reshape(-1)[0])

    def _flag(self, name: str) -> bool:
        attribute = self._node.attributes.get(name)
        return bool(attribute.as_int()) if attribute is not None else self._node.op_type in _QUANT or name == "signed"

    def _mode(self, default: str) -> str:
        attribute = self._node.attributes.get("rounding_mode")
        return attribute.as_string().upper() if attribute is not None else default
